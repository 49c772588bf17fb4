//! The exposition against a golden text, promtool and the rules of the format.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use probe_common::{
    fields::Field,
    histogram::{BUCKETS, UPPER_BOUNDS_US, upper_bound_seconds},
    record::{
        flag::{ACCOUNTED, ESTABLISHED, FIN_REMOTE},
        kind::{CLOSED, INCREMENT},
        role::SERVER,
    },
    tcp::state,
};

use prometheus::proto::{Bucket, Histogram};

use super::*;
use crate::{
    aggregate::{
        Aggregator, Group, LabelSet,
        testing::{opening_with_losses, record, synack, with_samples},
    },
    export::stats::{ConfigStats, HookStats, SourceStats, SweepStats},
};

/// Written anew by `FLOWPROBE_BLESS=1 cargo test -p probe-user golden`; read the difference before you keep it.
const GOLDEN: &str = include_str!("testdata/exposition.prom");

fn snapshot() -> Snapshot {
    let mut aggregator = Aggregator::new(true);
    aggregator.add(&opening_with_losses());
    let mut end = with_samples(record(CLOSED, SERVER, ESTABLISHED | FIN_REMOTE), &[61, 62, 3_000_000]);
    end.family = libc::AF_INET6 as u16;
    end.remote_addr[0] = 0x20;
    end.state = state::LAST_ACK;
    (end.opened_ns, end.now_ns, end.own_min_rtt_us, end.handshake_rtt_us) = (1_000, 1_500_001_000, 61, 70);
    (end.counters.segs_out, end.counters.bytes_sent) = (9, 9_007_199_254_740_992);
    aggregator.add(&end);
    let mut reset = record(CLOSED, SERVER, ESTABLISHED | ACCOUNTED);
    (reset.family, reset.remote_addr, reset.error) = (end.family, end.remote_addr, libc::ECONNRESET as u32);
    (reset.state, reset.unsent_seq, reset.unacked_seq) = (state::ESTABLISHED, 40_000, 14_480);
    aggregator.add(&reset);
    aggregator.add_synack(&synack());
    let mut refused = record(CLOSED, probe_common::record::role::CLIENT, 0);
    refused.error = libc::ECONNREFUSED as u32;
    aggregator.add(&refused);
    aggregator.snapshot()
}

fn own() -> SelfStats {
    SelfStats {
        version: "0.0.0-test".to_owned(),
        hooks: vec![
            HookStats {
                name: "life".to_owned(),
                up: true,
                missed: Some(0),
                runs: Some(1_000),
                run_time: Some(Duration::from_micros(250)),
            },
            HookStats { name: "synack".to_owned(), up: false, missed: None, runs: None, run_time: None },
        ],
        losses: vec![("ring_full_closed".to_owned(), 0), ("malformed".to_owned(), 2)],
        rtt_samples_left_out: Some(3),
        sweep: Some(SweepStats {
            ended: Timestamp::from_millisecond(1_700_000_060_500).unwrap(),
            duration: Duration::from_micros(1_500),
            period: Duration::from_secs(5),
            sockets: 12,
        }),
        reconciliation: vec![("RetransSegs".to_owned(), 1.0)],
        jiffies_per_second: Some(250),
        web_config: Some(true),
        absent_fields: Vec::new(),
        config: Some(ConfigStats {
            is_last_good: true,
            last_good: Timestamp::from_millisecond(1_700_000_000_250).unwrap(),
        }),
        sources: vec![SourceStats {
            source: "bgp",
            path: "/var/lib/flowprobe/rib.gz".to_owned(),
            date: Timestamp::from_second(1_690_000_000).ok(),
            prefixes: 1_220_000,
            is_good: false,
        }],
    }
}

/// As the crate wants them: families without those of the process, ordered by name; one without series is left out.
fn families(snapshot: &Snapshot, own: &SelfStats) -> Vec<MetricFamily> {
    shown_families(own).into_iter().filter_map(|family| all_messages(family, snapshot, own)).collect()
}

fn all_messages(family: &Family, snapshot: &Snapshot, own: &SelfStats) -> Option<MetricFamily> {
    if !family.is_by_group() {
        return message(family, snapshot, own);
    }
    let metrics = by_group(family, snapshot, hz(own));
    (!metrics.is_empty()).then(|| named(family, metrics))
}

fn by_group(family: &Family, snapshot: &Snapshot, hz: Option<f64>) -> Vec<Metric> {
    let number = if family.kind() == Kind::Gauge { gauge } else { counter };
    let own_label = family.labels.first().copied().unwrap_or_default();
    let mut out = Vec::new();
    for (group, series) in &snapshot.groups {
        let labels = group_labels(&snapshot.labels, group);
        match shown(family.read, series, hz) {
            Some(Shown::Numbers(numbers)) => out.extend(numbers.into_iter().map(|(value, n)| {
                let more = value.map(|value| label(own_label, value));
                number(labels.iter().cloned().chain(more).collect(), n)
            })),
            Some(Shown::Histogram(histogram)) => out.push(histogram_message(labels, &histogram)),
            None => {}
        }
    }
    out
}

/// The encoder adds +Inf.
fn histogram_message(labels: Vec<LabelPair>, classic: &Classic) -> Metric {
    let bucket = |(bound, count): (&f64, &u64)| {
        let mut out = Bucket::default();
        out.set_upper_bound(*bound);
        out.set_cumulative_count(*count);
        out
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(classic.bounds.iter().zip(&classic.up_to).map(bucket).collect());
    histogram.set_sample_count(classic.count);
    histogram.set_sample_sum(classic.sum_seconds);
    let mut out = Metric::from_label(labels);
    out.set_histogram(histogram);
    out
}

fn group_labels(labels: &LabelSet, group: &Group) -> Vec<LabelPair> {
    labels.of(group).map(|(name, value)| label(name, &value)).collect()
}

/// The text, which is what the crate's encoder makes of the messages.
fn text(snapshot: &Snapshot, own: &SelfStats) -> String {
    let text = String::from_utf8(super::text(snapshot, own).unwrap()).unwrap();
    let theirs = TextEncoder::new().encode_to_string(&families(snapshot, own)).unwrap();
    assert!(text == theirs, "the text differs from the crate's:\n{text}\n--- the crate's\n{theirs}");
    text
}

#[test]
fn the_exposition_is_the_golden_one() {
    let text = text(&snapshot(), &own());
    if std::env::var_os("FLOWPROBE_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/export/testdata/exposition.prom"), &text)
            .unwrap();
    } else {
        assert!(text == GOLDEN, "the exposition changed:\n{text}");
    }
}

#[test]
fn many_groups_come_in_pieces_of_one_text() {
    let one = snapshot().groups.into_values().next().unwrap();
    let group = |n: u32| Group { service: Some(format!("s{n}").into()), ..Group::plain(None, None) };
    let snapshot = Snapshot {
        groups: (0..200).map(|n| (group(n), Arc::clone(&one))).collect(),
        labels: LabelSet { service: true, ..LabelSet::default() },
        ..Snapshot::default()
    };
    let families = text(&snapshot, &own()).lines().filter(|line| line.starts_with("# TYPE")).count();
    let pieces: Vec<usize> =
        Pieces::of(Format::Text, snapshot, own()).map(|piece| piece.unwrap().len()).collect();
    let (last, others) = pieces.split_last().unwrap();
    assert!(others.len() > families / 2, "{pieces:?}");
    assert!(others.iter().all(|length| (PIECE..PIECE + ROOM).contains(length)) && *last > 0, "{pieces:?}");
}

#[test]
fn promtool_has_nothing_to_say() {
    let exposition = Exposition::default().pieces(Format::Text, snapshot(), own()).whole().unwrap();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: run `cargo xtask setup`, or install your system's package prometheus");
    promtool.stdin.take().unwrap().write_all(&exposition).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_process_shows_itself() {
    let before = cpu_of_this_process().as_secs_f64();
    let text = String::from_utf8(
        Exposition::default()
            .pieces(Format::Text, Snapshot::default(), SelfStats::default())
            .whole()
            .unwrap(),
    )
    .unwrap();
    let after = cpu_of_this_process().as_secs_f64();
    for name in ["process_resident_memory_bytes", CPU_SECONDS, "process_open_fds"] {
        assert_eq!(text.matches(&format!("\n{name} ")).count(), 1, "{name}");
    }
    let shown = text.lines().find_map(|line| line.strip_prefix(CPU_SECONDS)?.trim().parse::<f64>().ok());
    assert!(shown.is_some_and(|cpu| (before..=after).contains(&cpu)), "{before} {shown:?} {after}");
}

#[test]
fn what_is_not_known_is_absent() {
    let names = |snapshot: &Snapshot, own: &SelfStats| {
        families(snapshot, own).iter().map(|family| family.name().to_owned()).collect::<BTreeSet<_>>()
    };
    let bare = SelfStats { version: "1".to_owned(), ..SelfStats::default() };
    assert_eq!(
        names(&Snapshot::default(), &bare).into_iter().collect::<Vec<_>>(),
        [
            "flowprobe_accounting_discrepancies_total",
            "flowprobe_build_info",
            "flowprobe_groups",
            "flowprobe_groups_left_total",
            "flowprobe_label_overflow_total",
        ]
    );

    let all = names(&snapshot(), &own());
    assert_eq!(all.len(), families::all().count(), "a family cannot be shown");
    let missing = |own: &SelfStats| all.difference(&names(&snapshot(), own)).cloned().collect::<Vec<_>>();
    assert_eq!(
        missing(&SelfStats { jiffies_per_second: None, ..own() }),
        ["flowprobe_tcp_busy_seconds_total", "flowprobe_tcp_limited_seconds_total",]
    );
    assert_eq!(
        missing(&SelfStats { absent_fields: vec![Field::DsackDups, Field::ReordSeen], ..own() }),
        ["flowprobe_tcp_spurious_retransmitted_segments_total",]
    );
    assert_eq!(
        missing(&SelfStats { sweep: None, reconciliation: Vec::new(), ..own() }),
        [
            "flowprobe_last_sweep_timestamp_seconds",
            "flowprobe_reconciliation_ratio",
            "flowprobe_sweep_duration_seconds",
            "flowprobe_sweep_period_seconds",
            "flowprobe_sweep_sockets",
        ]
    );
}

#[test]
fn a_label_cannot_break_the_text() {
    let mut own = own();
    own.hooks[0].name = "a\"b\\c\nd{}=,é".to_owned();
    let text = text(&Snapshot::default(), &own);
    assert!(text.contains("flowprobe_hook_up{hook=\"a\\\"b\\\\c\\nd{}=,é\"} 1\n"), "{text}");
}

#[test]
fn classic_buckets_are_sums_of_whole_native_ones() {
    let mut aggregator = Aggregator::new(true);
    let mut one_each = record(INCREMENT, SERVER, ESTABLISHED | ACCOUNTED);
    one_each.rtt_histogram = [1; BUCKETS];
    aggregator.add(&one_each);
    let families = families(&aggregator.snapshot(), &own());
    let family = families.iter().find(|family| family.name() == "flowprobe_tcp_rtt_seconds").unwrap();
    let histogram = family.get_metric()[0].get_histogram();
    for (bucket, index) in histogram.get_bucket().iter().zip(RTT_BUCKETS) {
        // Samples of bucket 0 to `index`, all at or below the bound.
        assert_eq!(bucket.cumulative_count(), index as u64 + 1);
        assert_eq!(bucket.upper_bound().to_string(), upper_bound_seconds(index).to_string());
        assert_eq!((bucket.upper_bound() * 1e6 + 1e-6) as u32, UPPER_BOUNDS_US[index]);
        assert_eq!(bucket.upper_bound().to_string().parse::<f64>().unwrap(), bucket.upper_bound());
    }
    assert_eq!((histogram.get_bucket().len(), histogram.get_sample_count()), (28, 64));
    assert!(RTT_BUCKETS.is_sorted() && RTT_BUCKETS.iter().all(|index| *index < BUCKETS - 1));
}

#[test]
fn a_gauge_is_never_below_zero() {
    let mut aggregator = Aggregator::new(true);
    aggregator.add(&record(CLOSED, SERVER, ESTABLISHED | ACCOUNTED));
    let text = text(&aggregator.snapshot(), &own());
    assert!(text.contains("flowprobe_tcp_connections{role=\"server\",family=\"ipv4\"} 0\n"), "{text}");
}
