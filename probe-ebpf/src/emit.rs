//! Puts records together and hands them over.
//!
//! Filling a record reads about ten cache lines of the socket; it happens once a connection, and once a sweep for
//! those that changed. Wake-ups of the reader are batched: it looks by itself every few milliseconds, and is woken only
//! when the ring is filling faster than that.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ktime_get_ns, generated::bpf_ringbuf_query},
};
use probe_common::{
    ABI_VERSION,
    histogram::BUCKETS,
    record::{Counters, FlowRecord, Loss, flag, kind},
    tcp::state,
};

use crate::{
    kernel::{TcpSock, storage_get},
    maps::{ACCOUNTED, RECORDS, count},
    probes::episode,
    state::{Accounted, FlowState},
};

/// Unread bytes from which on every record wakes the reader; the user side sets it to a part of the ring's size.
#[unsafe(no_mangle)]
static WAKE_AT_BYTES: u32 = 1 << 20;

/// Flags for a submission to the ring.
#[inline(always)]
pub(crate) fn wake_up() -> u64 {
    // SAFETY: the loader overwrites the constant before the program loads.
    let threshold = unsafe { core::ptr::read_volatile(&raw const WAKE_AT_BYTES) };
    // SAFETY: asks how much is unread; no effect.
    let unread =
        unsafe { bpf_ringbuf_query((&raw const RECORDS).cast_mut().cast(), u64::from(BPF_RB_AVAIL_DATA)) };
    u64::from(if unread < u64::from(threshold) { BPF_RB_NO_WAKEUP } else { BPF_RB_FORCE_WAKEUP })
}

/// Sends the connection's record, once: a last increment before it if sweeps accounted for the connection.
#[inline(always)]
pub(crate) fn close(tp: TcpSock, flow: &mut FlowState, last_state: u8) {
    if flow.flags & flag::FINISHED != 0 {
        return;
    }
    flow.flags |= flag::FINISHED;
    episode::end(tp, flow, false);
    if reset_by_us(tp, flow, last_state) {
        flow.flags |= flag::RESET_OURS;
    }
    let mut totals = counters(tp, flow);
    if flow.flags & (flag::ACCOUNTED | flag::ADOPTED) != 0 {
        match storage_get(&ACCOUNTED, tp.as_ptr()) {
            Some(accounted) => {
                if flow.flags & flag::FROM_DESTROY != 0 && totals.segs_in < accounted.counters.segs_in {
                    // tcp_disconnect came first and zeroed them; the last sweep's are all that is left.
                    totals = accounted.counters;
                    flow.flags |= flag::WIPED;
                }
                last_increment(tp, flow, last_state, &totals, accounted);
            }
            None => count(Loss::AccountedRefused),
        }
        flow.flags |= flag::ACCOUNTED;
    } else {
        flow.flags |= flag::OPENED;
    }
    let Some(mut entry) = RECORDS.reserve(0) else {
        count(Loss::RingFullClosed);
        return;
    };
    // SAFETY: the entry is memory for one record, and `fill` with the two lines after it writes all of it.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    fill(record, tp, flow, kind::CLOSED, last_state);
    record.counters = totals;
    copy_histogram(&mut record.rtt_histogram, &flow.rtt_histogram);
    entry.submit(wake_up());
}

/// Data that comes after the application has closed the socket is answered with a reset, and the kernel sets the same error
/// as for the peer's (tcp_rcv_state_process, TCPABORTONDATA).
#[inline(always)]
fn reset_by_us(tp: TcpSock, flow: &FlowState, last_state: u8) -> bool {
    (last_state == state::FIN_WAIT1 || last_state == state::FIN_WAIT2)
        && flow.flags & flag::APP_CLOSED != 0
        && tp.data_segs_in() != flow.data_in_at_close
}

#[inline(always)]
fn last_increment(tp: TcpSock, flow: &FlowState, last_state: u8, totals: &Counters, accounted: &Accounted) {
    let Some(mut entry) = RECORDS.reserve(0) else {
        count(Loss::RingFullIncrement);
        return;
    };
    // SAFETY: as in `close`.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    increment(record, tp, flow, last_state, totals, accounted);
    entry.submit(wake_up());
}

/// What was added since the last accounting. The first one of a connection says that it was opened.
#[inline(always)]
pub(crate) fn increment(
    record: &mut FlowRecord,
    tp: TcpSock,
    flow: &FlowState,
    tcp_state: u8,
    totals: &Counters,
    accounted: &Accounted,
) {
    fill(record, tp, flow, kind::INCREMENT, tcp_state);
    if flow.flags & flag::ACCOUNTED == 0 {
        record.flags |= flag::OPENED;
    }
    record.counters = difference(totals, &accounted.counters);
    for i in 0..BUCKETS {
        record.rtt_histogram[i] = flow.rtt_histogram[i].wrapping_sub(accounted.rtt_histogram[i]);
    }
}

/// Everything of a record but its counters and histogram.
#[inline(always)]
pub(crate) fn fill(record: &mut FlowRecord, tp: TcpSock, flow: &FlowState, kind: u8, tcp_state: u8) {
    record.abi = ABI_VERSION;
    record.kind = kind;
    record.role = flow.role as u8;
    record.flags = flow.flags & !(flag::FINISHED | flag::LOSS_BY_TIMER);
    record.cookie = flow.cookie;
    record.opened_ns = flow.opened_ns;
    // SAFETY: no argument, no effect.
    record.now_ns = unsafe { bpf_ktime_get_ns() };
    record.generation = flow.generation;
    record.state = tcp_state;
    record.pad = 0;
    record.pad2 = 0;
    record.handshake_rtt_us = flow.handshake_rtt_us;
    record.own_min_rtt_us = flow.own_min_rtt_us;
    record.rtt_max_us = flow.rtt_max_us;
    record.loss_episode_max_us = flow.loss_episode_max_us;
    tp.describe(record);
}

/// The kernel's counters and ours, as they stand.
#[inline(always)]
pub(crate) fn counters(tp: TcpSock, flow: &FlowState) -> Counters {
    let mut c = Counters {
        bytes_sent: 0,
        bytes_acked: 0,
        bytes_received: 0,
        bytes_retrans: 0,
        rtt_sum_us: flow.rtt_sum_us,
        loss_episode_us: flow.loss_episode_us,
        rtt_samples: flow.rtt_samples,
        segs_out: 0,
        data_segs_out: 0,
        segs_in: 0,
        data_segs_in: 0,
        retrans_segs: 0,
        retrans_fast: flow.retrans_fast,
        retrans_rto: flow.retrans_rto,
        retrans_tlp: flow.retrans_tlp,
        retrans_syn: flow.retrans_syn,
        retrans_synack: flow.retrans_synack,
        retrans_other: flow.retrans_other,
        retrans_failed_segs: flow.retrans_failed_segs,
        spurious_segs: 0,
        rto_count: flow.rto_count,
        ce_delivered_segs: 0,
        ooo_segs_in: 0,
        busy_jiffies: 0,
        rwnd_limited_jiffies: 0,
        sndbuf_limited_jiffies: 0,
        loss_episodes: flow.loss_episodes,
        undone_episodes: flow.undone_episodes,
        needless_segs: 0,
        pad: 0,
    };
    tp.kernel_counters(&mut c);
    c.busy_jiffies = c.busy_jiffies.wrapping_sub(flow.busy_before);
    c.rwnd_limited_jiffies = c.rwnd_limited_jiffies.wrapping_sub(flow.rwnd_before);
    c.sndbuf_limited_jiffies = c.sndbuf_limited_jiffies.wrapping_sub(flow.sndbuf_before);
    c.needless_segs = episode::needless(flow, c.spurious_segs).min(c.retrans_segs);
    c
}

macro_rules! subtract {
    ($a:ident, $b:ident: $($field:ident)*) => {
        Counters { $($field: $a.$field.wrapping_sub($b.$field),)* }
    };
}

#[inline(always)]
fn difference(a: &Counters, b: &Counters) -> Counters {
    subtract!(a, b:
        bytes_sent bytes_acked bytes_received bytes_retrans rtt_sum_us rtt_samples segs_out data_segs_out segs_in
        data_segs_in retrans_segs retrans_fast retrans_rto retrans_tlp retrans_syn retrans_synack retrans_other
        retrans_failed_segs spurious_segs rto_count ce_delivered_segs ooo_segs_in busy_jiffies
        rwnd_limited_jiffies sndbuf_limited_jiffies loss_episode_us loss_episodes undone_episodes needless_segs pad)
}

/// Copies a histogram by words: a call of memcpy would go byte by byte here.
#[inline(always)]
pub(crate) fn copy_histogram(to: &mut [u32; BUCKETS], from: &[u32; BUCKETS]) {
    let to = to.as_mut_ptr().cast::<u64>();
    let from = from.as_ptr().cast::<u64>();
    for i in 0..BUCKETS / 2 {
        // SAFETY: both are 256 bytes on 8-byte boundaries; volatile keeps the compiler from calling memcpy.
        unsafe {
            core::ptr::write_volatile(to.wrapping_add(i), core::ptr::read_volatile(from.wrapping_add(i)));
        };
    }
}
