//! Histograms that sums are kept in: counts by bucket, and the exact sum of the samples.
//!
//! Round trips keep the kernel side's buckets ([`probe_common::histogram`]), so nothing is binned twice. Durations of
//! connections have one bucket an octave, 2^-10 s (0.98 ms) to 2^17 s (36 h).

use probe_common::histogram::{BUCKETS, bucket_of};

/// Bounds of the duration's buckets are 2^LOWEST to 2^HIGHEST seconds.
pub const DURATION_EXPONENTS: std::ops::RangeInclusive<i32> = -10..=17;

/// Buckets of the duration: one up to each bound, and one above all.
pub const DURATION_BUCKETS: usize = 29;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Round trips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RttHistogram {
    /// Samples by bucket.
    pub counts: [u64; BUCKETS],
    /// Their sum, µs.
    pub sum_us: u64,
}

impl Default for RttHistogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum_us: 0 }
    }
}

impl RttHistogram {
    /// Adds one sample, µs.
    pub fn add_sample(&mut self, us: u32) {
        let count = &mut self.counts[bucket_of(us)];
        *count = count.wrapping_add(1);
        self.sum_us = self.sum_us.wrapping_add(u64::from(us));
    }

    /// Adds the samples of one record.
    pub fn add_counts(&mut self, counts: &[u32; BUCKETS], sum_us: u64) {
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum = sum.wrapping_add(u64::from(*count));
        }
        self.sum_us = self.sum_us.wrapping_add(sum_us);
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.wrapping_add(count);
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    /// Number of samples.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

/// How long connections lasted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DurationHistogram {
    /// Samples by bucket.
    pub counts: [u64; DURATION_BUCKETS],
    /// Their sum, ns; 2^64 ns are only 584 years of connections.
    pub sum_ns: u128,
}

impl DurationHistogram {
    /// Adds one sample, ns.
    pub fn add_sample(&mut self, ns: u64) {
        let bucket = DURATION_EXPONENTS.take_while(|exponent| ns > octave_ns(*exponent)).count();
        let count = &mut self.counts[bucket];
        *count = count.wrapping_add(1);
        self.sum_ns = self.sum_ns.wrapping_add(u128::from(ns));
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.wrapping_add(count);
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }
}

/// 2^exponent seconds in whole ns, rounded down: a whole ns lies in the same bucket as by the exact bound.
const fn octave_ns(exponent: i32) -> u64 {
    if exponent < 0 {
        NS_PER_SECOND >> exponent.unsigned_abs()
    } else {
        NS_PER_SECOND << exponent.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket_of_duration(ns: u64) -> usize {
        let mut histogram = DurationHistogram::default();
        histogram.add_sample(ns);
        assert_eq!(histogram.sum_ns, u128::from(ns));
        histogram.counts.iter().position(|count| *count == 1).unwrap()
    }

    #[test]
    fn durations_fall_under_their_octave() {
        assert_eq!(DURATION_EXPONENTS.count() + 1, DURATION_BUCKETS);
        assert_eq!(bucket_of_duration(0), 0);
        assert_eq!(bucket_of_duration(976_562), 0);
        assert_eq!(bucket_of_duration(976_563), 1);
        assert_eq!(bucket_of_duration(NS_PER_SECOND), 10);
        assert_eq!(bucket_of_duration(NS_PER_SECOND + 1), 11);
        assert_eq!(bucket_of_duration(NS_PER_SECOND << 17), 27);
        assert_eq!(bucket_of_duration(u64::MAX), 28);
    }

    #[test]
    fn samples_and_counts_meet_in_the_same_buckets() {
        let mut histogram = RttHistogram::default();
        let mut counts = [0; BUCKETS];
        counts[bucket_of(20_000)] = 2;
        histogram.add_sample(20_000);
        histogram.add_counts(&counts, 40_000);
        assert_eq!(
            (histogram.counts[bucket_of(20_000)], histogram.count(), histogram.sum_us),
            (3, 3, 60_000)
        );
    }
}
