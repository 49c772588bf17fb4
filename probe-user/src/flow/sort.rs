//! Orders flows by a field or a measure, and keeps the first ones of many.
//!
//! A plain key puts the largest number, the longest time and the latest instant first, and names from A to Z; `-` before
//! it turns that round. What has no value comes last either way. Equal flows stand by their addresses, so that two runs
//! on the same flows agree.

use std::{cmp::Ordering, str::FromStr};

use super::{
    Flow,
    field::{FIELDS, Field, Kind, Measure},
    filter::nearest,
};

/// An order of flows.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    key: Key,
    reversed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Key {
    Measure(Measure),
    Field(&'static Field),
}

impl Sort {
    /// The most bytes first.
    pub const BYTES: Self = Self { key: Key::Measure(Measure::Bytes), reversed: false };

    /// How `a` and `b` follow each other.
    #[must_use]
    pub fn order(&self, a: &Flow, b: &Flow) -> Ordering {
        let by_key = match self.key {
            Key::Measure(measure) => self.directed(measure.of(a), measure.of(b), true),
            Key::Field(field) => self.directed(field.of(a), field.of(b), field.kind == Kind::Time),
        };
        by_key.then_with(|| identity(a).cmp(&identity(b))).then_with(|| a.flow_id.cmp(&b.flow_id))
    }

    fn directed<T: PartialOrd>(&self, a: Option<T>, b: Option<T>, largest_first: bool) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) => {
                let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                if largest_first == self.reversed { order } else { order.reverse() }
            }
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }
}

fn identity(flow: &Flow) -> impl Ord {
    (flow.remote_addr, flow.remote_port, flow.local_addr, flow.local_port)
}

impl FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (reversed, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
        let key = match (Measure::find(name), Field::find(name)) {
            (Some(measure), _) => Key::Measure(measure),
            (None, Some(field)) if field.kind != Kind::Histogram => Key::Field(field),
            _ => {
                let known = Measure::short_names().chain(FIELDS.iter().map(|field| field.name));
                return Err(match nearest(name, known) {
                    Some(near) => format!("unknown key, did you mean `{near}`?"),
                    None => format!(
                        "unknown key, use a field's name or one of {}",
                        Measure::short_names().collect::<Vec<_>>().join(", ")
                    ),
                });
            }
        };
        Ok(Self { key, reversed })
    }
}

/// The first flows of an order, out of any number, in the memory of twice as many as are wanted.
#[derive(Debug)]
pub struct First {
    sort: Sort,
    limit: usize,
    flows: Vec<Flow>,
}

/// Flows kept beyond the limit before the surplus is dropped.
const SLACK: usize = 1024;

impl First {
    /// Keeps the first `limit` flows by `sort`.
    #[must_use]
    pub fn new(sort: Sort, limit: usize) -> Self {
        Self { sort, limit, flows: Vec::new() }
    }

    /// Offers a flow.
    pub fn push(&mut self, flow: Flow) {
        self.flows.push(flow);
        if self.flows.len() >= self.limit.saturating_mul(2).saturating_add(SLACK) {
            self.flows.select_nth_unstable_by(self.limit, |a, b| self.sort.order(a, b));
            self.flows.truncate(self.limit);
        }
    }

    /// The flows kept, in order.
    #[must_use]
    pub fn finish(mut self) -> Vec<Flow> {
        self.flows.sort_unstable_by(|a, b| self.sort.order(a, b));
        self.flows.truncate(self.limit);
        self.flows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::sample;

    fn flows() -> Vec<Flow> {
        let rtts = [Some(30), None, Some(10), Some(20)];
        let make = |(port, srtt_us): (u16, Option<u32>)| Flow {
            remote_port: port,
            srtt_us,
            congestion_control: srtt_us.map(|n| format!("cc{n}")),
            ..sample::full()
        };
        (1..).zip(rtts).map(make).collect()
    }

    fn ports(key: &str) -> Vec<u16> {
        let mut first = First::new(key.parse().unwrap(), usize::MAX);
        flows().into_iter().for_each(|flow| first.push(flow));
        first.finish().iter().map(|flow| flow.remote_port).collect()
    }

    #[test]
    fn largest_first_names_from_a_to_z_and_nothing_last() {
        assert_eq!(ports("rtt"), [1, 4, 3, 2]);
        assert_eq!(ports("-rtt"), [3, 4, 1, 2]);
        assert_eq!(ports("srtt_us"), [1, 4, 3, 2]);
        assert_eq!(ports("congestion_control"), [3, 4, 1, 2]);
        assert_eq!(ports("-congestion_control"), [1, 4, 3, 2]);
        assert_eq!(ports("bytes"), [1, 2, 3, 4]);
        assert_eq!(ports("remote_port"), [4, 3, 2, 1]);
    }

    #[test]
    fn times_sort_latest_first() {
        let early = Flow { opened_at: "2025-01-01T00:00:00Z".parse().ok(), ..sample::full() };
        let sort: Sort = "opened_at".parse().unwrap();
        assert_eq!(sort.order(&sample::full(), &early), Ordering::Less);
    }

    #[test]
    fn every_field_but_the_histogram_is_a_key() {
        let keys = FIELDS.iter().filter(|field| field.name.parse::<Sort>().is_ok()).count();
        assert_eq!(keys, FIELDS.len() - 1);
        assert!("rtz".parse::<Sort>().unwrap_err().contains("`rtt`"));
        assert!("nonsense".parse::<Sort>().unwrap_err().contains("use a field's name"));
    }

    #[test]
    fn the_first_of_many_are_those_of_a_full_sort() {
        let mut first = First::new("bytes".parse().unwrap(), 10);
        for n in 0..20_000_u64 {
            let bytes_acked = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            first.push(Flow {
                bytes_acked: Some(bytes_acked),
                bytes_received: Some(n % 2),
                ..sample::bare()
            });
            assert!(first.flows.len() < 2 * 10 + SLACK);
        }
        let mut all: Vec<u64> =
            (0..20_000_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) + n % 2).collect();
        all.sort_unstable_by_key(|bytes| std::cmp::Reverse(*bytes));
        let kept: Vec<u64> =
            first.finish().iter().filter_map(|flow| Some(flow.bytes_acked? + flow.bytes_received?)).collect();
        assert_eq!(kept, all[..10]);
    }
}
