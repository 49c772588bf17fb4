//! All metric families, each described once: the scrape, its HELP texts and `docs/metrics.md` are made from these tables.
//!
//! Names are fixed; to change one, add a new one. Nothing here is computed before a scrape asks for it.

use probe_common::fields::Field;

pub use self::{own::OWN, tcp::TCP};
use super::stats::SelfStats;
use crate::aggregate::{DurationHistogram, RttHistogram, Series, Snapshot};

mod own;
mod tcp;

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Full name.
    pub name: &'static str,
    /// Labels beside those of the group.
    pub labels: &'static [&'static str],
    /// Unit of the value.
    pub unit: &'static str,
    /// HELP text: one sentence.
    pub help: &'static str,
    /// Where the number comes from.
    pub source: &'static str,
    /// What it means, and where it is biased.
    pub meaning: &'static str,
    /// Kernel field without which the family is absent.
    pub field: Option<Field>,
    /// How to read it.
    pub read: Read,
}

/// A family's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// Counts of a group by the value of the family's own label.
pub type ByLabel = fn(&Series) -> Vec<(&'static str, u64)>;

/// Values of the family's labels, in their order, and the number.
pub type Sample = (Vec<String>, f64);

/// How a family's values are read.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// A counter a group.
    Counter(fn(&Series) -> u64),
    /// A counter a group and value of the family's label.
    CounterBy(ByLabel),
    /// A counter of microseconds a group, shown in seconds.
    Micros(fn(&Series) -> u64),
    /// The same by the value of the family's label.
    MicrosBy(ByLabel),
    /// A counter of jiffies a group, shown in seconds.
    Jiffies(fn(&Series) -> u64),
    /// The same by the value of the family's label.
    JiffiesBy(ByLabel),
    /// A gauge a group.
    Gauge(fn(&Series) -> u64),
    /// A histogram of round trips a group.
    Rtt(fn(&Series) -> &RttHistogram),
    /// A histogram of durations a group.
    Duration(fn(&Series) -> &DurationHistogram),
    /// Counters of the daemon itself.
    OwnCounter(fn(&Snapshot, &SelfStats) -> Vec<Sample>),
    /// Gauges of the daemon itself.
    OwnGauge(fn(&Snapshot, &SelfStats) -> Vec<Sample>),
}

impl Family {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.read {
            Read::Counter(_)
            | Read::CounterBy(_)
            | Read::Micros(_)
            | Read::MicrosBy(_)
            | Read::Jiffies(_)
            | Read::JiffiesBy(_)
            | Read::OwnCounter(_) => Kind::Counter,
            Read::Gauge(_) | Read::OwnGauge(_) => Kind::Gauge,
            Read::Rtt(_) | Read::Duration(_) => Kind::Histogram,
        }
    }

    /// Whether it has one series a group, and so the group's labels.
    #[must_use]
    pub const fn is_by_group(&self) -> bool {
        !matches!(self.read, Read::OwnCounter(_) | Read::OwnGauge(_))
    }
}

impl Kind {
    /// The word in a TYPE line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// All families, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Family> {
    TCP.iter().chain(OWN)
}
