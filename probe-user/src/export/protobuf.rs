//! Prometheus' protobuf format: the families of the text, each histogram classic and native at once.
//!
//! Messages and field numbers are those of io/prometheus/client/metrics.proto in prometheus/client_model; what flowprobe
//! never sends (summaries, exemplars, timestamps, float histograms) is left out.

use std::sync::Arc;

use prometheus::proto::{self, MetricType};
use prost::{Message, encoding};

use super::{
    families::{Family, Kind},
    native::{self, Native},
    prometheus::{Classic, Shown, shown},
};
use crate::aggregate::{Series, Snapshot};

/// Content type of a sequence of messages, each behind its length.
pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// The message of a gauge and that of a counter.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Number {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    pub(super) offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub(super) zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub(super) zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub(super) positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub(super) positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub(super) gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    pub(super) counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) help: Option<String>,
    #[prost(enumeration = "Type", optional, tag = "3")]
    pub(super) r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Type {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

/// Groups with their labels as they stand in each of their messages, made once a scrape.
pub(super) struct Groups(Vec<(Vec<u8>, Arc<Series>)>);

impl Groups {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let labels = |group| {
            let mut bytes = Vec::new();
            for (name, value) in snapshot.labels.of(group) {
                encoding::message::encode(LABEL, &label(name, &value), &mut bytes);
            }
            bytes
        };
        Self(snapshot.groups.iter().map(|(group, series)| (labels(group), Arc::clone(series))).collect())
    }

    /// Appends a family with series a group; nothing when it has none.
    ///
    /// # Errors
    /// The family cannot be written; one sentence.
    pub(super) fn append(&self, family: &Family, hz: Option<f64>, out: &mut Vec<u8>) -> Result<(), String> {
        let (kind, number_tag) = match family.kind() {
            Kind::Counter => (Type::Counter, COUNTER),
            Kind::Gauge => (Type::Gauge, GAUGE),
            Kind::Histogram => (Type::Histogram, HISTOGRAM),
        };
        let mut body = head(family.name, family.help, kind).encode_to_vec();
        let without_series = body.len();
        let own_label = family.labels.first().copied().unwrap_or_default();
        let mut metric = Vec::new();
        for (labels, series) in &self.0 {
            match shown(family.read, series, hz) {
                Some(Shown::Numbers(numbers)) => {
                    for (value, number) in numbers {
                        metric.clone_from(labels);
                        if let Some(value) = value {
                            encoding::message::encode(LABEL, &label(own_label, value), &mut metric);
                        }
                        encoding::message::encode(number_tag, &Number { value: Some(number) }, &mut metric);
                        encoding::bytes::encode(METRIC, &metric, &mut body);
                    }
                }
                Some(Shown::Histogram(classic)) => {
                    let native = native::of(family.read, series)
                        .ok_or_else(|| unwritable(family.name, "it has no native form"))?;
                    metric.clone_from(labels);
                    encoding::message::encode(HISTOGRAM, &histogram(&classic, native), &mut metric);
                    encoding::bytes::encode(METRIC, &metric, &mut body);
                }
                None => {}
            }
        }
        if body.len() > without_series {
            encoding::encode_varint(body.len() as u64, out);
            out.extend(body);
        }
        Ok(())
    }
}

// Field numbers of MetricFamily and Metric.
const METRIC: u32 = 4;
const LABEL: u32 = 1;
const GAUGE: u32 = 2;
const COUNTER: u32 = 3;
const HISTOGRAM: u32 = 7;

/// Appends a family of counters or gauges that the crate `prometheus` gave.
///
/// # Errors
/// The family is of another type; one sentence.
pub fn append(family: &proto::MetricFamily, out: &mut Vec<u8>) -> Result<(), String> {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => Type::Counter,
        MetricType::GAUGE => Type::Gauge,
        other => return Err(unwritable(family.name(), &format!("it is a {other:?}"))),
    };
    let metric = family.get_metric().iter().map(|metric| {
        let label = metric.get_label().iter().map(|pair| label(pair.name(), pair.value())).collect();
        let out = Metric { label, ..Metric::default() };
        match kind {
            Type::Counter => {
                Metric { counter: Some(Number { value: Some(metric.get_counter().get_value()) }), ..out }
            }
            _ => Metric { gauge: Some(Number { value: Some(metric.get_gauge().get_value()) }), ..out },
        }
    });
    let message = MetricFamily { metric: metric.collect(), ..head(family.name(), family.help(), kind) };
    message.encode_length_delimited(out).map_err(|e| unwritable(family.name(), &e.to_string()))
}

fn unwritable(name: &str, why: &str) -> String {
    format!("{name} cannot be written as protobuf: {why}; please report this")
}

fn head(name: &str, help: &str, kind: Type) -> MetricFamily {
    MetricFamily {
        name: Some(name.to_owned()),
        help: Some(help.to_owned()),
        r#type: Some(kind as i32),
        metric: Vec::new(),
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    LabelPair { name: Some(name.to_owned()), value: Some(value.to_owned()) }
}

fn histogram(classic: &Classic, native: Native) -> Histogram {
    let bucket =
        |(bound, count): (&f64, &u64)| Bucket { cumulative_count: Some(*count), upper_bound: Some(*bound) };
    let span = |(offset, length)| BucketSpan { offset: Some(offset), length: Some(length) };
    Histogram {
        sample_count: Some(classic.count),
        sample_sum: Some(classic.sum_seconds),
        bucket: classic.bounds.iter().zip(&classic.up_to).map(bucket).collect(),
        schema: Some(native.schema),
        zero_threshold: Some(native.zero_threshold),
        zero_count: Some(native.zero_count),
        positive_span: native.spans.into_iter().map(span).collect(),
        positive_delta: native.deltas,
    }
}
