//! Which connections are there now? iter/tcp for people: reads, and changes nothing but that a socket gets a
//! cookie that has none.
//!
//! The iterator holds each socket's lock while this runs and walks the network namespace of the thread that opened it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_write;
use probe_common::{
    histogram::BUCKETS,
    record::{FlowHead, FlowRecord, flag, kind},
    tcp::state,
};

use crate::{
    emit,
    kernel::{TcpSock, read_arg, storage_get},
    maps::{SCRATCH_FLOWS, STATES},
    state::FlowState,
};

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn flows(ctx: *mut c_void) -> i32 {
    let _ = try_flows(ctx);
    0
}

#[inline(always)]
fn try_flows(ctx: *const c_void) -> Option<()> {
    let tp = next_connection(ctx)?;
    let record = scratch(SCRATCH_FLOWS.get_ptr_mut(0)?);
    let known = storage_get(&STATES, tp.as_ptr());
    let wide = known.as_ref().and_then(|flow| flow.wide(tp.as_ptr()));
    match known {
        Some(flow) => emit::fill(&mut record.head, tp, flow, kind::LIVE, tp.state()),
        // Older than the probe, or no spine is attached: what the kernel counts is all that is known.
        None => emit::fill(&mut record.head, tp, &unknown(tp), kind::LIVE, tp.state()),
    }
    if let Some(wide) = wide.as_deref() {
        for i in 0..BUCKETS {
            record.rtt_histogram[i] = wide.counts[i];
        }
    }
    write(ctx, record, wide.is_some());
    Some(())
}

#[inline(always)]
fn unknown(tp: TcpSock) -> FlowState {
    // Given here, for whoever makes the record only reads it.
    tp.give_cookie();
    FlowState {
        flags: flag::ADOPTED | if tp.is_connecting() { 0 } else { flag::ESTABLISHED },
        handshake_rtt_us: u32::MAX,
        own_min_rtt_us: u32::MAX,
        ..FlowState::ZERO
    }
}

/// The iterator's socket, if it is a connection: not a listener, not the remains of one.
#[inline(always)]
pub(super) fn next_connection(ctx: *const c_void) -> Option<TcpSock> {
    let sk = read_arg(ctx, 1);
    if sk.is_null() {
        return None;
    }
    let tp = TcpSock::new(sk)?;
    (tp.state() != state::LISTEN && tp.state() != state::CLOSE).then_some(tp)
}

#[inline(always)]
pub(super) fn scratch(at: *mut FlowRecord) -> &'static mut FlowRecord {
    // SAFETY: a per-CPU slot that only this program uses, one run at a time; the record is integers only.
    unsafe { &mut *at }
}

/// Gives the record to the reader, with all buckets or without; false when its buffer is full and the kernel will show the socket again.
#[inline(always)]
pub(super) fn write(ctx: *const c_void, record: &FlowRecord, all_buckets: bool) -> bool {
    let meta = read_arg(ctx, 0);
    let seq = read_arg(meta, 0);
    // SAFETY: `seq` is the iterator's, as the verifier checks, and the record is that many readable bytes.
    let error = unsafe {
        bpf_seq_write(
            seq.cast_mut().cast(),
            core::ptr::from_ref(record).cast_mut().cast(),
            (if all_buckets { size_of::<FlowRecord>() } else { size_of::<FlowHead>() }) as u32,
        )
    };
    error == 0
}
