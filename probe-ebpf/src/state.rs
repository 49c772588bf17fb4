//! What the programs know of one connection, kept in the socket's local storage.
//!
//! 408 bytes and the kernel's 64 for the element fit its 512-byte slab class.

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
    /// Time in loss episodes that ended, µs.
    pub(crate) loss_episode_us: u64,
    /// CLOCK_MONOTONIC when the present loss episode began, ns; 0 outside one.
    pub(crate) episode_began_ns: u64,
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
    pub(crate) loss_episodes: u32,
    pub(crate) loss_episode_max_us: u32,
    pub(crate) undone_episodes: u32,
    /// Segments of episodes that were taken back, less what the peer reported of them; of episodes that are settled.
    pub(crate) needless_settled: u32,
    /// The same of the last episode that was taken back: reports that are still to come are taken off.
    pub(crate) needless_credit: u32,
    /// Reports of the peer when the present episode began, and when the last one was taken back.
    pub(crate) dsacks_at_begin: u32,
    pub(crate) dsacks_at_end: u32,
    /// Segments sent again before the present episode.
    pub(crate) episode_retrans_before: u32,
    /// 1 while the present episode can be taken back.
    pub(crate) episode_undoable: u32,
    /// Segments with payload received when the application closed the socket.
    pub(crate) data_in_at_close: u32,
    /// What the socket's clocks showed before this connection, jiffies: they outlive a disconnect.
    pub(crate) busy_before: u32,
    pub(crate) rwnd_before: u32,
    pub(crate) sndbuf_before: u32,
    pub(crate) rtt_histogram: [u32; BUCKETS],
}

/// What was handed out as increments so far, or stood there when the connection was adopted.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Accounted {
    pub(crate) counters: Counters,
    pub(crate) rtt_histogram: [u32; BUCKETS],
}

const _: () = assert!(size_of::<FlowState>() == 408);
const _: () = assert!(size_of::<FlowState>() <= 512 - 64);
const _: () = assert!(size_of::<Accounted>() <= 512 - 64);
