//! Prometheus' text format for families with series a group, of which there may be a hundred thousand lines.
//!
//! The lines are those that the crate `prometheus` would write, byte by byte (a test compares them). Its encoder wants a
//! message a series first, with all labels in it: most of a scrape's time. Here a group's labels are put into text once.

use std::{borrow::Cow, io::Write as _, sync::Arc};

use super::{
    families::Family,
    prometheus::{Classic, Shown, shown},
};
use crate::aggregate::{Series, Snapshot};

/// Groups with their labels as text, made once a scrape.
pub(super) struct Groups(Vec<(String, Arc<Series>)>);

impl Groups {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let labels = |group| {
            let pairs = snapshot.labels.of(group);
            let pairs = pairs.into_iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(&value)));
            pairs.collect::<Vec<_>>().join(",")
        };
        Self(snapshot.groups.iter().map(|(group, series)| (labels(group), Arc::clone(series))).collect())
    }

    /// Appends a family's lines of the groups from `first` on, and stops behind a group when `out` is `enough` bytes long: gives
    /// the group to go on with, `None` at the family's end. Of a family without series there is nothing.
    pub(super) fn append(
        &self,
        family: &Family,
        hz: Option<f64>,
        first: usize,
        enough: usize,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let before = out.len();
        if first == 0 {
            let (name, kind) = (family.name, family.kind().as_str());
            // Writing to memory cannot fail.
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
        }
        let header = out.len();
        let mut lines = Lines::of(family);
        for (index, (labels, series)) in self.0.iter().enumerate().skip(first) {
            match shown(family.read, series, hz) {
                Some(Shown::Numbers(numbers)) => lines.append_numbers(labels, &numbers, out),
                Some(Shown::Histogram(histogram)) => lines.append_histogram(labels, &histogram, out),
                None => continue,
            }
            if out.len() >= enough && index + 1 < self.0.len() {
                return Some(index + 1);
            }
        }
        if first == 0 && out.len() == header {
            out.truncate(before);
        }
        None
    }
}

/// Writes the lines of a family, and keeps what many of them have in common.
struct Lines {
    name: &'static str,
    /// The family's own label; empty without.
    label: &'static str,
    /// The values of `le`, as far as they were needed.
    bounds: Vec<String>,
    /// A line up to the value of `le`.
    start: Vec<u8>,
}

impl Lines {
    fn of(family: &Family) -> Self {
        let label = family.labels.first().copied().unwrap_or_default();
        Self { name: family.name, label, bounds: Vec::new(), start: Vec::new() }
    }

    fn append_numbers(&self, labels: &str, numbers: &[(Option<&'static str>, f64)], out: &mut Vec<u8>) {
        for (value, number) in numbers {
            for part in [self.name, "{", labels] {
                out.extend_from_slice(part.as_bytes());
            }
            if let Some(value) = value {
                let _ = write!(out, ",{}=\"{}\"", self.label, escaped(value));
            }
            out.extend_from_slice(b"} ");
            push(out, *number);
        }
    }

    fn append_histogram(&mut self, labels: &str, histogram: &Classic, out: &mut Vec<u8>) {
        let more = histogram.bounds.iter().skip(self.bounds.len());
        self.bounds.extend(more.map(ToString::to_string));
        self.start.clear();
        let _ = write!(self.start, "{}_bucket{{{labels},le=\"", self.name);
        let inf = [("+Inf", &histogram.count)];
        for (bound, count) in self.bounds.iter().map(String::as_str).zip(&histogram.up_to).chain(inf) {
            out.extend_from_slice(&self.start);
            out.extend_from_slice(bound.as_bytes());
            out.extend_from_slice(b"\"} ");
            push(out, *count as f64);
        }
        for (suffix, number) in [("sum", histogram.sum_seconds), ("count", histogram.count as f64)] {
            let _ = write!(out, "{}_{suffix}{{{labels}}} ", self.name);
            push(out, number);
        }
    }
}

/// The shortest decimal that reads back as the same number, and the line's end. Most are whole, which is quicker.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and less than 2^53")]
fn push(out: &mut Vec<u8>, number: f64) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if (0.0..EXACT).contains(&number) && number.fract() == 0.0 {
        out.extend_from_slice(itoa::Buffer::new().format(number as u64).as_bytes());
    } else {
        let _ = write!(out, "{number}");
    }
    out.push(b'\n');
}

fn escaped(value: &str) -> Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into()
    } else {
        value.into()
    }
}
