//! What did live connections add since the last sweep? iter/tcp for the daemon, which alone may read it.
//!
//! A connection without segments since its last accounting costs the look at two counters. One that is older than the
//! probe is adopted: what it has counted so far becomes the baseline, and callbacks are switched on where the kernel
//! allows that. The socket's lock is held, so no close can come between.

use core::ffi::c_void;

use probe_common::{
    record::{Loss, flag},
    tcp::state,
};

use super::{
    connection::CALLBACKS,
    flows::{next_connection, scratch, write},
};
use crate::{
    emit,
    kernel::{TcpSock, storage_create, storage_get},
    maps::{ACCOUNTED, SCRATCH_ACCOUNT, STATES, count, count_swept},
    state::{Accounted, FlowState},
};

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn account(ctx: *mut c_void) -> i32 {
    let _ = try_account(ctx);
    0
}

#[inline(always)]
fn try_account(ctx: *const c_void) -> Option<()> {
    let tp = next_connection(ctx)?;
    count_swept();
    let flow = match storage_get(&STATES, tp.as_ptr()) {
        Some(flow) => flow,
        None => adopt(tp)?,
    };
    // Not a connection yet (its record comes whole), or not any more.
    if flow.flags & flag::ESTABLISHED == 0 || flow.flags & flag::FINISHED != 0 {
        return None;
    }
    let Some(accounted) = storage_create(&ACCOUNTED, tp.as_ptr()) else {
        count(Loss::AccountedRefused);
        return None;
    };
    let before = (accounted.counters.segs_out, accounted.counters.segs_in);
    if flow.flags & flag::ACCOUNTED != 0 && before == tp.activity() {
        return None;
    }
    let record = scratch(SCRATCH_ACCOUNT.get_ptr_mut(0)?);
    let totals = emit::counters(tp, flow);
    emit::increment(record, tp, flow, tp.state(), &totals, accounted);
    // A full buffer makes the kernel show this socket once more: account only for what was taken.
    if write(ctx, record) {
        accounted.counters = totals;
        emit::copy_histogram(&mut accounted.rtt_histogram, &flow.rtt_histogram);
        flow.flags |= flag::ACCOUNTED;
    }
    Some(())
}

/// Takes over a connection that the probe did not see begin.
#[inline(always)]
fn adopt(tp: TcpSock) -> Option<&'static mut FlowState> {
    if tp.state() == state::SYN_SENT || tp.state() == state::SYN_RECV {
        return None; // adopted when the handshake is done
    }
    let Some(accounted) = storage_create(&ACCOUNTED, tp.as_ptr()) else {
        count(Loss::AccountedRefused);
        return None;
    };
    let Some(flow) = storage_create(&STATES, tp.as_ptr()) else {
        count(Loss::StateRefused);
        return None;
    };
    flow.cookie = tp.cookie();
    flow.flags = flag::ADOPTED | flag::ESTABLISHED;
    flow.handshake_rtt_us = u32::MAX;
    flow.own_min_rtt_us = u32::MAX;
    // They outlive the program that switched them on, so a daemon that comes back finds them.
    if tp.has_callbacks(CALLBACKS) || tp.switch_on(CALLBACKS) {
        flow.flags |= flag::CALLBACKS;
    }
    baseline(tp, flow, accounted);
    Some(flow)
}

#[inline(always)]
fn baseline(tp: TcpSock, flow: &FlowState, accounted: &mut Accounted) {
    accounted.counters = emit::counters(tp, flow);
}
