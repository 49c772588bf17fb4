//! Which AS a prefix comes from when its announcements differ: the one that most of them name.

use std::fmt::Write as _;

use crate::networks::{counted, labels::Asn};

/// How many origins a remark names.
const NAMED: usize = 5;

/// The origins of one prefix, counted.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// AS and number of paths, in the order of appearance.
    counts: Vec<(Asn, u32)>,
    /// Paths that end in no single AS.
    others: u32,
    /// Whether the numbers are counts of paths, or only ranks.
    ranked: bool,
}

impl Origins {
    pub(super) fn clear(&mut self) {
        self.counts.clear();
        self.others = 0;
        self.ranked = false;
    }

    /// One more path ends in this AS.
    pub(super) fn add(&mut self, asn: Asn) {
        match self.counts.iter_mut().find(|(known, _)| *known == asn) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((asn, 1)),
        }
    }

    /// One more path ends in a set of ASes, or nowhere.
    pub(super) const fn add_other(&mut self) {
        self.others += 1;
    }

    /// The next in descending order of frequency.
    pub(super) fn add_next(&mut self, asn: Asn) {
        self.ranked = true;
        if !self.counts.iter().any(|(known, _)| *known == asn) {
            self.counts.push((asn, u32::MAX - u32::try_from(self.counts.len()).unwrap_or(u32::MAX)));
        }
    }

    /// The one that most paths end in; the lowest of equals.
    pub(super) fn first(&self) -> Option<Asn> {
        self.counts.iter().max_by_key(|(asn, count)| (*count, std::cmp::Reverse(*asn))).map(|(asn, _)| *asn)
    }

    /// What there is to say, unless there is exactly one origin.
    pub(super) fn remark(&self) -> Option<String> {
        if self.counts.len() == 1 && self.others == 0 {
            return None;
        }
        let mut counts = self.counts.clone();
        counts.sort_unstable_by_key(|(asn, count)| (std::cmp::Reverse(*count), *asn));
        let mut text = counted(counts.len() as u64, "origin", "origins").to_string();
        for (index, (asn, count)) in counts.iter().take(NAMED).enumerate() {
            let _ = write!(text, "{} {asn}", if index == 0 { ":" } else { "," });
            if !self.ranked {
                let _ = write!(text, " in {}", counted((*count).into(), "path", "paths"));
            }
        }
        if counts.len() > NAMED {
            text.push_str(", …");
        }
        if self.others > 0 {
            let paths = counted(self.others.into(), "path ends", "paths end");
            let _ = write!(text, "; {paths} in a set of ASes or nowhere");
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_paths_win_and_then_the_lowest() {
        let mut origins = Origins::default();
        assert_eq!(origins.first(), None);
        for asn in [7, 5, 7, 5, 9] {
            origins.add(Asn(asn));
        }
        assert_eq!(origins.first(), Some(Asn(5)));
        origins.add(Asn(7));
        assert_eq!(origins.first(), Some(Asn(7)));
        origins.add_other();
        assert_eq!(
            origins.remark().unwrap(),
            "3 origins: AS7 in 3 paths, AS5 in 2 paths, AS9 in 1 path; 1 path ends in a set of ASes or nowhere"
        );
        origins.clear();
        origins.add(Asn(1));
        assert_eq!(origins.remark(), None);
    }

    #[test]
    fn ranks_stay_in_order() {
        let mut origins = Origins::default();
        for asn in [9, 3, 5, 9] {
            origins.add_next(Asn(asn));
        }
        assert_eq!(origins.first(), Some(Asn(9)));
        assert_eq!(origins.remark().unwrap(), "3 origins: AS9, AS3, AS5");
    }

    #[test]
    fn a_set_alone_is_no_origin() {
        let mut origins = Origins::default();
        origins.add_other();
        assert_eq!(origins.first(), None);
        assert_eq!(origins.remark().unwrap(), "0 origins; 1 path ends in a set of ASes or nowhere");
    }
}
