//! Do our sums agree with the kernel's own counters? Pure, but for [`run`]: counters and sums come in, ratios and
//! judgements go out.
//!
//! A namespace that was there when the probe came starts from its counters of that moment; a later one from 0. One that could not
//! be read when it was first met starts from when it is, and so does one whose counters went back: it is another one with the same
//! inode, of whose sums it is not known which are its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::aggregate::NamespaceSums;

pub use self::counters::{COUNTERS, Counter};

mod counters;
pub mod report;
pub mod run;

/// Counters of a namespace by the kernel's names.
pub type Counters = HashMap<String, u64>;

/// What was counted since `before`; of connections without callbacks all that there are.
const fn growth_since(before: &NamespaceSums, now: &NamespaceSums) -> NamespaceSums {
    NamespaceSums { without_callbacks: now.without_callbacks, ..now.since(before) }
}

/// Whether a counter is lower than before, which none that counts events ever is.
fn went_back(before: &Counters, now: &Counters) -> bool {
    let fell = |counter: &Counter| counter.of(Some(now)) < counter.of(Some(before));
    COUNTERS.iter().any(fell)
}

#[derive(Debug, Default)]
struct Namespace {
    baseline: Counters,
    now: Counters,
    ours_at_baseline: NamespaceSums,
}

/// The daemon's comparison, kept between sweeps.
#[derive(Debug)]
pub struct Reconciliation {
    namespaces: BTreeMap<u32, Namespace>,
    /// Of which there are sums, and no sweep has seen them yet.
    strangers: BTreeSet<u32>,
    /// That a sweep has met and none has read.
    unread: BTreeSet<u32>,
    /// Whose sums are to be dropped.
    gone: BTreeSet<u32>,
    begun: bool,
    synack_hook: bool,
}

impl Reconciliation {
    /// Nothing was observed yet. Without the synack hook fewer counters are exact.
    #[must_use]
    pub const fn new(synack_hook: bool) -> Self {
        Self {
            namespaces: BTreeMap::new(),
            strangers: BTreeSet::new(),
            unread: BTreeSet::new(),
            gone: BTreeSet::new(),
            begun: false,
            synack_hook,
        }
    }

    /// Takes what a sweep read of each namespace, with our sums of that moment. Those that were `unvisited` stand and keep what
    /// was read of them last; any other is gone.
    pub fn observe(
        &mut self,
        counters: HashMap<u32, Counters>,
        unvisited: &BTreeSet<u32>,
        ours: &BTreeMap<u32, NamespaceSums>,
    ) {
        let stands = |inode: &u32| counters.contains_key(inode) || unvisited.contains(inode);
        let is_over = |inode: &u32| self.namespaces.contains_key(inode) || self.strangers.contains(inode);
        let (gone, strangers) = ours.keys().copied().filter(|inode| !stands(inode)).partition(is_over);
        (self.gone, self.strangers) = (gone, strangers);
        self.namespaces.retain(|inode, _| stands(inode));
        for (inode, now) in counters {
            let from_now = || Namespace {
                baseline: now.clone(),
                ours_at_baseline: ours.get(&inode).copied().unwrap_or_default(),
                ..Namespace::default()
            };
            let is_new = self.begun && !self.unread.remove(&inode);
            let namespace = self
                .namespaces
                .entry(inode)
                .and_modify(|before| {
                    if went_back(&before.now, &now) {
                        *before = from_now();
                    }
                })
                .or_insert_with(|| if is_new { Namespace::default() } else { from_now() });
            namespace.now = now;
        }
        self.unread =
            unvisited.iter().copied().filter(|inode| !self.namespaces.contains_key(inode)).collect();
        self.begun = true;
    }

    /// Whether the namespace is gone. One that no sweep has seen yet may have been made while the last one went on: it has until the
    /// next.
    #[must_use]
    pub fn is_gone(&self, inode: u32) -> bool {
        self.gone.contains(&inode)
    }

    /// Ours divided by the kernel's, summed over the namespaces, for the counters that are exact; one that the kernel
    /// has not raised gives none. Where our records leave a range, what is nearest to the kernel's count is ours.
    #[must_use]
    pub fn ratios(&self, ours: &BTreeMap<u32, NamespaceSums>) -> Vec<(String, f64)> {
        let ratio = |counter: &Counter| {
            let (mut counted, mut kernel) = (0, 0);
            for (inode, namespace) in &self.namespaces {
                let now = ours.get(inode).copied().unwrap_or_default();
                let (least, most) = counter.bounds(&growth_since(&namespace.ours_at_baseline, &now));
                let baseline = counter.of(Some(&namespace.baseline));
                let theirs = counter.of(Some(&namespace.now)).wrapping_sub(baseline);
                counted += theirs.clamp(least, most);
                kernel += theirs;
            }
            #[expect(clippy::cast_precision_loss, reason = "a ratio; 53 bits are plenty")]
            (kernel > 0).then(|| (counter.name.to_owned(), counted as f64 / kernel as f64))
        };
        COUNTERS.iter().filter(|counter| counter.is_exact(self.synack_hook)).filter_map(ratio).collect()
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
        let mut r = Reconciliation::new(true);
        r.observe(HashMap::from([(7, counters(100))]), &BTreeSet::new(), &ours(2));
        assert!(r.ratios(&ours(2)).is_empty());
        r.observe(HashMap::from([(7, counters(110))]), &BTreeSet::new(), &ours(7));
        assert_eq!(r.ratios(&ours(7)), [("RetransSegs".to_owned(), 0.5)]);
    }

    #[test]
    fn a_namespace_that_came_later_starts_from_nothing() {
        let mut r = Reconciliation::new(true);
        r.observe(HashMap::new(), &BTreeSet::new(), &BTreeMap::new());
        r.observe(HashMap::from([(7, counters(10))]), &BTreeSet::new(), &ours(10));
        assert_eq!(r.ratios(&ours(10)), [("RetransSegs".to_owned(), 1.0)]);
        r.observe(HashMap::new(), &BTreeSet::new(), &ours(10));
        assert!(r.is_gone(7));
    }

    #[test]
    fn a_namespace_that_was_made_during_a_sweep_keeps_its_sums_until_the_next() {
        let mut r = Reconciliation::new(true);
        r.observe(HashMap::new(), &BTreeSet::new(), &BTreeMap::new());
        r.observe(HashMap::new(), &BTreeSet::new(), &ours(3));
        assert!(!r.is_gone(7));
        r.observe(HashMap::from([(7, counters(10))]), &BTreeSet::new(), &ours(10));
        assert_eq!(r.ratios(&ours(10)), [("RetransSegs".to_owned(), 1.0)]);
        let mut r = Reconciliation::new(true);
        for gone in [false, true] {
            r.observe(HashMap::new(), &BTreeSet::new(), &ours(3));
            assert_eq!(r.is_gone(7), gone);
        }
    }

    #[test]
    fn a_namespace_that_could_not_be_read_at_first_starts_when_it_is() {
        let mut r = Reconciliation::new(true);
        for _ in 0..2 {
            r.observe(HashMap::new(), &BTreeSet::from([7]), &ours(1));
        }
        r.observe(HashMap::from([(7, counters(100))]), &BTreeSet::new(), &ours(2));
        assert!(r.ratios(&ours(2)).is_empty());
        r.observe(HashMap::from([(7, counters(105))]), &BTreeSet::new(), &ours(7));
        assert_eq!(r.ratios(&ours(7)), [("RetransSegs".to_owned(), 1.0)]);
    }

    #[test]
    fn another_namespace_of_the_same_inode_starts_anew() {
        let mut r = Reconciliation::new(true);
        r.observe(HashMap::from([(7, counters(100))]), &BTreeSet::new(), &ours(2));
        r.observe(HashMap::from([(7, counters(4))]), &BTreeSet::new(), &ours(6));
        assert!(r.ratios(&ours(6)).is_empty());
        r.observe(HashMap::from([(7, counters(14))]), &BTreeSet::new(), &ours(16));
        assert_eq!(r.ratios(&ours(16)), [("RetransSegs".to_owned(), 1.0)]);
    }

    #[test]
    fn a_namespace_that_a_sweep_could_not_visit_keeps_its_baseline() {
        let mut r = Reconciliation::new(true);
        r.observe(HashMap::from([(7, counters(100))]), &BTreeSet::new(), &ours(0));
        r.observe(HashMap::new(), &BTreeSet::from([7]), &ours(5));
        assert!(!r.is_gone(7));
        r.observe(HashMap::from([(7, counters(110))]), &BTreeSet::new(), &ours(10));
        assert_eq!(r.ratios(&ours(10)), [("RetransSegs".to_owned(), 1.0)]);
    }

    #[test]
    fn what_is_not_exact_has_no_ratio() {
        let mut r = Reconciliation::new(false);
        r.observe(HashMap::new(), &BTreeSet::new(), &BTreeMap::new());
        let raised = ["RetransSegs", "TCPTimeouts", "ActiveOpens"].map(|name| (name.to_owned(), 1));
        r.observe(HashMap::from([(7, HashMap::from(raised))]), &BTreeSet::new(), &ours(1));
        assert_eq!(r.ratios(&ours(1)), [("ActiveOpens".to_owned(), 0.0)]);
    }

    #[test]
    fn a_range_is_no_difference() {
        let fast = |kernel| HashMap::from([(7, HashMap::from([("TCPFastRetrans".to_owned(), kernel)]))]);
        let sums =
            NamespaceSums { retransmitted_fast: 6, retransmissions_failed: 2, ..NamespaceSums::default() };
        let ours = BTreeMap::from([(7, sums)]);
        for (kernel, ratio) in [(4, 1.0), (5, 1.0), (6, 1.0), (8, 0.75), (2, 2.0)] {
            let mut r = Reconciliation::new(true);
            r.observe(HashMap::new(), &BTreeSet::new(), &BTreeMap::new());
            r.observe(fast(kernel), &BTreeSet::new(), &ours);
            assert_eq!(r.ratios(&ours), [("TCPFastRetrans".to_owned(), ratio)]);
        }
    }
}
