//! One [`Series`] a group, for a bounded number of groups.
//!
//! Without labels of networks the groups are few by themselves and all have their place. With them see [`Bounded`].
//! An addition costs some 100 ns for a group with a place and 500 for one without (docs/decisions/groups.md); a snapshot
//! costs one reference a group.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use super::{
    bounded::{Addition, Bounded, Bounds, Sum},
    group::Group,
    grouping::Grouping,
    series::Series,
};
use crate::{
    config::{Config, Groups, Privacy},
    networks::truncate,
};

/// How many groups there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits(Bounds);

impl Default for Limits {
    fn default() -> Self {
        Self(Bounds::NONE)
    }
}

impl Limits {
    pub(super) const fn new(config: &Config) -> Self {
        if config.networks.labels.is_empty() {
            return Self(Bounds::NONE);
        }
        let Groups { max, idle, idle_scrapes } = config.groups;
        let Privacy { min_clients, .. } = config.privacy;
        Self(Bounds { max: max as usize, idle, idle_shows: idle_scrapes, min_clients })
    }
}

impl Sum for Arc<Series> {
    fn merge(&mut self, other: Self) {
        Arc::make_mut(self).merge(&other);
    }

    fn has_present(&self) -> bool {
        self.live() != 0
    }

    fn take_present(&mut self, from: &mut Self) {
        let live = from.live();
        Arc::make_mut(from).set_live(0);
        Arc::make_mut(self).change_live(live);
    }
}

/// The sums.
#[derive(Debug)]
pub(super) struct Sums {
    groups: Bounded<Group, Arc<Series>>,
    /// Addresses cannot be chosen so that they look like others.
    hasher: RandomState,
    limits: Limits,
    /// The latest time in a record.
    now: Duration,
}

impl Sums {
    pub(super) fn new(limits: Limits) -> Self {
        Self { groups: Bounded::new(limits.0), hasher: RandomState::new(), limits, now: Duration::ZERO }
    }

    /// The sums to add to. `now_ns` is the record's time, if it has one; `client` is the peer if it has answered.
    pub(super) fn sum(
        &mut self,
        group: &Group,
        weight: u64,
        now_ns: Option<u64>,
        client: Option<IpAddr>,
    ) -> &mut Series {
        // Whoever completes no handshake may be nobody: SYNs can be sent from anywhere.
        let is_doubtful = client.is_none();
        self.now = now_ns.map_or(self.now, Duration::from_nanos).max(self.now);
        // A client of IPv6 has a /64 for itself.
        let client = client
            .filter(|_| self.limits.0.min_clients > 1)
            .map(|address| self.hasher.hash_one(truncate(address, 32, 64)));
        Arc::make_mut(self.groups.sum(group, &Addition { weight, client, is_doubtful, now: self.now }))
    }

    /// The sums that a connection which began at `opened_ns` is counted in while it lives.
    pub(super) fn present(&mut self, group: &Group, opened_ns: u64) -> &mut Series {
        Arc::make_mut(self.groups.present(group, Duration::from_nanos(opened_ns)))
    }

    /// The group of these sums.
    pub(super) fn present_group(&self, group: &Group, opened_ns: u64) -> Group {
        self.groups.present_key(group, Duration::from_nanos(opened_ns))
    }

    /// Sets the live connections of these groups, and of all others to 0.
    pub(super) fn resync_live(&mut self, counts: &[(Group, u64)]) {
        for series in self.groups.all_mut().filter(|series| series.live() != 0) {
            Arc::make_mut(series).set_live(0);
        }
        for (group, count) in counts {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            Arc::make_mut(self.groups.own(group)).change_live(count);
        }
    }

    /// Another way of making groups follows; live connections are counted in remainders until they end.
    pub(super) fn regroup(&mut self, from: &Grouping, to: &Grouping) {
        self.limits = *to.limits();
        if from.labels() != to.labels() {
            self.groups.regroup(self.limits.0, |group| to.heir_of(group));
            return;
        }
        self.groups.set_bounds(self.limits.0);
        if !from.has_same_services(to) {
            self.groups.let_go_of_all_present();
        } else if !from.has_same_networks(to) {
            self.groups.let_go_of_present();
        }
    }

    /// The same groups, made of tables that changed.
    pub(super) fn let_go_of_present(&mut self) {
        self.groups.let_go_of_present();
    }

    pub(super) fn settle(&mut self) {
        self.groups.settle();
    }

    pub(super) fn shown(&mut self) {
        self.groups.shown();
    }

    pub(super) const fn overflow(&self) -> u64 {
        self.groups.overflow()
    }

    pub(super) const fn left(&self) -> u64 {
        self.groups.left()
    }

    /// Groups with a place of their own.
    pub(super) fn held(&self) -> usize {
        self.groups.held().count()
    }

    pub(super) fn by_group(&self) -> BTreeMap<Group, Arc<Series>> {
        let mut out = BTreeMap::new();
        for (group, series) in self.groups.held().chain(self.groups.remainders()) {
            match out.entry(group.clone()) {
                std::collections::btree_map::Entry::Vacant(entry) => _ = entry.insert(Arc::clone(series)),
                std::collections::btree_map::Entry::Occupied(entry) => {
                    entry.into_mut().merge(Arc::clone(series));
                }
            }
        }
        out
    }
}
