//! Small judgements that many scenarios make about a flow line.

use std::fmt::Debug;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::kit::Line;

/// Fail unless both are equal; the message names `what` and both.
///
/// # Errors
/// When they differ.
#[expect(clippy::needless_pass_by_value, reason = "callers give literals and fresh values")]
pub fn expect<T: PartialEq<U> + Debug, U: Debug>(what: &str, is: T, should: U) -> Result<()> {
    ensure!(is == should, "{what} is {is:?}, should be {should:?}");
    Ok(())
}

/// The seven causes of a flow, and their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Causes {
    /// `retrans_segs`.
    pub all: u64,
    /// `retrans_fast`.
    pub fast: u64,
    /// `retrans_rto`.
    pub rto: u64,
    /// `retrans_tlp`.
    pub tlp: u64,
    /// `retrans_syn`.
    pub syn: u64,
    /// `retrans_synack`.
    pub synack: u64,
    /// `retrans_other`.
    pub other: u64,
    /// `retrans_unattributed`.
    pub unattributed: u64,
}

/// Read the causes; null is no count here, because each scenario sees the whole life of its connections.
///
/// # Errors
/// When a field is absent or null, or the seven do not sum up to `retrans_segs`.
pub fn causes(line: &Line) -> Result<Causes> {
    let causes = Causes {
        all: line.u64("retrans_segs")?,
        fast: line.u64("retrans_fast")?,
        rto: line.u64("retrans_rto")?,
        tlp: line.u64("retrans_tlp")?,
        syn: line.u64("retrans_syn")?,
        synack: line.u64("retrans_synack")?,
        other: line.u64("retrans_other")?,
        unattributed: line.u64("retrans_unattributed")?,
    };
    let Causes { all, fast, rto, tlp, syn, synack, other, unattributed } = causes;
    expect("the sum of the seven causes", fast + rto + tlp + syn + synack + other + unattributed, all)?;
    Ok(causes)
}

/// Fail unless so many bytes were received; the kernel counts a received FIN as one more.
///
/// # Errors
/// When it is another number.
pub fn expect_received(line: &Line, bytes: u64) -> Result<()> {
    let is = line.u64("bytes_received")?;
    ensure!(
        is == bytes || is == bytes + 1,
        "bytes_received is {is}, should be {bytes}, and one more for a FIN"
    );
    Ok(())
}

/// The inode of the flow's network namespace.
pub(super) fn netns(line: &Line) -> Result<u64> {
    inode_of(line.field("netns")?)
}

/// An inode as printed: a number, or its text.
pub(super) fn inode_of(value: &Value) -> Result<u64> {
    match value {
        Value::String(text) => Ok(text.parse()?),
        value => value.as_u64().with_context(|| format!("`netns` is {value}, no inode")),
    }
}

/// `local_port` as a port.
///
/// # Errors
/// When it is absent or no port.
pub fn local_port(line: &Line) -> Result<u16> {
    Ok(line.u64("local_port")?.try_into()?)
}

/// The upper bound in µs of the histogram's bucket that holds the median, and the bound below it by the scheme (a
/// factor of 2^¼).
///
/// # Errors
/// When the histogram is absent, empty, or does not hold `rtt_samples` samples.
pub fn median_bound(line: &Line) -> Result<(f64, f64)> {
    let histogram = line.histogram()?;
    let all: u64 = histogram.iter().map(|(_, count)| count).sum();
    expect("the histogram's number of samples", all, line.u64("rtt_samples")?)?;
    ensure!(histogram.is_sorted_by(|a, b| a.0 < b.0), "the histogram's bounds do not rise: {histogram:?}");
    ensure!(
        histogram.iter().all(|(_, count)| *count > 0),
        "the histogram has an empty bucket: {histogram:?}"
    );
    let mut left = all.div_ceil(2);
    for (bound, count) in histogram {
        if count >= left {
            return Ok((bound / 2_f64.powf(0.25), bound));
        }
        left -= count;
    }
    bail!("the histogram is empty")
}

/// Whether a record's smallest round trip, µs, is right beside `TCP_INFO`'s: the same, or less than a millisecond from a whole
/// number of them, which the kernel has from echoed timestamps.
#[must_use]
pub fn is_min_rtt(is: Option<u64>, kernel: Option<u64>) -> bool {
    match (is, kernel) {
        (Some(is), Some(kernel)) if kernel % 1000 == 0 => is.abs_diff(kernel) < 1000,
        _ => is == kernel,
    }
}
