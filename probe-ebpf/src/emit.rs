//! Puts records together and hands them over.
//!
//! Filling a record reads about ten cache lines of the socket; it happens once a connection, and once a sweep for
//! those that changed. Wake-ups of the reader are batched: it looks by itself every 50 ms, and is woken only when a ring is
//! filling faster than that.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ktime_get_ns, generated::bpf_ringbuf_query},
};
use probe_common::{
    ABI_VERSION,
    histogram::{BUCKETS, NearHistogram},
    loss::Loss,
    record::{Counters, FlowHead, FlowRecord, flag, kind},
    tcp::{believed, state},
};

use crate::{
    difference,
    kernel::TcpSock,
    maps::{Ring, count, ring},
    probes::{episode, stall},
    state::{FlowState, STALL_OTHER, STALL_RTO, STALL_ZERO_WINDOW, Trouble},
};

/// The errno of a reset, on the machines that this is for (include/uapi/asm-generic/errno.h).
const ECONNRESET: u32 = 104;

/// Unread bytes from which on records wake the reader, a power of two; the user side sets it to a part of the ring's size.
#[unsafe(no_mangle)]
static WAKE_AT_BYTES: u32 = 1 << 20;

/// Not each of them, for each wake-up costs an interrupt: those within so many bytes …
const WAKE_FOR_BYTES: u64 = 1 << 10;
/// … of each such part of `WAKE_AT_BYTES`. A reader that comes and finds the oldest record unfinished is woken again.
const WAKES: u64 = 4;

/// Flags for a submission to that ring.
#[inline(always)]
pub(crate) fn wake_up(ring: &'static Ring) -> u64 {
    // SAFETY: the loader overwrites the constant before the program loads.
    let threshold = u64::from(unsafe { core::ptr::read_volatile(&raw const WAKE_AT_BYTES) });
    let ring = core::ptr::from_ref(ring).cast_mut().cast();
    // SAFETY: asks how much is unread; no effect.
    let unread = unsafe { bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)) };
    let wakes = unread >= threshold && unread & (threshold / WAKES - 1) < WAKE_FOR_BYTES;
    u64::from(if wakes { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}

/// Sends the connection's record, once: a last increment before it if sweeps accounted for the connection.
#[inline(always)]
pub(crate) fn close(tp: TcpSock, flow: &mut FlowState, last_state: u8) {
    if flow.flags & flag::FINISHED != 0 {
        return;
    }
    flow.flags |= flag::FINISHED;
    if flow.flags & flag::FROM_DESTROY != 0 && flow.is_wiped(tp.activity()) {
        // tcp_disconnect came first and zeroed the socket's counters: what came after the last sweep is not known.
        flow.forget();
        count(Loss::CountersWiped);
    }
    stall::catch_up(tp, flow, true);
    if let Some(trouble) = flow.trouble(tp.as_ptr()) {
        episode::end(tp, trouble, false);
    }
    if reset_by_us(tp, flow, last_state) {
        flow.flags |= flag::RESET_OURS;
    }
    if flow.flags & (flag::ACCOUNTED | flag::ADOPTED) == 0 {
        flow.flags |= flag::OPENED;
    } else {
        last_increment(tp, flow, last_state);
        flow.flags |= flag::ACCOUNTED;
    }
    let sent = match flow.wide(tp.as_ptr()) {
        None => send(|head: &mut FlowHead| closed(head, tp, flow, last_state)),
        Some(wide) => send(|record: &mut FlowRecord| {
            closed(&mut record.head, tp, flow, last_state);
            for i in 0..BUCKETS {
                record.rtt_histogram[i] = wide.counts[i];
            }
        }),
    };
    if !sent {
        count(Loss::RingFullClosed);
    }
}

/// Has a record of that kind filled in this CPU's ring; false when there is no room.
#[inline(always)]
fn send<T: 'static>(fill: impl FnOnce(&mut T)) -> bool {
    let Some(ring) = ring() else { return false };
    let Some(mut entry) = ring.reserve_untyped::<T>(0) else { return false };
    // SAFETY: the entry is memory for one record, all integers, and `fill` writes all of it.
    fill(unsafe { &mut *entry.as_mut_ptr() });
    entry.submit(wake_up(ring));
    true
}

#[inline(always)]
fn closed(head: &mut FlowHead, tp: TcpSock, flow: &FlowState, last_state: u8) {
    fill(head, tp, flow, kind::CLOSED, last_state);
}

/// New data that comes after the application has closed the socket is answered with a reset, and the kernel sets the same error
/// as for the peer's, or none where the data came with the acknowledgement of our FIN (tcp_rcv_state_process, TCPABORTONDATA). Data
/// that had come before counts as a segment too and ends nothing.
#[inline(always)]
fn reset_by_us(tp: TcpSock, flow: &FlowState, last_state: u8) -> bool {
    if last_state != state::FIN_WAIT1 && last_state != state::FIN_WAIT2
        || flow.flags & flag::APP_CLOSED == 0
        || tp.data_segs_in() == flow.data_in_at_close
    {
        return false;
    }
    match tp.error() {
        0 => tp.is_hashed(),
        error => error == ECONNRESET,
    }
}

/// Hands out what was added since the last sweep.
#[inline(never)]
fn last_increment(tp: TcpSock, flow: &mut FlowState, last_state: u8) {
    if flow.flags & flag::WIPED == 0 {
        flow.keep_trouble(tp);
    }
    let sent = match flow.wide(tp.as_ptr()) {
        None => send(|head: &mut FlowHead| increment(head, tp, flow, last_state)),
        Some(wide) => send(|record: &mut FlowRecord| {
            increment(&mut record.head, tp, flow, last_state);
            difference::buckets(&mut record.rtt_histogram, wide);
        }),
    };
    if !sent {
        count(Loss::RingFullIncrement);
    }
}

/// What was added since the last accounting. The first one of a connection says that it was opened.
#[inline(always)]
pub(crate) fn increment(head: &mut FlowHead, tp: TcpSock, flow: &FlowState, tcp_state: u8) {
    fill(head, tp, flow, kind::INCREMENT, tcp_state);
    if flow.flags & flag::ACCOUNTED == 0 {
        head.flags |= flag::OPENED;
    }
    if flow.flags & flag::WIPED == 0 {
        difference::subtract(&mut head.counters, flow, flow.trouble(tp.as_ptr()).as_deref());
    }
    difference::near(&mut head.near, flow);
}

/// All of a record but the buckets of a wide histogram.
#[inline(always)]
pub(crate) fn fill(record: &mut FlowHead, tp: TcpSock, flow: &FlowState, kind: u8, tcp_state: u8) {
    record.abi = ABI_VERSION;
    record.kind = kind;
    record.role = flow.role();
    record.flags = flow.flags & !flag::PRIVATE;
    record.cookie = tp.cookie();
    record.opened_ns = flow.opened_ns;
    // SAFETY: no argument, no effect.
    record.now_ns = unsafe { bpf_ktime_get_ns() };
    record.generation = flow.generation;
    record.state = tcp_state;
    record.pad = 0;
    record.pad2 = 0;
    record.pad3 = 0;
    copy_near(&mut record.near, &flow.near);
    record.handshake_rtt_us = flow.handshake_rtt_us;
    record.own_min_rtt_us = flow.own_min_rtt_us;
    record.rtt_max_us = flow.rtt_max_us;
    tp.identify(record);
    if kind == kind::INCREMENT {
        TcpSock::leave_undescribed(record);
    } else {
        tp.describe(record);
    }
    if flow.flags & flag::WIPED != 0 {
        clear(&mut record.counters);
        record.loss_episode_max_us = 0;
        return;
    }
    let trouble = flow.trouble(tp.as_ptr());
    record.loss_episode_max_us = trouble.as_ref().map_or(0, |trouble| trouble.loss_episode_max_us);
    counters(tp, flow, trouble.as_deref(), &mut record.counters);
}

/// The kernel's counters and ours, as they stand.
#[inline(always)]
pub(crate) fn counters(tp: TcpSock, flow: &FlowState, trouble: Option<&Trouble>, into: &mut Counters) {
    clear(into);
    tp.kernel_counters(into);
    into.rtt_sum_us = flow.rtt_sum_us;
    into.rtt_samples = flow.rtt_samples;
    into.needless_segs = into.spurious_segs;
    if let Some(trouble) = trouble {
        add_trouble(into, trouble);
    }
    let (spurious, needless) = trouble.map_or((0, 0), Trouble::accounted_needless);
    into.spurious_segs = believed(into.spurious_segs, into.retrans_segs, spurious);
    into.needless_segs = believed(into.needless_segs, into.retrans_segs, needless);
}

#[inline(always)]
fn add_trouble(c: &mut Counters, trouble: &Trouble) {
    let before = &trouble.limits_before;
    c.busy_jiffies = c.busy_jiffies.wrapping_sub(before.busy);
    c.rwnd_limited_jiffies = c.rwnd_limited_jiffies.wrapping_sub(before.rwnd);
    c.sndbuf_limited_jiffies = c.sndbuf_limited_jiffies.wrapping_sub(before.sndbuf);
    c.loss_episode_us = trouble.loss_episode_us;
    c.stall_rto_us = trouble.stall_us[STALL_RTO as usize];
    c.stall_zero_window_us = trouble.stall_us[STALL_ZERO_WINDOW as usize];
    c.stall_other_us = trouble.stall_us[STALL_OTHER as usize];
    c.retrans_fast = trouble.retrans_fast;
    c.retrans_rto = trouble.retrans_rto;
    c.retrans_tlp = trouble.retrans_tlp;
    c.retrans_syn = trouble.retrans_syn;
    c.retrans_synack = trouble.retrans_synack;
    c.retrans_other = trouble.retrans_other;
    c.retrans_failed_segs = trouble.retrans_failed_segs;
    c.rto_count = trouble.rto_count;
    c.loss_episodes = trouble.loss_episodes;
    c.undone_episodes = trouble.undone_episodes;
    c.stalls_rto = trouble.stalls[STALL_RTO as usize];
    c.stalls_zero_window = trouble.stalls[STALL_ZERO_WINDOW as usize];
    c.stalls_other = trouble.stalls[STALL_OTHER as usize];
    c.needless_segs = episode::needless(trouble, c.spurious_segs);
}

/// Zeroes them, by words.
#[inline(always)]
fn clear(counters: &mut Counters) {
    let words = core::ptr::from_mut(counters).cast::<u64>();
    for i in 0..size_of::<Counters>() / 8 {
        // SAFETY: the counters are that many u64, all of them integers; volatile keeps the compiler from calling memset.
        unsafe { core::ptr::write_volatile(words.wrapping_add(i), 0) };
    }
}

/// Copies a histogram by words: a call of memcpy would go byte by byte here.
#[inline(always)]
fn copy_near(to: &mut NearHistogram, from: &NearHistogram) {
    let (to, from) = (core::ptr::from_mut(to).cast::<u32>(), core::ptr::from_ref(from).cast::<u32>());
    for i in 0..size_of::<NearHistogram>() / 4 {
        // SAFETY: both are that many u32; volatile keeps the compiler from calling memcpy.
        unsafe {
            core::ptr::write_volatile(to.wrapping_add(i), core::ptr::read_volatile(from.wrapping_add(i)));
        };
    }
}
