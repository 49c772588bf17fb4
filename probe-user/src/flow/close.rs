//! How a connection ended, from its last state, the socket's error and whose FIN came first.
//!
//! The kernel sets `sk_err` under the socket's lock before the transition to CLOSE (tcp_reset, tcp_write_err,
//! tcp_v4_err, tcp_abort; Linux 6.1 to 6.18), so the error at that transition is this end's own and no hook on resets
//! is needed to know it.

use probe_common::{
    record::{FlowRecord, flag},
    tcp::state,
};

use super::CloseReason;

/// The reason, for a record of kind CLOSED.
#[must_use]
pub fn close_reason(record: &FlowRecord) -> CloseReason {
    let errno = i32::try_from(record.error).unwrap_or(i32::MAX);
    if record.flags & flag::ESTABLISHED == 0 {
        return match errno {
            libc::ECONNREFUSED => CloseReason::ConnectRefused,
            libc::ETIMEDOUT => CloseReason::ConnectTimeout,
            libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN | libc::ENOPROTOOPT => {
                CloseReason::ConnectUnreachable
            }
            libc::ECONNRESET | libc::EPIPE => CloseReason::ConnectReset,
            0 | libc::ECONNABORTED => CloseReason::Aborted,
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
        libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH => return CloseReason::Timeout,
        libc::ECONNABORTED => return CloseReason::Aborted,
        _ => return CloseReason::Other,
    }
    match record.state {
        // Out of these a socket goes to CLOSE only by our reset: unread data at close(), SO_LINGER 0, data after close().
        state::ESTABLISHED | state::SYN_RECV | state::CLOSE_WAIT | state::FIN_WAIT1 => CloseReason::ResetSent,
        _ if record.flags & flag::FIN_LOCAL != 0 => CloseReason::FinLocal,
        _ if record.flags & flag::FIN_REMOTE != 0 => CloseReason::FinRemote,
        // An adopted connection tells by the state it was in.
        state::FIN_WAIT2 | state::CLOSING => CloseReason::FinLocal,
        state::LAST_ACK => CloseReason::FinRemote,
        _ => CloseReason::Other,
    }
}

impl CloseReason {
    /// Whether the connection never came to be.
    #[must_use]
    pub fn is_connect_failure(record: &FlowRecord) -> bool {
        record.flags & flag::ESTABLISHED == 0
    }

    /// The name in JSON and in the label `reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FinLocal => "fin_local",
            Self::FinRemote => "fin_remote",
            Self::ResetSent => "reset_sent",
            Self::ResetReceived => "reset_received",
            Self::Timeout => "timeout",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectUnreachable => "connect_unreachable",
            Self::ConnectReset => "connect_reset",
            Self::Aborted => "aborted",
            Self::Other => "other",
        }
    }
}
