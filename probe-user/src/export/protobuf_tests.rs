//! The protobuf exposition against the text of the same snapshot.
//!
//! That the field numbers are the official ones is shown by a real Prometheus, in the package `tests`.

use std::fmt::Write as _;

use probe_common::{
    histogram::bucket_of,
    record::{
        flag::{ACCOUNTED, ESTABLISHED},
        kind::{CLOSED, INCREMENT},
        role::{CLIENT, SERVER},
    },
};
use prost::Message as _;

use super::{
    negotiation::Format,
    prometheus::{Exposition, RTT_BUCKETS},
    protobuf::{LabelPair, Metric, MetricFamily, Type},
    stats::SelfStats,
};
use crate::aggregate::{
    Aggregator, Snapshot,
    testing::{opening_with_losses, record, with_samples},
};

fn families(mut bytes: &[u8]) -> Vec<MetricFamily> {
    std::iter::from_fn(|| {
        (!bytes.is_empty()).then(|| MetricFamily::decode_length_delimited(&mut bytes).unwrap())
    })
    .collect()
}

fn labels(pairs: &[LabelPair], more: Option<(&str, f64)>) -> String {
    let mut out: Vec<String> =
        pairs.iter().map(|pair| format!("{}=\"{}\"", pair.name(), pair.value())).collect();
    out.extend(more.map(|(name, value)| format!("{name}=\"{value}\"").replace("inf", "+Inf")));
    if out.is_empty() { String::new() } else { format!("{{{}}}", out.join(",")) }
}

/// The lines of the text format for a message.
fn lines(name: &str, metric: &Metric) -> String {
    let mut out = String::new();
    let plain = labels(&metric.label, None);
    if let Some(number) = metric.counter.as_ref().or(metric.gauge.as_ref()) {
        writeln!(out, "{name}{plain} {}", number.value()).unwrap();
    }
    if let Some(histogram) = &metric.histogram {
        let ends = histogram.bucket.iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        for (bound, count) in ends.chain([(f64::INFINITY, histogram.sample_count())]) {
            writeln!(out, "{name}_bucket{} {count}", labels(&metric.label, Some(("le", bound)))).unwrap();
        }
        writeln!(out, "{name}_sum{plain} {}", histogram.sample_sum()).unwrap();
        writeln!(out, "{name}_count{plain} {}", histogram.sample_count()).unwrap();
    }
    out
}

fn snapshot() -> Snapshot {
    let mut aggregator = Aggregator::new(true);
    aggregator.add(&opening_with_losses());
    let samples: Vec<u32> = (0..40).map(|i| 9_000 + 1_700 * i).collect();
    for (role, family) in
        [CLIENT, SERVER, 0].into_iter().flat_map(|r| [(r, libc::AF_INET), (r, libc::AF_INET6)])
    {
        let mut growth = with_samples(record(INCREMENT, role, ESTABLISHED | ACCOUNTED), &samples);
        growth.family = family as u16;
        growth.remote_addr[0] = 0x20;
        (growth.counters.segs_out, growth.counters.bytes_sent) = (1_234_567, 1_234_567_890);
        aggregator.add(&growth);
        let mut end = record(CLOSED, role, ESTABLISHED | ACCOUNTED);
        (end.family, end.remote_addr) = (growth.family, growth.remote_addr);
        (end.opened_ns, end.now_ns, end.own_min_rtt_us, end.handshake_rtt_us) =
            (1, 90_000_000_001, 9_000, 9_100);
        aggregator.add(&end);
    }
    aggregator.snapshot()
}

fn own() -> SelfStats {
    SelfStats { version: "0".to_owned(), jiffies_per_second: Some(250), ..SelfStats::default() }
}

fn rendered(format: Format) -> Vec<u8> {
    Exposition::default().pieces(format, snapshot(), own()).whole().unwrap()
}

#[test]
fn every_line_of_the_text_is_in_the_messages() {
    let mut text = String::new();
    for family in families(&rendered(Format::Protobuf)) {
        let kind = match family.r#type() {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        writeln!(text, "# HELP {} {}\n# TYPE {} {kind}", family.name(), family.help(), family.name())
            .unwrap();
        text.extend(family.metric.iter().map(|metric| lines(family.name(), metric)));
    }
    let should = String::from_utf8(rendered(Format::Text)).unwrap();
    // The process changes between the two.
    let own =
        |text: &str| text.lines().filter(|l| !l.contains("process_")).map(str::to_owned).collect::<Vec<_>>();
    let (is, should) = (own(&text), own(&should));
    assert!(should.len() > 500, "{} lines", should.len());
    for (is, should) in is.iter().zip(&should) {
        assert_eq!(is, should);
    }
    assert_eq!(is.len(), should.len());
}

#[test]
fn classic_and_native_buckets_hold_the_same_samples() {
    let mut histograms = 0;
    for family in families(&rendered(Format::Protobuf)) {
        for histogram in family.metric.iter().filter_map(|metric| metric.histogram.as_ref()) {
            histograms += 1;
            // Samples at or below the bound 2^(index / 2^schema).
            let mut at_index = vec![(i32::MIN, histogram.zero_count())];
            let (mut deltas, mut index, mut count) = (histogram.positive_delta.iter(), 0, 0i64);
            for span in &histogram.positive_span {
                index += span.offset();
                for _ in 0..span.length() {
                    count += deltas.next().unwrap();
                    at_index.push((index, count.cast_unsigned()));
                    index += 1;
                }
            }
            assert_eq!(deltas.next(), None);
            let all: u64 = at_index.iter().map(|(_, count)| count).sum();
            assert_eq!(all, histogram.sample_count(), "{}", family.name());
            let per_octave = f64::from(1 << histogram.schema());
            for bucket in &histogram.bucket {
                let last = (bucket.upper_bound().log2() * per_octave).round() as i32;
                let below: u64 =
                    at_index.iter().filter(|(index, _)| *index <= last).map(|(_, count)| count).sum();
                assert_eq!(bucket.cumulative_count(), below, "{} {}", family.name(), bucket.upper_bound());
            }
            assert_eq!(histogram.bucket[0].upper_bound(), histogram.zero_threshold());
        }
        if family.name() == "flowprobe_tcp_rtt_seconds" {
            let histogram = family.metric[0].histogram.as_ref().unwrap();
            assert_eq!((histogram.schema(), histogram.bucket.len()), (2, RTT_BUCKETS.len()));
            // 20 ms lies in (2^-5.75, 2^-5.5] s: index -22.
            assert_eq!(bucket_of(20_000) as i32 - 56, -22);
        }
    }
    assert!(histograms >= 4 * 6, "{histograms} histograms");
}
