//! Adds records up by group: what the metrics are made of.
//!
//! Pure: no clock but that in the records, no file, no kernel. Reads [`FlowRecord`] and [`SynackRecord`]; keeps one
//! [`Series`] a group (a bounded number of them) and a few sums a network namespace. A record costs finding its group
//! ([`Grouping`]), a few map look-ups and an addition for each of its counters and buckets; a snapshot costs one reference a
//! group.
//!
//! All sums are u64 and exact; one that passes 2^64 starts again at 0, as Prometheus expects of a counter.

use std::{collections::BTreeMap, sync::Arc};

use probe_common::{
    record::{FlowRecord, SynackRecord, flag, kind},
    tcp::Cause,
};

use self::sums::Sums;
pub use self::{
    group::{FORMER, GROUP_LABELS, Group, LabelSet, Network, OTHER, SERVICE_LABEL},
    grouping::{Grouping, PathOf},
    histogram::{DURATION_BUCKETS, DURATION_EXPONENTS, DurationHistogram, RttHistogram},
    namespace::NamespaceSums,
    series::{CLOSE_REASONS, CONNECT_FAILURES, Reasons, Series},
};
use crate::{
    flow::{
        close::close_reason,
        from_record::{address, min_rtt_us},
    },
    networks::Networks,
};

mod bounded;
mod group;
mod grouping;
mod histogram;
mod namespace;
mod series;
mod sums;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

/// What no sample is in a record's round trips.
const NO_RTT: u32 = u32::MAX;

/// Sums of all records that were added.
#[derive(Debug)]
pub struct Aggregator {
    grouping: Grouping,
    sums: Sums,
    /// How often groups were made in another way than before.
    regroupings: u64,
    namespaces: BTreeMap<u32, NamespaceSums>,
    synack_hook: bool,
    discrepancies: u64,
}

/// The sums at one moment; what is added later does not change it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Sums by group, in the order of the groups.
    pub groups: BTreeMap<Group, Arc<Series>>,
    /// Labels of the groups.
    pub labels: LabelSet,
    /// Groups with a place of their own.
    pub held: u64,
    /// Places that groups gave up.
    pub left: u64,
    /// Records whose causes added up to more than their retransmissions.
    pub discrepancies: u64,
    /// Records whose group had no place of its own and was added to a remainder.
    pub label_overflow: u64,
}

impl Aggregator {
    /// Sums at zero, by role and family.
    ///
    /// `synack_hook` says whether each repeated SYN-ACK comes as a [`SynackRecord`]; those include requests that never
    /// complete, and the flows' own `retrans_synack` is then left out, so that none is counted twice.
    #[must_use]
    pub fn new(synack_hook: bool) -> Self {
        Self::grouped(synack_hook, Grouping::default())
    }

    /// The same by configured groups.
    #[must_use]
    pub fn grouped(synack_hook: bool, grouping: Grouping) -> Self {
        Self {
            sums: Sums::new(*grouping.limits()),
            grouping,
            regroupings: 0,
            namespaces: BTreeMap::new(),
            synack_hook,
            discrepancies: 0,
        }
    }

    /// Adds an increment or the end of a connection; a live snapshot adds nothing.
    pub fn add(&mut self, record: &FlowRecord) {
        let is_end = match record.kind {
            kind::INCREMENT => false,
            kind::CLOSED => true,
            _ => return,
        };
        let is_first = if is_end { !has(record, flag::ACCOUNTED) } else { has(record, flag::OPENED) };
        // What an adopted connection did before the probe came is in its totals and is not news.
        let is_growth = !is_end || (is_first && !has(record, flag::ADOPTED));
        let is_established = has(record, flag::ESTABLISHED);

        let group = self.grouping.group_of(record);
        let c = &record.counters;
        let weight = if is_growth { u64::from(c.segs_out) + u64::from(c.segs_in) } else { 1 };
        let client = is_established.then(|| address(record.family, record.remote_addr));
        let series = self.sums.sum(&group, weight, Some(record.now_ns), client);
        let sums = self.namespaces.entry(record.netns).or_default();
        if is_first && is_established {
            add_opening(record, series, sums);
        }
        if is_growth {
            let is_consistent = series.add_growth(record, self.synack_hook);
            self.discrepancies = self.discrepancies.wrapping_add(u64::from(!is_consistent));
            sums.add_growth(c, self.synack_hook);
        }
        if is_end {
            add_end(record, series, sums);
        }
        let change = i64::from(is_first) - i64::from(is_end);
        if is_established && change != 0 {
            self.sums.present(&group, record.opened_ns).change_live(change);
        }
    }

    /// Adds a repeated SYN-ACK. Without the hook there are none to add.
    pub fn add_synack(&mut self, record: &SynackRecord) {
        if !self.synack_hook {
            return;
        }
        let group = self.grouping.group_of_synack(record);
        self.sums.sum(&group, 1, None, None).add_retransmitted(Cause::Synack, 1);
        self.namespaces.entry(record.netns).or_default().add_synack();
    }

    /// The group that a live connection is counted in.
    pub fn live_group(&mut self, record: &FlowRecord) -> Group {
        let group = self.grouping.group_of(record);
        self.sums.present_group(&group, record.opened_ns)
    }

    /// Sets the gauges of live connections from an exact recount by [`Aggregator::live_group`]: each group to the sum of
    /// its counts, all others to 0.
    pub fn resync_live(&mut self, counts: &[(Group, u64)]) {
        self.sums.resync_live(counts);
    }

    /// Makes groups in another way from now on. No sum is lost: those whose labels there are no longer become `former`, and
    /// live connections are counted in `other` until they end.
    pub fn regroup(&mut self, mut grouping: Grouping) {
        self.sums.regroup(&self.grouping, &grouping);
        grouping.keep_paths_of(&mut self.grouping);
        self.grouping = grouping;
        self.regroupings += 1;
    }

    /// Tables of networks that were read anew. Live connections are counted in `other` until they end: they may belong to
    /// another group now than when they began.
    pub fn set_networks(&mut self, networks: Arc<Networks>) {
        self.grouping.set_networks(networks);
        self.sums.let_go_of_present();
        self.regroupings += 1;
    }

    /// How often either was done.
    #[must_use]
    pub const fn regroupings(&self) -> u64 {
        self.regroupings
    }

    /// Gives places of groups to those that need them; to be called once a minute or so.
    pub fn settle(&mut self) {
        self.sums.settle();
    }

    /// The sums as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            groups: self.sums.by_group(),
            labels: self.grouping.labels().clone(),
            held: self.sums.held() as u64,
            left: self.sums.left(),
            discrepancies: self.discrepancies,
            label_overflow: self.sums.overflow(),
        }
    }

    /// The same for a scrape: groups that scrapes have shown may be dropped when they are idle.
    #[must_use]
    pub fn show(&mut self) -> Snapshot {
        self.sums.shown();
        self.snapshot()
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
}

/// A connection that came to be: once in its life, with the first record that accounts for it.
fn add_opening(record: &FlowRecord, series: &mut Series, sums: &mut NamespaceSums) {
    // It is live, but it was not opened while the probe watched.
    if has(record, flag::ADOPTED) {
        sums.add_adopted(record);
        return;
    }
    series.opened = series.opened.wrapping_add(1);
    if record.handshake_rtt_us != NO_RTT {
        series.handshake_rtt.add_sample(record.handshake_rtt_us);
    }
    sums.add_opened(record.role);
}

fn add_end(record: &FlowRecord, series: &mut Series, sums: &mut NamespaceSums) {
    sums.add_end(record);
    let reason = close_reason(record);
    if !has(record, flag::ESTABLISHED) {
        series.connect_failures.add(reason, 1);
        return;
    }
    series.add_close(record, reason);
    if let Some(min_rtt) = min_rtt_us(record) {
        series.min_rtt.add_sample(min_rtt);
    }
    if record.opened_ns != 0
        && let Some(duration_ns) = record.now_ns.checked_sub(record.opened_ns)
    {
        series.duration.add_sample(duration_ns);
    }
}

fn has(record: &FlowRecord, bit: u32) -> bool {
    record.flags & bit != 0
}
