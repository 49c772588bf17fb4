//! Hand-made records for unit tests.

use bytemuck::Zeroable as _;
use probe_common::{
    ABI_VERSION,
    histogram::bucket_of,
    record::{FlowHead, FlowRecord, SynackRecord, kind, role},
};

/// Network namespace of all records here.
pub(crate) const NETNS: u32 = 4_026_531_840;

/// A connection over IPv4 without any sample or count.
pub(crate) fn record(kind: u8, role: u8, flags: u32) -> FlowRecord {
    let head = FlowHead {
        abi: ABI_VERSION,
        kind,
        role,
        flags,
        netns: NETNS,
        family: libc::AF_INET as u16,
        min_rtt_us: u32::MAX,
        own_min_rtt_us: u32::MAX,
        handshake_rtt_us: u32::MAX,
        ..FlowHead::zeroed()
    };
    FlowRecord { head, ..FlowRecord::zeroed() }
}

/// Adds round-trip samples, µs.
pub(crate) fn with_samples(mut record: FlowRecord, samples: &[u32]) -> FlowRecord {
    for us in samples {
        record.rtt_histogram[bucket_of(*us)] += 1;
        record.counters.rtt_samples += 1;
        record.counters.rtt_sum_us += u64::from(*us);
    }
    record
}

/// A SYN-ACK that was sent again over IPv4.
pub(crate) fn synack() -> SynackRecord {
    SynackRecord {
        abi: ABI_VERSION,
        kind: kind::SYNACK,
        netns: NETNS,
        family: libc::AF_INET as u16,
        ..SynackRecord::zeroed()
    }
}

/// A client's connection that was opened, sent segments and lost some.
pub(crate) fn opening_with_losses() -> FlowRecord {
    use probe_common::record::flag::{ESTABLISHED, OPENED};
    let mut out =
        with_samples(record(kind::INCREMENT, role::CLIENT, ESTABLISHED | OPENED), &[20_000, 20_500, 41_000]);
    out.handshake_rtt_us = 20_100;
    out.own_min_rtt_us = 20_000;
    let c = &mut out.counters;
    (c.segs_out, c.data_segs_out, c.segs_in) = (110, 107, 60);
    (c.bytes_sent, c.bytes_acked, c.bytes_received, c.bytes_retrans) = (150_000, 140_001, 512, 8_688);
    (c.retrans_segs, c.retrans_fast, c.retrans_tlp, c.retrans_syn, c.spurious_segs) = (7, 5, 1, 1, 1);
    (c.rto_count, c.ce_delivered_segs) = (1, 3);
    (c.loss_episodes, c.loss_episode_us, c.undone_episodes, c.needless_segs) = (2, 90_000, 1, 1);
    (c.stalls_rto, c.stall_rto_us, c.stalls_zero_window, c.stall_zero_window_us) = (1, 412_000, 2, 1_300_000);
    (c.busy_jiffies, c.rwnd_limited_jiffies, c.sndbuf_limited_jiffies) = (500, 125, 50);
    out
}
