//! What did live connections add since the last sweep? iter/tcp for the daemon, which alone may read it.
//!
//! A connection at rest whose socket's clock stands costs the look at three fields of the socket; the user side knows since when
//! it must have stood (`visits.rs`). One without segments since its last accounting costs the look at its state too. One that is older
//! than the probe is taken over, and callbacks are switched on where the kernel allows that. The socket's lock is held, so no close can
//! come between.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use probe_common::{loss::Loss, record::flag, tcp::state, visit::Visit};

use super::{
    adopt::adopt,
    connection::CALLBACKS,
    flows::{next_connection, scratch, write},
    stall,
};
use crate::{
    difference, emit,
    kernel::{TcpSock, storage_get},
    maps::{SCRATCH_ACCOUNT, STATES, count, visit},
    state::FlowState,
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
    let visit = visit()?;
    if visit.began_us == 0 {
        // SAFETY: no argument, no effect.
        visit.began_us = unsafe { bpf_ktime_get_ns() } / 1000;
    }
    visit.connections += 1;
    if tp.clock_us() < visit.quiet_before_us && tp.is_at_rest() {
        return None;
    }
    tp.fetch_activity();
    let flow = match storage_get(&STATES, tp.as_ptr()) {
        Some(flow) => flow,
        None => take_over(tp, visit)?,
    };
    if flow.flags & flag::FINISHED != 0 {
        return None;
    }
    if flow.flags & flag::ESTABLISHED == 0 {
        if tp.is_connecting() {
            return None; // not a connection yet: its record comes whole
        }
        // Its callbacks were gone before the handshake's end was told.
        flow.flags |= flag::ESTABLISHED;
    }
    let is_quiet = flow.activity_accounted() == tp.activity() && tp.is_at_rest();
    if flow.flags & (flag::ACCOUNTED | flag::OWING) == flag::ACCOUNTED && is_quiet {
        return None;
    }
    tp.fetch_increment();
    flow.fetch();
    keep_callbacks(tp, flow);
    flow.flags &= !flag::OWING;
    if !flow.keep_trouble(tp) {
        flow.flags |= flag::OWING;
        visit.refused += 1;
    }
    stall::catch_up(tp, flow, false);
    let record = scratch(SCRATCH_ACCOUNT.get_ptr_mut(0)?);
    emit::increment(&mut record.head, tp, flow, tp.state());
    let wide = flow.wide(tp.as_ptr());
    if let Some(wide) = wide.as_deref() {
        difference::buckets(&mut record.rtt_histogram, wide);
    }
    // A full buffer makes the kernel show this socket once more: account only for what was taken.
    if write(ctx, record, wide.is_some()) {
        let trouble = flow.trouble(tp.as_ptr());
        difference::keep(flow, trouble, &record.head.counters);
        match wide {
            Some(wide) => difference::keep_buckets(wide, &record.rtt_histogram),
            None => difference::keep_near(flow, &record.head.near),
        }
        flow.flags |= flag::ACCOUNTED;
        if !tp.is_at_rest() {
            // An acknowledgement may wait for the socket's lock: it is among the segments already, and what it brings is not.
            flow.flags |= flag::OWING;
        }
    } else {
        visit.connections -= 1;
    }
    Some(())
}

/// A connection that the probe did not see begin.
#[inline(always)]
fn take_over(tp: TcpSock, visit: &mut Visit) -> Option<&'static mut FlowState> {
    if tp.state() == state::SYN_RECV {
        return None; // a Fast Open child or crossed SYNs: taken over when the handshake is done
    }
    tp.give_cookie();
    let Some(flow) = adopt(tp) else {
        visit.refused += 1;
        return None;
    };
    // They outlive the program that switched them on, so a daemon that comes back finds them.
    if tp.has_callbacks(CALLBACKS) || tp.switch_on(CALLBACKS) {
        flow.flags |= flag::CALLBACKS;
    }
    Some(flow)
}

/// Another sock_ops program may have set its own callbacks and with that switched ours off: they are switched on again.
#[inline(always)]
fn keep_callbacks(tp: TcpSock, flow: &mut FlowState) {
    if flow.flags & flag::CALLBACKS == 0 || tp.has_callbacks(CALLBACKS) {
        return;
    }
    count(Loss::CallbacksTaken);
    if !tp.switch_on(CALLBACKS) {
        flow.flags &= !flag::CALLBACKS;
        count(Loss::CallbacksRefused);
    }
}
