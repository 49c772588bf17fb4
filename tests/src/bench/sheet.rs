//! The figures of a run: a flat list by name, so that two runs can be compared and a document made without measuring.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{compare::Agreement, machine::Machine};

/// Version of the file's shape.
const SCHEMA: u32 = 1;

/// docs/performance.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sheet {
    schema: u32,
    /// By the part's name.
    pub(super) parts: BTreeMap<String, Part>,
}

impl Default for Sheet {
    fn default() -> Self {
        Self { schema: SCHEMA, parts: BTreeMap::new() }
    }
}

impl Sheet {
    /// A figure of a part.
    pub(super) fn figure(&self, part: &str, name: &str) -> Option<&Figure> {
        self.parts.get(part)?.figures.get(name)
    }
}

/// One question's figures, as they were measured together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Part {
    /// Of the quick form.
    pub(super) quick: bool,
    /// Where.
    pub(super) machine: Machine,
    /// Which flowprobe: a hash of the program's bytes, to tell whether two runs are of one build.
    #[serde(default)]
    pub(super) build: String,
    /// By name, `ROW/COLUMN`; rows may have slashes too.
    pub(super) figures: BTreeMap<String, Figure>,
    /// What could not be measured, and why, by the beginning of the figures' names.
    pub(super) absent: BTreeMap<String, String>,
    /// How they stand to the figures that were here before, of a like machine and the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) agreement: Option<Agreement>,
}

impl Part {
    /// Makes its figures tell what they were in the run before, too.
    pub(super) fn follow(&mut self, before: &Self) {
        for (name, figure) in &mut self.figures {
            if let Some(before) = before.figures.get(name).filter(|before| before.unit == figure.unit) {
                figure.follow(before);
            }
        }
    }

    /// Runs that its spreads tell of.
    pub(super) fn runs(&self) -> usize {
        1 + self.figures.values().map(|figure| figure.earlier.len()).max().unwrap_or(0)
    }
}

/// Repeated measurements of one thing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Figure {
    /// Such as `us` or `1/s`; nothing for a ratio, or a count that does not go with the machine's speed.
    pub(super) unit: String,
    /// The middle one, or the mean of the middle two.
    pub(super) median: f64,
    /// The smallest.
    pub(super) min: f64,
    /// The largest.
    pub(super) max: f64,
    /// How many.
    pub(super) samples: usize,
    /// What earlier runs had, of a like machine and the same form, the newest last: no more than [`EARLIER`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) earlier: Vec<Earlier>,
}

/// Runs before the last one that its spread tells of.
pub(super) const EARLIER: usize = 3;

/// A figure of an earlier run. Its middle is for readers of the file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Earlier {
    /// The middle one.
    pub(super) median: f64,
    /// The smallest.
    pub(super) min: f64,
    /// The largest.
    pub(super) max: f64,
}

impl Figure {
    /// Of all values that are finite numbers; nothing of none.
    pub(super) fn of(unit: &str, mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[half - 1], values[half])
        } else {
            values[half]
        };
        Some(Self { unit: unit.to_owned(), median, min, max, samples: values.len(), earlier: Vec::new() })
    }

    /// The smallest and the largest of this run.
    pub(super) const fn range(&self) -> (f64, f64) {
        (self.min, self.max)
    }

    /// The smallest and the largest of this run and the earlier ones.
    pub(super) fn spread(&self) -> (f64, f64) {
        let ends = |(min, max): (f64, f64), run: &Earlier| (min.min(run.min), max.max(run.max));
        self.earlier.iter().fold(self.range(), ends)
    }

    /// Keeps what it was in the run before and in those before that.
    fn follow(&mut self, before: &Self) {
        let Self { median, min, max, .. } = *before;
        self.earlier = before.earlier.clone();
        self.earlier.push(Earlier { median, min, max });
        self.earlier.drain(..self.earlier.len().saturating_sub(EARLIER));
    }
}

/// Figures while they are measured.
#[derive(Debug, Default)]
pub(super) struct Samples {
    values: BTreeMap<String, (&'static str, Vec<f64>)>,
    absent: BTreeMap<String, String>,
}

impl Samples {
    /// One measurement more; what is not finite (a ratio to nothing) is left out.
    pub(super) fn add(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        self.values.entry(name.into()).or_insert_with(|| (unit, Vec::new())).1.push(value);
    }

    /// Says why figures whose names begin so are not there.
    pub(super) fn absent(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.absent.insert(name.into(), why.into());
    }

    /// Whether a reason was given for figures whose names begin so.
    pub(super) fn is_absent(&self, name: &str) -> bool {
        self.absent.contains_key(name)
    }

    /// What was measured so far, in the order of time.
    pub(super) fn values(&self, name: &str) -> &[f64] {
        self.values.get(name).map_or(&[], |(_, values)| values)
    }

    /// What was measured.
    pub(super) fn finish(self, quick: bool, machine: Machine, build: String) -> Part {
        let figures = self.values.into_iter();
        let figures = figures.filter_map(|(name, (unit, values))| Some((name, Figure::of(unit, values)?)));
        Part { quick, machine, build, figures: figures.collect(), absent: self.absent, agreement: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_middle_and_the_ends() {
        let figure = Figure::of("us", vec![3.0, 1.0, f64::NAN, 2.0]).unwrap();
        assert_eq!((figure.median, figure.min, figure.max, figure.samples), (2.0, 1.0, 3.0, 3));
        assert_eq!(Figure::of("us", vec![4.0, 1.0]).unwrap().median, 2.5);
        assert!(Figure::of("us", vec![f64::INFINITY]).is_none());
    }

    #[test]
    fn the_spread_is_that_of_the_last_runs() {
        let mut runs =
            [10.0, 4.0, 3.0, 5.0, 2.0].map(|value| Figure::of("us", vec![value, value + 1.0]).unwrap());
        for next in 1..runs.len() {
            let before = runs[next - 1].clone();
            runs[next].follow(&before);
        }
        assert_eq!(runs[1].spread(), (4.0, 11.0));
        assert_eq!((runs[4].spread(), runs[4].earlier.len()), ((2.0, 6.0), EARLIER));
    }
}
