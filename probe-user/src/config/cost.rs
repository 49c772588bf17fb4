//! What a group costs Prometheus in series: counted in the exposition that a group really gives.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    aggregate::{Group, Series, Snapshot},
    export::{
        families::{self, Kind},
        prometheus,
        stats::SelfStats,
    },
};

/// Series of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesCost {
    /// Families that have series for each group.
    pub families: u64,
    /// Series in the text format: a histogram has one for each bucket, and its sum and count.
    pub classic: u64,
    /// Series with native histograms, which are one each.
    pub native: u64,
}

impl SeriesCost {
    /// Renders one group and counts.
    #[must_use]
    pub fn measured() -> Self {
        let group = Group::plain(None, None);
        let snapshot = Snapshot {
            groups: BTreeMap::from([(group, Arc::new(Series::default()))]),
            ..Snapshot::default()
        };
        let own = SelfStats { jiffies_per_second: Some(250), ..SelfStats::default() };
        let text = prometheus::text(&snapshot, &own).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut cost = Self { families: 0, classic: 0, native: 0 };
        for family in families::all().filter(|family| family.is_by_group()) {
            let ends: &[&str] =
                if family.kind() == Kind::Histogram { &["_bucket{", "_sum{", "_count{"] } else { &["{"] };
            let is_own = |line: &&str| {
                line.strip_prefix(family.name)
                    .is_some_and(|rest| ends.iter().any(|end| rest.starts_with(end)))
            };
            let lines = text.lines().filter(is_own).count() as u64;
            cost.families += 1;
            cost.classic += lines;
            cost.native += if family.kind() == Kind::Histogram { lines.min(1) } else { lines };
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_group_is_counted_and_no_other() {
        let group = Group::plain(None, None);
        let groups = BTreeMap::from([(group, Arc::new(Series::default()))]);
        let own = SelfStats { jiffies_per_second: Some(250), ..SelfStats::default() };
        let snapshot = Snapshot { groups, ..Snapshot::default() };
        let text = prometheus::text(&snapshot, &own).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains("role=")).count();
        let cost = SeriesCost::measured();
        assert_eq!(cost.classic, lines as u64);
        assert!(cost.native >= cost.families && cost.native < cost.classic, "{cost:?}");
    }
}
