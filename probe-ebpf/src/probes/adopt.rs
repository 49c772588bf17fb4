//! How is a connection taken over that is older than the probe? At the first sweep that finds it, or when the handshake ends
//! that was under way.
//!
//! What it has counted so far becomes the baseline: from then on its increments are exact. The socket's lock is held.

use probe_common::{
    loss::Loss,
    record::{Counters, flag, role},
    tcp::state,
};

use crate::{
    difference, emit,
    kernel::{TcpSock, storage_create, storage_get},
    maps::{ACCOUNTED, STATES, count},
    state::FlowState,
};

/// Makes its state. A socket that is connecting is a client's; of any other the role is not known.
#[inline(always)]
pub(super) fn adopt(tp: TcpSock, cookie: u64) -> Option<&'static mut FlowState> {
    let Some(accounted) = storage_create(&ACCOUNTED, tp.as_ptr()) else {
        count(Loss::AccountedRefused);
        return None;
    };
    let Some(flow) = storage_create(&STATES, tp.as_ptr()) else {
        count(Loss::StateRefused);
        return None;
    };
    flow.cookie = cookie;
    flow.flags = flag::ADOPTED;
    if tp.state() == state::SYN_SENT {
        flow.role = u32::from(role::CLIENT);
    } else {
        flow.flags |= flag::ESTABLISHED;
    }
    flow.handshake_rtt_us = u32::MAX;
    flow.own_min_rtt_us = u32::MAX;
    flow.rwnd_seen = tp.rwnd_limited_jiffies();
    let mut counters = Counters::ZERO;
    emit::counters(tp, flow, None, &mut counters);
    difference::keep(accounted, None, &counters);
    Some(flow)
}

/// A client's handshake that was under way when the probe came is done. What was sent again in it since the baseline were
/// SYNs, which nobody was there to attribute.
#[inline(always)]
pub(super) fn attribute_syns(tp: TcpSock, flow: &mut FlowState) {
    let Some(accounted) = storage_get(&ACCOUNTED, tp.as_ptr()) else { return };
    let syns = tp.total_retrans().wrapping_sub(accounted.retrans_segs());
    if syns != 0
        && let Some(trouble) = flow.in_trouble(tp.as_ptr())
    {
        trouble.retrans_syn = syns;
    }
}
