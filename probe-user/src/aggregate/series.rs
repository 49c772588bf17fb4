//! The sums of one group.

use probe_common::{
    record::FlowRecord,
    tcp::{Cause, StallCause},
};

use super::histogram::{DurationHistogram, RttHistogram};
use crate::flow::{
    CloseReason,
    from_record::{unacked_bytes, unsent_bytes},
};

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

/// Counts by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons([u64; CloseReason::ALL.len()]);

impl Reasons {
    pub(super) const fn add(&mut self, reason: CloseReason, more: u64) {
        let count = &mut self.0[reason as usize];
        *count = count.wrapping_add(more);
    }

    /// The count of one reason.
    #[must_use]
    pub const fn get(&self, reason: CloseReason) -> u64 {
        self.0[reason as usize]
    }

    fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| add(sum, more));
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
    /// Connections that ended and left bytes unsent or unacknowledged.
    pub closed_incomplete: Reasons,
    /// Bytes that the applications of connections that ended wrote and the kernel never sent.
    pub closed_unsent_bytes: Reasons,
    /// Bytes that connections that ended sent and the peers never acknowledged.
    pub closed_unacked_bytes: Reasons,
    /// Connections that never came to be.
    pub connect_failures: Reasons,
    live: i64,
    /// Segments sent.
    pub segs_out: u64,
    /// Segments with payload sent.
    pub data_segs_out: u64,
    /// Segments received.
    pub segs_in: u64,
    retransmitted: [u64; Cause::ALL.len()],
    /// Segments sent again before the probe could see causes.
    pub unattributed: u64,
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
    /// … of these taken back by the kernel.
    pub undone_episodes: u64,
    /// Segments sent again without need.
    pub needless_segs: u64,
    stalls: [u64; StallCause::ALL.len()],
    stall_us: [u64; StallCause::ALL.len()],
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
    pub const fn retransmitted(&self, cause: Cause) -> u64 {
        self.retransmitted[cause as usize]
    }

    /// Stalls of a cause.
    #[must_use]
    pub const fn stalls(&self, cause: StallCause) -> u64 {
        self.stalls[cause as usize]
    }

    /// Time in stalls of a cause, µs.
    #[must_use]
    pub const fn stall_us(&self, cause: StallCause) -> u64 {
        self.stall_us[cause as usize]
    }

    /// Adds all of another.
    pub(super) fn merge(&mut self, other: &Self) {
        // A field that is added later is missed by the compiler here, not by a reader of the sums.
        let Self {
            opened,
            closed,
            closed_incomplete,
            closed_unsent_bytes,
            closed_unacked_bytes,
            connect_failures,
            live,
            segs_out,
            data_segs_out,
            segs_in,
            retransmitted,
            unattributed,
            spurious_segs,
            retransmitted_bytes,
            rtos,
            loss_episodes,
            loss_episode_us,
            undone_episodes,
            needless_segs,
            stalls,
            stall_us,
            bytes_sent,
            bytes_acked,
            bytes_received,
            ce_delivered_segs,
            busy_jiffies,
            rwnd_limited_jiffies,
            sndbuf_limited_jiffies,
            rtt,
            min_rtt,
            handshake_rtt,
            duration,
        } = other;
        self.change_live(*live);
        for (sum, more) in [
            (&mut self.closed, closed),
            (&mut self.closed_incomplete, closed_incomplete),
            (&mut self.closed_unsent_bytes, closed_unsent_bytes),
            (&mut self.closed_unacked_bytes, closed_unacked_bytes),
            (&mut self.connect_failures, connect_failures),
        ] {
            sum.merge(more);
        }
        for (sum, more) in [
            (&mut self.opened, opened),
            (&mut self.segs_out, segs_out),
            (&mut self.data_segs_out, data_segs_out),
            (&mut self.segs_in, segs_in),
            (&mut self.unattributed, unattributed),
            (&mut self.spurious_segs, spurious_segs),
            (&mut self.retransmitted_bytes, retransmitted_bytes),
            (&mut self.rtos, rtos),
            (&mut self.loss_episodes, loss_episodes),
            (&mut self.loss_episode_us, loss_episode_us),
            (&mut self.undone_episodes, undone_episodes),
            (&mut self.needless_segs, needless_segs),
            (&mut self.bytes_sent, bytes_sent),
            (&mut self.bytes_acked, bytes_acked),
            (&mut self.bytes_received, bytes_received),
            (&mut self.ce_delivered_segs, ce_delivered_segs),
            (&mut self.busy_jiffies, busy_jiffies),
            (&mut self.rwnd_limited_jiffies, rwnd_limited_jiffies),
            (&mut self.sndbuf_limited_jiffies, sndbuf_limited_jiffies),
        ] {
            add(sum, *more);
        }
        let by_cause = self.retransmitted.iter_mut().zip(retransmitted);
        let by_stall = self.stalls.iter_mut().zip(stalls).chain(self.stall_us.iter_mut().zip(stall_us));
        by_cause.chain(by_stall).for_each(|(sum, more)| add(sum, *more));
        for (sum, more) in
            [(&mut self.rtt, rtt), (&mut self.min_rtt, min_rtt), (&mut self.handshake_rtt, handshake_rtt)]
        {
            sum.merge(more);
        }
        self.duration.merge(duration);
    }

    pub(super) const fn set_live(&mut self, count: i64) {
        self.live = count;
    }

    pub(super) const fn change_live(&mut self, by: i64) {
        self.live = self.live.saturating_add(by);
    }

    pub(super) const fn add_retransmitted(&mut self, cause: Cause, segs: u64) {
        add(&mut self.retransmitted[cause as usize], segs);
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
            (&mut self.undone_episodes, u64::from(c.undone_episodes)),
            (&mut self.needless_segs, u64::from(c.needless_segs)),
            (&mut self.bytes_sent, c.bytes_sent),
            (&mut self.bytes_acked, c.bytes_acked),
            (&mut self.bytes_received, c.bytes_received),
            (&mut self.ce_delivered_segs, u64::from(c.ce_delivered_segs)),
            (&mut self.busy_jiffies, u64::from(c.busy_jiffies)),
            (&mut self.rwnd_limited_jiffies, u64::from(c.rwnd_limited_jiffies)),
            (&mut self.sndbuf_limited_jiffies, u64::from(c.sndbuf_limited_jiffies)),
        ] {
            add(sum, more);
        }
        self.rtt.add_counts(&record.rtt_histogram, c.rtt_sum_us);

        for (cause, count, us) in [
            (StallCause::Rto, c.stalls_rto, c.stall_rto_us),
            (StallCause::ZeroWindow, c.stalls_zero_window, c.stall_zero_window_us),
            (StallCause::Other, c.stalls_other, c.stall_other_us),
        ] {
            add(&mut self.stalls[cause as usize], count.into());
            add(&mut self.stall_us[cause as usize], us);
        }

        let causes = [
            (Cause::Fast, c.retrans_fast),
            (Cause::Rto, c.retrans_rto),
            (Cause::Tlp, c.retrans_tlp),
            (Cause::Syn, c.retrans_syn),
            (Cause::Synack, c.retrans_synack),
            (Cause::Other, c.retrans_other),
        ];
        let attributed: u64 = causes.iter().map(|(_, segs)| u64::from(*segs)).sum();
        for (cause, segs) in causes {
            if cause != Cause::Synack || !synack_hook {
                self.add_retransmitted(cause, u64::from(segs));
            }
        }
        let unattributed = u64::from(c.retrans_segs).checked_sub(attributed);
        add(&mut self.unattributed, unattributed.unwrap_or(0));
        unattributed.is_some()
    }

    /// Adds a connection that had come to be and ended. What its socket no longer told is left out.
    pub(super) fn add_close(&mut self, record: &FlowRecord, reason: CloseReason) {
        self.closed.add(reason, 1);
        let (Some(unsent), Some(unacked)) = (unsent_bytes(record), unacked_bytes(record)) else { return };
        self.closed_unsent_bytes.add(reason, unsent.into());
        self.closed_unacked_bytes.add(reason, unacked.into());
        self.closed_incomplete.add(reason, u64::from(unsent > 0 || unacked > 0));
    }
}

const fn add(sum: &mut u64, more: u64) {
    *sum = sum.wrapping_add(more);
}
