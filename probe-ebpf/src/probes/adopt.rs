//! How is a connection taken over that is older than the probe? At the first sweep that finds it, or when the handshake ends
//! that was under way.
//!
//! What it has counted so far becomes the baseline: from then on its increments are exact. The socket's lock is held.

use core::{hint::black_box, mem::MaybeUninit};

use probe_common::{
    loss::Loss,
    record::{Counters, flag, role},
    tcp::state,
};

use crate::{
    difference, emit,
    kernel::{TcpSock, storage_create, storage_delete},
    maps::{STATES, count},
    state::FlowState,
};

/// Makes its state; the socket has its cookie. A socket that is connecting is a client's; of any other the role is not known.
/// A function of its own, for the stack's sake.
#[inline(never)]
pub(super) fn adopt(tp: TcpSock) -> Option<&'static mut FlowState> {
    let Some(flow) = storage_create(&STATES, tp.as_ptr()) else {
        count(Loss::TakeOverRefused);
        return None;
    };
    flow.flags = flag::BEGUN | flag::ADOPTED;
    if tp.state() == state::SYN_SENT {
        flow.flags |= u32::from(role::CLIENT) << flag::ROLE_SHIFT;
    } else {
        flow.flags |= flag::ESTABLISHED;
    }
    flow.handshake_rtt_us = u32::MAX;
    flow.own_min_rtt_us = u32::MAX;
    flow.rwnd_seen = tp.rwnd_limited_jiffies();
    if !flow.keep_trouble(tp) {
        // Without a baseline its history would be taken for new: the next sweep tries again.
        storage_delete(&STATES, tp.as_ptr());
        return None;
    }
    // As one piece of memory: in registers and places of its own for each, they would not fit the stack.
    let mut counters = MaybeUninit::<Counters>::uninit();
    // SAFETY: integers only, and all of them are written before they are read.
    let counters = black_box(unsafe { counters.assume_init_mut() });
    let trouble = flow.trouble(tp.as_ptr());
    emit::counters(tp, flow, trouble.as_deref(), counters);
    difference::keep(flow, trouble, counters);
    Some(flow)
}

/// A client's handshake that was under way when the probe came is done. What was sent again in it since the baseline were
/// SYNs, which nobody was there to attribute.
#[inline(always)]
pub(super) fn attribute_syns(tp: TcpSock, flow: &mut FlowState) {
    let before = flow.trouble(tp.as_ptr()).map_or(0, |trouble| trouble.accounted_retrans_segs());
    let syns = tp.total_retrans().wrapping_sub(before);
    if syns != 0
        && let Some(trouble) = flow.in_trouble(tp.as_ptr())
    {
        trouble.retrans_syn = syns;
    }
}
