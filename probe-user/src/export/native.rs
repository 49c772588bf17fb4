//! Native histograms: the same counts as the classic buckets, in Prometheus' exponential schemas.
//!
//! Nothing is binned again. Round trips are kept in the buckets of schema 2 (bounds 2^(k/4) s), durations in those of
//! schema 0 (2^k s). The lowest bucket, which holds everything up to its bound, is the zero bucket of that threshold. The
//! one above all bounds is the schema's overflow bucket: of its samples only the lower bound is known, so a quantile that
//! falls there is +Inf, where the classic buckets give their highest bound.

use probe_common::histogram::{BUCKETS, LOWEST_INDEX, SCHEMA, upper_bound_seconds};

use super::families::Read;
use crate::aggregate::{DURATION_EXPONENTS, DurationHistogram, RttHistogram, Series};

/// Empty buckets that are sent between two others rather than begin a new span, which takes more bytes.
const GAP: usize = 2;

/// Octaves up to the largest finite double: 2^1024 is the bound of the last regular bucket in every schema.
const OCTAVES: i32 = 1024;

/// The fields of a native histogram in io.prometheus.client.Histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// Every power of two is divided into 2^schema buckets.
    pub schema: i32,
    /// Samples up to this, in seconds, are in the zero bucket.
    pub zero_threshold: f64,
    /// … and this is their number.
    pub zero_count: u64,
    /// Runs of buckets: the first begins at its offset, another so many buckets after the end of the one before.
    pub spans: Vec<(i32, u32)>,
    /// Counts of the buckets in all spans, each less the one before it.
    pub deltas: Vec<i64>,
}

/// A group's histogram in a family; `None` if it has none.
pub(super) fn of(read: Read, series: &Series) -> Option<Native> {
    match read {
        Read::Rtt(histogram) => Some(rtt(histogram(series))),
        Read::Duration(histogram) => Some(duration(histogram(series))),
        _ => None,
    }
}

/// Round trips.
#[must_use]
pub fn rtt(histogram: &RttHistogram) -> Native {
    let zero_threshold = upper_bound_seconds(0);
    native(SCHEMA, zero_threshold, LOWEST_INDEX, &histogram.counts)
}

/// Durations of connections.
#[must_use]
pub fn duration(histogram: &DurationHistogram) -> Native {
    let lowest = *DURATION_EXPONENTS.start();
    native(0, 2f64.powi(lowest), lowest, &histogram.counts)
}

/// `counts` are those of the zero bucket, of the buckets after that whose upper bound has the index `lowest`, and of
/// what is above them all.
fn native(schema: i32, zero_threshold: f64, lowest: i32, counts: &[u64]) -> Native {
    let mut out = Native {
        schema,
        zero_threshold,
        zero_count: counts.first().copied().unwrap_or_default(),
        spans: Vec::new(),
        deltas: Vec::new(),
    };
    let overflow = (OCTAVES << schema) + 1;
    let mut before = 0;
    // The index that would continue the last span, and the bucket that has it.
    let (mut next, mut next_bucket) = (0, 0);
    let mut push = |out: &mut Native, count: u64| {
        out.deltas.push(count.wrapping_sub(before).cast_signed());
        before = count;
    };
    let filled = counts.iter().enumerate().skip(1).filter(|(_, count)| **count != 0);
    for (bucket, &count) in filled {
        let is_last = bucket + 1 == counts.len();
        // At most 64 buckets, so the index is a small number.
        let index = if is_last { overflow } else { lowest + i32::try_from(bucket).unwrap_or(i32::MAX) };
        match out.spans.last_mut() {
            Some((_, length)) if !is_last && bucket - next_bucket <= GAP => {
                *length += u32::try_from(bucket - next_bucket).unwrap_or_default() + 1;
                for _ in next_bucket..bucket {
                    push(&mut out, 0);
                }
            }
            _ => out.spans.push((index - next, 1)),
        }
        push(&mut out, count);
        (next, next_bucket) = (index + 1, bucket + 1);
    }
    out
}

const _: () = assert!(BUCKETS == 64 && LOWEST_INDEX == -56, "the tests below know these numbers");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::aggregate::DURATION_BUCKETS;

    /// Index and count of each bucket, read as Prometheus reads spans and deltas.
    fn read(native: &Native) -> Vec<(i32, u64)> {
        let mut deltas = native.deltas.iter();
        let (mut out, mut index, mut count) = (Vec::new(), 0, 0i64);
        for &(offset, length) in &native.spans {
            index += offset;
            for _ in 0..length {
                count += deltas.next().expect("fewer deltas than the spans are long");
                out.push((index, count.cast_unsigned()));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None, "more deltas than the spans are long");
        out.into_iter().filter(|(_, count)| *count != 0).collect()
    }

    fn rtts(counts: &[(usize, u64)]) -> RttHistogram {
        let mut out = RttHistogram::default();
        for (bucket, count) in counts {
            out.counts[*bucket] = *count;
        }
        out
    }

    #[test]
    fn an_empty_histogram_is_native_by_its_threshold() {
        let empty = rtt(&RttHistogram::default());
        assert_eq!((empty.zero_threshold, empty.zero_count), (2f64.powi(-14), 0));
        assert_eq!((empty.spans, empty.deltas), (Vec::new(), Vec::new()));
    }

    #[test]
    fn small_gaps_are_filled_and_large_ones_begin_a_span() {
        let native = rtt(&rtts(&[(0, 9), (1, 5), (4, 7), (8, 7), (62, 1)]));
        assert_eq!(native.zero_count, 9);
        assert_eq!(native.spans, [(-55, 4), (3, 1), (53, 1)]);
        assert_eq!(native.deltas, [5, -5, 0, 7, 0, -6]);
    }

    #[test]
    fn what_is_above_all_bounds_is_in_the_overflow_bucket() {
        // Bucket 62 ends at 2^1.5 s, which is index 6; the largest double is in the one with index 4096.
        assert_eq!(read(&rtt(&rtts(&[(62, 2), (63, 3)]))), [(6, 2), (4097, 3)]);
        let mut long = DurationHistogram::default();
        long.counts[DURATION_BUCKETS - 1] = 4;
        assert_eq!(read(&duration(&long)), [(1025, 4)]);
    }

    #[test]
    fn an_index_means_the_bound_that_the_bucket_has() {
        for bucket in 1..BUCKETS - 1 {
            let native = rtt(&rtts(&[(bucket, 1)]));
            let [(index, 1)] = read(&native)[..] else { panic!("{native:?}") };
            let bound = 2f64.powf(f64::from(index) / 2f64.powi(native.schema));
            assert!((bound / upper_bound_seconds(bucket) - 1.0).abs() < 1e-12, "{bucket}");
        }
        for (bucket, exponent) in DURATION_EXPONENTS.enumerate().skip(1) {
            let mut one = DurationHistogram::default();
            one.counts[bucket] = 1;
            assert_eq!(read(&duration(&one)), [(exponent, 1)]);
        }
    }

    proptest! {
        #[test]
        fn all_counts_are_there(counts in prop::collection::vec(prop_oneof![Just(0u64), 0..u64::MAX >> 8], BUCKETS)) {
            let mut histogram = RttHistogram::default();
            histogram.counts.copy_from_slice(&counts);
            let native = rtt(&histogram);
            prop_assert_eq!(native.zero_count, counts[0]);
            let filled: Vec<u64> = counts[1..].iter().copied().filter(|count| *count != 0).collect();
            prop_assert_eq!(read(&native).into_iter().map(|(_, count)| count).collect::<Vec<_>>(), filled);
        }
    }
}
