//! The exposition, made of one snapshot when a scrape asks: Prometheus' text, or its protobuf format.
//!
//! Reads nothing but what it is given, and /proc/self for `process_*`. It is made piece by piece, while what was made before is
//! being sent: of a thousand groups it is 20 MB of text. What it costs stands in docs/performance.md, Scrapes.

use std::{sync::LazyLock, time::Duration, vec};

use bytes::Bytes;
use prometheus::{
    Encoder as _, TextEncoder,
    core::Collector as _,
    process_collector::ProcessCollector,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};
use rustix::time::{ClockId, clock_gettime};

use super::{
    families::{self, Family, Kind, Read},
    negotiation::Format,
    protobuf,
    stats::SelfStats,
    text,
};
use crate::aggregate::{DURATION_EXPONENTS, DurationHistogram, RttHistogram, Series, Snapshot};

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
    /// All families, ordered by name, and behind them those of this process; one without series is left out.
    #[must_use]
    pub fn pieces(&self, format: Format, snapshot: Snapshot, own: SelfStats) -> Pieces {
        Pieces { process: self.process().into_iter(), ..Pieces::of(format, snapshot, own) }
    }

    /// `process_*`; of CPU time the collector has whole seconds, which a quiet daemon takes minutes to fill.
    fn process(&self) -> Vec<MetricFamily> {
        let mut families = self.process.collect();
        if let Some(cpu) = families.iter_mut().find(|family| family.name() == CPU_SECONDS) {
            cpu.set_metric(vec![counter(Vec::new(), cpu_of_this_process().as_secs_f64())]);
        }
        families
    }
}

const CPU_SECONDS: &str = "process_cpu_seconds_total";

/// CPU time of all its threads, in the kernel and outside (CLOCK_PROCESS_CPUTIME_ID).
fn cpu_of_this_process() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// An exposition, to be read piece by piece; an error is one sentence and its end.
pub struct Pieces {
    groups: Groups,
    snapshot: Snapshot,
    own: SelfStats,
    families: vec::IntoIter<&'static Family>,
    /// The family that the piece before ended in, and its first group that is to come.
    begun: Option<(&'static Family, usize)>,
    process: vec::IntoIter<MetricFamily>,
}

enum Groups {
    Text(text::Groups),
    Protobuf(protobuf::Groups),
}

/// Length at which a piece ends, bytes: of text behind a group, of protobuf behind a family, whose length stands before it.
const PIECE: usize = 64 << 10;
/// What the last group may add.
const ROOM: usize = 8 << 10;

impl Pieces {
    fn of(format: Format, snapshot: Snapshot, own: SelfStats) -> Self {
        let groups = match format {
            Format::Text => Groups::Text(text::Groups::of(&snapshot)),
            Format::Protobuf => Groups::Protobuf(protobuf::Groups::of(&snapshot)),
        };
        let families = shown_families(&own).into_iter();
        Self { groups, snapshot, own, families, begun: None, process: Vec::new().into_iter() }
    }

    /// All of them as one.
    ///
    /// # Errors
    /// A family cannot be written; one sentence.
    pub fn whole(self) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for piece in self {
            out.extend_from_slice(&piece?);
        }
        Ok(out)
    }

    /// Appends a family or a part of one; false when there are no more.
    fn append(&mut self, out: &mut Vec<u8>) -> Result<bool, String> {
        let begun = self.begun.take().or_else(|| self.families.next().map(|family| (family, 0)));
        let hz = hz(&self.own);
        let message = match begun {
            Some((family, first)) if family.is_by_group() => {
                match &self.groups {
                    Groups::Text(groups) => {
                        let next = groups.append(family, hz, first, PIECE, out);
                        self.begun = next.map(|next| (family, next));
                    }
                    Groups::Protobuf(groups) => groups.append(family, hz, out)?,
                }
                return Ok(true);
            }
            Some((family, _)) => message(family, &self.snapshot, &self.own),
            None => match self.process.next() {
                None => return Ok(false),
                some => some,
            },
        };
        if let Some(message) = message {
            match self.groups {
                Groups::Text(_) => encode(message, out)?,
                Groups::Protobuf(_) => protobuf::append(&message, out)?,
            }
        }
        Ok(true)
    }
}

impl Iterator for Pieces {
    type Item = Result<Bytes, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut out = Vec::with_capacity(PIECE + ROOM);
        while out.len() < PIECE {
            match self.append(&mut out) {
                Ok(true) => {}
                Ok(false) => break,
                Err(reason) => {
                    (self.families, self.process) = (Vec::new().into_iter(), Vec::new().into_iter());
                    return Some(Err(reason));
                }
            }
        }
        (!out.is_empty()).then(|| Ok(out.into()))
    }
}

fn encode(family: MetricFamily, out: &mut Vec<u8>) -> Result<(), String> {
    let name = family.name().to_owned();
    TextEncoder::new()
        .encode(&[family], out)
        .map_err(|e| format!("{name} cannot be written as text: {e}; please report this"))
}

/// Content type of [`Exposition::pieces`] in a format.
#[must_use]
pub const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Text => TEXT_CONTENT_TYPE,
        Format::Protobuf => protobuf::CONTENT_TYPE,
    }
}

/// The exposition as one text, without the families of this process.
///
/// # Errors
/// A family cannot be written; one sentence.
pub fn text(snapshot: &Snapshot, own: &SelfStats) -> Result<Vec<u8>, String> {
    Pieces::of(Format::Text, snapshot.clone(), own.clone()).whole()
}

/// What this kernel has the fields for, ordered by name.
fn shown_families(own: &SelfStats) -> Vec<&'static Family> {
    let mut all: Vec<&Family> = families::all()
        .filter(|family| family.field.is_none_or(|field| !own.absent_fields.contains(&field)))
        .collect();
    all.sort_unstable_by_key(|family| family.name);
    all
}

fn hz(own: &SelfStats) -> Option<f64> {
    own.jiffies_per_second.filter(|hz| *hz > 0).map(f64::from)
}

/// What a group shows in a family.
pub(super) enum Shown {
    /// Values of the family's own label, if it has one, and numbers.
    Numbers(Vec<(Option<&'static str>, f64)>),
    /// A classic histogram.
    Histogram(Classic),
}

/// A classic histogram: the number of samples up to each bound, in seconds, ascending.
pub(super) struct Classic {
    pub(super) bounds: &'static [f64],
    pub(super) up_to: Vec<u64>,
    pub(super) count: u64,
    pub(super) sum_seconds: f64,
}

/// Reads a family with series a group; `None` where nothing is known, and for other families.
pub(super) fn shown(read: Read, series: &Series, hz: Option<f64>) -> Option<Shown> {
    let one = |value: u64, divisor: f64| Shown::Numbers(vec![(None, value as f64 / divisor)]);
    let each = |values: Vec<(&'static str, u64)>, divisor: f64| {
        Shown::Numbers(values.into_iter().map(|(name, v)| (Some(name), v as f64 / divisor)).collect())
    };
    Some(match read {
        Read::Counter(value) | Read::Gauge(value) => one(value(series), 1.0),
        Read::CounterBy(values) => each(values(series), 1.0),
        Read::Micros(value) => one(value(series), 1e6),
        Read::MicrosBy(values) => each(values(series), 1e6),
        Read::Jiffies(value) => one(value(series), hz?),
        Read::JiffiesBy(values) => each(values(series), hz?),
        Read::Rtt(histogram) => Shown::Histogram(rtt_histogram(histogram(series))),
        Read::Duration(histogram) => Shown::Histogram(duration_histogram(histogram(series))),
        Read::OwnCounter(_) | Read::OwnGauge(_) => return None,
    })
}

/// A family of the daemon's own as the crate's message; `None` without series.
fn message(family: &Family, snapshot: &Snapshot, own: &SelfStats) -> Option<MetricFamily> {
    let metrics = match family.read {
        Read::OwnCounter(values) => own_samples(family, values(snapshot, own), counter),
        Read::OwnGauge(values) => own_samples(family, values(snapshot, own), gauge),
        _ => return None,
    };
    if metrics.is_empty() {
        return None;
    }
    Some(named(family, metrics))
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

fn own_samples(
    family: &Family,
    samples: Vec<families::Sample>,
    metric: fn(Vec<LabelPair>, f64) -> Metric,
) -> Vec<Metric> {
    let labels =
        |values: Vec<String>| family.labels.iter().zip(values).map(|(name, v)| label(name, &v)).collect();
    samples.into_iter().map(|(values, number)| metric(labels(values), number)).collect()
}

fn rtt_histogram(histogram: &RttHistogram) -> Classic {
    static BOUNDS: LazyLock<Vec<f64>> =
        LazyLock::new(|| RTT_BUCKETS.map(probe_common::histogram::upper_bound_seconds).to_vec());
    classic(&BOUNDS, RTT_BUCKETS.into_iter(), &histogram.counts, histogram.sum_us as f64 / 1e6)
}

fn duration_histogram(histogram: &DurationHistogram) -> Classic {
    static BOUNDS: LazyLock<Vec<f64>> =
        LazyLock::new(|| DURATION_EXPONENTS.map(|exponent| 2f64.powi(exponent)).collect());
    classic(&BOUNDS, 0..BOUNDS.len(), &histogram.counts, histogram.sum_ns as f64 / 1e9)
}

/// `buckets` are those that the bounds belong to.
fn classic(
    bounds: &'static [f64],
    buckets: impl Iterator<Item = usize>,
    counts: &[u64],
    sum_seconds: f64,
) -> Classic {
    let sums: Vec<u64> = counts
        .iter()
        .scan(0u64, |sum, count| {
            *sum = sum.wrapping_add(*count);
            Some(*sum)
        })
        .collect();
    let up_to = buckets.map(|bucket| sums.get(bucket).copied().unwrap_or_default()).collect();
    Classic { bounds, up_to, count: sums.last().copied().unwrap_or_default(), sum_seconds }
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

fn label(name: &str, value: &str) -> LabelPair {
    let mut out = LabelPair::default();
    out.set_name(name.to_owned());
    out.set_value(value.to_owned());
    out
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
