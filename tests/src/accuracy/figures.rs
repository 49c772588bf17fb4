//! What is kept of a cell's run: one JSON line, written by the program and read by the report.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::matrix::Form;
use crate::kit::Line;

/// One cell's line. Times in microseconds unless the name says otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// The axis; the first name in the line, so that a line is known by its beginning.
    pub axis: String,
    /// The place on the axis. Several cells have the same when only their seeds differ.
    pub cell: String,
    /// Start of everything random.
    pub seed: u64,
    /// How many cells the run had been asked for.
    pub cells: usize,
    /// The form of the run.
    pub form: Form,
    /// The kernel's release.
    pub kernel: String,
    /// The link's round trip.
    pub round_trip_us: u64,
    /// Connections at once.
    pub flows: usize,
    /// Payload bytes of each.
    pub bytes: usize,
    /// Whether segments were only delayed, none lost.
    pub reordering_only: bool,
    /// How often it was measured: again when only times exceeded a bound. The last is kept.
    pub attempts: u32,
    /// How long the cell took, all of them.
    pub seconds: f64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Figures.
    Measured(Box<Figures>),
    /// The kernel lacks something; the text says what.
    Skipped(String),
    /// The run went wrong; the text says how.
    Failed(String),
}

/// The row of the confusion matrix for what timers sent again without need: packets were late, not lost.
pub(super) const NEEDLESS: &str = "none, a timer";

/// The figures of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// Retransmissions as everyone counted them.
    pub segments: Segments,
    /// Losses.
    pub loss: Loss,
    /// True cause → reported cause → segments; empty where several causes mix.
    pub confusion: BTreeMap<String, BTreeMap<String, u64>>,
    /// One for each flow, of the sending end.
    pub per_flow: Vec<FlowFigures>,
}

/// Retransmitted segments of both ends.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Segments {
    /// Seen by the link.
    pub ledger: u64,
    /// The sum of flowprobe's seven causes.
    pub causes: u64,
    /// flowprobe's `retrans_segs`.
    pub retrans_segs: u64,
    /// RetransSegs of both namespaces.
    pub kernel: u64,
    /// TCP_INFO's total_retrans of the sending ends just before close, and the FINs that the link saw again after it.
    pub tcp_info: u64,
    /// flowprobe's `retrans_segs` of the sending ends.
    pub senders: u64,
    /// `retrans_other` and `retrans_unattributed`.
    pub unexplained: u64,
    /// Sum over both ends of the largest difference between the ledger, the causes, `retrans_segs` and RetransSegs, and
    /// over the sending ends of the difference to TCP_INFO. It does not cancel out between ends.
    pub difference: u64,
}

/// Segments lost and needlessly sent again, both ends.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Loss {
    /// SYN, SYN-ACK, data and FIN that did not get through: the link dropped them, or the receiver threw them away.
    pub dropped: u64,
    /// Those of them that arrived, with timestamps so old that the receiver threw them away (PAWS).
    pub refused_needed: u64,
    /// All data segments that arrived so, needed or not, by the ledger.
    pub refused: u64,
    /// TcpExt.PAWSEstab of both namespaces: the same, by the receivers.
    pub refused_by_receivers: u64,
    /// flowprobe's `lost_segs_estimate`.
    pub estimate: u64,
    /// Segments sent again that arrived though all they hold had arrived before.
    pub needless: u64,
    /// Those of them that are SYNs and SYN-ACKs.
    pub needless_handshake: u64,
    /// Those that flowprobe found: `retrans_segs` less `lost_segs_estimate`.
    pub found_needless: u64,
    /// Those of them that the peer reported: `spurious_segs`.
    pub spurious: u64,
}

/// The round trips of one sending end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FlowFigures {
    /// flowprobe's `min_rtt_us`.
    pub min_rtt_us: u64,
    /// The smallest that the ledger holds.
    pub ledger_min_us: f64,
    /// TCP_INFO's just before close.
    pub tcp_info_min_us: Option<u64>,
    /// The median.
    pub median: Quantile,
    /// The 99th of a hundred.
    pub p99: Quantile,
    /// `rtt_samples` of the sending end.
    pub samples: u64,
    /// Round trips of it by the ledger, without the handshake.
    pub round_trips: u64,
    /// As few as there can have been, because a sent segment may wait in the device before the link reads it.
    pub round_trips_least: u64,
    /// `rtt_samples` of the receiving end.
    pub receiver_samples: u64,
    /// Round trips of it by the ledger, without the handshake.
    pub receiver_round_trips: u64,
}

impl FlowFigures {
    /// By how many samples the sending end is outside of what the ledger allows: negative, too few.
    #[must_use]
    pub fn samples_off(&self) -> f64 {
        let within = self.samples.clamp(self.round_trips_least.min(self.round_trips), self.round_trips);
        self.samples as f64 - within as f64
    }
}

/// A quantile (nearest rank), by the ledger and by the histogram.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Quantile {
    /// The ledger's.
    pub true_us: f64,
    /// The bucket of `rtt_histogram` that holds flowprobe's: its upper bound is 2^(bucket/4) seconds.
    pub bucket: i32,
    /// That bucket's number minus the number of the one that holds the true value.
    pub off: i32,
    /// How far that bucket is from the values at the true one's rank and one rank to either side, µs; 0 when it holds one
    /// of them or lies between them.
    pub beyond_us: f64,
}

/// Number of the lowest bucket, which holds everything up to 2^-14 s, and of the highest, which has no upper bound.
const BUCKETS: (i32, i32) = (-56, 7);

/// The bucket that holds a time.
pub(super) fn bucket_of(us: f64) -> i32 {
    let exact = 4.0 * (us / 1e6).log2();
    (exact.ceil() as i32).clamp(BUCKETS.0, BUCKETS.1)
}

/// What the bucket's values are at most.
pub(super) fn upper_bound_us(bucket: i32) -> f64 {
    if bucket >= BUCKETS.1 { f64::INFINITY } else { 2_f64.powf(f64::from(bucket) / 4.0) * 1e6 }
}

/// What the bucket's values are more than.
pub(super) fn lower_bound_us(bucket: i32) -> f64 {
    if bucket <= BUCKETS.0 { 0.0 } else { upper_bound_us(bucket - 1) }
}

/// The place of a quantile among `count` values in order, by nearest rank.
fn rank(count: usize, quantile: f64) -> usize {
    ((count as f64 * quantile).ceil() as usize).clamp(1, count.max(1)) - 1
}

impl Quantile {
    /// Compare a histogram with the true values.
    ///
    /// # Errors
    /// When either is empty.
    pub(super) fn of(quantile: f64, histogram: &[(i32, u64)], true_ns: &[u64]) -> Result<Self> {
        let mut sorted = true_ns.to_vec();
        sorted.sort_unstable();
        let at = rank(sorted.len(), quantile);
        let value_us = |place: usize| sorted.get(place).or(sorted.last()).map(|ns| *ns as f64 / 1e3);
        let true_us = value_us(at).context("the ledger holds no round trip")?;
        let (low_us, high_us) =
            (value_us(at.saturating_sub(1)).unwrap_or(true_us), value_us(at + 1).unwrap_or(true_us));
        let all: u64 = histogram.iter().map(|(_, count)| count).sum();
        let mut left = rank(usize::try_from(all)?, quantile) as u64;
        for (bucket, count) in histogram {
            if left < *count {
                let (from_us, to_us) = (lower_bound_us(*bucket), upper_bound_us(*bucket));
                let beyond_us = (from_us - high_us).max(low_us - to_us).max(0.0);
                return Ok(Self { true_us, bucket: *bucket, off: bucket - bucket_of(true_us), beyond_us });
            }
            left -= count;
        }
        bail!("the histogram is empty")
    }
}

/// `rtt_histogram` by bucket number.
///
/// # Errors
/// When it is no array of [upper bound or null, count].
pub(super) fn histogram(line: &Line) -> Result<Vec<(i32, u64)>> {
    let rows = line.field("rtt_histogram")?.as_array().context("`rtt_histogram` is no array")?;
    rows.iter()
        .map(|row| match row.as_array().map(Vec::as_slice) {
            Some([bound, count]) => {
                let count = count.as_u64().with_context(|| format!("{count} is no count"))?;
                let bucket = match bound {
                    Value::Null => BUCKETS.1,
                    bound => {
                        let us = bound.as_f64().with_context(|| format!("{bound} is no bound"))?;
                        // A bound in whole microseconds is up to one below the exact one.
                        (4.0 * (us / 1e6).log2()).round() as i32
                    }
                };
                Ok((bucket, count))
            }
            _ => bail!("{row} is no [upper bound, count]"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_its_bucket() {
        assert_eq!(bucket_of(20_000.0), -22, "2^(-22/4) s are 22.1 ms");
        assert_eq!(bucket_of(22_097.0), -22);
        assert_eq!(bucket_of(22_098.0), -21);
        assert_eq!(bucket_of(10.0), -56);
        assert_eq!(bucket_of(1e8), 7);
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let true_ns: Vec<u64> = (1..=99).map(|_| 20_000_000).chain([300_000_000]).collect();
        let histogram = [(-22, 99), (-6, 1)];
        let median = Quantile::of(0.5, &histogram, &true_ns).unwrap();
        assert_eq!((median.bucket, median.off), (-22, 0));
        assert_eq!(Quantile::of(1.0, &histogram, &true_ns).unwrap().bucket, -6);
        assert_eq!(Quantile::of(0.99, &histogram, &true_ns).unwrap().bucket, -22);
        let far = Quantile::of(0.5, &[(-20, 3)], &true_ns).unwrap();
        assert_eq!((far.off, far.beyond_us.round()), (2, 6278.0), "from 2^(-21/4) s = 26.278 ms");
        let next = Quantile::of(0.5, &[(-22, 1), (-17, 3)], &[20_000_000, 20_000_000, 50_000_000]).unwrap();
        assert_eq!((next.off, next.beyond_us), (5, 0.0), "the next rank's value is in that bucket");
        assert!(Quantile::of(0.5, &[], &true_ns).is_err());
    }
}
