//! The exposition, made of one snapshot when a scrape asks: Prometheus' text, or its protobuf format.
//!
//! Reads nothing but what it is given, and /proc/self for `process_*`. One family is in memory at a time, beside what is
//! written. A group is about 17 kB of text or 6 kB of protobuf, in 140 µs or 90 µs
//! (docs/decisions/exposition.md).

use bytes::Bytes;
use prometheus::{
    Encoder as _, TextEncoder,
    core::Collector as _,
    process_collector::ProcessCollector,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    families::{self, Family, Kind, Read},
    native::{self, Native},
    negotiation::Format,
    protobuf,
    stats::SelfStats,
};
use crate::aggregate::{
    DURATION_EXPONENTS, DurationHistogram, Group, LabelSet, RttHistogram, Series, Snapshot,
};

/// Content type of the text.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Buckets of [`probe_common::histogram`] whose upper bounds are those of the classic round-trip histograms: one an
/// octave from 2^-14 s (61 µs) to 2^-11 s, then every √2 from 2^-10 s (0.98 ms) to 2^1.5 s (2.83 s), the last there is.
/// As buckets there are those of schema 2, each bound is one of the native histogram too.
pub const RTT_BUCKETS: [usize; 28] = [
    0, 4, 8, 12, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60,
    62,
];

/// Makes expositions.
#[derive(Debug)]
pub struct Exposition {
    process: ProcessCollector,
}

impl Default for Exposition {
    fn default() -> Self {
        Self { process: ProcessCollector::for_self() }
    }
}

impl Exposition {
    /// All families, those of this process too.
    ///
    /// # Errors
    /// The families cannot be written; one sentence.
    pub fn render(&self, format: Format, snapshot: &Snapshot, own: &SelfStats) -> Result<Bytes, String> {
        let mut out = Vec::new();
        for (family, read) in each_family(snapshot, own) {
            append(format, &family, || natives(read, snapshot), &mut out)?;
        }
        for family in self.process.collect() {
            append(format, &family, Vec::new, &mut out)?;
        }
        Ok(out.into())
    }
}

/// Content type of [`Exposition::render`] in a format.
#[must_use]
pub const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Text => TEXT_CONTENT_TYPE,
        Format::Protobuf => protobuf::CONTENT_TYPE,
    }
}

/// Families without those of the process, ordered by name; one without series is left out.
#[must_use]
pub fn families(snapshot: &Snapshot, own: &SelfStats) -> Vec<MetricFamily> {
    each_family(snapshot, own).map(|(family, _)| family).collect()
}

/// The families in text.
///
/// # Errors
/// A family has no name or no series; one sentence.
pub fn encode(families: &[MetricFamily]) -> Result<Bytes, String> {
    let mut out = Vec::new();
    for family in families {
        append(Format::Text, family, Vec::new, &mut out)?;
    }
    Ok(out.into())
}

/// As [`families`], one at a time, with what its values were read by.
fn each_family<'a>(
    snapshot: &'a Snapshot,
    own: &'a SelfStats,
) -> impl Iterator<Item = (MetricFamily, Read)> + 'a {
    let mut all: Vec<&Family> = families::all().collect();
    all.sort_unstable_by_key(|family| family.name);
    all.into_iter()
        .filter(|family| family.field.is_none_or(|field| !own.absent_fields.contains(&field)))
        .filter_map(|family| {
            let metrics = metrics(family, snapshot, own);
            (!metrics.is_empty()).then(|| (named(family, metrics), family.read))
        })
}

/// Appends one family; `natives` are asked for only where they are sent.
fn append(
    format: Format,
    family: &MetricFamily,
    natives: impl FnOnce() -> Vec<Native>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    match format {
        Format::Text => TextEncoder::new()
            .encode(std::slice::from_ref(family), out)
            .map_err(|e| format!("{} cannot be written as text: {e}; please report this", family.name())),
        Format::Protobuf => protobuf::append(family, &natives(), out),
    }
}

/// Native forms of a family's histograms, in the order of [`metrics`]; none for other families.
fn natives(read: Read, snapshot: &Snapshot) -> Vec<Native> {
    match read {
        Read::Rtt(histogram) => snapshot.groups.values().map(|s| native::rtt(histogram(s))).collect(),
        Read::Duration(histogram) => {
            snapshot.groups.values().map(|s| native::duration(histogram(s))).collect()
        }
        _ => Vec::new(),
    }
}

fn named(family: &Family, metrics: Vec<Metric>) -> MetricFamily {
    let mut out = MetricFamily::default();
    out.set_name(family.name.to_owned());
    out.set_help(family.help.to_owned());
    out.set_field_type(match family.kind() {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    out.set_metric(metrics);
    out
}

fn metrics(family: &Family, snapshot: &Snapshot, own: &SelfStats) -> Vec<Metric> {
    let hz = own.jiffies_per_second.filter(|hz| *hz > 0).map(f64::from);
    match family.read {
        Read::Counter(value) => by_group(snapshot, |s, labels| vec![counter(labels, value(s) as f64)]),
        Read::CounterBy(values) => by_group(snapshot, |s, labels| by_label(family, &labels, values(s), 1.0)),
        Read::Micros(value) => by_group(snapshot, |s, labels| vec![counter(labels, value(s) as f64 / 1e6)]),
        Read::MicrosBy(values) => by_group(snapshot, |s, labels| by_label(family, &labels, values(s), 1e6)),
        Read::Jiffies(value) => hz.map_or_else(Vec::new, |hz| {
            by_group(snapshot, |s, labels| vec![counter(labels, value(s) as f64 / hz)])
        }),
        Read::JiffiesBy(values) => hz.map_or_else(Vec::new, |hz| {
            by_group(snapshot, |s, labels| by_label(family, &labels, values(s), hz))
        }),
        Read::Gauge(value) => by_group(snapshot, |s, labels| vec![gauge(labels, value(s) as f64)]),
        Read::Rtt(histogram) => by_group(snapshot, |s, labels| vec![rtt_histogram(labels, histogram(s))]),
        Read::Duration(histogram) => {
            by_group(snapshot, |s, labels| vec![duration_histogram(labels, histogram(s))])
        }
        Read::OwnCounter(values) => own_samples(family, values(snapshot, own), counter),
        Read::OwnGauge(values) => own_samples(family, values(snapshot, own), gauge),
    }
}

fn by_group(snapshot: &Snapshot, metrics: impl Fn(&Series, Vec<LabelPair>) -> Vec<Metric>) -> Vec<Metric> {
    snapshot
        .groups
        .iter()
        .flat_map(|(group, series)| metrics(series, group_labels(&snapshot.labels, group)))
        .collect()
}

fn by_label(family: &Family, group: &[LabelPair], values: Vec<(&str, u64)>, divisor: f64) -> Vec<Metric> {
    let name = family.labels.first().copied().unwrap_or_default();
    let metric = |(value, count): (&str, u64)| {
        let labels = group.iter().cloned().chain([label(name, value)]).collect();
        counter(labels, count as f64 / divisor)
    };
    values.into_iter().map(metric).collect()
}

fn own_samples(
    family: &Family,
    samples: Vec<families::Sample>,
    metric: fn(Vec<LabelPair>, f64) -> Metric,
) -> Vec<Metric> {
    let labels =
        |values: Vec<String>| family.labels.iter().zip(values).map(|(name, v)| label(name, &v)).collect();
    samples.into_iter().map(|(values, number)| metric(labels(values), number)).collect()
}

fn rtt_histogram(labels: Vec<LabelPair>, histogram: &RttHistogram) -> Metric {
    let bounds = RTT_BUCKETS.map(|bucket| (bucket, probe_common::histogram::upper_bound_seconds(bucket)));
    cumulative(labels, &histogram.counts, &bounds, histogram.sum_us as f64 / 1e6)
}

fn duration_histogram(labels: Vec<LabelPair>, histogram: &DurationHistogram) -> Metric {
    let bounds: Vec<_> =
        DURATION_EXPONENTS.enumerate().map(|(bucket, exponent)| (bucket, 2f64.powi(exponent))).collect();
    cumulative(labels, &histogram.counts, &bounds, histogram.sum_ns as f64 / 1e9)
}

/// A classic histogram: for each bound the number of samples up to it. `bounds` are bucket and its upper bound in
/// seconds, ascending; the encoder adds +Inf.
fn cumulative(labels: Vec<LabelPair>, counts: &[u64], bounds: &[(usize, f64)], sum_seconds: f64) -> Metric {
    let up_to: Vec<u64> = counts
        .iter()
        .scan(0u64, |sum, count| {
            *sum = sum.wrapping_add(*count);
            Some(*sum)
        })
        .collect();
    let buckets = bounds.iter().map(|&(bucket, bound)| {
        let mut out = Bucket::default();
        out.set_upper_bound(bound);
        out.set_cumulative_count(up_to.get(bucket).copied().unwrap_or_default());
        out
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(up_to.last().copied().unwrap_or_default());
    histogram.set_sample_sum(sum_seconds);
    let mut out = Metric::from_label(labels);
    out.set_histogram(histogram);
    out
}

fn counter(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut out = Metric::from_label(labels);
    out.set_counter(counter);
    out
}

fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut out = Metric::from_label(labels);
    out.set_gauge(gauge);
    out
}

fn group_labels(labels: &LabelSet, group: &Group) -> Vec<LabelPair> {
    labels.of(group).map(|(name, value)| label(name, &value)).collect()
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut out = LabelPair::default();
    out.set_name(name.to_owned());
    out.set_value(value.to_owned());
    out
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
