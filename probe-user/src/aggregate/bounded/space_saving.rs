//! Who of very many keys is heaviest, in the memory of a few: the space-saving counter (Metwally, Agrawal, El Abbadi 2005).
//!
//! A key that is counted has at least the weight `count - error` and at most `count`; every key that is heavier than the
//! lightest counted one is among them. An addition costs up to three hash look-ups and a walk in a heap of numbers.

use std::{collections::HashMap, hash::Hash};

use super::clients::Clients;

/// The heaviest keys and their approximate weights.
#[derive(Debug)]
pub(super) struct SpaceSaving<K> {
    capacity: usize,
    entries: Vec<Entry<K>>,
    /// Indices of entries: none is lighter than the one at (i - 1) / 2.
    heap: Vec<usize>,
    known: HashMap<K, usize>,
}

/// What is known of a key.
#[derive(Debug)]
struct Entry<K> {
    key: K,
    /// At most this weight.
    count: u64,
    /// At least `count - error`.
    error: u64,
    clients: Clients,
    /// Where in the heap it is.
    place: usize,
}

impl<K> Entry<K> {
    const fn at_least(&self) -> u64 {
        self.count.saturating_sub(self.error)
    }
}

/// A key that wants a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Newcomer<K> {
    pub(super) key: K,
    /// The weight that it has for certain.
    pub(super) at_least: u64,
    /// It has had as many clients as are wanted.
    pub(super) has_clients: bool,
}

impl<K: Clone + Eq + Hash> SpaceSaving<K> {
    /// Counts `capacity` keys, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), entries: Vec::new(), heap: Vec::new(), known: HashMap::new() }
    }

    /// Adds to the weight of a key; a new one takes the place of the lightest.
    pub(super) fn add(&mut self, key: &K, weight: u64) {
        let index = match self.known.get(key) {
            Some(index) => *index,
            None if self.entries.len() < self.capacity => {
                let (index, place) = (self.entries.len(), self.heap.len());
                self.entries.push(Entry {
                    key: key.clone(),
                    count: 0,
                    error: 0,
                    clients: Clients::default(),
                    place,
                });
                self.heap.push(index);
                self.known.insert(key.clone(), index);
                // Nothing is lighter than 0: it goes up before its weight takes it down again.
                self.rise(place);
                index
            }
            None => {
                let index = self.heap[0];
                let lightest = &mut self.entries[index];
                self.known.remove(&lightest.key);
                (lightest.key, lightest.error) = (key.clone(), lightest.count);
                lightest.clients = Clients::default();
                self.known.insert(key.clone(), index);
                index
            }
        };
        let entry = &mut self.entries[index];
        entry.count = entry.count.saturating_add(weight);
        let place = entry.place;
        self.sink(place);
    }

    /// Adds a client to a key that is counted; whether it has had as many different ones as are wanted.
    pub(super) fn has_clients(&mut self, key: &K, client: Option<u64>, wanted: u32) -> bool {
        let Some(entry) = self.known.get(key).and_then(|index| self.entries.get_mut(*index)) else {
            return false;
        };
        entry.clients.add(client, wanted)
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, key: &K) {
        let Some(index) = self.known.remove(key) else { return };
        let place = self.entries[index].place;
        self.heap.swap_remove(place);
        if let Some(moved) = self.heap.get(place) {
            self.entries[*moved].place = place;
            let place = self.rise(place);
            self.sink(place);
        }
        self.entries.swap_remove(index);
        if let Some(moved) = self.entries.get(index) {
            self.heap[moved.place] = index;
            self.known.insert(moved.key.clone(), index);
        }
    }

    /// Halves all weights, so that the past counts less; what comes to nothing and has no clients is forgotten.
    pub(super) fn halve(&mut self) {
        self.entries = std::mem::take(&mut self.entries)
            .into_iter()
            .map(|entry| Entry { count: entry.count / 2, error: entry.error / 2, ..entry })
            .filter(|entry| entry.count > 0 || entry.clients.any())
            .collect();
        // What ascends is a heap.
        self.entries.sort_by_key(|entry| entry.count);
        self.heap = (0..self.entries.len()).collect();
        self.known.clear();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            entry.place = index;
            self.known.insert(entry.key.clone(), index);
        }
    }

    /// Those that are counted, the one with the most certain weight first.
    pub(super) fn heaviest(&self) -> Vec<Newcomer<K>> {
        let newcomer = |entry: &Entry<K>| Newcomer {
            key: entry.key.clone(),
            at_least: entry.at_least(),
            has_clients: entry.clients.are_enough(),
        };
        let mut newcomers: Vec<_> = self.entries.iter().map(newcomer).collect();
        newcomers.sort_by_key(|newcomer| std::cmp::Reverse(newcomer.at_least));
        newcomers
    }

    /// How many keys are counted.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    fn count_at(&self, place: usize) -> u64 {
        self.entries[self.heap[place]].count
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.count_at(parent) <= self.count_at(place) {
                break;
            }
            self.exchange(place, parent);
            place = parent;
        }
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            let children = left..self.heap.len().min(left + 2);
            let Some(lighter) = children.min_by_key(|child| self.count_at(*child)) else { break };
            if self.count_at(place) <= self.count_at(lighter) {
                break;
            }
            self.exchange(place, lighter);
            place = lighter;
        }
    }

    fn exchange(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for place in [a, b] {
            self.entries[self.heap[place]].place = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_heavy_are_found_among_very_many() {
        let mut counter = SpaceSaving::new(100);
        for round in 0u32..300_000 {
            counter.add(&(round % 3 + 1_000_000), 5);
            counter.add(&round, 1);
        }
        let heaviest: Vec<u32> = counter.heaviest().iter().take(3).map(|newcomer| newcomer.key).collect();
        assert!((1_000_000..1_000_003).all(|key| heaviest.contains(&key)), "{heaviest:?}");
        assert_eq!(counter.len(), 100);
    }

    proptest! {
        #[test]
        fn weights_are_within_their_bounds(
            adds in proptest::collection::vec((0u8..40, 1u64..50), 0..400), removed in proptest::collection::vec(0u8..40, 0..5)
        ) {
            let mut counter = SpaceSaving::new(8);
            let mut truth: HashMap<u8, u64> = HashMap::new();
            for (key, weight) in &adds {
                counter.add(key, *weight);
                *truth.entry(*key).or_default() += weight;
            }
            let total: u64 = truth.values().sum();
            prop_assert_eq!(counter.entries.iter().map(|entry| entry.count).sum::<u64>(), total);
            let lightest = counter.heap.first().map_or(0, |index| counter.entries[*index].count);
            for (key, weight) in &truth {
                match counter.known.get(key).map(|index| &counter.entries[*index]) {
                    Some(entry) => prop_assert!(entry.at_least() <= *weight && *weight <= entry.count),
                    None => prop_assert!(*weight <= lightest),
                }
            }
            for key in &removed {
                counter.remove(key);
                prop_assert!(!counter.known.contains_key(key));
                check(&counter)?;
            }
            counter.halve();
            check(&counter)?;
        }
    }

    fn check(counter: &SpaceSaving<u8>) -> Result<(), TestCaseError> {
        prop_assert_eq!((counter.known.len(), counter.heap.len()), (counter.len(), counter.len()));
        for (place, index) in counter.heap.iter().enumerate() {
            let entry = &counter.entries[*index];
            prop_assert_eq!((counter.known[&entry.key], entry.place), (*index, place));
            prop_assert!(place == 0 || counter.count_at((place - 1) / 2) <= entry.count);
        }
        Ok(())
    }
}
