//! How long is a round trip? RTT_CB: once a round trip, in every state, also while data drains after close().
//!
//! Called by tcp_rtt_estimator when `snd_una` passes `rtt_seq`: one sample a round trip, not one a packet. Only the
//! sender of data has any.

use probe_common::{
    histogram::bucket_of,
    record::Loss,
    tcp::state::{SYN_RECV, SYN_SENT},
};

use super::episode;
use crate::{kernel::TcpSock, maps::count, state::FlowState};

/// Takes a sample. `mrtt_us` and `srtt_us_x8` are the callback's arguments since Linux 6.10; both are 0 before, and
/// then the sample is the round trip of the newest delivered segment.
#[inline(always)]
pub(super) fn sample(tp: TcpSock, flow: &mut FlowState, mrtt_us: u32, srtt_us_x8: u32) {
    let tcp_state = tp.state();
    if tcp_state == SYN_SENT || tcp_state == SYN_RECV {
        return; // the handshake's, taken when the connection is established
    }
    let us = if srtt_us_x8 == 0 { tp.rack_rtt_us() } else { mrtt_us };
    if srtt_us_x8 == 0 && us == 0 {
        count(Loss::RttUnknown);
        return;
    }
    flow.rtt_samples = flow.rtt_samples.wrapping_add(1);
    flow.rtt_sum_us += u64::from(us);
    flow.rtt_max_us = flow.rtt_max_us.max(us);
    flow.own_min_rtt_us = flow.own_min_rtt_us.min(us);
    episode::heal(tp, flow, tp.ca_state());
    flow.rtt_histogram[bucket_of(us)] += 1;
}
