//! The flow as people and tools see it: one connection with its round trips, losses, volume and limits.
//!
//! Pure: made from a [`probe_common::record::FlowRecord`], nothing here reads the machine. Field names, their order and
//! their meaning are the contract (schema 1); what the kernel gives no value for is `None`, and null in JSON.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

pub mod close;
pub mod cut;
pub mod field;
pub mod filter;
pub mod from_record;
pub mod name;
#[cfg(test)]
pub(crate) mod sample;
pub mod sort;

/// Version of the flow's fields.
pub const SCHEMA_VERSION: u32 = 1;

/// A connection: live, or as it ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flow {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Socket cookie and generation, `cookie.generation`; unique on one host between boots.
    pub flow_id: String,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Address family on the wire; a v4-mapped peer is ipv4.
    pub family: Family,
    /// Who opened the connection; `None` for one older than the probe.
    pub role: Option<Role>,
    /// Local address.
    pub local_addr: IpAddr,
    /// Local port.
    pub local_port: u16,
    /// Remote address.
    pub remote_addr: IpAddr,
    /// Remote port.
    pub remote_port: u16,
    /// User that owns the socket.
    pub uid: Option<u32>,
    /// Path of the socket's cgroup v2, from the root of the hierarchy.
    pub cgroup: Option<Arc<str>>,
    /// Name of the congestion control.
    pub congestion_control: Option<String>,

    /// TCP state; for a connection that ended the state before CLOSE.
    pub state: State,
    /// The connection is older than the probe.
    pub adopted: bool,
    /// When its first SYN was sent (client) or its handshake completed (server).
    pub opened_at: Option<Timestamp>,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
    /// From `opened_at` to the end, or to now; by the monotonic clock.
    pub duration_us: Option<u64>,
    /// How it ended; `None` while it lives.
    pub close_reason: Option<CloseReason>,
    /// Whose FIN came first; `None` where none was seen.
    pub first_fin: Option<FirstFin>,
    /// Name of the errno that it ended with.
    pub error: Option<&'static str>,

    /// The handshake's round trip.
    pub handshake_rtt_us: Option<u32>,
    /// Smoothed round-trip time (RFC 6298).
    pub srtt_us: Option<u32>,
    /// Its variation (RFC 6298; the kernel's mean deviation, as in TCP_INFO).
    pub rttvar_us: Option<u32>,
    /// Smallest round trip; the kernel's windowed minimum over 300 s.
    pub min_rtt_us: Option<u32>,
    /// Round trips sampled, one a round trip, the handshake's not among them.
    pub rtt_samples: Option<u32>,
    /// Their sum.
    pub rtt_sum_us: Option<u64>,
    /// Their largest.
    pub rtt_max_us: Option<u32>,
    /// Their histogram: upper bound in µs (`None` for the last, which has none) and count; empty buckets left out.
    pub rtt_histogram: Option<Vec<(Option<u32>, u32)>>,
    /// Where the round trips come from.
    pub rtt_source: RttSource,

    /// Segments sent. This and all counts that follow are `None` where the socket had forgotten them: an adopted connection
    /// that its owner reset, before Linux 6.12.
    pub segs_out: Option<u32>,
    /// Segments with payload sent.
    pub data_segs_out: Option<u32>,
    /// Segments received.
    pub segs_in: Option<u32>,
    /// Segments with payload received.
    pub data_segs_in: Option<u32>,
    /// Segments sent again: the sum of the next seven.
    pub retrans_segs: Option<u32>,
    /// … in fast recovery.
    pub retrans_fast: Option<u32>,
    /// … after a timeout.
    pub retrans_rto: Option<u32>,
    /// … as tail loss probes.
    pub retrans_tlp: Option<u32>,
    /// … SYNs.
    pub retrans_syn: Option<u32>,
    /// … SYN-ACKs.
    pub retrans_synack: Option<u32>,
    /// … for a reason that the socket did not tell.
    pub retrans_other: Option<u32>,
    /// … before the probe could see causes.
    pub retrans_unattributed: Option<u32>,
    /// Payload bytes sent again.
    pub retrans_bytes: Option<u64>,
    /// Segments that the peer reported as received twice.
    pub spurious_segs: Option<u32>,
    /// `retrans_segs` less `needless_segs`, or less `spurious_segs` where loss episodes are not seen.
    pub lost_segs_estimate: Option<u32>,
    /// Retransmission timeouts; `None` where they could not be seen from the start.
    pub rto_count: Option<u32>,
    /// Loss episodes: from entering Recovery or Loss until leaving both.
    pub loss_episodes: Option<u32>,
    /// Time in them, the present one not among them.
    pub loss_episode_us: Option<u64>,
    /// The longest of them.
    pub loss_episode_max_us: Option<u32>,
    /// Loss episodes that the kernel took back, for nothing had been lost (RFC 2883, RFC 3522, RFC 5682).
    pub undone_episodes: Option<u32>,
    /// Segments sent again without need, each once: reported by the peer, or in episodes that the kernel took back.
    pub needless_segs: Option<u32>,
    /// Stalls that a retransmission timeout was part of: data outstanding, and nothing of it newly acknowledged for longer
    /// than max(3 × srtt, 200 ms).
    pub stalls_rto: Option<u32>,
    /// … on a window that the peer had closed.
    pub stalls_zero_window: Option<u32>,
    /// … of neither kind.
    pub stalls_other: Option<u32>,
    /// Time in stalls that a retransmission timeout was part of, the present one up to when it was last looked at.
    pub stall_rto_us: Option<u64>,
    /// Time in those on a closed window.
    pub stall_zero_window_us: Option<u64>,
    /// Time in those of neither kind.
    pub stall_other_us: Option<u64>,
    /// Times the kernel saw reordering.
    pub reordering_seen: Option<u32>,
    /// Segments delivered with a congestion mark.
    pub ce_delivered_segs: Option<u32>,
    /// Segments received out of order.
    pub ooo_segs_in: Option<u32>,

    /// Payload bytes sent, with retransmissions.
    pub bytes_sent: Option<u64>,
    /// Bytes acknowledged, as in TCP_INFO: a client's SYN and a FIN count 1.
    pub bytes_acked: Option<u64>,
    /// Bytes received in order, as in TCP_INFO: the peer's FIN counts 1.
    pub bytes_received: Option<u64>,
    /// Rate of the last sample.
    pub delivery_rate_bytes_per_second: Option<u64>,
    /// Whether the application limited that sample.
    pub app_limited: Option<bool>,

    /// Time with data outstanding.
    pub busy_us: Option<u64>,
    /// … of this limited by the peer's window.
    pub rwnd_limited_us: Option<u64>,
    /// … of this limited by our send buffer.
    pub sndbuf_limited_us: Option<u64>,
    /// Congestion window.
    pub cwnd_segs: u32,
    /// Slow-start threshold; `None` while it was never set.
    pub ssthresh_segs: Option<u32>,
    /// Payload of a full segment.
    pub mss_bytes: u32,
    /// Segments sent and not acknowledged; `None` after an error, as the kernel drops the queue first.
    pub unacked_segs: Option<u32>,
    /// Bytes sent and not acknowledged; at the end what the peer may never have got.
    pub unacked_bytes: Option<u32>,
    /// Bytes written by the application that were never sent.
    pub unsent_bytes: Option<u32>,
}

/// Address family on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4, also through an IPv6 socket.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// This host.
    Client,
    /// The peer.
    Server,
}

/// Where a flow's round trips come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RttSource {
    /// The kernel's own samples, one a round trip.
    RoundTrip,
    /// Only what a sweep reads: no samples, `srtt_us` and `min_rtt_us` as of now.
    Sweep,
}

/// TCP state (RFC 9293), named as `ss` does with underscores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "RFC 9293 says what they are")]
pub enum State {
    Established,
    SynSent,
    SynRecv,
    #[serde(rename = "fin_wait1")]
    FinWait1,
    #[serde(rename = "fin_wait2")]
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
}

/// Whose FIN came first, by the order of this host's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstFin {
    /// Ours, also when the peer's crossed it.
    Local,
    /// The peer's.
    Remote,
}

/// How a connection ended, or why it never began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// In order, our FIN first.
    FinLocal,
    /// In order, the peer's FIN first.
    FinRemote,
    /// We reset it.
    ResetSent,
    /// The peer reset it.
    ResetReceived,
    /// The kernel gave up: no answer to data, FIN or keepalive.
    Timeout,
    /// Nobody listens there.
    ConnectRefused,
    /// No answer to the SYN.
    ConnectTimeout,
    /// The network said that it cannot be reached.
    ConnectUnreachable,
    /// Reset during the handshake.
    ConnectReset,
    /// Given up by this host: by the application before the handshake ended, or by an administrator.
    Aborted,
    /// None of these; `error` may tell.
    Other,
}
