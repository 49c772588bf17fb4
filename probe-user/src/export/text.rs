//! Prometheus' text format for families with series a group, of which there may be a hundred thousand lines.
//!
//! The lines are those that the crate `prometheus` would write, byte by byte (a test compares them). Its encoder wants a
//! message a series first, with all labels in it: most of a scrape's time. Here a group's labels are put into text once.

use std::{borrow::Cow, fmt::Write as _};

use super::{
    families::Family,
    prometheus::{Shown, shown},
};
use crate::aggregate::{Series, Snapshot};

/// Groups with their labels as text, made once a scrape.
pub(super) struct Groups<'a>(Vec<(String, &'a Series)>);

impl<'a> Groups<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let labels = |group| {
            let mut text = String::new();
            for (name, value) in snapshot.labels.of(group) {
                let comma = if text.is_empty() { "" } else { "," };
                let _ = write!(text, "{comma}{name}=\"{}\"", escaped(&value));
            }
            text
        };
        Self(snapshot.groups.iter().map(|(group, series)| (labels(group), series.as_ref())).collect())
    }

    /// Appends a family; nothing when it has no series.
    pub(super) fn append(&self, family: &Family, hz: Option<f64>, out: &mut String) {
        let before = out.len();
        let (name, kind) = (family.name, family.kind().as_str());
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
        let header = out.len();
        let own_label = family.labels.first().copied().unwrap_or_default();
        for (labels, series) in &self.0 {
            match shown(family.read, series, hz) {
                Some(Shown::Numbers(numbers)) => {
                    for (value, number) in numbers {
                        let _ = match value {
                            Some(value) => {
                                write!(out, "{name}{{{labels},{own_label}=\"{}\"}} ", escaped(value))
                            }
                            None => write!(out, "{name}{{{labels}}} "),
                        };
                        push(out, number);
                    }
                }
                Some(Shown::Histogram(histogram)) => {
                    for (bound, count) in histogram.bounds.iter().zip(&histogram.up_to) {
                        let _ = write!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} ");
                        push(out, *count as f64);
                    }
                    let _ = write!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} ");
                    push(out, histogram.count as f64);
                    let _ = write!(out, "{name}_sum{{{labels}}} ");
                    push(out, histogram.sum_seconds);
                    let _ = write!(out, "{name}_count{{{labels}}} ");
                    push(out, histogram.count as f64);
                }
                None => {}
            }
        }
        if out.len() == header {
            out.truncate(before);
        }
    }
}

/// The shortest decimal that reads back as the same number, and the line's end. Most are whole, which is quicker.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and less than 2^53")]
fn push(out: &mut String, number: f64) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let _ = if (0.0..EXACT).contains(&number) && number.fract() == 0.0 {
        writeln!(out, "{}", number as u64)
    } else {
        writeln!(out, "{number}")
    };
}

fn escaped(value: &str) -> Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into()
    } else {
        value.into()
    }
}
