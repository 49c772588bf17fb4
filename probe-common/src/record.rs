//! The records that cross from the kernel to the user side.
//!
//! One [`FlowRecord`] serves all views: a closing connection sends it through the ring buffer, the TCP iterators
//! write it for live ones. Native byte order except where a name ends in `_be`.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::histogram::{BUCKETS, NearHistogram};

/// What a record says, in its `kind`.
pub mod kind {
    /// The connection ended (or its connect failed); counters are totals.
    pub const CLOSED: u8 = 1;
    /// A snapshot of a live connection; counters are totals, nothing was accounted.
    pub const LIVE: u8 = 2;
    /// What was added since the last accounting; counters and histogram are differences, and how the connection stands was not
    /// looked at: `uid`, `error`, `congestion_control` and all from `srtt_us_x8` to `rate_app_limited` that the kernel keeps are 0.
    pub const INCREMENT: u8 = 3;
    /// A SYN-ACK was sent again; a [`super::SynackRecord`].
    pub const SYNACK: u8 = 4;
}

/// Who opened the connection, in a record's `role`.
pub mod role {
    /// Not known: the connection is older than the probe.
    pub const UNKNOWN: u8 = 0;
    /// This socket called connect().
    pub const CLIENT: u8 = 1;
    /// This socket was born on a listener.
    pub const SERVER: u8 = 2;
}

/// Bits of a record's `flags`.
pub mod flag {
    /// The handshake was completed.
    pub const ESTABLISHED: u32 = 1;
    /// The connection is older than the probe.
    pub const ADOPTED: u32 = 1 << 1;
    /// The kernel calls the probe for this socket's samples, retransmissions and states.
    pub const CALLBACKS: u32 = 1 << 2;
    /// The first FIN was ours.
    pub const FIN_LOCAL: u32 = 1 << 3;
    /// The first FIN was the peer's.
    pub const FIN_REMOTE: u32 = 1 << 4;
    /// Increments of this connection are sent apart: do not take a closing record's totals for one.
    pub const ACCOUNTED: u32 = 1 << 5;
    /// This record is the first that accounts for the connection: it was opened.
    pub const OPENED: u32 = 1 << 6;
    /// The close itself was not seen; the record comes from the socket's destruction.
    pub const FROM_DESTROY: u32 = 1 << 7;
    /// The connection's record has been sent (in the socket's state only).
    pub const FINISHED: u32 = 1 << 8;
    /// The kernel had zeroed the socket's counters before the connection's end was seen (tcp_disconnect): the record has none.
    pub const WIPED: u32 = 1 << 9;
    /// The Loss state that the connection is in was entered by the retransmission timer (in the socket's state only).
    pub const LOSS_BY_TIMER: u32 = 1 << 10;
    /// The application closed the socket; the kernel answers further data with a reset.
    pub const APP_CLOSED: u32 = 1 << 11;
    /// It did: the error that the connection ended with is our own reset's.
    pub const RESET_OURS: u32 = 1 << 12;
    /// Something was lost, came out of order or stood still: there is a second state for that (in the socket's state only).
    pub const TROUBLED: u32 = 1 << 13;
    /// A stall on a closed window is under way and was counted (in the socket's state only).
    pub const WINDOW_STALL: u32 = 1 << 14;
    /// The round trips lie too far apart or are too many for the near buckets: the record has all of them.
    pub const WIDE: u32 = 1 << 15;
    /// The state is a connection's, no longer the zeros that the kernel makes (in the socket's state only).
    pub const BEGUN: u32 = 1 << 16;
    /// Where the bits of the [`super::role`] begin (in the socket's state only; records have a field for it).
    pub const ROLE_SHIFT: u32 = 17;
    /// Those bits.
    pub const ROLE: u32 = 3 << ROLE_SHIFT;
    /// The next sweep looks at the connection again, though it may have had no segment since: trouble that the kernel has counted
    /// waits for the memory to account for it, or something was outstanding (in the socket's state only).
    pub const OWING: u32 = 1 << 19;
    /// Those that serve the programs only and are in no record.
    pub const PRIVATE: u32 = FINISHED | LOSS_BY_TIMER | TROUBLED | WINDOW_STALL | BEGUN | ROLE | OWING;
}

/// What only grows during one connection's life. u32 counters wrap as the kernel's own do.
/// u64 come first; of each width those that every connection moves come before those of trouble.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Payload bytes sent, with retransmissions (tcp_sock.bytes_sent, RFC 4898 HCDataOctetsOut).
    pub bytes_sent: u64,
    /// Sequence space acknowledged: payload, and 1 for the SYN of a client and for a FIN (tcp_sock.bytes_acked).
    pub bytes_acked: u64,
    /// Sequence space received in order: payload, and 1 for a FIN (tcp_sock.bytes_received).
    pub bytes_received: u64,
    /// Sum of the round-trip samples, µs.
    pub rtt_sum_us: u64,
    /// Payload bytes sent again (tcp_sock.bytes_retrans); SYN and SYN-ACK have none.
    pub bytes_retrans: u64,
    /// Time in loss episodes that ended, µs.
    pub loss_episode_us: u64,
    /// Time in stalls that a retransmission timeout was part of, µs; grows while one lasts, at sweeps.
    pub stall_rto_us: u64,
    /// Time in stalls on a closed window, µs.
    pub stall_zero_window_us: u64,
    /// Time in other stalls, µs.
    pub stall_other_us: u64,
    /// Round-trip samples, one a round trip, without the handshake's.
    pub rtt_samples: u32,
    /// Segments sent (tcp_sock.segs_out).
    pub segs_out: u32,
    /// Segments with payload sent (tcp_sock.data_segs_out).
    pub data_segs_out: u32,
    /// Segments received (tcp_sock.segs_in).
    pub segs_in: u32,
    /// Segments with payload received (tcp_sock.data_segs_in).
    pub data_segs_in: u32,
    /// Time with data outstanding, in jiffies (tcp_sock.chrono_stat, all three kinds).
    pub busy_jiffies: u32,
    /// … of this limited by the peer's window.
    pub rwnd_limited_jiffies: u32,
    /// … of this limited by our send buffer.
    pub sndbuf_limited_jiffies: u32,
    /// Segments sent again, as the kernel counts them (tcp_sock.total_retrans).
    pub retrans_segs: u32,
    /// Segments that the peer reported as received twice (tcp_sock.dsack_dups, RFC 2883), no more than were sent again.
    pub spurious_segs: u32,
    /// Segments sent again without need: reported by the peer, or sent in episodes that were taken back; each once. No more than were
    /// sent again.
    pub needless_segs: u32,
    /// Segments acknowledged with a congestion mark (tcp_sock.delivered_ce, RFC 3168).
    pub ce_delivered_segs: u32,
    /// Segments received out of order (tcp_sock.rcv_ooopack).
    pub ooo_segs_in: u32,
    /// … of `retrans_segs` in fast recovery.
    pub retrans_fast: u32,
    /// … of these after a timeout.
    pub retrans_rto: u32,
    /// … of these as tail loss probes.
    pub retrans_tlp: u32,
    /// … of these SYNs.
    pub retrans_syn: u32,
    /// … of these SYN-ACKs.
    pub retrans_synack: u32,
    /// … of these with a cause that the socket did not tell.
    pub retrans_other: u32,
    /// Retransmissions that did not leave the host; they are in `retrans_segs` too.
    pub retrans_failed_segs: u32,
    /// Retransmission timeouts, those of the handshake among them.
    pub rto_count: u32,
    /// Loss episodes that began: entries to Recovery or Loss from another state.
    pub loss_episodes: u32,
    /// … of `loss_episodes` the kernel took back: what it had sent again was not lost (tcp_undo_cwnd_reduction).
    pub undone_episodes: u32,
    /// Stalls that a retransmission timeout was part of: data outstanding and `snd_una` unmoved for longer than
    /// max(3 x srtt, 200 ms).
    pub stalls_rto: u32,
    /// … on a window that the peer had closed.
    pub stalls_zero_window: u32,
    /// … of neither kind.
    pub stalls_other: u32,
}

impl Counters {
    /// Nothing counted.
    // SAFETY: integers only.
    pub const ZERO: Self = unsafe { core::mem::zeroed() };
    /// How many of the u64 every connection moves.
    pub const WIDE: usize = 4;
    /// How many u64 are of trouble: zero in a connection in which nothing was lost, came out of order or stood still.
    pub const WIDE_TROUBLE: usize = 5;
    /// How many of the u32 every connection moves.
    pub const NARROW: usize = 8;
    /// How many u32 are of trouble.
    pub const NARROW_TROUBLE: usize = 18;
}

const _: () = assert!(offset_of!(Counters, bytes_retrans) == Counters::WIDE * 8);
const _: () = assert!(offset_of!(Counters, rtt_samples) == (Counters::WIDE + Counters::WIDE_TROUBLE) * 8);
const _: () =
    assert!(offset_of!(Counters, retrans_segs) == offset_of!(Counters, rtt_samples) + Counters::NARROW * 4);
const _: () =
    assert!(size_of::<Counters>() == offset_of!(Counters, retrans_segs) + Counters::NARROW_TROUBLE * 4);

/// A connection, as it ends, as it is, or as it grew. Crosses the border alone while [`NearHistogram`] holds its round
/// trips, and as the beginning of a [`FlowRecord`] otherwise.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowHead {
    /// [`crate::ABI_VERSION`].
    pub abi: u16,
    /// One of [`kind`].
    pub kind: u8,
    /// One of [`role`].
    pub role: u8,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Socket cookie; with `generation` the connection's identity.
    pub cookie: u64,
    /// cgroup v2 id of the socket's creator; 0 where the socket has none.
    pub cgroup_id: u64,
    /// CLOCK_MONOTONIC when the connection was first seen, ns; 0 for adopted ones.
    pub opened_ns: u64,
    /// CLOCK_MONOTONIC of this record, ns.
    pub now_ns: u64,
    /// How often this socket was connected before.
    pub generation: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local address: 16 bytes of IPv6, or 4 of IPv4 and zeros, by `family`.
    pub local_addr: [u8; 16],
    /// Remote address, likewise.
    pub remote_addr: [u8; 16],
    /// Local port, network byte order.
    pub local_port_be: u16,
    /// Remote port, network byte order.
    pub remote_port_be: u16,
    /// AF_INET or AF_INET6 of the socket (a v4-mapped peer has AF_INET6 here).
    pub family: u16,
    /// TCP state; in a closing record the one before CLOSE.
    pub state: u8,
    /// Explicit padding, 0.
    pub pad: u8,
    /// User that owns the socket, in the initial user namespace.
    pub uid: u32,
    /// `sk_err`, a positive errno, 0 for none.
    pub error: u32,
    /// Name of the congestion control, padded with 0.
    pub congestion_control: [u8; 16],
    /// Smoothed round-trip time in eighths of a µs; 0 before the first sample (tcp_sock.srtt_us).
    pub srtt_us_x8: u32,
    /// Mean deviation in quarters of a µs (tcp_sock.mdev_us).
    pub mdev_us_x4: u32,
    /// Windowed minimum (tcp_sock.rtt_min); u32::MAX before the first sample.
    pub min_rtt_us: u32,
    /// Smallest of this connection's own samples, the handshake's among them; u32::MAX before the first.
    pub own_min_rtt_us: u32,
    /// The handshake's sample; u32::MAX where it gave none.
    pub handshake_rtt_us: u32,
    /// Largest of this connection's own samples, without the handshake's; 0 before the first.
    pub rtt_max_us: u32,
    /// Congestion window, segments.
    pub cwnd_segs: u32,
    /// Slow-start threshold, segments; 0x7fffffff while it was never set.
    pub ssthresh_segs: u32,
    /// Payload of a full segment now, bytes (tcp_sock.mss_cache).
    pub mss_bytes: u32,
    /// Segments sent and not acknowledged (tcp_sock.packets_out); 0 after the kernel purged the queue.
    pub unacked_segs: u32,
    /// Sequence space written and never sent: write_seq - snd_nxt, a FIN counts 1.
    pub unsent_seq: u32,
    /// Sequence space sent and never acknowledged: snd_nxt - snd_una, a SYN and a FIN count 1.
    pub unacked_seq: u32,
    /// Times reordering was seen (tcp_sock.reord_seen).
    pub reordering_seen: u32,
    /// Segments delivered in the last rate sample (tcp_sock.rate_delivered).
    pub rate_delivered_segs: u32,
    /// Length of the last rate sample, µs (tcp_sock.rate_interval_us); 0 for none.
    pub rate_interval_us: u32,
    /// 1 when that sample was limited by the application (tcp_sock.rate_app_limited).
    pub rate_app_limited: u32,
    /// Longest loss episode, µs.
    pub loss_episode_max_us: u32,
    /// Explicit padding, 0.
    pub pad2: u32,
    /// Totals or differences, by `kind`.
    pub counters: Counters,
    /// Round-trip samples; empty where the record has all buckets.
    pub near: NearHistogram,
    /// Explicit padding, 0.
    pub pad3: u32,
}

/// A connection with its round trips by bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowRecord {
    /// All but the histogram; [`FlowRecord`] dereferences to it.
    pub head: FlowHead,
    /// Round-trip samples by bucket ([`crate::histogram`]); totals or differences, by `kind`.
    pub rtt_histogram: [u32; BUCKETS],
}

impl core::ops::Deref for FlowRecord {
    type Target = FlowHead;

    fn deref(&self) -> &FlowHead {
        &self.head
    }
}

impl core::ops::DerefMut for FlowRecord {
    fn deref_mut(&mut self) -> &mut FlowHead {
        &mut self.head
    }
}

/// A SYN-ACK that was sent again, for a request that may never become a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SynackRecord {
    /// [`crate::ABI_VERSION`].
    pub abi: u16,
    /// [`kind::SYNACK`].
    pub kind: u8,
    /// Explicit padding, 0.
    pub pad: u8,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// cgroup v2 id of the listener's creator; 0 where it has none.
    pub cgroup_id: u64,
    /// The listener's side, as in [`FlowRecord`].
    pub local_addr: [u8; 16],
    /// The client's side.
    pub remote_addr: [u8; 16],
    /// Local port, network byte order.
    pub local_port_be: u16,
    /// Remote port, network byte order.
    pub remote_port_be: u16,
    /// AF_INET or AF_INET6 of the request.
    pub family: u16,
    /// Explicit padding, 0.
    pub pad2: u16,
}

const _: () = assert!(size_of::<FlowHead>() == 400);
const _: () = assert!(size_of::<FlowRecord>() == 656);
const _: () = assert!(size_of::<SynackRecord>() == 56);
