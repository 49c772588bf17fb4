//! How long is a round trip? RTT_CB: once a round trip, in every state, also while data drains after close().
//!
//! Called by tcp_rtt_estimator when `snd_una` passes `rtt_seq`: one sample a round trip, not one a packet. Only the
//! sender of data has any.

use core::arch::asm;

use probe_common::{
    histogram::{BUCKETS, bucket_of},
    loss::Loss,
    record::flag,
    tcp::{
        is_timed_in_us,
        state::{SYN_RECV, SYN_SENT},
    },
};

use super::{episode, stall};
use crate::{
    kernel::TcpSock,
    maps::{count, count_left_out},
    state::FlowState,
};

/// Shortest time between two samples of one connection, µs; injected by the user side. 0 takes every one.
#[unsafe(no_mangle)]
static RTT_INTERVAL_US: u32 = 0;

/// Takes a sample. `mrtt_us` and `srtt_us_x8` are the callback's arguments since Linux 6.10; both are 0 before, and
/// then the sample is the round trip of the newest delivered segment.
#[inline(always)]
pub(super) fn sample(tp: TcpSock, flow: &mut FlowState, mrtt_us: u32, srtt_us_x8: u32) {
    let tcp_state = tp.state();
    if tcp_state == SYN_SENT || tcp_state == SYN_RECV {
        return; // the handshake's, taken when the connection is established
    }
    let ca_state = tp.ca_state();
    if flow.flags & flag::TROUBLED != 0 || episode::is_losing(ca_state) {
        review(tp, flow, ca_state);
    }
    stall::window(tp, flow, true);
    let us = if srtt_us_x8 == 0 { tp.rack_rtt_us() } else { mrtt_us };
    if srtt_us_x8 == 0 && us == 0 {
        count(Loss::RttUnknown);
        return;
    }
    // The echoed timestamp's milliseconds make no minimum; the newest delivered segment was timed in µs.
    let timed_us = if is_timed_in_us(us) { us } else { tp.rack_rtt_us() };
    if is_timed_in_us(timed_us) {
        flow.own_min_rtt_us = flow.own_min_rtt_us.min(timed_us);
    }
    if is_too_soon(tp, flow) {
        count_left_out();
        return;
    }
    flow.count_round_trip(tp.as_ptr(), any_bucket(us));
    flow.rtt_samples = flow.rtt_samples.wrapping_add(1);
    flow.rtt_sum_us += u64::from(us);
    flow.rtt_max_us = flow.rtt_max_us.max(us);
}

/// Whether the connection's last sample was so short a time ago that this one is left out. Where every sample is taken the
/// verifier removes all of it.
#[inline(always)]
fn is_too_soon(tp: TcpSock, flow: &mut FlowState) -> bool {
    // SAFETY: the loader overwrites the constant before the program loads.
    let interval_us = unsafe { core::ptr::read_volatile(&raw const RTT_INTERVAL_US) };
    if interval_us == 0 {
        return false;
    }
    let now_us = tp.clock_us() as u32;
    if flow.rtt_samples != 0 && now_us.wrapping_sub(flow.sampled_at_us) < interval_us {
        return true;
    }
    flow.sampled_at_us = now_us;
    false
}

/// The sample's bucket, as a number of which the verifier knows only the range: it would follow what comes after once for each
/// of the 64.
#[inline(always)]
fn any_bucket(us: u32) -> usize {
    let mut bucket = bucket_of(us) as u64;
    // SAFETY: the same number is mixed in and out again.
    unsafe { asm!("{b} ^= {x}", "{b} ^= {x}", b = inout(reg) bucket, x = in(reg) u64::from(us)) };
    bucket as usize & (BUCKETS - 1)
}

/// What was lost or stood still, seen now that something was acknowledged. A function of its own: few connections need it,
/// and the verifier does not multiply its ways by those of the sample.
#[inline(never)]
fn review(tp: TcpSock, flow: &mut FlowState, ca_state: u8) {
    if let Some(trouble) = flow.in_trouble(tp.as_ptr()) {
        stall::look(tp, flow, trouble);
        episode::heal(tp, trouble, ca_state);
    }
}
