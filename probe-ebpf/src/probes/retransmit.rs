//! Which segments were sent again, and why? RETRANS_CB and RTO_CB: only when it happens.
//!
//! RETRANS_CB comes at the end of __tcp_retransmit_skb with the number of segments just added to `total_retrans`, also
//! when the send failed, so the causes add up to the kernel's counter.

use probe_common::{
    record::flag,
    tcp::{Cause, ca_state, cause_of},
};

use super::episode;
use crate::{kernel::TcpSock, state::FlowState};

/// `segments` were sent again; `error` is the result of the send, 0 or a negative errno.
#[inline(always)]
pub(super) fn segments(tp: TcpSock, flow: &mut FlowState, segments: u32, error: u32) {
    let (state, ca_state, pending) = (tp.state(), tp.ca_state(), tp.pending_timer());
    if ca_state != ca_state::LOSS {
        flow.flags &= !flag::LOSS_BY_TIMER;
    } else if pending == 0 {
        // tcp_write_timer_handler clears it before the retransmission timer's work; other ways into Loss leave one armed.
        flow.flags |= flag::LOSS_BY_TIMER;
    }
    let counter = match cause_of(state, ca_state, pending, flow.flags & flag::LOSS_BY_TIMER != 0) {
        Cause::Fast => &mut flow.retrans_fast,
        Cause::Rto => &mut flow.retrans_rto,
        Cause::Tlp => &mut flow.retrans_tlp,
        Cause::Syn => &mut flow.retrans_syn,
        Cause::Synack => &mut flow.retrans_synack,
        Cause::Other => &mut flow.retrans_other,
    };
    *counter = counter.wrapping_add(segments);
    if error != 0 {
        flow.retrans_failed_segs = flow.retrans_failed_segs.wrapping_add(segments);
    }
    episode::heal(tp, flow, ca_state);
}

/// The retransmission timer fired.
#[inline(always)]
pub(super) fn timeout(flow: &mut FlowState) {
    flow.rto_count = flow.rto_count.wrapping_add(1);
}
