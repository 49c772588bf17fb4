//! TCP's states and what the kernel's socket says about a retransmission, as the kernel numbers them.

/// States of `sk->sk_state` (include/net/tcp_states.h; the numbers are UAPI, also seen in `TCP_INFO`).
pub mod state {
    /// The connection carries data.
    pub const ESTABLISHED: u8 = 1;
    /// Our SYN is out.
    pub const SYN_SENT: u8 = 2;
    /// Our SYN-ACK is out (Fast Open child, or simultaneous open).
    pub const SYN_RECV: u8 = 3;
    /// Our FIN is out, not acknowledged.
    pub const FIN_WAIT1: u8 = 4;
    /// Our FIN is acknowledged, the peer's has not come.
    pub const FIN_WAIT2: u8 = 5;
    /// Only the remains of a closed connection.
    pub const TIME_WAIT: u8 = 6;
    /// No connection.
    pub const CLOSE: u8 = 7;
    /// The peer's FIN came first; ours is not out.
    pub const CLOSE_WAIT: u8 = 8;
    /// The peer's FIN came first; ours is out.
    pub const LAST_ACK: u8 = 9;
    /// Waits for connections.
    pub const LISTEN: u8 = 10;
    /// Both FINs are out and neither is acknowledged.
    pub const CLOSING: u8 = 11;
    /// A request on a listener, not yet a socket.
    pub const NEW_SYN_RECV: u8 = 12;
}

/// Congestion states of `icsk_ca_state` (enum tcp_ca_state, UAPI).
pub mod ca_state {
    /// Fast recovery: duplicate ACKs or RACK found a loss.
    pub const RECOVERY: u8 = 3;
    /// A retransmission timeout found a loss.
    pub const LOSS: u8 = 4;
}

/// Tick of the echoed timestamps, µs (TCP_TS_HZ; a route with `tcp_usec_ts`, Linux 6.7, is finer).
///
/// Where retransmitted data is acknowledged, or only what was SACKed before, the kernel measures by the echoed timestamp
/// (tcp_ack_update_rtt): the difference of two clocks that were both rounded down, less than a tick too low or too high.
/// Every other sample is in µs, and a multiple of the tick only by chance, one time in a thousand.
pub const ECHO_TICK_US: u32 = 1000;

/// Whether a round trip was timed in µs, and not by the echoed timestamp.
#[must_use]
#[inline(always)]
pub const fn is_timed_in_us(rtt_us: u32) -> bool {
    !rtt_us.is_multiple_of(ECHO_TICK_US)
}

/// `icsk_pending` while a tail loss probe is being sent (ICSK_TIME_LOSS_PROBE, include/net/inet_connection_sock.h).
pub const TIMER_LOSS_PROBE: u8 = 5;

/// Why a segment was sent again. Each retransmitted segment has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// In fast recovery (duplicate ACKs, SACK, RACK).
    Fast,
    /// After a retransmission timeout.
    Rto,
    /// As a tail loss probe.
    Tlp,
    /// A SYN of ours, or the SYN-ACK of a simultaneous open.
    Syn,
    /// A SYN-ACK of a connection that a client opened.
    Synack,
    /// For a reason that the socket's state does not tell.
    Other,
}

impl Cause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Fast, Self::Rto, Self::Tlp, Self::Syn, Self::Synack, Self::Other];

    /// What stands in the place of a cause where nobody looked: before the probe could see causes.
    pub const UNATTRIBUTED: &str = "unattributed";

    /// Its name in fields and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Rto => "rto",
            Self::Tlp => "tlp",
            Self::Syn => "syn",
            Self::Synack => "synack",
            Self::Other => "other",
        }
    }
}

/// Why a connection with data outstanding stood still. Each stall has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallCause {
    /// A retransmission timeout fired in it.
    Rto,
    /// The peer's window was closed.
    ZeroWindow,
    /// Neither.
    Other,
}

impl StallCause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Rto, Self::ZeroWindow, Self::Other];

    /// Its name in fields and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rto => "rto",
            Self::ZeroWindow => "zero_window",
            Self::Other => "other",
        }
    }
}

/// The cause of a retransmission, from the socket's state at that moment.
///
/// `pending` is `icsk_pending`; `loss_by_timer` says that the Loss state was entered by the retransmission timer. The order
/// matters: an ACK that starts a recovery finds the probe timer still armed, so the congestion state is asked first; a SYN
/// that timed out has entered the Loss state, so the TCP state is asked before that. The kernel borrows the Loss state to send
/// again what was refused for its size or with a Fast Open SYN (tcp_non_congestion_loss_retransmit); that is `Other`. What it
/// sends outside both states without a probe is the rest of a recovery that was taken back, which it counts as
/// TCPFastRetrans itself (tcp_xmit_retransmit_queue). Read in tcp_retransmit_timer, tcp_send_loss_probe and
/// tcp_xmit_recovery, Linux 6.1 to 6.12.
#[inline(always)]
#[must_use]
pub const fn cause_of(state: u8, ca_state: u8, pending: u8, loss_by_timer: bool) -> Cause {
    if state == state::SYN_SENT || state == state::SYN_RECV {
        Cause::Syn
    } else if ca_state == ca_state::LOSS {
        if loss_by_timer { Cause::Rto } else { Cause::Other }
    } else if ca_state != ca_state::RECOVERY && pending == TIMER_LOSS_PROBE {
        Cause::Tlp
    } else {
        Cause::Fast
    }
}

/// Segments sent again without need, of which the peer's reports and our own evidence say `said` (tcp_sock.dsack_dups): no more than
/// were sent again, and nothing that was handed out is taken back.
///
/// The kernel adds a report up before it doubts it (tcp_dsack_seen): it may be of a copy that the network made, or made up, of a window's
/// length at a time, and enough of these wrap the kernel's counter.
#[inline(always)]
#[must_use]
pub const fn believed(said: u32, sent_again: u32, handed_out: u32) -> u32 {
    let segs = if said < sent_again { said } else { sent_again };
    if segs.wrapping_sub(handed_out).cast_signed() < 0 { handed_out } else { segs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices() {
        for (index, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
            assert_ne!(cause.as_str(), Cause::UNATTRIBUTED);
        }
        for (index, cause) in StallCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }

    #[test]
    fn a_recovery_outranks_the_armed_probe_timer() {
        assert_eq!(cause_of(state::ESTABLISHED, ca_state::RECOVERY, TIMER_LOSS_PROBE, false), Cause::Fast);
        assert_eq!(cause_of(state::ESTABLISHED, 0, TIMER_LOSS_PROBE, false), Cause::Tlp);
        assert_eq!(cause_of(state::ESTABLISHED, 0, 1, false), Cause::Fast);
    }

    #[test]
    fn a_syn_that_timed_out_is_a_syn() {
        assert_eq!(cause_of(state::SYN_SENT, ca_state::LOSS, 0, true), Cause::Syn);
        assert_eq!(cause_of(state::FIN_WAIT1, ca_state::LOSS, 0, true), Cause::Rto);
    }

    #[test]
    fn reports_that_are_made_up_never_exceed_what_was_sent_again() {
        let (mut said, mut handed_out) = (0_u32, 0);
        for step in 0..20_000_u32 {
            // Some 740,000 a report, as of a window of 1 GiB; now and then a segment is sent again.
            said = said.wrapping_add(740_000);
            let sent_again = step / 100;
            let believed = believed(said, sent_again, handed_out);
            assert!(believed >= handed_out && believed <= sent_again, "{step}: {believed}");
            handed_out = believed;
        }
        assert_eq!(believed(3, 5, 1), 3);
        assert_eq!(believed(7, 5, 1), 5);
        assert_eq!(believed(0, 5, 4), 4, "the kernel's counter went over");
    }

    #[test]
    fn a_borrowed_loss_state_is_no_timeout() {
        assert_eq!(cause_of(state::ESTABLISHED, ca_state::LOSS, 1, false), Cause::Other);
    }
}
