//! The sums of one group.

use probe_common::record::FlowRecord;

use super::histogram::{DurationHistogram, RttHistogram};
use crate::flow::CloseReason;

/// How a connection that came to be can end.
pub const CLOSE_REASONS: [CloseReason; 7] = [
    CloseReason::FinLocal,
    CloseReason::FinRemote,
    CloseReason::ResetSent,
    CloseReason::ResetReceived,
    CloseReason::Timeout,
    CloseReason::Aborted,
    CloseReason::Other,
];

/// Why a connection may never come to be.
pub const CONNECT_FAILURES: [CloseReason; 6] = [
    CloseReason::ConnectRefused,
    CloseReason::ConnectTimeout,
    CloseReason::ConnectUnreachable,
    CloseReason::ConnectReset,
    CloseReason::Aborted,
    CloseReason::Other,
];

/// Why a segment was sent again; each has exactly one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum RetransmitCause {
    /// In fast recovery.
    Fast,
    /// After a timeout.
    Rto,
    /// As a tail loss probe.
    Tlp,
    /// A SYN.
    Syn,
    /// A SYN-ACK.
    Synack,
    /// The socket's state did not tell.
    Other,
    /// Nobody looked: before the probe could see causes.
    Unattributed,
}

impl RetransmitCause {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 7] =
        [Self::Fast, Self::Rto, Self::Tlp, Self::Syn, Self::Synack, Self::Other, Self::Unattributed];

    /// Value of the label `cause`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Rto => "rto",
            Self::Tlp => "tlp",
            Self::Syn => "syn",
            Self::Synack => "synack",
            Self::Other => "other",
            Self::Unattributed => "unattributed",
        }
    }
}

/// Counts by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons([u64; CloseReason::Other as usize + 1]);

impl Reasons {
    pub(super) const fn add(&mut self, reason: CloseReason) {
        let count = &mut self.0[reason as usize];
        *count = count.wrapping_add(1);
    }

    /// The count of one reason.
    #[must_use]
    pub const fn get(&self, reason: CloseReason) -> u64 {
        self.0[reason as usize]
    }

    /// The count of all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

/// Sums of all connections of one group since the probe came. Units and sources: [`probe_common::record::Counters`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Connections opened.
    pub opened: u64,
    /// Connections ended.
    pub closed: Reasons,
    /// Connections that never came to be.
    pub connect_failures: Reasons,
    live: i64,
    /// Segments sent.
    pub segs_out: u64,
    /// Segments with payload sent.
    pub data_segs_out: u64,
    /// Segments received.
    pub segs_in: u64,
    retransmitted: [u64; RetransmitCause::ALL.len()],
    /// Segments that the peer reported as received twice.
    pub spurious_segs: u64,
    /// Payload bytes sent again.
    pub retransmitted_bytes: u64,
    /// Retransmission timeouts.
    pub rtos: u64,
    /// Loss episodes.
    pub loss_episodes: u64,
    /// Time in them, µs.
    pub loss_episode_us: u64,
    /// Segments sent again without need.
    pub needless_segs: u64,
    /// Payload bytes sent, with retransmissions.
    pub bytes_sent: u64,
    /// Sequence space acknowledged.
    pub bytes_acked: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Segments acknowledged with a congestion mark.
    pub ce_delivered_segs: u64,
    /// Time with data outstanding, jiffies.
    pub busy_jiffies: u64,
    /// … of this limited by the peer's window.
    pub rwnd_limited_jiffies: u64,
    /// … of this limited by our send buffer.
    pub sndbuf_limited_jiffies: u64,
    /// One sample a round trip.
    pub rtt: RttHistogram,
    /// One sample a connection, when it ends.
    pub min_rtt: RttHistogram,
    /// One sample a connection, when it is first accounted.
    pub handshake_rtt: RttHistogram,
    /// One sample a connection, when it ends.
    pub duration: DurationHistogram,
}

impl Series {
    /// Connections that live. Below 0 for a moment when a connection's end overtakes its opening.
    #[must_use]
    pub const fn live(&self) -> i64 {
        self.live
    }

    /// Segments sent again for a cause.
    #[must_use]
    pub const fn retransmitted(&self, cause: RetransmitCause) -> u64 {
        self.retransmitted[cause as usize]
    }

    pub(super) const fn set_live(&mut self, count: i64) {
        self.live = count;
    }

    pub(super) const fn change_live(&mut self, by: i64) {
        self.live = self.live.saturating_add(by);
    }

    pub(super) const fn add_retransmitted(&mut self, cause: RetransmitCause, segs: u64) {
        let sum = &mut self.retransmitted[cause as usize];
        *sum = sum.wrapping_add(segs);
    }

    /// Adds the record's counters and histogram. False when its causes add up to more than its retransmissions.
    pub(super) fn add_growth(&mut self, record: &FlowRecord, synack_hook: bool) -> bool {
        let c = &record.counters;
        for (sum, more) in [
            (&mut self.segs_out, u64::from(c.segs_out)),
            (&mut self.data_segs_out, u64::from(c.data_segs_out)),
            (&mut self.segs_in, u64::from(c.segs_in)),
            (&mut self.spurious_segs, u64::from(c.spurious_segs)),
            (&mut self.retransmitted_bytes, c.bytes_retrans),
            (&mut self.rtos, u64::from(c.rto_count)),
            (&mut self.loss_episodes, u64::from(c.loss_episodes)),
            (&mut self.loss_episode_us, c.loss_episode_us),
            (&mut self.needless_segs, u64::from(c.needless_segs)),
            (&mut self.bytes_sent, c.bytes_sent),
            (&mut self.bytes_acked, c.bytes_acked),
            (&mut self.bytes_received, c.bytes_received),
            (&mut self.ce_delivered_segs, u64::from(c.ce_delivered_segs)),
            (&mut self.busy_jiffies, u64::from(c.busy_jiffies)),
            (&mut self.rwnd_limited_jiffies, u64::from(c.rwnd_limited_jiffies)),
            (&mut self.sndbuf_limited_jiffies, u64::from(c.sndbuf_limited_jiffies)),
        ] {
            *sum = sum.wrapping_add(more);
        }
        self.rtt.add_counts(&record.rtt_histogram, c.rtt_sum_us);

        let causes = [
            (RetransmitCause::Fast, c.retrans_fast),
            (RetransmitCause::Rto, c.retrans_rto),
            (RetransmitCause::Tlp, c.retrans_tlp),
            (RetransmitCause::Syn, c.retrans_syn),
            (RetransmitCause::Synack, c.retrans_synack),
            (RetransmitCause::Other, c.retrans_other),
        ];
        let attributed: u64 = causes.iter().map(|(_, segs)| u64::from(*segs)).sum();
        for (cause, segs) in causes {
            if cause != RetransmitCause::Synack || !synack_hook {
                self.add_retransmitted(cause, u64::from(segs));
            }
        }
        let unattributed = u64::from(c.retrans_segs).checked_sub(attributed);
        self.add_retransmitted(RetransmitCause::Unattributed, unattributed.unwrap_or(0));
        unattributed.is_some()
    }
}
