//! The round-trip histogram: Prometheus' exponential schema 2, four buckets an octave.
//!
//! Bucket `i` of 1..=62 holds samples in (2^(k-1)/4, 2^(k/4)] seconds with k = i - 56, so a bound is at most 19 %
//! above the next lower one. Bucket 0 holds everything up to 2^-14 s (61 µs), bucket 63 everything above
//! 2^1.5 s (2.83 s). The kernel's samples are whole microseconds; the bounds here are the floors of the exact ones,
//! which puts every whole microsecond into the same bucket as the exact bound does.
//! Kernel side, user side and tests use this one function; it costs six table look-ups without a branch.

use bytemuck::{Pod, Zeroable};

/// Buckets of the histogram.
pub const BUCKETS: usize = 64;

/// Buckets of a [`NearHistogram`]: four octaves.
pub const NEAR: usize = 16;

/// Buckets below that of a connection's first sample that the near ones begin with: round trips grow more than they shrink.
const BELOW: u32 = 4;

/// The samples of one connection while they are few and lie near each other, as those of most do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NearHistogram {
    /// The bucket that the counts begin with; of no meaning before the first sample.
    pub first: u32,
    /// Samples from there on.
    pub counts: [u16; NEAR],
}

impl NearHistogram {
    /// Counts a sample of that bucket; false when it has no place. The first one of a connection decides where the buckets lie.
    #[inline(always)]
    pub fn add(&mut self, bucket: u32, is_first: bool) -> bool {
        if is_first {
            self.first = bucket.saturating_sub(BELOW).min((BUCKETS - NEAR) as u32);
        }
        let place = bucket.wrapping_sub(self.first) as usize;
        if place >= NEAR || self.counts[place] == u16::MAX {
            return false;
        }
        self.counts[place] += 1;
        true
    }

    /// The same samples in all buckets; what a broken record puts beyond the last one is left out.
    #[must_use]
    pub fn spread(&self) -> [u32; BUCKETS] {
        let mut all = [0; BUCKETS];
        for (count, place) in self.counts.iter().zip(self.first as usize..BUCKETS) {
            all[place] = u32::from(*count);
        }
        all
    }
}

/// Schema of Prometheus' native histograms that the inner buckets belong to.
pub const SCHEMA: i32 = 2;

/// Native index k of bucket 0's upper bound, 2^(k/4) seconds.
pub const LOWEST_INDEX: i32 = -56;

/// Upper bounds in whole microseconds, inclusive; the last bucket has none.
pub static UPPER_BOUNDS_US: [u32; BUCKETS] = bounds();

const fn bounds() -> [u32; BUCKETS] {
    // 10^6 * 2^(j/4) for j = 0..4, scaled by 2^20 for the divisions below: floor(10^6 * 2^(j/4) * 2^20).
    const QUARTERS: [u128; 4] = [1_048_576_000_000, 1_246_974_039_821, 1_482_910_400_378, 1_763_487_599_042];
    let mut out = [u32::MAX; BUCKETS];
    let mut i = 0;
    while i < BUCKETS - 1 {
        let k = LOWEST_INDEX + i as i32;
        let octave = k.div_euclid(4);
        let quarter = QUARTERS[k.rem_euclid(4) as usize];
        // bound = quarter / 2^20 * 2^octave, with octave in -14..=1.
        let shift = 20 - octave;
        out[i] = (quarter >> shift) as u32;
        i += 1;
    }
    out
}

/// The bucket of a sample in microseconds.
#[inline(always)]
#[must_use]
pub fn bucket_of(us: u32) -> usize {
    let mut i = 0usize;
    let mut step = BUCKETS / 2;
    while step > 0 {
        // i + step - 1 is at most 62 here: the masks tell the verifier and the compiler.
        i += step * usize::from(us > UPPER_BOUNDS_US[(i + step - 1) & (BUCKETS - 1)]);
        step /= 2;
    }
    i & (BUCKETS - 1)
}

/// Exact upper bound of a bucket in seconds; infinite for the last.
#[must_use]
pub fn upper_bound_seconds(bucket: usize) -> f64 {
    if bucket >= BUCKETS - 1 {
        return f64::INFINITY;
    }
    // no_std has no powf: 2^(k/4) is a power of two times one of four constants.
    const QUARTERS: [f64; 4] = [1.0, 1.189_207_115_002_721, core::f64::consts::SQRT_2, 1.681_792_830_507_429];
    let k = LOWEST_INDEX + bucket as i32;
    let octave = k.div_euclid(4);
    let scale =
        if octave >= 0 { (1u64 << octave) as f64 } else { 1.0 / (1u64 << octave.unsigned_abs()) as f64 };
    QUARTERS[k.rem_euclid(4) as usize] * scale
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn integer_bounds_are_the_floors_of_the_exact_ones() {
        for (i, &bound) in UPPER_BOUNDS_US.iter().enumerate().take(BUCKETS - 1) {
            let exact = 2f64.powf(f64::from(LOWEST_INDEX + i as i32) / 4.0);
            assert!((exact / upper_bound_seconds(i) - 1.0).abs() < 1e-12, "bucket {i}");
            assert_eq!(bound, (exact * 1e6 + 1e-6).floor() as u32, "bucket {i}");
        }
    }

    #[test]
    fn every_sample_lies_under_its_bound_and_over_the_one_before() {
        for us in (0..200_000).chain([999_999, 1_000_000, 1_000_001, 2_828_427, 2_828_428, u32::MAX]) {
            let i = bucket_of(us);
            assert!(us <= UPPER_BOUNDS_US[i], "{us}");
            assert!(i == 0 || us > UPPER_BOUNDS_US[i - 1], "{us}");
        }
    }

    #[test]
    fn near_samples_have_a_place_and_others_are_refused() {
        for first in 0..BUCKETS as u32 {
            let mut near = NearHistogram::default();
            assert!(near.add(first, true));
            assert!(near.first + NEAR as u32 <= BUCKETS as u32);
            for bucket in 0..BUCKETS as u32 {
                let has_place = (near.first..near.first + NEAR as u32).contains(&bucket);
                assert_eq!(near.clone().add(bucket, false), has_place, "{first} {bucket}");
            }
        }
        let mut near = NearHistogram { first: 3, counts: [u16::MAX; NEAR] };
        assert!(!near.add(5, false));
        assert_eq!(near.spread()[3..19], [u32::from(u16::MAX); NEAR]);
        assert_eq!(NearHistogram { first: u32::MAX, ..near }.spread(), [0; BUCKETS]);
    }

    #[test]
    fn twenty_milliseconds_fall_into_the_bucket_that_ends_at_22() {
        assert_eq!(UPPER_BOUNDS_US[bucket_of(20_000)], 22_097);
    }
}
