//! The fields of a flow by name: what `--columns`, `--sort`, filters and CSV reach them through.
//!
//! [`FIELDS`] lists them in the order of the contract; a test compares names, order and values with the JSON of
//! [`Flow`], so that no view can show another set.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use super::{CloseReason, Family, FirstFin, Flow, Role, RttSource, State};

/// What a field holds; what has no value is `None` around it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum Value<'a> {
    /// Yes or no.
    Bool(bool),
    /// A number, in the unit that the field's name ends with.
    Int(u64),
    /// A name or a path.
    Text(&'a str),
    /// An address.
    Addr(IpAddr),
    /// A point in time.
    Time(Timestamp),
    /// Upper bounds in µs and counts.
    Histogram(&'a [(Option<u32>, u32)]),
}

/// Which of [`Value`]'s variants a field gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in Value")]
pub enum Kind {
    Bool,
    Int,
    Text,
    Addr,
    Time,
    Histogram,
}

/// What a number counts; it decides which suffixes a filter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Microseconds.
    Micros,
    /// Hundredths.
    Percent,
}

/// A field of [`Flow`].
#[derive(Debug)]
pub struct Field {
    /// Its name in the contract.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    get: fn(&Flow) -> Option<Value<'_>>,
}

impl Field {
    /// Its value in `flow`.
    #[must_use]
    pub fn of<'a>(&self, flow: &'a Flow) -> Option<Value<'a>> {
        (self.get)(flow)
    }

    /// The field of that name; `-` is read as `_`.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        FIELDS.iter().find(|field| field.name == name)
    }

    /// Its unit, which is part of its name.
    #[must_use]
    pub fn unit(&self) -> Unit {
        if self.name.ends_with("_us") {
            Unit::Micros
        } else if self.name.contains("bytes") {
            Unit::Bytes
        } else {
            Unit::Count
        }
    }
}

/// A number that a flow may have: what filters compare and sorting orders by.
#[derive(Clone, Copy, Debug)]
pub enum Measure {
    /// Of `data_segs_out`, in percent: `lost_segs_estimate` without the handshake's, which are no segments with payload.
    Loss,
    /// `bytes_acked + bytes_received`: what got through, both ways.
    Bytes,
    /// A field of kind [`Kind::Int`].
    Field(&'static Field),
}

/// Short names, for typing.
const SHORT: [(&str, &str); 7] = [
    ("rtt", "srtt_us"),
    ("min-rtt", "min_rtt_us"),
    ("rttvar", "rttvar_us"),
    ("retrans", "retrans_segs"),
    ("duration", "duration_us"),
    ("cwnd", "cwnd_segs"),
    ("unsent", "unsent_bytes"),
];

impl Measure {
    /// The measure of that short name or field.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let word = name.to_ascii_lowercase().replace('_', "-");
        match word.as_str() {
            "loss" => Some(Self::Loss),
            "bytes" => Some(Self::Bytes),
            _ => {
                let name = SHORT.iter().find(|(short, _)| *short == word).map_or(name, |(_, field)| field);
                Field::find(name).filter(|field| field.kind == Kind::Int).map(Self::Field)
            }
        }
    }

    /// All short names.
    pub fn short_names() -> impl Iterator<Item = &'static str> {
        SHORT.iter().map(|(short, _)| *short).chain(["loss", "bytes"])
    }

    /// Its unit.
    #[must_use]
    pub fn unit(self) -> Unit {
        match self {
            Self::Loss => Unit::Percent,
            Self::Bytes => Unit::Bytes,
            Self::Field(field) => field.unit(),
        }
    }

    /// Its value, in its unit; exact up to 2^53.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^53 bytes or microseconds are out of reach")]
    pub fn of(self, flow: &Flow) -> Option<f64> {
        match self {
            Self::Loss => {
                let sent = flow.data_segs_out.filter(|sent| *sent > 0)?;
                let handshake = flow.retrans_syn?.saturating_add(flow.retrans_synack?);
                let lost = flow.lost_segs_estimate?.saturating_sub(handshake);
                Some(f64::from(lost) / f64::from(sent) * 100.0)
            }
            Self::Bytes => Some(flow.bytes_acked?.saturating_add(flow.bytes_received?) as f64),
            Self::Field(field) => match field.of(flow)? {
                Value::Int(value) => Some(value as f64),
                _ => None,
            },
        }
    }
}

/// What can be a field of [`Flow`].
trait Plain {
    const KIND: Kind;
    fn value(&self) -> Option<Value<'_>>;
}

impl<T: Plain> Plain for Option<T> {
    const KIND: Kind = T::KIND;
    fn value(&self) -> Option<Value<'_>> {
        self.as_ref()?.value()
    }
}

macro_rules! plain {
    ($($type:ty: $kind:ident = |$v:ident| $value:expr;)+) => {$(
        impl Plain for $type {
            const KIND: Kind = Kind::$kind;
            fn value(&self) -> Option<Value<'_>> {
                let $v = self;
                Some(Value::$kind($value))
            }
        }
    )+};
}

plain! {
    bool: Bool = |v| *v;
    u16: Int = |v| u64::from(*v);
    u32: Int = |v| u64::from(*v);
    u64: Int = |v| *v;
    String: Text = |v| v;
    Arc<str>: Text = |v| v;
    &'static str: Text = |v| v;
    Family: Text = |v| v.name();
    Role: Text = |v| v.name();
    State: Text = |v| v.name();
    CloseReason: Text = |v| v.name();
    FirstFin: Text = |v| v.name();
    RttSource: Text = |v| v.name();
    IpAddr: Addr = |v| *v;
    Timestamp: Time = |v| *v;
    Vec<(Option<u32>, u32)>: Histogram = |v| v;
}

const fn kind<T: Plain>(_: fn(&Flow) -> &T) -> Kind {
    T::KIND
}

macro_rules! fields {
    ($($name:ident)+) => {
        &[$(Field {
            name: stringify!($name),
            kind: kind(|flow| &flow.$name),
            get: |flow| flow.$name.value(),
        }),+]
    };
}

/// Every field, in the order of the contract.
pub static FIELDS: &[Field] = fields! {
    schema_version flow_id netns family role local_addr local_port remote_addr remote_port uid cgroup
    congestion_control
    state adopted opened_at closed_at duration_us close_reason first_fin error
    handshake_rtt_us srtt_us rttvar_us min_rtt_us rtt_samples rtt_sum_us rtt_max_us rtt_histogram rtt_source
    segs_out data_segs_out segs_in data_segs_in retrans_segs retrans_fast retrans_rto retrans_tlp retrans_syn
    retrans_synack retrans_other retrans_unattributed retrans_bytes spurious_segs lost_segs_estimate rto_count
    loss_episodes loss_episode_us loss_episode_max_us undone_episodes needless_segs
    stalls_rto stalls_zero_window stalls_other stall_rto_us stall_zero_window_us stall_other_us
    reordering_seen ce_delivered_segs ooo_segs_in
    bytes_sent bytes_acked bytes_received delivery_rate_bytes_per_second app_limited
    busy_us rwnd_limited_us sndbuf_limited_us cwnd_segs ssthresh_segs mss_bytes unacked_segs unacked_bytes unsent_bytes
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::sample;

    #[test]
    fn fields_are_those_of_json_in_its_order() {
        for flow in [sample::full(), sample::bare()] {
            let listed: String = FIELDS
                .iter()
                .map(|f| format!(",\"{}\":{}", f.name, serde_json::to_string(&f.of(&flow)).unwrap()))
                .collect();
            assert_eq!(format!("{{{}}}", &listed[1..]), serde_json::to_string(&flow).unwrap());
        }
    }

    #[test]
    fn a_full_flow_has_every_field() {
        let flow = sample::full();
        for field in FIELDS {
            assert!(field.of(&flow).is_some(), "{}", field.name);
        }
    }

    #[test]
    fn short_names_are_measures() {
        for name in Measure::short_names() {
            assert!(Measure::find(name).is_some(), "{name}");
            assert!(Measure::find(&name.replace('-', "_")).is_some(), "{name}");
        }
        assert!(Measure::find("retrans_rto").is_some());
        assert!(Measure::find("cgroup").is_none());
    }

    #[test]
    fn loss_is_of_data_segments_and_unknown_without_any() {
        let mut flow = Flow {
            data_segs_out: Some(200),
            lost_segs_estimate: Some(3),
            retrans_syn: Some(0),
            retrans_synack: Some(0),
            ..sample::bare()
        };
        assert_eq!(Measure::Loss.of(&flow), Some(1.5));
        flow.retrans_syn = Some(2);
        assert_eq!(Measure::Loss.of(&flow), Some(0.5));
        // A needless SYN-ACK is in no estimate and is taken off all the same.
        flow.retrans_synack = Some(2);
        assert_eq!(Measure::Loss.of(&flow), Some(0.0));
        flow.data_segs_out = Some(0);
        assert_eq!(Measure::Loss.of(&flow), None);
        flow = Flow { data_segs_out: Some(200), lost_segs_estimate: None, ..flow };
        assert_eq!(Measure::Loss.of(&flow), None);
    }
}
