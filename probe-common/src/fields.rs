//! The kernel fields that the programs read, one list for both sides.
//!
//! The user side finds each in the running kernel's BTF and injects its place into the programs' read-only data
//! before they load; the verifier sees constants. A field that is required and absent refuses the load with its name;
//! an optional one that is absent makes the flow's field null.

/// Where a field is, packed: bits 0–15 byte offset, 16–23 first bit in it, 24–31 width in bits (0: whole bytes).
pub type Place = u32;

/// The place of a field that this kernel does not have.
pub const ABSENT: Place = u32::MAX;

/// Packs the place of a field; `None` when it does not fit.
#[must_use]
pub const fn place(byte_offset: u32, first_bit: u32, bits: u32) -> Option<Place> {
    if byte_offset > 0xffff || first_bit > 0xff || bits > 0xff {
        return None;
    }
    Some(byte_offset | first_bit << 16 | bits << 24)
}

/// One field to be found in BTF.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Kernel type that the offset counts from.
    pub container: &'static str,
    /// Members from there, joined by dots; anonymous unions are looked through, arrays give their first element.
    pub path: &'static str,
    /// Width that the programs read, in bytes; a bitfield is read from one byte, whatever its width.
    pub bytes: u32,
    /// Without it there is no measurement.
    pub required: bool,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $container:literal . $path:literal, $bytes:literal, $need:ident;)*) => {
        /// A kernel field; its number is its index in the injected table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Field {
            $($(#[$doc])* $name,)*
        }

        /// All fields, in the order of [`Field`].
        pub const FIELDS: &[(Field, FieldSpec)] = &[
            $((Field::$name, FieldSpec {
                container: $container, path: $path, bytes: $bytes, required: fields!(@$need),
            }),)*
        ];
    };
    (@required) => { true };
    (@optional) => { false };
}

fields! {
    /// Address family. This and the next addresses and ports lie in `sock_common`, which a request starts with too.
    Family: "sock"."__sk_common.skc_family", 2, required;
    /// TCP state.
    State: "sock"."__sk_common.skc_state", 1, required;
    /// Socket cookie; 0 until someone asks for it.
    Cookie: "sock"."__sk_common.skc_cookie.counter", 8, required;
    /// Its place among the sockets that segments are looked up in; null once it is out of them.
    Hashed: "sock"."__sk_common.skc_nulls_node.pprev", 8, optional;
    /// Network namespace.
    Net: "sock"."__sk_common.skc_net.net", 8, required;
    /// Remote port, network byte order.
    RemotePort: "sock"."__sk_common.skc_dport", 2, required;
    /// Local port in host byte order; 0 once the port is given back, and the only one that a request has.
    LocalPortHost: "sock"."__sk_common.skc_num", 2, required;
    /// Remote IPv4 address.
    Remote4: "sock"."__sk_common.skc_daddr", 4, required;
    /// Local IPv4 address.
    Local4: "sock"."__sk_common.skc_rcv_saddr", 4, required;
    /// Remote IPv6 address.
    Remote6: "sock"."__sk_common.skc_v6_daddr", 16, optional;
    /// Local IPv6 address.
    Local6: "sock"."__sk_common.skc_v6_rcv_saddr", 16, optional;
    /// Error that the socket ended with.
    Error: "sock"."sk_err", 4, required;
    /// Which ways are shut down: 1 is receiving.
    Shutdown: "sock"."sk_shutdown", 1, optional;
    /// Owner.
    Uid: "sock"."sk_uid.val", 4, optional;
    /// cgroup v2 of the socket.
    Cgroup: "sock"."sk_cgrp_data.cgroup", 8, optional;
    /// The cgroup's directory.
    CgroupNode: "cgroup"."kn", 8, optional;
    /// The directory's id, its inode number.
    NodeId: "kernfs_node"."id", 8, optional;
    /// Inode number of a network namespace.
    NetInode: "net"."ns.inum", 4, required;
    /// Local port, network byte order; kept after the port is given back.
    LocalPort: "inet_sock"."inet_sport", 2, required;
    /// Congestion state.
    CaState: "inet_connection_sock"."icsk_ca_state", 1, required;
    /// Armed timer.
    Pending: "inet_connection_sock"."icsk_pending", 1, required;
    /// Congestion control.
    CaOps: "inet_connection_sock"."icsk_ca_ops", 8, optional;
    /// Its name.
    CaName: "tcp_congestion_ops"."name", 16, optional;
    /// Payload bytes sent.
    BytesSent: "tcp_sock"."bytes_sent", 8, required;
    /// Sequence space acknowledged.
    BytesAcked: "tcp_sock"."bytes_acked", 8, required;
    /// Payload bytes received.
    BytesReceived: "tcp_sock"."bytes_received", 8, required;
    /// Payload bytes sent again.
    BytesRetrans: "tcp_sock"."bytes_retrans", 8, optional;
    /// Segments sent.
    SegsOut: "tcp_sock"."segs_out", 4, required;
    /// Segments with payload sent.
    DataSegsOut: "tcp_sock"."data_segs_out", 4, required;
    /// Segments received.
    SegsIn: "tcp_sock"."segs_in", 4, required;
    /// Segments with payload received.
    DataSegsIn: "tcp_sock"."data_segs_in", 4, required;
    /// Segments sent again.
    TotalRetrans: "tcp_sock"."total_retrans", 4, required;
    /// Segments that the peer reported as duplicates.
    DsackDups: "tcp_sock"."dsack_dups", 4, optional;
    /// Segments delivered with a congestion mark.
    DeliveredCe: "tcp_sock"."delivered_ce", 4, optional;
    /// Segments received out of order.
    RcvOoopack: "tcp_sock"."rcv_ooopack", 4, optional;
    /// Smoothed round-trip time.
    Srtt: "tcp_sock"."srtt_us", 4, required;
    /// Mean deviation.
    Mdev: "tcp_sock"."mdev_us", 4, required;
    /// Windowed minimum: the value of its first slot.
    RttMin: "tcp_sock"."rtt_min.s.v", 4, required;
    /// Round trip of the newest delivered segment; the sample where RTT_CB has no argument (before 6.10).
    RackRtt: "tcp_sock"."rack.rtt_us", 4, required;
    /// Congestion window.
    SndCwnd: "tcp_sock"."snd_cwnd", 4, required;
    /// Slow-start threshold.
    SndSsthresh: "tcp_sock"."snd_ssthresh", 4, required;
    /// Payload of a full segment.
    MssCache: "tcp_sock"."mss_cache", 4, required;
    /// Segments in flight.
    PacketsOut: "tcp_sock"."packets_out", 4, required;
    /// End of what was written.
    WriteSeq: "tcp_sock"."write_seq", 4, required;
    /// End of what was sent.
    SndNxt: "tcp_sock"."snd_nxt", 4, required;
    /// Start of what is sent and not acknowledged.
    SndUna: "tcp_sock"."snd_una", 4, required;
    /// The peer's window, bytes.
    SndWnd: "tcp_sock"."snd_wnd", 4, required;
    /// When a segment was last delivered, or the first of a flight after a pause was sent; µs of the monotonic clock.
    DeliveredAt: "tcp_sock"."delivered_mstamp", 8, required;
    /// When the stack last looked at its clock for this socket; likewise.
    LookedAt: "tcp_sock"."tcp_mstamp", 8, required;
    /// When the newest delivered segment was sent, or the first of a flight after a pause; likewise.
    FirstSentAt: "tcp_sock"."first_tx_mstamp", 8, required;
    /// Where an episode that may be taken back began; 0 once it was, or could not be.
    UndoMarker: "tcp_sock"."undo_marker", 4, optional;
    /// Reordering events.
    ReordSeen: "tcp_sock"."reord_seen", 4, optional;
    /// Rate sample: segments.
    RateDelivered: "tcp_sock"."rate_delivered", 4, optional;
    /// Rate sample: microseconds.
    RateInterval: "tcp_sock"."rate_interval_us", 4, optional;
    /// Rate sample: limited by the application.
    RateAppLimited: "tcp_sock"."rate_app_limited", 1, optional;
    /// What limits the sender now.
    ChronoType: "tcp_sock"."chrono_type", 1, optional;
    /// Since when, jiffies.
    ChronoStart: "tcp_sock"."chrono_start", 4, optional;
    /// How long each kind has lasted, three counters in jiffies.
    ChronoStat: "tcp_sock"."chrono_stat", 12, optional;
    /// sock_ops callbacks that are switched on.
    CbFlags: "tcp_sock"."bpf_sock_ops_cb_flags", 1, required;
}

/// Length of the injected table.
pub const FIELD_COUNT: usize = FIELDS.len();

/// The table that the programs read.
pub type Places = [Place; FIELD_COUNT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_its_own_index() {
        for (i, (field, _)) in FIELDS.iter().enumerate() {
            assert_eq!(*field as usize, i);
        }
    }

    #[test]
    fn places_do_not_overflow_in_silence() {
        assert_eq!(place(0x1234, 3, 5), Some(0x0503_1234));
        assert_eq!(place(0x1_0000, 0, 0), None);
    }
}
