//! Prometheus' protobuf format: the families of the text, each histogram classic and native at once.
//!
//! Messages and field numbers are those of io/prometheus/client/metrics.proto in prometheus/client_model; what flowprobe
//! never sends (summaries, exemplars, timestamps, float histograms) is left out.

use prometheus::proto::{self, MetricType};
use prost::Message;

use super::native::Native;

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

/// Appends a family. `natives` are the native forms of its histograms, in their order; it has none if it is no histogram.
///
/// # Errors
/// The family is of a type that is not sent, or a histogram has no native form; one sentence.
pub fn append(family: &proto::MetricFamily, natives: &[Native], out: &mut Vec<u8>) -> Result<(), String> {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => Type::Counter,
        MetricType::GAUGE => Type::Gauge,
        MetricType::HISTOGRAM if natives.len() == family.get_metric().len() => Type::Histogram,
        other => {
            return Err(format!(
                "{} is a {other:?} that cannot be written as protobuf; please report this",
                family.name()
            ));
        }
    };
    let mut natives = natives.iter();
    let metric = family.get_metric().iter().map(|metric| {
        let mut out = Metric { label: metric.get_label().iter().map(label).collect(), ..Metric::default() };
        match kind {
            Type::Counter => out.counter = Some(Number { value: Some(metric.get_counter().get_value()) }),
            Type::Gauge => out.gauge = Some(Number { value: Some(metric.get_gauge().get_value()) }),
            Type::Histogram => {
                out.histogram = natives.next().map(|native| histogram(metric.get_histogram(), native));
            }
        }
        out
    });
    let message = MetricFamily {
        metric: metric.collect(),
        name: Some(family.name().to_owned()),
        help: Some(family.help().to_owned()),
        r#type: Some(kind as i32),
    };
    message
        .encode_length_delimited(out)
        .map_err(|e| format!("{} cannot be written as protobuf: {e}; please report this", family.name()))
}

fn label(pair: &proto::LabelPair) -> LabelPair {
    LabelPair { name: Some(pair.name().to_owned()), value: Some(pair.value().to_owned()) }
}

fn histogram(classic: &proto::Histogram, native: &Native) -> Histogram {
    let bucket = |bucket: &proto::Bucket| Bucket {
        cumulative_count: Some(bucket.cumulative_count()),
        upper_bound: Some(bucket.upper_bound()),
    };
    let span = |&(offset, length): &(i32, u32)| BucketSpan { offset: Some(offset), length: Some(length) };
    Histogram {
        sample_count: Some(classic.get_sample_count()),
        sample_sum: Some(classic.get_sample_sum()),
        bucket: classic.get_bucket().iter().map(bucket).collect(),
        schema: Some(native.schema),
        zero_threshold: Some(native.zero_threshold),
        zero_count: Some(native.zero_count),
        positive_span: native.spans.iter().map(span).collect(),
        positive_delta: native.deltas.clone(),
    }
}
