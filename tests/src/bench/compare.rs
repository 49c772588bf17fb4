//! Whether two runs agree: the ranges of a figure, smallest to largest, overlap.

use super::sheet::{Figure, Part};
use super::table::cell;

/// How a part's figures stand to those of the run before.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    /// Figures in both that agree.
    pub(super) agree: usize,
    /// A line for each that does not.
    pub(super) differ: Vec<String>,
}

/// Compares figures that were repeated: a single measurement states no spread.
pub(super) fn compare(before: &Part, after: &Part) -> Agreement {
    let mut agreement = Agreement::default();
    for (name, now) in &after.figures {
        let Some(was) = before.figures.get(name) else { continue };
        if was.samples < 2 || now.samples < 2 {
            continue;
        }
        if overlap(was, now) {
            agreement.agree += 1;
        } else {
            agreement.differ.push(format!("{name}: {} before, {} now {}", cell(was), cell(now), now.unit));
        }
    }
    agreement
}

fn overlap(one: &Figure, other: &Figure) -> bool {
    one.min <= other.max && other.min <= one.max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_agree() {
        let figure = |min, max| Figure { unit: String::new(), median: min, min, max, samples: 3 };
        assert!(overlap(&figure(1.0, 2.0), &figure(2.0, 3.0)));
        assert!(!overlap(&figure(1.0, 2.0), &figure(2.1, 3.0)));
    }
}
