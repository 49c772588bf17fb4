//! Has a key had enough different clients? Counted approximately, and not kept.
//!
//! HyperLogLog with 1024 registers (the crate cardinality-estimator): exact up to some hundred clients, ±3 % above; 8 bytes
//! for two clients, at most 800. Once there are enough nothing is kept but that.

use cardinality_estimator::CardinalityEstimator;

/// The clients of one key.
#[derive(Debug, Default)]
pub(super) enum Clients {
    /// None yet.
    #[default]
    None,
    /// Not enough so far.
    Some(Sketch),
    /// As many as are wanted.
    Enough,
}

/// Log2 of the registers, and the bits of each.
type Sketch = CardinalityEstimator<u64, std::hash::DefaultHasher, 10, 6>;

impl Clients {
    /// Adds one by its hash; whether there are enough.
    pub(super) fn add(&mut self, client: Option<u64>, wanted: u32) -> bool {
        if wanted <= 1 {
            *self = Self::Enough;
            return true;
        }
        if let (Self::None, Some(_)) = (&self, client) {
            *self = Self::Some(Sketch::new());
        }
        if let (Self::Some(sketch), Some(client)) = (&mut *self, client) {
            sketch.insert_hash(client);
            if sketch.estimate() >= wanted as usize {
                *self = Self::Enough;
            }
        }
        self.are_enough()
    }

    pub(super) const fn are_enough(&self) -> bool {
        matches!(self, Self::Enough)
    }

    /// Whether there was one.
    pub(super) const fn any(&self) -> bool {
        !matches!(self, Self::None)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;

    /// How many different clients it takes.
    fn taken(wanted: u32) -> u32 {
        let (state, mut clients) = (RandomState::new(), Clients::default());
        (1..)
            .find(|client: &u32| {
                // Each comes often.
                (0..3).any(|_| clients.add(Some(state.hash_one(client)), wanted))
            })
            .unwrap()
    }

    #[test]
    fn few_are_counted_exactly_and_many_nearly() {
        for wanted in [2, 3, 5, 50] {
            assert_eq!(taken(wanted), wanted);
        }
        assert_eq!(taken(1), 1);
        for wanted in [500, 10_000] {
            let (taken, wanted) = (f64::from(taken(wanted)), f64::from(wanted));
            assert!((taken / wanted - 1.0).abs() < 0.2, "{taken} of {wanted}");
        }
    }

    #[test]
    fn what_has_no_client_has_never_enough() {
        let mut clients = Clients::default();
        assert!(!(0..100).any(|_| clients.add(None, 2)) && !clients.any());
        assert!(clients.add(None, 1));
    }
}
