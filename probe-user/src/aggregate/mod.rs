//! Adds records up by group: what the metrics are made of.
//!
//! Pure: no clock, no file, no kernel. Reads [`FlowRecord`] and [`SynackRecord`]; keeps one [`Series`] a group
//! (the groups are bounded by their labels) and a few sums a network namespace. A record costs two map look-ups and an
//! addition for each of its counters and buckets; a snapshot costs one reference a group.
//!
//! All sums are u64 and exact; one that passes 2^64 starts again at 0, as Prometheus expects of a counter.

use std::{collections::BTreeMap, sync::Arc};

use probe_common::{
    record::{FlowRecord, SynackRecord, flag, kind},
    tcp::Cause,
};

pub use self::{
    group::{GROUP_LABELS, Group, group_of, group_of_synack},
    histogram::{DURATION_BUCKETS, DURATION_EXPONENTS, DurationHistogram, RttHistogram},
    namespace::NamespaceSums,
    series::{CLOSE_REASONS, CONNECT_FAILURES, Reasons, Series},
};
use crate::flow::{close::close_reason, from_record::min_rtt_us};

mod group;
mod histogram;
mod namespace;
mod series;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

/// What no sample is in a record's round trips.
const NO_RTT: u32 = u32::MAX;

/// Sums of all records that were added.
#[derive(Clone, Debug)]
pub struct Aggregator {
    groups: BTreeMap<Group, Arc<Series>>,
    namespaces: BTreeMap<u32, NamespaceSums>,
    synack_hook: bool,
    discrepancies: u64,
}

/// The sums at one moment; what is added later does not change it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Sums by group, in the order of the groups.
    pub groups: BTreeMap<Group, Arc<Series>>,
    /// Records whose causes added up to more than their retransmissions.
    pub discrepancies: u64,
    /// Records whose group had no place of its own and was added to a remainder.
    pub label_overflow: u64,
}

impl Aggregator {
    /// Sums at zero.
    ///
    /// `synack_hook` says whether each repeated SYN-ACK comes as a [`SynackRecord`]; those include requests that never
    /// complete, and the flows' own `retrans_synack` is then left out, so that none is counted twice.
    #[must_use]
    pub const fn new(synack_hook: bool) -> Self {
        Self { groups: BTreeMap::new(), namespaces: BTreeMap::new(), synack_hook, discrepancies: 0 }
    }

    /// Adds an increment or the end of a connection; a live snapshot adds nothing.
    pub fn add(&mut self, record: &FlowRecord) {
        match record.kind {
            kind::INCREMENT => {
                if has(record, flag::OPENED) {
                    self.add_opening(record);
                }
                self.add_growth(record);
            }
            kind::CLOSED => {
                if !has(record, flag::ACCOUNTED) {
                    self.add_opening(record);
                    // What an adopted connection did before the probe came is in its totals and is not news.
                    if !has(record, flag::ADOPTED) {
                        self.add_growth(record);
                    }
                }
                self.add_end(record);
            }
            _ => {}
        }
    }

    /// Adds a repeated SYN-ACK. Without the hook there are none to add.
    pub fn add_synack(&mut self, record: &SynackRecord) {
        if !self.synack_hook {
            return;
        }
        self.series(group_of_synack(record)).add_retransmitted(Cause::Synack, 1);
        self.namespaces.entry(record.netns).or_default().add_synack();
    }

    /// Sets the gauges of live connections from an exact recount: each group to the sum of its counts, all others to 0.
    pub fn resync_live(&mut self, counts: &[(Group, u64)]) {
        for series in self.groups.values_mut() {
            if series.live() != 0 {
                Arc::make_mut(series).set_live(0);
            }
        }
        for (group, count) in counts {
            let series = self.series(*group);
            series.set_live(series.live().saturating_add(i64::try_from(*count).unwrap_or(i64::MAX)));
        }
    }

    /// The sums as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { groups: self.groups.clone(), discrepancies: self.discrepancies, label_overflow: 0 }
    }

    /// Sums by network namespace (inode number), to be compared with the kernel's own.
    #[must_use]
    pub const fn namespaces(&self) -> &BTreeMap<u32, NamespaceSums> {
        &self.namespaces
    }

    /// Forgets the sums of namespaces that are gone; their inode numbers are used again. Groups keep theirs.
    pub fn retain_namespaces(&mut self, lives: impl Fn(u32) -> bool) {
        self.namespaces.retain(|inode, _| lives(*inode));
    }

    /// A connection that came to be: once in its life, with the first record that accounts for it.
    fn add_opening(&mut self, record: &FlowRecord) {
        if !has(record, flag::ESTABLISHED) {
            return;
        }
        let series = self.series(group_of(record));
        series.change_live(1);
        // It is live, but it was not opened while the probe watched.
        if has(record, flag::ADOPTED) {
            self.namespaces.entry(record.netns).or_default().add_adopted(record);
            return;
        }
        series.opened = series.opened.wrapping_add(1);
        if record.handshake_rtt_us != NO_RTT {
            series.handshake_rtt.add_sample(record.handshake_rtt_us);
        }
        self.namespaces.entry(record.netns).or_default().add_opened(record.role);
    }

    /// What grew: the record's counters are differences, or totals that were not accounted before.
    fn add_growth(&mut self, record: &FlowRecord) {
        let synack_hook = self.synack_hook;
        let consistent = self.series(group_of(record)).add_growth(record, synack_hook);
        if !consistent {
            self.discrepancies = self.discrepancies.wrapping_add(1);
        }
        self.namespaces.entry(record.netns).or_default().add_growth(&record.counters, synack_hook);
    }

    fn add_end(&mut self, record: &FlowRecord) {
        self.namespaces.entry(record.netns).or_default().add_end(record);
        let reason = close_reason(record);
        let series = self.series(group_of(record));
        if !has(record, flag::ESTABLISHED) {
            series.connect_failures.add(reason, 1);
            return;
        }
        series.add_close(record, reason);
        series.change_live(-1);
        if let Some(min_rtt) = min_rtt_us(record) {
            series.min_rtt.add_sample(min_rtt);
        }
        if record.opened_ns != 0
            && let Some(duration_ns) = record.now_ns.checked_sub(record.opened_ns)
        {
            series.duration.add_sample(duration_ns);
        }
    }

    fn series(&mut self, group: Group) -> &mut Series {
        Arc::make_mut(self.groups.entry(group).or_default())
    }
}

fn has(record: &FlowRecord, bit: u32) -> bool {
    record.flags & bit != 0
}
