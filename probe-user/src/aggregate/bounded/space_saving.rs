//! Who of very many keys is heaviest, in the memory of a few: the space-saving counter (Metwally, Agrawal, El Abbadi 2005).
//!
//! A key that is counted has at least the weight `count - error` and at most `count`; every key that is heavier than the
//! lightest counted one is among them. An addition costs two hash look-ups and a walk in a heap: some 100 ns.

use std::{collections::HashMap, hash::Hash};

/// The heaviest keys and their approximate weights.
#[derive(Clone, Debug)]
pub(super) struct SpaceSaving<K> {
    capacity: usize,
    /// A heap: no entry is lighter than the one at (i - 1) / 2.
    heap: Vec<Entry<K>>,
    places: HashMap<K, usize>,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<K> {
    pub(super) key: K,
    /// At most this weight.
    pub(super) count: u64,
    /// At least `count - error`.
    pub(super) error: u64,
}

impl<K> Entry<K> {
    /// The weight that it has for certain.
    pub(super) const fn at_least(&self) -> u64 {
        self.count.saturating_sub(self.error)
    }
}

impl<K: Clone + Eq + Hash> SpaceSaving<K> {
    /// Counts `capacity` keys, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), heap: Vec::new(), places: HashMap::new() }
    }

    /// Adds to the weight of a key; a new one takes the place of the lightest.
    pub(super) fn add(&mut self, key: &K, weight: u64) {
        let place = match self.places.get(key) {
            Some(place) => *place,
            None if self.heap.len() < self.capacity => {
                self.heap.push(Entry { key: key.clone(), count: 0, error: 0 });
                let place = self.heap.len() - 1;
                self.places.insert(key.clone(), place);
                // Nothing is lighter than 0: it goes up before its weight takes it down again.
                self.rise(place)
            }
            None => {
                let lightest = &mut self.heap[0];
                self.places.remove(&lightest.key);
                (lightest.key, lightest.error) = (key.clone(), lightest.count);
                self.places.insert(key.clone(), 0);
                0
            }
        };
        self.heap[place].count = self.heap[place].count.saturating_add(weight);
        self.sink(place);
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, key: &K) {
        let Some(place) = self.places.remove(key) else { return };
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.places.insert(self.heap[place].key.clone(), place);
            let place = self.rise(place);
            self.sink(place);
        }
    }

    /// Halves all weights, so that the past counts less; what comes to nothing is forgotten.
    pub(super) fn halve(&mut self) {
        let mut kept: Vec<Entry<K>> = std::mem::take(&mut self.heap)
            .into_iter()
            .map(|entry| Entry { count: entry.count / 2, error: entry.error / 2, ..entry })
            .filter(|entry| entry.count > 0)
            .collect();
        // What ascends is a heap.
        kept.sort_by_key(|entry| entry.count);
        self.places = kept.iter().enumerate().map(|(place, entry)| (entry.key.clone(), place)).collect();
        self.heap = kept;
    }

    /// Those that are counted, the one with the most certain weight first.
    pub(super) fn heaviest(&self) -> Vec<Entry<K>> {
        let mut entries = self.heap.clone();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.at_least()));
        entries
    }

    /// How many keys are counted.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.heap.len()
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].count <= self.heap[place].count {
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
            let Some(lighter) =
                (left..self.heap.len().min(left + 2)).min_by_key(|child| self.heap[*child].count)
            else {
                break;
            };
            if self.heap[place].count <= self.heap[lighter].count {
                break;
            }
            self.exchange(place, lighter);
            place = lighter;
        }
    }

    fn exchange(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for place in [a, b] {
            if let Some(known) = self.places.get_mut(&self.heap[place].key) {
                *known = place;
            }
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
        let heaviest: Vec<u32> = counter.heaviest().iter().take(3).map(|entry| entry.key).collect();
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
            prop_assert_eq!(counter.heap.iter().map(|entry| entry.count).sum::<u64>(), total);
            let lightest = counter.heap.first().map_or(0, |entry| entry.count);
            for (key, weight) in &truth {
                match counter.places.get(key).map(|place| &counter.heap[*place]) {
                    Some(entry) => prop_assert!(entry.at_least() <= *weight && *weight <= entry.count),
                    None => prop_assert!(*weight <= lightest),
                }
            }
            for key in &removed {
                counter.remove(key);
                prop_assert!(!counter.places.contains_key(key));
            }
            counter.halve();
            for (place, entry) in counter.heap.iter().enumerate() {
                prop_assert_eq!(counter.places[&entry.key], place);
                prop_assert!(place == 0 || counter.heap[(place - 1) / 2].count <= entry.count);
            }
            prop_assert_eq!(counter.places.len(), counter.heap.len());
        }
    }
}
