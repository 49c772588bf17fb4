//! Do our sums agree with the kernel's own counters? Pure: counters and sums come in, ratios go out.
//!
//! A namespace that was there when the probe came starts from its counters of that moment; a later one from 0.

use std::collections::{BTreeMap, HashMap};

use crate::aggregate::NamespaceSums;

/// One of our sums.
type Ours = fn(&NamespaceSums) -> u64;

/// The kernel's counter, and ours that should equal it.
const PAIRS: [(&str, Ours); 3] = [
    ("ActiveOpens", |sums| sums.connects_tried),
    ("PassiveOpens", |sums| sums.opened_server),
    ("RetransSegs", |sums| sums.retransmitted_segs),
];

/// Counters of a namespace by the kernel's names.
pub type Counters = HashMap<String, u64>;

#[derive(Debug, Default)]
struct Namespace {
    baseline: Counters,
    now: Counters,
    ours_at_baseline: NamespaceSums,
}

/// The comparison, kept between sweeps.
#[derive(Debug, Default)]
pub struct Reconciliation {
    namespaces: BTreeMap<u32, Namespace>,
    begun: bool,
}

impl Reconciliation {
    /// Takes what a sweep read of each namespace, with our sums of that moment.
    pub fn observe(&mut self, counters: HashMap<u32, Counters>, ours: &BTreeMap<u32, NamespaceSums>) {
        self.namespaces.retain(|inode, _| counters.contains_key(inode));
        for (inode, now) in counters {
            let begun = self.begun;
            let namespace = self.namespaces.entry(inode).or_insert_with(|| {
                if begun {
                    return Namespace::default();
                }
                let ours_at_baseline = ours.get(&inode).copied().unwrap_or_default();
                Namespace { baseline: now.clone(), ours_at_baseline, ..Namespace::default() }
            });
            namespace.now = now;
        }
        self.begun = true;
    }

    /// Whether the namespace still stood at the last sweep.
    #[must_use]
    pub fn knows(&self, inode: u32) -> bool {
        self.namespaces.contains_key(&inode)
    }

    /// Ours divided by the kernel's, summed over the namespaces; a counter that has not moved gives none.
    #[must_use]
    pub fn ratios(&self, ours: &BTreeMap<u32, NamespaceSums>) -> Vec<(String, f64)> {
        let ratio = |(name, our): &(&str, Ours)| {
            let (mut counted, mut kernel) = (0, 0);
            for (inode, namespace) in &self.namespaces {
                let now = ours.get(inode).copied().unwrap_or_default();
                let of = |counters: &Counters| counters.get(*name).copied().unwrap_or(0);
                counted += our(&now).wrapping_sub(our(&namespace.ours_at_baseline));
                kernel += of(&namespace.now).wrapping_sub(of(&namespace.baseline));
            }
            #[expect(clippy::cast_precision_loss, reason = "a ratio; 53 bits are plenty")]
            (kernel > 0).then(|| ((*name).to_owned(), counted as f64 / kernel as f64))
        };
        PAIRS.iter().filter_map(ratio).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(retrans: u64) -> Counters {
        HashMap::from([("RetransSegs".to_owned(), retrans)])
    }

    fn ours(retransmitted_segs: u64) -> BTreeMap<u32, NamespaceSums> {
        BTreeMap::from([(7, NamespaceSums { retransmitted_segs, ..NamespaceSums::default() })])
    }

    #[test]
    fn what_was_before_the_probe_is_not_counted() {
        let mut r = Reconciliation::default();
        r.observe(HashMap::from([(7, counters(100))]), &ours(2));
        assert!(r.ratios(&ours(2)).is_empty());
        r.observe(HashMap::from([(7, counters(110))]), &ours(7));
        assert_eq!(r.ratios(&ours(7)), [("RetransSegs".to_owned(), 0.5)]);
    }

    #[test]
    fn a_namespace_that_came_later_starts_from_nothing() {
        let mut r = Reconciliation::default();
        r.observe(HashMap::new(), &BTreeMap::new());
        r.observe(HashMap::from([(7, counters(10))]), &ours(10));
        assert_eq!(r.ratios(&ours(10)), [("RetransSegs".to_owned(), 1.0)]);
        r.observe(HashMap::new(), &BTreeMap::new());
        assert!(!r.knows(7));
    }
}
