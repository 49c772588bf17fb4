//! What the programs know of one connection, kept in the socket's local storage.
//!
//! 360 bytes and the kernel's 64 for the element fit its 512-byte slab class.

use probe_common::{histogram::BUCKETS, record::Counters};

/// A connection's state; all zero when the kernel makes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FlowState {
    /// Socket cookie.
    pub(crate) cookie: u64,
    /// CLOCK_MONOTONIC of the beginning, ns; 0 for adopted connections.
    pub(crate) opened_ns: u64,
    /// Sum of the round-trip samples, µs.
    pub(crate) rtt_sum_us: u64,
    /// Bits of `record::flag`.
    pub(crate) flags: u32,
    /// How often the socket was connected before.
    pub(crate) generation: u32,
    /// One of `record::role`.
    pub(crate) role: u32,
    /// u32::MAX until there is one.
    pub(crate) handshake_rtt_us: u32,
    /// u32::MAX until there is one.
    pub(crate) own_min_rtt_us: u32,
    pub(crate) rtt_max_us: u32,
    pub(crate) rtt_samples: u32,
    pub(crate) retrans_fast: u32,
    pub(crate) retrans_rto: u32,
    pub(crate) retrans_tlp: u32,
    pub(crate) retrans_syn: u32,
    pub(crate) retrans_synack: u32,
    pub(crate) retrans_other: u32,
    pub(crate) retrans_failed_segs: u32,
    pub(crate) rto_count: u32,
    pub(crate) pad: u32,
    pub(crate) rtt_histogram: [u32; BUCKETS],
}

/// What was handed out as increments so far, or stood there when the connection was adopted.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Accounted {
    pub(crate) counters: Counters,
    pub(crate) rtt_histogram: [u32; BUCKETS],
}

const _: () = assert!(size_of::<FlowState>() <= 512 - 64);
const _: () = assert!(size_of::<Accounted>() <= 512 - 64);
