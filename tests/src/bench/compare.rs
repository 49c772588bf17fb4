//! Whether two runs agree: the ranges of a figure, smallest to largest, overlap.
//!
//! Of two runs of n and m samples of one and the same thing the ranges still lie apart by chance, in 2 n! m! / (n + m)! of all
//! cases: a tenth with three samples each, one in 1,700 with seven. So the number that agree is told beside the number to expect.

use serde::{Deserialize, Serialize};

use super::sheet::{Figure, Part};
use super::table::cell;

/// How a part's figures stand to those of the run before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Agreement {
    /// Both runs are of one build of flowprobe.
    #[serde(default)]
    pub(super) same_build: bool,
    /// Figures in both, which were repeated in both.
    pub(super) compared: usize,
    /// Those of which the ranges overlap.
    pub(super) agree: usize,
    /// Those of them that have no unit, ratios within a round and counts: the machine's speed of the hour is not in them.
    #[serde(default)]
    pub(super) plain: usize,
    /// Those of these of which the ranges overlap.
    #[serde(default)]
    pub(super) plain_agree: usize,
    /// Of all that were compared, those of which each median lies in the other's range.
    #[serde(default)]
    pub(super) within: usize,
    /// Runs before, of which the spread was stated.
    #[serde(default)]
    pub(super) runs: usize,
    /// Those of which the range overlaps that spread.
    #[serde(default)]
    pub(super) stated: usize,
    /// As many would overlap if nothing but chance were between the runs.
    pub(super) expected: f64,
    /// The distance of the two medians, of the smaller: the middle one of these figures.
    pub(super) shift: f64,
    /// Figures in both, which were measured once in one of them: no spread is stated.
    #[serde(default)]
    pub(super) single: usize,
    /// The distance of these two, likewise the middle one.
    #[serde(default)]
    pub(super) single_shift: f64,
    /// A line for each figure whose ranges lie apart.
    pub(super) differ: Vec<String>,
}

/// Compares the ranges of figures that were repeated; a single measurement states no spread, only its distance is told.
pub(super) fn compare(before: &Part, after: &Part) -> Agreement {
    let mut agreement =
        Agreement { same_build: before.build == after.build, runs: before.runs(), ..Agreement::default() };
    let (mut shifts, mut single_shifts) = (Vec::new(), Vec::new());
    for (name, now) in &after.figures {
        let Some(was) = before.figures.get(name) else { continue };
        if was.samples < 2 || now.samples < 2 {
            agreement.single += 1;
            single_shifts.push(shift(was, now));
            continue;
        }
        let plain = usize::from(now.unit.is_empty());
        agreement.compared += 1;
        agreement.plain += plain;
        agreement.expected += 1.0 - apart_by_chance(was.samples, now.samples);
        shifts.push(shift(was, now));
        agreement.within += usize::from(holds(was, now) && holds(now, was));
        let overlaps = |range| meet(range, now.range()) || shift(was, now) < SAME;
        agreement.stated += usize::from(overlaps(was.spread()));
        if overlaps(was.range()) {
            agreement.agree += 1;
            agreement.plain_agree += plain;
        } else {
            let [was, is] = [was, now].map(|figure| cell(figure.median, figure.range()));
            agreement.differ.push(format!("{name}: {was} before, {is} now {}", now.unit));
        }
    }
    let middle = |shifts| Figure::of("", shifts).map_or(0.0, |figure| figure.median);
    (agreement.shift, agreement.single_shift) = (middle(shifts), middle(single_shifts));
    agreement
}

impl Agreement {
    /// A sentence on each kind; nothing where there was nothing to compare.
    pub(super) fn sentence(&self) -> Option<String> {
        let repeated = (self.compared > 0).then(|| {
            format!(
                "Of {} repeated figures {} have ranges that overlap those of the run before, of {} build (by chance alone {:.0} \
                 would), and of {} each median lies in the other's range; the medians differ by {:.1} %, in the middle.",
                self.compared,
                self.agree,
                if self.same_build { "the same" } else { "another" },
                self.expected,
                self.within,
                self.shift * 100.0
            )
        });
        let stated = (self.compared > 0 && self.runs > 1).then(|| {
            format!(
                "{} of them have ranges that overlap the spread stated before, of up to {} runs.",
                self.stated, self.runs
            )
        });
        let plain = (self.plain > 0).then(|| {
            let (plain, agree) = (self.plain, self.plain_agree);
            format!("{plain} of the repeated ones are ratios and counts, without the machine's speed in them, and {agree} of these overlap.")
        });
        let single = (self.single > 0).then(|| {
            let percent = self.single_shift * 100.0;
            format!("{} figures of single measurements differ by {percent:.1} %, in the middle.", self.single)
        });
        let sentences: Vec<_> = [repeated, stated, plain, single].into_iter().flatten().collect();
        (!sentences.is_empty()).then(|| sentences.join(" "))
    }
}

/// What differs by less is the same: counts that are exact but for a connection at an end.
const SAME: f64 = 1e-3;

/// Whether two ranges have a value in common.
fn meet(one: (f64, f64), other: (f64, f64)) -> bool {
    one.0 <= other.1 && other.0 <= one.1
}

fn holds(one: &Figure, other: &Figure) -> bool {
    (one.min..=one.max).contains(&other.median) || shift(one, other) < SAME
}

/// Probability that all of n samples lie on one side of all of m others, of the same distribution.
fn apart_by_chance(n: usize, m: usize) -> f64 {
    let orders: f64 = (1..=n).map(|step| (m + step) as f64 / step as f64).product();
    2.0 / orders
}

fn shift(one: &Figure, other: &Figure) -> f64 {
    (one.median - other.median).abs() / one.median.abs().min(other.median.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::Machine;
    use crate::bench::sheet::Samples;

    #[test]
    fn ranges_that_touch_agree() {
        assert!(meet((1.0, 2.0), (2.0, 3.0)) && meet((2.0, 3.0), (1.0, 2.0)));
        assert!(!meet((1.0, 2.0), (2.1, 3.0)) && !meet((2.1, 3.0), (1.0, 2.0)));
    }

    #[test]
    fn what_differs_by_nearly_nothing_is_the_same() {
        let part = |value: f64| {
            let mut samples = Samples::default();
            (0..3).for_each(|_| samples.add("a/count", "", value));
            samples.finish(false, Machine::now().unwrap(), String::new())
        };
        let found = |value| compare(&part(22.0), &part(value));
        let (same, other) = (found(22.000_02), found(22.1));
        assert_eq!((same.agree, same.within, same.stated), (1, 1, 1));
        assert_eq!((other.agree, other.within, other.stated), (0, 0, 0));
    }

    #[test]
    fn ratios_are_told_apart_from_times() {
        let part = |scale: f64| {
            let mut samples = Samples::default();
            for value in [1.0, 2.0] {
                samples.add("a/time", "us", value * scale);
                samples.add("a/ratio", "", value);
            }
            samples.add("a/once", "us", scale);
            samples.finish(false, Machine::now().unwrap(), String::new())
        };
        let found = compare(&part(1.0), &part(3.0));
        assert_eq!((found.compared, found.agree, found.plain, found.plain_agree), (2, 1, 1, 1));
        assert_eq!((found.within, found.same_build), (1, true));
        assert_eq!((found.single, found.single_shift, found.differ.len()), (1, 2.0, 1));
    }

    #[test]
    fn what_two_runs_stated_together_is_wider() {
        let part = |value: f64| {
            let mut samples = Samples::default();
            samples.add("a/time", "us", value);
            samples.add("a/time", "us", value + 0.1);
            samples.finish(false, Machine::now().unwrap(), String::new())
        };
        let (first, mut second, third) = (part(1.0), part(3.0), part(2.0));
        assert_eq!(compare(&first, &second).stated, 0);
        second.follow(&first);
        let found = compare(&second, &third);
        assert_eq!((found.runs, found.agree, found.stated), (2, 0, 1));
        assert!(
            found
                .sentence()
                .unwrap()
                .contains("1 of them have ranges that overlap the spread stated before, of up to 2 runs.")
        );
    }

    #[test]
    fn chance_sets_few_samples_apart() {
        assert_eq!(apart_by_chance(3, 3), 0.1);
        assert!((apart_by_chance(7, 7) - 2.0 / 3432.0).abs() < 1e-12);
        assert!((apart_by_chance(2, 3) - 0.2).abs() < 1e-12);
    }
}
