//! Makes a flow of a record: units, nulls, names.
//!
//! What the kernel lacks, never sampled or could not be seen becomes `None` here and nowhere else.

use std::{net::IpAddr, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use probe_common::{
    fields::{ABSENT, Field, Places},
    histogram::{BUCKETS, UPPER_BOUNDS_US},
    record::{Counters, FlowRecord, flag, kind, role},
    tcp::{ECHO_TICK_US, is_timed_in_us, state},
};

use super::{
    Family, Flow, Role, RttSource, SCHEMA_VERSION, State,
    close::{close_reason, first_fin},
};

/// What a record's numbers mean on the machine that they come from.
#[derive(Clone, Debug)]
pub struct Context {
    /// Which fields the kernel has.
    pub places: Places,
    /// Jiffies a second (CONFIG_HZ).
    pub hz: u32,
    /// Wall time less monotonic time, ns.
    pub wall_offset_ns: i64,
}

impl Context {
    /// Whether the kernel has the field.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.places[field as usize] != ABSENT
    }

    fn wall(&self, monotonic_ns: u64) -> Option<Timestamp> {
        let ns = i128::from(monotonic_ns) + i128::from(self.wall_offset_ns);
        Timestamp::from_nanosecond(ns).ok()
    }

    fn jiffies_us(&self, jiffies: u32) -> Option<u64> {
        (self.has(Field::ChronoStat) && self.has(Field::ChronoType) && self.has(Field::ChronoStart))
            .then(|| u64::from(jiffies) * 1_000_000 / u64::from(self.hz))
    }
}

/// The flow of a record of kind CLOSED or LIVE; `cgroup` is the path of the record's `cgroup_id`.
#[must_use]
pub fn flow(record: &FlowRecord, context: &Context, cgroup: Option<Arc<str>>) -> Flow {
    let closed = record.kind == kind::CLOSED;
    let has_flag = |bit: u32| record.flags & bit != 0;
    let sampled = has_flag(flag::CALLBACKS);
    // Wiped by tcp_disconnect before anybody looked.
    let counted = (!has_flag(flag::WIPED)).then_some(&record.counters);
    let (local_addr, remote_addr) =
        (address(record.family, record.local_addr), address(record.family, record.remote_addr));
    let counted_with = |field: Field| counted.filter(|_| context.has(field));
    let spurious_segs = counted_with(Field::DsackDups).map(|c| c.spurious_segs);
    let seen = counted.filter(|_| sampled);
    let samples = seen.map(|c| c.rtt_samples);
    let in_episodes = seen.filter(|_| context.has(Field::UndoMarker));
    let needless_segs = in_episodes.map(|c| c.needless_segs);
    Flow {
        schema_version: SCHEMA_VERSION,
        flow_id: format!("{}.{}", record.cookie, record.generation),
        netns: record.netns,
        family: if remote_addr.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 },
        role: match record.role {
            role::CLIENT => Some(Role::Client),
            role::SERVER => Some(Role::Server),
            _ => None,
        },
        local_addr,
        local_port: u16::from_be(record.local_port_be),
        remote_addr,
        remote_port: u16::from_be(record.remote_port_be),
        uid: (context.has(Field::Uid) && record.uid != u32::MAX).then_some(record.uid),
        cgroup,
        congestion_control: name(&record.congestion_control),
        state: state_of(record.state),
        adopted: has_flag(flag::ADOPTED),
        opened_at: (record.opened_ns != 0).then(|| context.wall(record.opened_ns)).flatten(),
        closed_at: closed.then(|| context.wall(record.now_ns)).flatten(),
        duration_us: (record.opened_ns != 0).then(|| record.now_ns.saturating_sub(record.opened_ns) / 1000),
        close_reason: closed.then(|| close_reason(record)),
        first_fin: first_fin(record),
        // Our own tcp_disconnect, which wiped the counters, sets an error too.
        error: (closed && record.error != 0 && !has_flag(flag::WIPED)).then(|| errno_name(record.error)),
        handshake_rtt_us: some_unless(record.handshake_rtt_us, u32::MAX),
        srtt_us: some_unless(record.srtt_us_x8, 0).map(|v| v >> 3),
        rttvar_us: some_unless(record.srtt_us_x8, 0).map(|_| record.mdev_us_x4 >> 2),
        min_rtt_us: min_rtt_us(record),
        rtt_samples: samples,
        rtt_sum_us: seen.map(|c| c.rtt_sum_us),
        rtt_max_us: samples.filter(|n| *n > 0).map(|_| record.rtt_max_us),
        rtt_histogram: samples.map(|_| histogram(&record.rtt_histogram)),
        rtt_source: if sampled { RttSource::RoundTrip } else { RttSource::Sweep },
        segs_out: counted.map(|c| c.segs_out),
        data_segs_out: counted.map(|c| c.data_segs_out),
        segs_in: counted.map(|c| c.segs_in),
        data_segs_in: counted.map(|c| c.data_segs_in),
        retrans_segs: counted.map(|c| c.retrans_segs),
        retrans_fast: counted.map(|c| c.retrans_fast),
        retrans_rto: counted.map(|c| c.retrans_rto),
        retrans_tlp: counted.map(|c| c.retrans_tlp),
        retrans_syn: counted.map(|c| c.retrans_syn),
        retrans_synack: counted.map(|c| c.retrans_synack),
        retrans_other: counted.map(|c| c.retrans_other),
        retrans_unattributed: counted.map(|c| c.retrans_segs.wrapping_sub(attributed(c))),
        retrans_bytes: counted_with(Field::BytesRetrans).map(|c| c.bytes_retrans),
        spurious_segs,
        lost_segs_estimate: needless_segs
            .or(spurious_segs)
            .zip(counted)
            .map(|(needless, c)| c.retrans_segs.saturating_sub(needless)),
        rto_count: seen.filter(|_| !has_flag(flag::ADOPTED)).map(|c| c.rto_count),
        loss_episodes: in_episodes.map(|c| c.loss_episodes),
        loss_episode_us: in_episodes.map(|c| c.loss_episode_us),
        loss_episode_max_us: in_episodes.map(|_| record.loss_episode_max_us),
        undone_episodes: in_episodes.map(|c| c.undone_episodes),
        needless_segs,
        stalls_rto: seen.map(|c| c.stalls_rto),
        stalls_zero_window: seen.map(|c| c.stalls_zero_window),
        stalls_other: seen.map(|c| c.stalls_other),
        stall_rto_us: seen.map(|c| c.stall_rto_us),
        stall_zero_window_us: seen.map(|c| c.stall_zero_window_us),
        stall_other_us: seen.map(|c| c.stall_other_us),
        reordering_seen: context.has(Field::ReordSeen).then_some(record.reordering_seen),
        ce_delivered_segs: counted_with(Field::DeliveredCe).map(|c| c.ce_delivered_segs),
        ooo_segs_in: counted_with(Field::RcvOoopack).map(|c| c.ooo_segs_in),
        bytes_sent: counted.map(|c| c.bytes_sent),
        bytes_acked: counted.map(|c| c.bytes_acked),
        bytes_received: counted.map(|c| c.bytes_received),
        delivery_rate_bytes_per_second: delivery_rate(record, context),
        app_limited: (context.has(Field::RateAppLimited) && has_rate(record))
            .then_some(record.rate_app_limited != 0),
        busy_us: counted.and_then(|c| context.jiffies_us(c.busy_jiffies)),
        rwnd_limited_us: counted.and_then(|c| context.jiffies_us(c.rwnd_limited_jiffies)),
        sndbuf_limited_us: counted.and_then(|c| context.jiffies_us(c.sndbuf_limited_jiffies)),
        cwnd_segs: record.cwnd_segs,
        ssthresh_segs: some_unless(record.ssthresh_segs, INFINITE_SSTHRESH),
        mss_bytes: record.mss_bytes,
        // tcp_reset and tcp_write_err purge the queue, and its count with it, before the transition to CLOSE.
        unacked_segs: (!closed || record.error == 0).then_some(record.unacked_segs),
        unacked_bytes: unacked_bytes(record),
        unsent_bytes: unsent_bytes(record),
    }
}

/// TCP_INFINITE_SSTHRESH (include/net/tcp.h).
const INFINITE_SSTHRESH: u32 = 0x7fff_ffff;

/// Segments sent again whose cause was seen.
#[must_use]
pub fn attributed(c: &Counters) -> u32 {
    [c.retrans_fast, c.retrans_rto, c.retrans_tlp, c.retrans_syn, c.retrans_synack, c.retrans_other]
        .into_iter()
        .fold(0, u32::wrapping_add)
}

/// The smallest round trip of this connection, µs. The kernel's minimum looks at every ACK and forgets after its window;
/// ours looks once a round trip, only at samples timed in µs, and does not forget. The kernel's outlives a disconnect, so a
/// socket's later connections have only ours. A whole number of milliseconds there is the echoed timestamp's, less than a
/// tick too low or too high: ours stands for it when it is less than a tick above it.
#[must_use]
pub fn min_rtt_us(record: &FlowRecord) -> Option<u32> {
    let windowed = if record.generation == 0 { record.min_rtt_us } else { u32::MAX };
    let own = record.own_min_rtt_us;
    let smallest = if is_timed_in_us(windowed) {
        windowed.min(own)
    } else if own < windowed.saturating_add(ECHO_TICK_US) {
        own
    } else {
        windowed
    };
    some_unless(smallest, u32::MAX)
}

/// The address that the peers use on the wire.
#[must_use]
pub fn address(family: u16, bytes: [u8; 16]) -> IpAddr {
    if i32::from(family) == libc::AF_INET {
        IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
    } else {
        IpAddr::from(bytes).to_canonical()
    }
}

fn some_unless(value: u32, never: u32) -> Option<u32> {
    (value != never).then_some(value)
}

fn name(padded: &[u8; 16]) -> Option<String> {
    let end = padded.iter().position(|b| *b == 0).unwrap_or(padded.len());
    (end > 0).then(|| String::from_utf8_lossy(&padded[..end]).into_owned())
}

fn histogram(counts: &[u32; BUCKETS]) -> Vec<(Option<u32>, u32)> {
    let bound = |i: usize| (i < BUCKETS - 1).then_some(UPPER_BOUNDS_US[i]);
    counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| (bound(i), *n)).collect()
}

/// Whether the rate sample is this connection's. tcp_disconnect leaves the one before in place, and an application-limited
/// one of the next connection does not replace a faster one (tcp_rate_gen).
fn has_rate(record: &FlowRecord) -> bool {
    record.rate_interval_us != 0 && record.generation == 0
}

/// As tcp_compute_delivery_rate does.
fn delivery_rate(record: &FlowRecord, context: &Context) -> Option<u64> {
    (context.has(Field::RateDelivered) && context.has(Field::RateInterval) && has_rate(record)).then(|| {
        u64::from(record.rate_delivered_segs) * u64::from(record.mss_bytes) * 1_000_000
            / u64::from(record.rate_interval_us)
    })
}

/// A FIN takes one number of sequence space and no byte. It is the last, so it is among what is unsent if anything is.
fn has_queued_fin(record: &FlowRecord) -> bool {
    matches!(record.state, state::FIN_WAIT1 | state::LAST_ACK | state::CLOSING)
}

/// Whether the socket's sequence numbers are still the connection's: tcp_disconnect moves write_seq on.
fn has_sequence(record: &FlowRecord) -> bool {
    record.flags & flag::FROM_DESTROY == 0
}

/// Bytes that the application wrote and the kernel never sent; `None` where the socket no longer told.
#[must_use]
pub fn unsent_bytes(record: &FlowRecord) -> Option<u32> {
    has_sequence(record).then(|| match record.state {
        state::SYN_SENT => 0,
        _ => record.unsent_seq.saturating_sub(u32::from(has_queued_fin(record) && record.unsent_seq > 0)),
    })
}

/// Bytes that were sent and not acknowledged; `None` where the socket no longer told.
#[must_use]
pub fn unacked_bytes(record: &FlowRecord) -> Option<u32> {
    has_sequence(record).then(|| match record.state {
        state::SYN_SENT | state::SYN_RECV => 0,
        _ => record.unacked_seq.saturating_sub(u32::from(has_queued_fin(record) && record.unsent_seq == 0)),
    })
}

fn state_of(number: u8) -> State {
    match number {
        state::ESTABLISHED => State::Established,
        state::SYN_SENT => State::SynSent,
        state::SYN_RECV | state::NEW_SYN_RECV => State::SynRecv,
        state::FIN_WAIT1 => State::FinWait1,
        state::FIN_WAIT2 => State::FinWait2,
        state::TIME_WAIT => State::TimeWait,
        state::CLOSE_WAIT => State::CloseWait,
        state::LAST_ACK => State::LastAck,
        state::LISTEN => State::Listen,
        state::CLOSING => State::Closing,
        _ => State::Close,
    }
}

/// Names of the errors that end connections (errno.h); any other is `EOTHER`.
fn errno_name(errno: u32) -> &'static str {
    match i32::try_from(errno).unwrap_or(0) {
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ECONNRESET => "ECONNRESET",
        libc::ECONNABORTED => "ECONNABORTED",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::EPIPE => "EPIPE",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::EHOSTDOWN => "EHOSTDOWN",
        libc::ENONET => "ENONET",
        libc::ENETDOWN => "ENETDOWN",
        libc::ENOPROTOOPT => "ENOPROTOOPT",
        libc::EMSGSIZE => "EMSGSIZE",
        libc::EPROTO => "EPROTO",
        libc::EACCES => "EACCES",
        libc::EPERM => "EPERM",
        libc::ENOBUFS => "ENOBUFS",
        libc::ENOMEM => "ENOMEM",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EINVAL => "EINVAL",
        libc::EBADMSG => "EBADMSG",
        _ => "EOTHER",
    }
}

/// The offset of wall time from monotonic time, for [`Context`].
#[must_use]
pub fn wall_offset_ns(wall: Timestamp, monotonic: SignedDuration) -> i64 {
    i64::try_from(wall.as_nanosecond() - monotonic.as_nanos()).unwrap_or(0)
}

#[cfg(test)]
#[path = "from_record_tests.rs"]
mod tests;
