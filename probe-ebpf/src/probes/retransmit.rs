//! Which segments were sent again, and why? RETRANS_CB and RTO_CB: only when it happens.
//!
//! RETRANS_CB comes at the end of __tcp_retransmit_skb with the number of segments just added to `total_retrans`, also
//! when the send failed, so the causes add up to the kernel's counter.

use probe_common::{
    record::flag,
    tcp::{Cause, ca_state, cause_of},
};

use super::{episode, stall};
use crate::{kernel::TcpSock, state::FlowState};

/// `segments` were sent again; `error` is the result of the send, 0 or a negative errno.
#[inline(always)]
pub(super) fn segments(tp: TcpSock, flow: &mut FlowState, segments: u32, error: u32) {
    let (state, ca_state, pending) = (tp.state(), tp.ca_state(), tp.pending_timer());
    if ca_state != ca_state::LOSS {
        flow.flags &= !flag::LOSS_BY_TIMER;
    } else if pending == 0 {
        // A closed window's timer, which has no RTO_CB: tcp_write_timer_handler clears it before its work, and other ways into Loss
        // leave one armed.
        flow.flags |= flag::LOSS_BY_TIMER;
    }
    let Some(trouble) = flow.in_trouble(tp.as_ptr()) else { return };
    let counter = match cause_of(state, ca_state, pending, flow.flags & flag::LOSS_BY_TIMER != 0) {
        Cause::Fast => &mut trouble.retrans_fast,
        Cause::Rto => &mut trouble.retrans_rto,
        Cause::Tlp => &mut trouble.retrans_tlp,
        Cause::Syn => &mut trouble.retrans_syn,
        Cause::Synack => &mut trouble.retrans_synack,
        Cause::Other => &mut trouble.retrans_other,
    };
    *counter = counter.wrapping_add(segments);
    if error != 0 {
        trouble.retrans_failed_segs = trouble.retrans_failed_segs.wrapping_add(segments);
    }
    if flow.flags & flag::ESTABLISHED != 0 {
        episode::heal(tp, trouble, ca_state);
        stall::suspect(tp, flow, trouble, false);
    }
}

/// The retransmission timer fired: the kernel enters Loss next (tcp_retransmit_timer), and sends later what it cannot send now.
#[inline(always)]
pub(super) fn timeout(tp: TcpSock, flow: &mut FlowState) {
    flow.flags |= flag::LOSS_BY_TIMER;
    let Some(trouble) = flow.in_trouble(tp.as_ptr()) else { return };
    trouble.rto_count = trouble.rto_count.wrapping_add(1);
    stall::suspect(tp, flow, trouble, true);
}
