//! How a connection ended, from its last state, the socket's error and whose FIN came first.
//!
//! The kernel sets `sk_err` under the socket's lock before the transition to CLOSE (tcp_reset, tcp_write_err,
//! tcp_v4_err, tcp_abort; Linux 6.1 to 6.18), so the error at that transition is this end's own and no hook on resets
//! is needed to know it.

use probe_common::{
    record::{FlowRecord, flag},
    tcp::state,
};

use super::{CloseReason, FirstFin};

/// What the network says of a place that cannot be reached: ICMP and ICMPv6 errors as the kernel translates them
/// (icmp_err_convert, icmpv6_err_convert, tcp_v4_err), a refused port left out.
const UNREACHABLE: [i32; 9] = [
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
    libc::EHOSTDOWN,
    libc::ENETDOWN,
    libc::ENONET,
    libc::ENOPROTOOPT,
    libc::EPROTO,
    libc::EOPNOTSUPP,
    libc::EACCES,
];

/// The reason, for a record of kind CLOSED.
#[must_use]
pub fn close_reason(record: &FlowRecord) -> CloseReason {
    let errno = i32::try_from(record.error).unwrap_or(i32::MAX);
    if record.flags & flag::ESTABLISHED == 0 {
        return match errno {
            libc::ECONNREFUSED => CloseReason::ConnectRefused,
            libc::ETIMEDOUT => CloseReason::ConnectTimeout,
            libc::ECONNRESET | libc::EPIPE => CloseReason::ConnectReset,
            0 | libc::ECONNABORTED => CloseReason::Aborted,
            _ if UNREACHABLE.contains(&errno) => CloseReason::ConnectUnreachable,
            _ => CloseReason::Other,
        };
    }
    if record.flags & (flag::RESET_OURS | flag::WIPED) != 0 {
        return CloseReason::ResetSent;
    }
    match errno {
        0 => {}
        // A reset that arrives after the peer's FIN is reported as EPIPE (tcp_reset).
        libc::ECONNRESET | libc::EPIPE => return CloseReason::ResetReceived,
        libc::ECONNABORTED => return CloseReason::Aborted,
        _ if gave_up(record, errno) => return CloseReason::Timeout,
        _ => return CloseReason::Other,
    }
    match (record.state, first_fin(record)) {
        // Out of these a socket goes to CLOSE only by our reset: unread data at close(), SO_LINGER 0, data after close().
        (state::ESTABLISHED | state::SYN_RECV | state::CLOSE_WAIT | state::FIN_WAIT1, _) => {
            CloseReason::ResetSent
        }
        // An orderly end has everything acknowledged first (tcp_rcv_state_process): memory ran out (tcp_check_oom), or
        // the socket was disconnected.
        (state::CLOSING | state::LAST_ACK, _) if record.unacked_seq > 0 || record.unsent_seq > 0 => {
            CloseReason::ResetSent
        }
        (_, Some(FirstFin::Local)) => CloseReason::FinLocal,
        (_, Some(FirstFin::Remote)) => CloseReason::FinRemote,
        (_, None) => CloseReason::Other,
    }
}

/// Whether the kernel gave up waiting for an answer (tcp_write_err): `sk_err` is then ETIMEDOUT, or what ICMP or the routing
/// said since the last acknowledgement (`sk_err_soft`). On an established connection such a word alone ends nothing, a
/// refused port's no more than the others (RFC 5461). Any other errno is the routing's if the kernel dropped what was
/// outstanding before it closed the socket; else the socket's owner put it there, as kTLS does.
fn gave_up(record: &FlowRecord, errno: i32) -> bool {
    matches!(errno, libc::ETIMEDOUT | libc::ECONNREFUSED)
        || UNREACHABLE.contains(&errno)
        || record.unacked_seq > 0 && record.unacked_segs == 0
}

/// Whose FIN came first, by the states that the connection went through: FIN_WAIT1 follows our FIN and CLOSE_WAIT the
/// peer's, both only from ESTABLISHED or SYN_RECV, so a connection passes one of them at most. One that was adopted later
/// tells by the state that it is in.
#[must_use]
pub fn first_fin(record: &FlowRecord) -> Option<FirstFin> {
    match record.state {
        _ if record.flags & flag::FIN_LOCAL != 0 => Some(FirstFin::Local),
        _ if record.flags & flag::FIN_REMOTE != 0 => Some(FirstFin::Remote),
        state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING => Some(FirstFin::Local),
        state::CLOSE_WAIT | state::LAST_ACK => Some(FirstFin::Remote),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::testing::record,
        flow::CloseReason::{
            ConnectRefused, ConnectUnreachable, FinLocal, FinRemote, Other, ResetReceived, Timeout,
        },
    };
    use probe_common::record::{kind::CLOSED, role::SERVER};

    fn ended(flags: u32, state: u8, errno: i32) -> FlowRecord {
        let mut ended = record(CLOSED, SERVER, flags);
        (ended.state, ended.error) = (state, errno as u32);
        ended
    }

    /// Every word of ICMP and ICMPv6 that can become `sk_err_soft`.
    #[test]
    fn a_connection_that_the_kernel_gave_up_timed_out_whatever_the_network_said() {
        for errno in UNREACHABLE.into_iter().chain([libc::ETIMEDOUT, libc::ECONNREFUSED]) {
            for last in
                [state::ESTABLISHED, state::FIN_WAIT1, state::CLOSE_WAIT, state::LAST_ACK, state::CLOSING]
            {
                assert_eq!(close_reason(&ended(flag::ESTABLISHED, last, errno)), Timeout, "{errno} {last}");
            }
        }
        for errno in UNREACHABLE {
            assert_eq!(close_reason(&ended(0, state::SYN_SENT, errno)), ConnectUnreachable, "{errno}");
        }
        assert_eq!(close_reason(&ended(0, state::SYN_SENT, libc::ECONNREFUSED)), ConnectRefused);
    }

    #[test]
    fn an_errno_of_the_routing_is_told_from_one_of_the_owner() {
        let mut end = ended(flag::ESTABLISHED, state::ESTABLISHED, libc::EINVAL);
        (end.unacked_seq, end.unacked_segs) = (1_448, 0);
        assert_eq!(close_reason(&end), Timeout, "a blackhole route: tcp_write_err purged the queue");
        end.unacked_segs = 1;
        assert_eq!(close_reason(&end), Other, "kTLS: the queue stands until the socket is closed");
        let reset = ended(flag::ESTABLISHED | flag::FIN_REMOTE, state::LAST_ACK, libc::EPIPE);
        assert_eq!(close_reason(&reset), ResetReceived);
    }

    #[test]
    fn an_end_with_something_outstanding_is_not_in_order() {
        for (fin, last) in [(flag::FIN_LOCAL, state::CLOSING), (flag::FIN_REMOTE, state::LAST_ACK)] {
            let mut end = ended(flag::ESTABLISHED | fin, last, 0);
            end.unacked_seq = 1;
            assert_eq!(close_reason(&end), CloseReason::ResetSent);
            (end.unacked_seq, end.unsent_seq) = (0, 5);
            assert_eq!(close_reason(&end), CloseReason::ResetSent);
        }
    }

    #[test]
    fn one_fin_is_the_first() {
        for (flags, state, first, reason) in [
            (flag::FIN_LOCAL, state::FIN_WAIT2, Some(FirstFin::Local), FinLocal),
            (flag::FIN_LOCAL, state::CLOSING, Some(FirstFin::Local), FinLocal),
            (flag::FIN_REMOTE, state::LAST_ACK, Some(FirstFin::Remote), FinRemote),
            // Adopted, in the state that it ends in.
            (0, state::FIN_WAIT2, Some(FirstFin::Local), FinLocal),
            (0, state::LAST_ACK, Some(FirstFin::Remote), FinRemote),
            (0, state::CLOSE, None, Other),
            (0, state::ESTABLISHED, None, CloseReason::ResetSent),
            (flag::FIN_REMOTE, state::CLOSE_WAIT, Some(FirstFin::Remote), CloseReason::ResetSent),
        ] {
            let end = ended(flag::ESTABLISHED | flags, state, 0);
            assert_eq!((first_fin(&end), close_reason(&end)), (first, reason), "{flags} {state}");
        }
    }
}
