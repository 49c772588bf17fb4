//! A bounded number of sums for an unbounded number of keys: the heaviest have places of their own, the rest is summed.
//!
//! Pure; the clock is passed in. Whatever keys come, each addition is in exactly one sum, and what leaves its place is
//! merged into the remainder, so that the sum over all stays exact. Memory: `max` sums and twice as many keys.
//!
//! Places are given at once while there are any, to a key that may be made up while half of them are free. After that they
//! change hands only in [`Bounded::settle`], a few at a time and only for a key that is clearly heavier: series that come and
//! go at each scrape would be worth nothing.
//!
//! What is so now, such as the number of live connections, is kept exact beside what only grows: see [`Bounded::present`].

mod clients;
mod space_saving;

use std::{collections::HashMap, hash::Hash, time::Duration};

use self::space_saving::SpaceSaving;

/// What sums are kept by.
pub(super) trait Key: Clone + Eq + Hash {
    /// The key of the remainder that this key belongs to; there must be few of these, and each its own remainder.
    ///
    /// `left`: it had a place and gives it up. The sums that come with it are of the past: where remainders of both kinds
    /// are one, that one jumps when a place is given up, and so does a rate of it.
    #[must_use]
    fn remainder(&self, left: bool) -> Self;

    /// The key of the remainder for what began when keys were made in another way: the same whatever way that was.
    #[must_use]
    fn elder(&self) -> Self;
}

/// What can be summed.
pub(super) trait Sum: Default {
    /// Adds all of another.
    fn merge(&mut self, other: Self);

    /// Whether it holds something that is so now and will be taken away again, as a gauge does.
    fn has_present(&self) -> bool;

    /// Takes that from another.
    fn take_present(&mut self, from: &mut Self);
}

/// One addition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addition {
    /// How heavy it is (segments, bytes).
    pub(super) weight: u64,
    /// Hash of the client that it is of, where that is certain; asked for when [`Bounds::min_clients`] is above 1.
    pub(super) client: Option<u64>,
    /// Whether the key may be made up: then it gets a place only while half of them are free. Nothing is present of it.
    pub(super) is_doubtful: bool,
    /// Time since some fixed moment.
    pub(super) now: Duration,
}

/// Bounds of [`Bounded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The most keys with a place of their own.
    pub(super) max: usize,
    /// A place is given up when nothing was added for this time,
    pub(super) idle: Duration,
    /// … and the sum was shown this many times since.
    pub(super) idle_shows: u32,
    /// A key has no place before it has had this many different clients.
    pub(super) min_clients: u32,
}

impl Bounds {
    /// Every key has its place for ever: for keys that are few by themselves.
    pub(super) const NONE: Self =
        Self { max: usize::MAX, idle: Duration::MAX, idle_shows: u32::MAX, min_clients: 1 };
}

/// A newcomer must be this many times heavier than the one that it displaces.
const HEAVIER: u64 = 2;
/// The most places that change hands at once: one in this many.
const CHANGE: usize = 20;

/// Sums by key.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    bounds: Bounds,
    held: HashMap<K, Place<V>>,
    remainders: HashMap<K, V>,
    /// Keys without a place, by what was added since about two settlements.
    waiting: SpaceSaving<K>,
    /// The latest time that was passed in.
    seen: Duration,
    /// What began before this may be in a remainder although there is a place for its key now.
    epoch: Duration,
    /// What began before this had another key.
    regrouped: Duration,
    /// Whether a key was denied a place since the epoch.
    denied: bool,
    overflow: u64,
    left: u64,
}

#[derive(Debug)]
struct Place<V> {
    sum: V,
    /// As in `waiting`.
    weight: u64,
    changed: Duration,
    shows: u32,
    /// What began before this is present in the remainder.
    since: Duration,
}

impl<V: Sum> Place<V> {
    fn new(now: Duration, since: Duration) -> Self {
        Self { sum: V::default(), weight: 0, changed: now, shows: 0, since }
    }
}

impl<K: Key, V: Sum> Bounded<K, V> {
    /// No sums yet.
    #[must_use]
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            held: HashMap::new(),
            remainders: HashMap::new(),
            waiting: SpaceSaving::new(bounds.max),
            seen: Duration::ZERO,
            epoch: Duration::ZERO,
            regrouped: Duration::ZERO,
            denied: false,
            overflow: 0,
            left: 0,
        }
    }

    /// The sum to add to: the key's own, or that of its remainder.
    pub(super) fn sum(&mut self, key: &K, addition: &Addition) -> &mut V {
        let now = addition.now;
        self.seen = self.seen.max(now);
        if let Some(since) = self.give_place(key, addition) {
            self.held.insert(key.clone(), Place::new(now, since));
        }
        match self.held.get_mut(key) {
            Some(place) => {
                place.weight = place.weight.saturating_add(addition.weight);
                (place.changed, place.shows) = (place.changed.max(now), 0);
                &mut place.sum
            }
            None => self.remainders.entry(key.remainder(false)).or_default(),
        }
    }

    /// From when on a key without a place has one: what begins before is present in the remainder. `None`: it gets none.
    fn give_place(&mut self, key: &K, addition: &Addition) -> Option<Duration> {
        if self.held.contains_key(key) {
            return None;
        }
        let Addition { weight, client, is_doubtful, .. } = *addition;
        let most = if is_doubtful { self.bounds.max / 2 } else { self.bounds.max };
        let has_room = self.held.len() < most;
        if has_room && self.bounds.min_clients <= 1 {
            return Some(self.epoch);
        }
        if is_doubtful {
            // Nor does it wait for a place: what is made up often would be heavy.
            self.overflow += u64::from(!has_room);
            return None;
        }
        self.denied = true;
        self.waiting.add(key, weight);
        let has_clients = self.waiting.has_clients(key, client, self.bounds.min_clients);
        if has_room && has_clients {
            self.waiting.remove(key);
            return Some(self.after_all());
        }
        self.overflow += u64::from(!has_room);
        None
    }

    /// Later than all that was added.
    fn after_all(&self) -> Duration {
        self.seen.saturating_add(Duration::from_nanos(1))
    }

    /// The sum in which something is present that began at `begun`, if its key has been added to.
    ///
    /// It is the same sum from its beginning to its end, or, when the key's place was given up meanwhile, the one that
    /// took over what was present: so what is taken away is what was added, in each sum. What began before the key got
    /// its place is present in the remainder.
    pub(super) fn present(&mut self, key: &K, begun: Duration) -> &mut V {
        let is_elder = begun < self.regrouped;
        match self.held.get_mut(key).filter(|place| begun >= place.since) {
            Some(place) => &mut place.sum,
            None => self.remainders.entry(without_place(key, is_elder)).or_default(),
        }
    }

    /// The key of that sum.
    pub(super) fn present_key(&self, key: &K, begun: Duration) -> K {
        let is_own = self.held.get(key).is_some_and(|place| begun >= place.since);
        if is_own { key.clone() } else { without_place(key, begun < self.regrouped) }
    }

    /// A sum by its own key, a remainder's among them.
    pub(super) fn own(&mut self, key: &K) -> &mut V {
        match self.held.get_mut(key) {
            Some(place) => &mut place.sum,
            None => self.remainders.entry(key.clone()).or_default(),
        }
    }

    /// Notes that all sums were shown.
    pub(super) fn shown(&mut self) {
        self.held.values_mut().for_each(|place| place.shows = place.shows.saturating_add(1));
    }

    /// Takes idle places back in which nothing is present, gives light ones to heavier keys, and lets the past count half.
    /// To be called at intervals of a minute or so; costs a pass over the places.
    pub(super) fn settle(&mut self) {
        let Bounds { idle, idle_shows, .. } = self.bounds;
        let is_idle = |place: &Place<V>| {
            self.seen.saturating_sub(place.changed) >= idle
                && place.shows >= idle_shows
                && !place.sum.has_present()
        };
        let idle: Vec<K> =
            self.held.iter().filter(|(_, place)| is_idle(place)).map(|(key, _)| key.clone()).collect();
        let was_full = self.held.len() >= self.bounds.max;
        idle.iter().for_each(|key| self.leave(key));
        self.displace();
        if was_full && self.denied {
            self.begin_epoch();
        }
        self.waiting.halve();
        self.held.values_mut().for_each(|place| place.weight /= 2);
    }

    /// Puts up to a twentieth of the places into other hands.
    fn displace(&mut self) {
        let mut lightest: Vec<(u64, K)> =
            self.held.iter().map(|(key, place)| (place.weight, key.clone())).collect();
        lightest.sort_by_key(|(weight, _)| *weight);
        let mut lightest = lightest.into_iter().take((self.bounds.max / CHANGE).max(1));
        let since = self.after_all();
        for newcomer in self.waiting.heaviest().into_iter().filter(|entry| entry.has_clients) {
            if self.held.len() >= self.bounds.max {
                let Some((weight, key)) = lightest.next() else { break };
                if newcomer.at_least <= weight.saturating_mul(HEAVIER) {
                    break;
                }
                self.leave(&key);
            }
            self.waiting.remove(&newcomer.key);
            let place = Place { weight: newcomer.at_least, ..Place::new(self.seen, since) };
            self.held.insert(newcomer.key, place);
        }
    }

    /// From now on only what begins later is present in places that are given.
    fn begin_epoch(&mut self) {
        (self.epoch, self.denied) = (self.after_all(), false);
    }

    fn leave(&mut self, key: &K) {
        let Some(mut place) = self.held.remove(key) else { return };
        self.left += 1;
        if place.sum.has_present() {
            self.remainders.entry(key.remainder(false)).or_default().take_present(&mut place.sum);
            self.begin_epoch();
        }
        self.remainders.entry(key.remainder(true)).or_default().merge(place.sum);
    }

    /// Changes the bounds; places that are too many are given up, the lightest first, and all of them where more clients are
    /// wanted than before: how many a key with a place has had is not kept.
    pub(super) fn set_bounds(&mut self, bounds: Bounds) {
        let wants_more_clients = bounds.min_clients > self.bounds.min_clients;
        if bounds.max != self.bounds.max || bounds.min_clients != self.bounds.min_clients {
            self.waiting = SpaceSaving::new(bounds.max);
        }
        self.bounds = bounds;
        self.begin_epoch();
        let mut keys: Vec<(u64, K)> =
            self.held.iter().map(|(key, place)| (place.weight, key.clone())).collect();
        keys.sort_by_key(|(weight, _)| *weight);
        let kept = if wants_more_clients { 0 } else { bounds.max };
        let excess = self.held.len().saturating_sub(kept);
        keys.iter().take(excess).for_each(|(_, key)| self.leave(key));
    }

    /// Lets go of what is present in places: from now on it is so in their remainders, until it ends. For when keys are
    /// made in another way than when it began, and remainders are not.
    pub(super) fn let_go_of_present(&mut self) {
        self.begin_epoch();
        for (key, place) in &mut self.held {
            place.since = self.epoch;
            if place.sum.has_present() {
                self.remainders.entry(key.remainder(false)).or_default().take_present(&mut place.sum);
            }
        }
    }

    /// The same where remainders too are made in another way.
    pub(super) fn let_go_of_all_present(&mut self) {
        self.let_go_of_present();
        self.regrouped = self.epoch;
        let from: Vec<K> = self.remainders.keys().cloned().collect();
        for key in from {
            let mut present = V::default();
            if let Some(sum) = self.remainders.get_mut(&key).filter(|sum| sum.has_present()) {
                present.take_present(sum);
                self.remainders.entry(key.elder()).or_default().take_present(&mut present);
            }
        }
    }

    /// Gives all places up, and makes remainders of all sums; `heir_of` says which. What is present is so in the elder of it.
    pub(super) fn regroup(&mut self, bounds: Bounds, heir_of: impl Fn(&K) -> K) {
        let held = std::mem::take(&mut self.held).into_iter().map(|(key, place)| (key, place.sum));
        for (key, mut sum) in std::mem::take(&mut self.remainders).into_iter().chain(held) {
            let heir = heir_of(&key);
            if sum.has_present() {
                self.remainders.entry(heir.elder()).or_default().take_present(&mut sum);
            }
            self.remainders.entry(heir).or_default().merge(sum);
        }
        self.waiting = SpaceSaving::new(bounds.max);
        self.bounds = bounds;
        self.begin_epoch();
        self.regrouped = self.epoch;
    }

    /// Sums of the keys that have a place, in no order.
    pub(super) fn held(&self) -> impl Iterator<Item = (&K, &V)> {
        self.held.iter().map(|(key, place)| (key, &place.sum))
    }

    /// All sums, to be changed, in no order.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.held.values_mut().map(|place| &mut place.sum).chain(self.remainders.values_mut())
    }

    /// The remainders, in no order.
    pub(super) fn remainders(&self) -> impl Iterator<Item = (&K, &V)> {
        self.remainders.iter()
    }

    /// Additions that went to a remainder because there was no place for their key.
    #[must_use]
    pub(super) const fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Places that were given up.
    #[must_use]
    pub(super) const fn left(&self) -> u64 {
        self.left
    }
}

fn without_place<K: Key>(key: &K, is_elder: bool) -> K {
    if is_elder { key.elder() } else { key.remainder(false) }
}

#[cfg(test)]
mod tests;
