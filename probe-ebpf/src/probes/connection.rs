//! How does a connection begin, change its state and end? The sock_ops program: the spine.
//!
//! Attached to the root of cgroup v2. Its callbacks come with the socket locked and have no re-entry guard, so no
//! transition is missed. Callbacks that nobody asked for (timeout, window, ECN …) come for every socket and leave here at
//! once; the answer is always 1 with the reply untouched, which changes nothing in the kernel's behaviour.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_ktime_get_ns, generated::bpf_get_socket_cookie},
    macros::sock_ops,
    programs::SockOpsContext,
};
use aya_log_ebpf::debug;
use probe_common::{
    loss::Loss,
    record::{flag, role},
    tcp::{is_timed_in_us, state},
};

use super::{
    adopt::{adopt, attribute_syns},
    retransmit, round_trip,
};
use crate::{
    emit,
    kernel::{TcpSock, storage_create, storage_delete, storage_get},
    maps::{STATES, TROUBLES, WIDES, count},
    state::FlowState,
};

// enum in include/uapi/linux/bpf.h, BPF_SOCK_OPS_*.
const TCP_CONNECT_CB: u32 = 3;
const ACTIVE_ESTABLISHED_CB: u32 = 4;
const PASSIVE_ESTABLISHED_CB: u32 = 5;
const RTO_CB: u32 = 8;
const RETRANS_CB: u32 = 9;
const STATE_CB: u32 = 10;
const RTT_CB: u32 = 12;

/// RTO, RETRANS, STATE and RTT callbacks (BPF_SOCK_OPS_*_CB_FLAG).
pub(super) const CALLBACKS: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 3;

#[sock_ops]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes its context so")]
pub(crate) fn connection(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        RTT_CB => with_flow(&ctx, |tp, flow| round_trip::sample(tp, flow, ctx.arg(0), ctx.arg(1))),
        STATE_CB => with_flow(&ctx, |tp, flow| change(&ctx, tp, flow, ctx.arg(0) as u8, ctx.arg(1) as u8)),
        RETRANS_CB => with_flow(&ctx, |tp, flow| retransmit::segments(tp, flow, ctx.arg(1), ctx.arg(2))),
        RTO_CB => with_flow(&ctx, retransmit::timeout),
        ACTIVE_ESTABLISHED_CB => connected(&ctx),
        TCP_CONNECT_CB => begin(&ctx, role::CLIENT),
        PASSIVE_ESTABLISHED_CB => begin(&ctx, role::SERVER),
        _ => {}
    }
    1
}

/// The context's socket; null in callbacks about requests.
#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<TcpSock> {
    // SAFETY: the verifier rewrites this read of the context.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk }.cast_const().cast::<c_void>();
    if sk.is_null() {
        return None;
    }
    TcpSock::new(sk)
}

/// Gives the socket a cookie if it has none.
#[inline(always)]
fn give_cookie(ctx: &SockOpsContext) {
    // SAFETY: the helper takes this program's context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
}

#[inline(always)]
fn with_flow(ctx: &SockOpsContext, then: impl FnOnce(TcpSock, &mut FlowState)) {
    let Some(tp) = socket(ctx) else { return };
    // None: a listener's child that inherited callbacks of others, or storage was refused and counted.
    let Some(flow) = storage_get(&STATES, tp.as_ptr()) else { return };
    then(tp, flow);
}

/// A connection begins: state of its own, and callbacks beside those that others switched on.
#[inline(always)]
fn begin(ctx: &SockOpsContext, role: u8) {
    let Some(tp) = socket(ctx) else { return };
    let Some(flow) = storage_create(&STATES, tp.as_ptr()) else {
        count(Loss::StateRefused);
        debug!(ctx, "no storage for a connection");
        return;
    };
    if role == role::SERVER && flow.flags & (flag::BEGUN | flag::FINISHED) == flag::BEGUN {
        return; // two SYNs crossed: the connection began with our connect()
    }
    let mut flags = flag::BEGUN | flag::CALLBACKS | u32::from(role) << flag::ROLE_SHIFT;
    if ctx.set_cb_flags((ctx.cb_flags() | CALLBACKS) as i32).is_err() {
        count(Loss::CallbacksRefused);
        flags &= !flag::CALLBACKS;
    }
    if flow.flags & flag::BEGUN != 0 {
        if flow.flags & flag::FINISHED == 0 {
            // Its callbacks were off: adopted where they cannot be switched on, or switched off by another program.
            count(Loss::EndUnseen);
        }
        if !begin_anew(tp, flow) {
            storage_delete(&STATES, tp.as_ptr());
            count(Loss::StateRefused);
            return;
        }
        flags |= flow.flags;
    } else {
        give_cookie(ctx);
    }
    // SAFETY: no argument, no effect.
    flow.opened_ns = unsafe { bpf_ktime_get_ns() };
    flow.flags = flags;
    flow.handshake_rtt_us = u32::MAX;
    flow.own_min_rtt_us = u32::MAX;
    // A child inherits the number of SYN-ACKs that its request sent again (tcp_create_openreq_child).
    let synacks = tp.total_retrans();
    if role == role::SERVER
        && synacks != 0
        && let Some(trouble) = flow.in_trouble(tp.as_ptr())
    {
        trouble.retrans_synack = synacks;
    }
}

/// The socket was connected before (connect to AF_UNSPEC, then again): another connection, the same cookie. False where the kernel
/// refuses the memory for what its clocks showed before: a sweep takes the connection over later.
#[inline(never)]
fn begin_anew(tp: TcpSock, flow: &mut FlowState) -> bool {
    let generation = flow.generation;
    storage_delete(&TROUBLES, tp.as_ptr());
    storage_delete(&WIDES, tp.as_ptr());
    clear(flow);
    flow.generation = generation + 1;
    let limits = tp.limits();
    flow.rwnd_seen = limits.rwnd;
    if limits.busy == 0 {
        return true;
    }
    let Some(trouble) = storage_create(&TROUBLES, tp.as_ptr()) else { return false };
    trouble.limits_before = limits;
    flow.flags |= flag::TROUBLED;
    true
}

/// A client's handshake is done. Callbacks are on unless it began before the probe came, or another program switched them off.
#[inline(always)]
fn connected(ctx: &SockOpsContext) {
    if ctx.cb_flags() & CALLBACKS == CALLBACKS {
        return;
    }
    let Some(tp) = socket(ctx) else { return };
    let known = storage_get(&STATES, tp.as_ptr());
    let late = known.as_ref().is_none_or(|flow| flow.flags & flag::ESTABLISHED == 0);
    give_cookie(ctx);
    let Some(flow) = known.or_else(|| adopt(tp)) else { return };
    if ctx.set_cb_flags((ctx.cb_flags() | CALLBACKS) as i32).is_err() {
        count(Loss::CallbacksRefused);
        return;
    }
    flow.flags |= flag::CALLBACKS;
    if late {
        flow.flags = flow.flags & !flag::ROLE | u32::from(role::CLIENT) << flag::ROLE_SHIFT;
        attribute_syns(tp, flow);
        established(tp, flow);
    }
}

#[inline(always)]
fn clear(flow: &mut FlowState) {
    let words = core::ptr::from_mut(flow).cast::<u64>();
    for i in 0..size_of::<FlowState>() / 8 {
        // SAFETY: the state is that many u64, all of them integers; volatile keeps the compiler from calling memset.
        unsafe { core::ptr::write_volatile(words.wrapping_add(i), 0) };
    }
}

#[inline(always)]
fn change(ctx: &SockOpsContext, tp: TcpSock, flow: &mut FlowState, old: u8, new: u8) {
    match new {
        state::ESTABLISHED => established(tp, flow),
        state::FIN_WAIT1 => {
            flow.flags |= flag::FIN_LOCAL;
            if tp.is_shut_for_reading() {
                flow.flags |= flag::APP_CLOSED;
                flow.data_in_at_close = tp.data_segs_in();
            }
        }
        state::CLOSE_WAIT | state::FIN_WAIT2 | state::CLOSING | state::LAST_ACK => {
            if flow.flags & flag::ESTABLISHED == 0 {
                // A Fast Open child whose application closed before the handshake ended.
                established(tp, flow);
            }
            if new == state::CLOSE_WAIT {
                flow.flags |= flag::FIN_REMOTE;
            }
        }
        state::CLOSE => {
            debug!(ctx, "closed: cookie {} in state {}", tp.cookie(), old);
            emit::close(tp, flow, old);
        }
        _ => {}
    }
}

/// The handshake is done; its round trip is the first sample, which starts the smoothed one (RFC 6298, 2.2).
#[inline(always)]
fn established(tp: TcpSock, flow: &mut FlowState) {
    flow.flags |= flag::ESTABLISHED;
    let srtt_us_x8 = tp.srtt_us_x8();
    // Of a SYN that was sent again, before the probe came or since, the answer may echo the first one's time: no sample then (Karn).
    let is_sample = flow.role() != role::CLIENT || tp.total_retrans() == 0;
    if srtt_us_x8 != 0 && flow.rtt_samples == 0 && is_sample {
        flow.handshake_rtt_us = srtt_us_x8 >> 3;
        // With a repeated SYN or SYN-ACK it comes from the echoed timestamp, in whole milliseconds.
        if is_timed_in_us(flow.handshake_rtt_us) {
            flow.own_min_rtt_us = flow.handshake_rtt_us;
        }
    }
}
