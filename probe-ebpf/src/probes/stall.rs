//! When did a connection stand still, and why? Data outstanding and `snd_una` unmoved for longer than max(3 x srtt, 200 ms).
//!
//! No hook of its own: looked at when something is sent again, when a timer fires, when the congestion state is set, once a
//! round trip, at sweeps and at the end. What may become a stall begins with a retransmission, at the time of the last
//! delivery; it ends with the first look that finds `snd_una` moved, at the time that the kernel's stamps of deliveries
//! allow. A closed window makes nothing be sent again: there the kernel's own clock of the peer's window tells
//! (`chrono_stat`), when it ran for longer than the threshold between two round trips.
//! A round trip of a connection without trouble costs two loads for this.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use probe_common::record::flag;

use crate::{
    kernel::TcpSock,
    state::{FlowState, STALL_OTHER, STALL_RTO, STALL_ZERO_WINDOW, Trouble},
};

/// Shortest stall, µs: the kernel's shortest retransmission timeout (TCP_RTO_MIN).
const SHORTEST_US: u32 = 200_000;

/// Jiffies a second (CONFIG_HZ); injected by the user side.
#[unsafe(no_mangle)]
static JIFFIES_PER_SECOND: u32 = 1000;

/// Something was sent again or a timer fired: what was outstanding has not arrived for a while.
#[inline(never)]
pub(super) fn suspect(tp: TcpSock, flow: &mut FlowState, trouble: &mut Trouble, timer_fired: bool) {
    if flow.flags & flag::ESTABLISHED == 0 {
        return;
    }
    let goes_on = tp.snd_una() == trouble.stall_una;
    if timer_fired && goes_on && trouble.stall_kind == STALL_OTHER {
        trouble.stall_kind = STALL_RTO;
    }
    look(tp, flow, trouble);
    if trouble.stall_began_ns == 0 {
        // SAFETY: no argument, no effect.
        let now = unsafe { bpf_ktime_get_ns() };
        let delivered = tp.delivered_at_ns();
        trouble.stall_began_ns = if delivered == 0 || delivered > now { now } else { delivered };
        trouble.stall_seen_ns = now;
        trouble.stall_added_ns = 0;
        trouble.stall_una = tp.snd_una();
        trouble.stall_threshold_us = threshold_us(tp);
        trouble.stall_kind = if tp.peer_window() == 0 {
            STALL_ZERO_WINDOW
        } else if timer_fired {
            STALL_RTO
        } else {
            STALL_OTHER
        };
    }
    let until = trouble.stall_seen_ns;
    add(tp, flow, trouble, until, false);
}

/// Whether the present stall goes on, or when it ended.
#[inline(never)]
pub(super) fn look(tp: TcpSock, flow: &mut FlowState, trouble: &mut Trouble) {
    if trouble.stall_began_ns == 0 {
        return;
    }
    // SAFETY: no argument, no effect.
    let now = unsafe { bpf_ktime_get_ns() };
    if tp.snd_una() == trouble.stall_una {
        trouble.stall_seen_ns = now;
        add(tp, flow, trouble, now, false);
        return;
    }
    let until = moved_at(tp, trouble.stall_seen_ns, now);
    add(tp, flow, trouble, until, true);
    trouble.stall_began_ns = 0;
}

/// When `snd_una`, last seen unmoved at `seen`, moved: now, if nothing was delivered since; when something was, then. Both
/// stamps are set anew, and alike, by the first segment that is sent after all was acknowledged (tcp_rate_skb_sent): then it
/// moved before that, and no one knows when.
#[inline(always)]
fn moved_at(tp: TcpSock, seen: u64, now: u64) -> u64 {
    let delivered = tp.delivered_at_ns();
    if delivered <= seen {
        now
    } else if delivered == tp.first_sent_at_ns() {
        seen
    } else {
        delivered.min(now)
    }
}

/// Adds the time of the present stall up to `until`, if it is long enough to be one. Of what kind it is may be known only when
/// it is over: a tail loss probe can come long before the timeout.
#[inline(always)]
fn add(tp: TcpSock, flow: &mut FlowState, trouble: &mut Trouble, until: u64, is_over: bool) {
    if trouble.stall_kind == STALL_OTHER && !is_over {
        return;
    }
    let kind = trouble.stall_kind as usize;
    if kind >= trouble.stalls.len() {
        return; // never: for the verifier
    }
    let mut from = trouble.stall_added_ns;
    if from == 0 {
        from = trouble.stall_began_ns;
        if until.wrapping_sub(from) as i64 <= i64::from(trouble.stall_threshold_us) * 1000 {
            return;
        }
        trouble.stalls[kind] = trouble.stalls[kind].wrapping_add(1);
    }
    if until > from {
        let us = (until - from) / 1000;
        trouble.stall_us[kind] += us;
        from += us * 1000;
    }
    trouble.stall_added_ns = from;
    // The clock of the window runs through stalls of other kinds too: what it showed is accounted for.
    flow.rwnd_seen = tp.rwnd_limited_jiffies();
}

/// Whether the peer's window held the connection up since the last look. `progress`: its last data was just acknowledged.
#[inline(always)]
pub(super) fn window(tp: TcpSock, flow: &mut FlowState, progress: bool) {
    let shows = tp.rwnd_limited_jiffies();
    if shows != flow.rwnd_seen {
        held_up(tp, flow, shows);
    }
    if progress {
        flow.rwnd_seen = shows;
        flow.flags &= !flag::WINDOW_STALL;
    }
}

/// The clock of the window has moved on to `shows`.
#[inline(never)]
fn held_up(tp: TcpSock, flow: &mut FlowState, shows: u32) {
    // SAFETY: the loader overwrites the constant before the program loads.
    let hz = unsafe { core::ptr::read_volatile(&raw const JIFFIES_PER_SECOND) };
    let us = u64::from(shows.wrapping_sub(flow.rwnd_seen)) * 1_000_000 / u64::from(hz.max(1));
    let counted = flow.flags & flag::WINDOW_STALL != 0;
    if !counted && us <= u64::from(threshold_us(tp)) {
        return;
    }
    let Some(trouble) = flow.in_trouble(tp.as_ptr()) else { return };
    trouble.stall_us[STALL_ZERO_WINDOW as usize] += us;
    let stalls = &mut trouble.stalls[STALL_ZERO_WINDOW as usize];
    *stalls = stalls.wrapping_add(u32::from(!counted));
    flow.flags |= flag::WINDOW_STALL;
    flow.rwnd_seen = shows;
}

/// At sweeps and when the connection has ended: adds what the present stalls have come to.
#[inline(never)]
pub(crate) fn catch_up(tp: TcpSock, flow: &mut FlowState, has_ended: bool) {
    if flow.flags & flag::ESTABLISHED == 0 {
        return;
    }
    if let Some(trouble) = flow.trouble(tp.as_ptr()) {
        look(tp, flow, trouble);
        if has_ended && trouble.stall_began_ns != 0 {
            let until = trouble.stall_seen_ns;
            add(tp, flow, trouble, until, true);
        }
    }
    window(tp, flow, false);
}

#[inline(always)]
fn threshold_us(tp: TcpSock) -> u32 {
    (tp.srtt_us_x8() / 8).saturating_mul(3).max(SHORTEST_US)
}
