//! A bounded number of sums for an unbounded number of keys: the heaviest have places of their own, the rest is summed.
//!
//! Pure; the clock is passed in. Whatever keys come, each addition is in exactly one sum, and what leaves its place is
//! merged into the remainder, so that the sum over all stays exact. Memory: `max` sums and twice as many keys.
//!
//! Places are given at once while there are any. After that they change hands only in [`Bounded::settle`], a few at a time
//! and only for a key that is clearly heavier: series that come and go at each scrape would be worth nothing.

mod space_saving;

use std::{collections::HashMap, hash::Hash, time::Duration};

use self::space_saving::SpaceSaving;

/// What sums are kept by.
pub trait Key: Clone + Eq + Hash {
    /// The key of the remainder that this key belongs to; there must be few of these, and each its own remainder.
    ///
    /// `left`: it had a place and gives it up. The sums that come with it are of the past: where remainders of both kinds
    /// are one, that one jumps when a place is given up, and so does a rate of it.
    #[must_use]
    fn remainder(&self, left: bool) -> Self;
}

/// What can be summed.
pub trait Sum: Default {
    /// Adds all of another.
    fn merge(&mut self, other: Self);
}

/// Bounds of [`Bounded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most keys with a place of their own.
    pub max: usize,
    /// A place is given up when nothing was added for this time,
    pub idle: Duration,
    /// … and the sum was shown this many times since.
    pub idle_shows: u32,
}

/// A newcomer must be this many times heavier than the one that it displaces.
const HEAVIER: u64 = 2;
/// The most places that change hands at once: one in this many.
const CHANGE: usize = 20;

/// Sums by key.
#[derive(Clone, Debug)]
pub struct Bounded<K, V> {
    bounds: Bounds,
    held: HashMap<K, Place<V>>,
    remainders: HashMap<K, V>,
    /// Keys without a place, by what was added since about two settlements.
    waiting: SpaceSaving<K>,
    overflow: u64,
    left: u64,
}

#[derive(Clone, Debug)]
struct Place<V> {
    sum: V,
    /// As in `waiting`.
    weight: u64,
    changed: Duration,
    shows: u32,
}

impl<K: Key, V: Sum> Bounded<K, V> {
    /// No sums yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            held: HashMap::new(),
            remainders: HashMap::new(),
            waiting: SpaceSaving::new(bounds.max),
            overflow: 0,
            left: 0,
        }
    }

    /// The sum to add to: the key's own, or that of its remainder.
    ///
    /// `weight` says how heavy the addition is (a segment, a byte); `now` is the time since some fixed moment.
    pub fn sum(&mut self, key: &K, weight: u64, now: Duration) -> &mut V {
        if self.held.contains_key(key) || self.held.len() < self.bounds.max {
            let place = self.held.entry(key.clone()).or_insert_with(|| Place {
                sum: V::default(),
                weight: 0,
                changed: now,
                shows: 0,
            });
            place.weight = place.weight.saturating_add(weight);
            (place.changed, place.shows) = (now, 0);
            return &mut place.sum;
        }
        self.overflow += 1;
        self.waiting.add(key, weight);
        self.remainders.entry(key.remainder(false)).or_default()
    }

    /// Notes that all sums were shown.
    pub fn shown(&mut self) {
        self.held.values_mut().for_each(|place| place.shows = place.shows.saturating_add(1));
    }

    /// Takes idle places back, gives light ones to heavier keys, and lets the past count half. To be called at intervals of
    /// a minute or so; costs a pass over the places.
    pub fn settle(&mut self, now: Duration) {
        let Bounds { idle, idle_shows, .. } = self.bounds;
        let is_idle =
            |place: &Place<V>| now.saturating_sub(place.changed) >= idle && place.shows >= idle_shows;
        let idle: Vec<K> =
            self.held.iter().filter(|(_, place)| is_idle(place)).map(|(key, _)| key.clone()).collect();
        idle.iter().for_each(|key| self.leave(key));
        self.displace(now);
        self.waiting.halve();
        self.held.values_mut().for_each(|place| place.weight /= 2);
    }

    /// Puts up to a twentieth of the places into other hands.
    fn displace(&mut self, now: Duration) {
        let mut lightest: Vec<(u64, K)> =
            self.held.iter().map(|(key, place)| (place.weight, key.clone())).collect();
        lightest.sort_by_key(|(weight, _)| *weight);
        let mut lightest = lightest.into_iter().take((self.bounds.max / CHANGE).max(1));
        for newcomer in self.waiting.heaviest() {
            if self.held.len() >= self.bounds.max {
                let Some((weight, key)) = lightest.next() else { break };
                if newcomer.at_least() <= weight.saturating_mul(HEAVIER) {
                    break;
                }
                self.leave(&key);
            }
            self.waiting.remove(&newcomer.key);
            let place = Place { sum: V::default(), weight: newcomer.at_least(), changed: now, shows: 0 };
            self.held.insert(newcomer.key, place);
        }
    }

    fn leave(&mut self, key: &K) {
        if let Some(place) = self.held.remove(key) {
            self.left += 1;
            self.remainders.entry(key.remainder(true)).or_default().merge(place.sum);
        }
    }

    /// Changes the bounds; places that are too many are given up, the lightest first.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        if bounds.max != self.bounds.max {
            self.waiting = SpaceSaving::new(bounds.max);
        }
        self.bounds = bounds;
        let mut keys: Vec<(u64, K)> =
            self.held.iter().map(|(key, place)| (place.weight, key.clone())).collect();
        keys.sort_by_key(|(weight, _)| *weight);
        let excess = self.held.len().saturating_sub(bounds.max);
        keys.iter().take(excess).for_each(|(_, key)| self.leave(key));
    }

    /// Sums of the keys that have a place, in no order.
    pub fn held(&self) -> impl Iterator<Item = (&K, &V)> {
        self.held.iter().map(|(key, place)| (key, &place.sum))
    }

    /// The remainders, in no order.
    pub fn remainders(&self) -> impl Iterator<Item = (&K, &V)> {
        self.remainders.iter()
    }

    /// Additions that went to a remainder because all places were taken.
    #[must_use]
    pub const fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Places that were given up.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }
}

#[cfg(test)]
mod tests;
