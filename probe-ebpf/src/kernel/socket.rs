//! What the programs ask of a TCP socket, and of a request that is not one yet.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_jiffies64,
    generated::{bpf_get_socket_cookie, bpf_setsockopt, bpf_skc_to_tcp_sock},
};
use probe_common::{
    fields::Field,
    record::{Counters, FlowHead, SynackRecord},
    tcp::state,
};

use super::place::{address, read, read_bits};
use crate::state::Activity;

const AF_INET: u16 = 2;
/// SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS (include/uapi/linux/bpf.h).
const SOL_TCP: i32 = 6;
const TCP_BPF_SOCK_OPS_CB_FLAGS: i32 = 1008;

/// How long data was outstanding, and what held it up; jiffies.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// In all.
    pub(crate) busy: u32,
    /// … by the peer's window.
    pub(crate) rwnd: u32,
    /// … by our send buffer.
    pub(crate) sndbuf: u32,
}

/// A full TCP socket (`struct tcp_sock`).
#[derive(Clone, Copy)]
pub(crate) struct TcpSock(*const c_void);

impl TcpSock {
    /// From any socket pointer that the verifier knows; `None` for time-wait and request mini-sockets.
    #[inline(always)]
    pub(crate) fn new(sk: *const c_void) -> Option<Self> {
        // SAFETY: the helper checks the socket's kind and the verifier the pointer's.
        let tp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) };
        (!tp.is_null()).then_some(Self(tp.cast_const().cast()))
    }

    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *const c_void {
        self.0
    }

    /// A required field, or one that reads 0 where the kernel lacks it (the user side knows and says null).
    #[inline(always)]
    fn get<T: Copy + Default>(self, field: Field) -> T {
        read(self.0, field).unwrap_or_default()
    }

    /// TCP state.
    #[inline(always)]
    pub(crate) fn state(self) -> u8 {
        self.get(Field::State)
    }

    /// enum tcp_ca_state.
    #[inline(always)]
    pub(crate) fn ca_state(self) -> u8 {
        read_bits(self.0, Field::CaState).unwrap_or(0)
    }

    /// Error that the socket ends with, an errno; 0 is none.
    #[inline(always)]
    pub(crate) fn error(self) -> u32 {
        self.get(Field::Error)
    }

    /// Whether segments of the connection still come to this socket: a time-wait remainder takes its place before it is closed
    /// (tcp_time_wait).
    #[inline(always)]
    pub(crate) fn is_hashed(self) -> bool {
        self.get::<u64>(Field::Hashed) != 0
    }

    /// Which timer is armed, or being served.
    #[inline(always)]
    pub(crate) fn pending_timer(self) -> u8 {
        self.get(Field::Pending)
    }

    /// Segments sent again so far.
    #[inline(always)]
    pub(crate) fn total_retrans(self) -> u32 {
        self.get(Field::TotalRetrans)
    }

    /// Start of what is sent and not acknowledged, a sequence number.
    #[inline(always)]
    pub(crate) fn snd_una(self) -> u32 {
        self.get(Field::SndUna)
    }

    /// What the peer lets us send, bytes.
    #[inline(always)]
    pub(crate) fn peer_window(self) -> u32 {
        self.get(Field::SndWnd)
    }

    /// CLOCK_MONOTONIC of the last delivery, or of the first segment sent after a pause, ns.
    #[inline(always)]
    pub(crate) fn delivered_at_ns(self) -> u64 {
        self.get::<u64>(Field::DeliveredAt).wrapping_mul(1000)
    }

    /// Time of the packet or timer that the stack is working on, µs of CLOCK_MONOTONIC.
    #[inline(always)]
    pub(crate) fn clock_us(self) -> u64 {
        self.get(Field::LookedAt)
    }

    /// When the newest delivered segment was sent, or the first one after a pause, ns.
    #[inline(always)]
    pub(crate) fn first_sent_at_ns(self) -> u64 {
        self.get::<u64>(Field::FirstSentAt).wrapping_mul(1000)
    }

    /// Segments with payload received.
    #[inline(always)]
    pub(crate) fn data_segs_in(self) -> u32 {
        self.get(Field::DataSegsIn)
    }

    /// Segments that the peer reported as received twice.
    #[inline(always)]
    pub(crate) fn dsacks(self) -> u32 {
        self.get(Field::DsackDups)
    }

    /// Whether the application will read no more (RCV_SHUTDOWN), as after close().
    #[inline(always)]
    pub(crate) fn is_shut_for_reading(self) -> bool {
        read_bits(self.0, Field::Shutdown).unwrap_or(0) & 1 != 0
    }

    /// Whether all of these sock_ops callbacks are on.
    #[inline(always)]
    pub(crate) fn has_callbacks(self, callbacks: u32) -> bool {
        u32::from(self.get::<u8>(Field::CbFlags)) & callbacks == callbacks
    }

    /// Whether what was sent again in this loss episode may yet turn out not to have been lost.
    #[inline(always)]
    pub(crate) fn may_undo(self) -> bool {
        self.get::<u32>(Field::UndoMarker) != 0
    }

    /// Eighths of a µs.
    #[inline(always)]
    pub(crate) fn srtt_us_x8(self) -> u32 {
        self.get(Field::Srtt)
    }

    /// Round trip of the newest delivered segment, µs.
    #[inline(always)]
    pub(crate) fn rack_rtt_us(self) -> u32 {
        self.get(Field::RackRtt)
    }

    /// Begins to fetch what tells whether the connection was active: see [`Self::fetch`].
    #[inline(always)]
    pub(crate) fn fetch_activity(self) {
        self.fetch([Field::SegsOut, Field::SegsIn, Field::SndUna]);
    }

    /// Begins to fetch what an increment reads besides: see [`Self::fetch`].
    #[inline(always)]
    pub(crate) fn fetch_increment(self) {
        self.fetch([Field::BytesAcked, Field::DsackDups, Field::TotalRetrans, Field::LocalPort]);
        let _ = read::<*const c_void>(self.0, Field::Cgroup);
    }

    /// Reads a byte of each cache line, one after the other, and waits for none. Those of a socket that was not looked at for a
    /// while are in memory, and the processor fetches several at a time where nothing comes between.
    #[inline(always)]
    fn fetch<const N: usize>(self, fields: [Field; N]) {
        for field in fields {
            let _ = read::<u8>(self.0, field);
        }
    }

    /// Segments so far.
    #[inline(always)]
    pub(crate) fn activity(self) -> Activity {
        Activity { sent: self.get(Field::SegsOut), received: self.get(Field::SegsIn) }
    }

    /// Whether the kernel has counted any of what a connection's [`crate::state::Trouble`] accounts for.
    #[inline(always)]
    pub(crate) fn has_trouble(self) -> bool {
        let twice = self.total_retrans() | self.dsacks();
        (twice | self.get::<u32>(Field::DeliveredCe) | self.get::<u32>(Field::RcvOoopack)) != 0
    }

    /// Whether the handshake is under way.
    #[inline(always)]
    pub(crate) fn is_connecting(self) -> bool {
        matches!(self.state(), state::SYN_SENT | state::SYN_RECV)
    }

    /// Whether all that was written has been sent and acknowledged: nothing can stand still.
    #[inline(always)]
    pub(crate) fn is_at_rest(self) -> bool {
        self.get::<u32>(Field::WriteSeq) == self.snd_una()
    }

    /// The socket's cookie, which it was given when its connection's state was made.
    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        self.get(Field::Cookie)
    }

    /// The socket's cookie, given now if it had none. For programs whose helper takes a socket, not a context.
    #[inline(always)]
    pub(crate) fn give_cookie(self) -> u64 {
        // SAFETY: the verifier checks that the pointer is a socket's.
        unsafe { bpf_get_socket_cookie(self.0.cast_mut()) }
    }

    /// Switches sock_ops callbacks on, keeping those of others. Refused before 6.12 (-EINVAL).
    #[inline(always)]
    pub(crate) fn switch_on(self, callbacks: u32) -> bool {
        let mut flags = u32::from(self.get::<u8>(Field::CbFlags)) | callbacks;
        // SAFETY: `flags` is four readable bytes; the iterator holds the socket's lock.
        let error = unsafe {
            bpf_setsockopt(
                self.0.cast_mut(),
                SOL_TCP,
                TCP_BPF_SOCK_OPS_CB_FLAGS,
                (&raw mut flags).cast(),
                size_of::<u32>() as i32,
            )
        };
        error == 0
    }

    /// Fills what the kernel counts itself; ours are added by the caller.
    #[inline(always)]
    pub(crate) fn kernel_counters(self, into: &mut Counters) {
        into.bytes_sent = self.get(Field::BytesSent);
        into.bytes_acked = self.get(Field::BytesAcked);
        into.bytes_received = self.get(Field::BytesReceived);
        into.bytes_retrans = self.get(Field::BytesRetrans);
        into.segs_out = self.get(Field::SegsOut);
        into.data_segs_out = self.get(Field::DataSegsOut);
        into.segs_in = self.get(Field::SegsIn);
        into.data_segs_in = self.get(Field::DataSegsIn);
        into.retrans_segs = self.total_retrans();
        into.spurious_segs = self.get(Field::DsackDups);
        into.ce_delivered_segs = self.get(Field::DeliveredCe);
        into.ooo_segs_in = self.get(Field::RcvOoopack);
        let limits = self.limits();
        into.busy_jiffies = limits.busy;
        into.rwnd_limited_jiffies = limits.rwnd;
        into.sndbuf_limited_jiffies = limits.sndbuf;
    }

    /// As tcp_get_info_chrono_stats does: three clocks of which at most one runs.
    #[inline(always)]
    pub(crate) fn limits(self) -> Limits {
        let running = self.running_clock();
        let (busy, rwnd, sndbuf) = (self.clock(0, running), self.clock(1, running), self.clock(2, running));
        Limits { busy: busy.wrapping_add(rwnd).wrapping_add(sndbuf), rwnd, sndbuf }
    }

    /// Time that the peer's window was what held us up, jiffies.
    #[inline(always)]
    pub(crate) fn rwnd_limited_jiffies(self) -> u32 {
        self.clock(1, self.running_clock())
    }

    /// Which clock runs, 1 to 3; 0 for none (enum tcp_chrono).
    #[inline(always)]
    fn running_clock(self) -> u8 {
        read_bits(self.0, Field::ChronoType).unwrap_or(0)
    }

    /// What clock `index` of three shows, jiffies.
    #[inline(always)]
    fn clock(self, index: u8, running: u8) -> u32 {
        let Some(stat) = address(self.0, Field::ChronoStat) else { return 0 };
        // SAFETY: `chrono_stat` is an array of three u32.
        let stood = unsafe { core::ptr::read_volatile(stat.cast::<u32>().wrapping_add(usize::from(index))) };
        if running != index + 1 {
            return stood;
        }
        // SAFETY: no argument, no effect.
        let now = unsafe { bpf_jiffies64() } as u32;
        stood.wrapping_add(now.wrapping_sub(self.get(Field::ChronoStart)))
    }

    /// Fills who the connection is.
    #[inline(always)]
    pub(crate) fn identify(self, into: &mut FlowHead) {
        let sk = self.0;
        into.family = self.get(Field::Family);
        addresses(sk, into.family, &mut into.local_addr, &mut into.remote_addr);
        into.local_port_be = self.get(Field::LocalPort);
        into.remote_port_be = self.get(Field::RemotePort);
        into.netns = netns(sk);
        into.cgroup_id = cgroup_id(sk);
    }

    /// Fills how it stands.
    #[inline(always)]
    pub(crate) fn describe(self, into: &mut FlowHead) {
        into.congestion_control = self.congestion_control();
        into.uid = self.get(Field::Uid);
        into.error = self.get(Field::Error);
        into.srtt_us_x8 = self.srtt_us_x8();
        into.mdev_us_x4 = self.get(Field::Mdev);
        into.min_rtt_us = self.get(Field::RttMin);
        into.cwnd_segs = self.get(Field::SndCwnd);
        into.ssthresh_segs = self.get(Field::SndSsthresh);
        into.mss_bytes = self.get(Field::MssCache);
        into.unacked_segs = self.get(Field::PacketsOut);
        into.unsent_seq = self.get::<u32>(Field::WriteSeq).wrapping_sub(self.get(Field::SndNxt));
        into.unacked_seq = self.get::<u32>(Field::SndNxt).wrapping_sub(self.get(Field::SndUna));
        into.reordering_seen = self.get(Field::ReordSeen);
        into.rate_delivered_segs = self.get(Field::RateDelivered);
        into.rate_interval_us = self.get(Field::RateInterval);
        into.rate_app_limited = u32::from(read_bits(self.0, Field::RateAppLimited).unwrap_or(0));
    }

    /// Fills that this was not looked at: no increment tells it, and it lies in cache lines that nothing else needs.
    #[inline(always)]
    pub(crate) fn leave_undescribed(into: &mut FlowHead) {
        let name = (&raw mut into.congestion_control).cast::<u64>();
        for i in 0..2 {
            // SAFETY: as in `zero`; sixteen bytes at a multiple of eight.
            unsafe { core::ptr::write_volatile(name.wrapping_add(i), 0) };
        }
        zero(&mut into.uid);
        zero(&mut into.error);
        zero(&mut into.srtt_us_x8);
        zero(&mut into.mdev_us_x4);
        zero(&mut into.min_rtt_us);
        zero(&mut into.cwnd_segs);
        zero(&mut into.ssthresh_segs);
        zero(&mut into.mss_bytes);
        zero(&mut into.unacked_segs);
        zero(&mut into.unsent_seq);
        zero(&mut into.unacked_seq);
        zero(&mut into.reordering_seen);
        zero(&mut into.rate_delivered_segs);
        zero(&mut into.rate_interval_us);
        zero(&mut into.rate_app_limited);
    }

    #[inline(always)]
    fn congestion_control(self) -> [u8; 16] {
        let name = read::<*const c_void>(self.0, Field::CaOps)
            .and_then(|ops| read::<[u64; 2]>(ops, Field::CaName))
            .unwrap_or_default();
        // SAFETY: two u64 are sixteen bytes.
        unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(name) }
    }
}

/// A connection request on a listener (`struct request_sock`), which starts with the same `sock_common` as a socket.
#[derive(Clone, Copy)]
pub(crate) struct Request(*const c_void);

impl Request {
    #[inline(always)]
    pub(crate) fn new(req: *const c_void) -> Self {
        Self(req)
    }

    /// Fills all that the request knows; the listener gives namespace and cgroup.
    #[inline(always)]
    pub(crate) fn describe(self, listener: *const c_void, into: &mut SynackRecord) {
        into.family = read(self.0, Field::Family).unwrap_or_default();
        addresses(self.0, into.family, &mut into.local_addr, &mut into.remote_addr);
        into.local_port_be = read::<u16>(self.0, Field::LocalPortHost).unwrap_or_default().to_be();
        into.remote_port_be = read(self.0, Field::RemotePort).unwrap_or_default();
        into.netns = netns(listener);
        into.cgroup_id = cgroup_id(listener);
    }
}

/// TCP state of any socket.
#[inline(always)]
pub(crate) fn state_of(sk: *const c_void) -> u8 {
    read(sk, Field::State).unwrap_or_default()
}

/// Volatile, for the compiler would call memset for several, which goes byte by byte here.
#[inline(always)]
fn zero(field: &mut u32) {
    // SAFETY: a reference is valid for writes.
    unsafe { core::ptr::write_volatile(field, 0) };
}

#[inline(always)]
fn netns(sk: *const c_void) -> u32 {
    read::<*const c_void>(sk, Field::Net).and_then(|net| read(net, Field::NetInode)).unwrap_or_default()
}

#[inline(always)]
fn cgroup_id(sk: *const c_void) -> u64 {
    read::<*const c_void>(sk, Field::Cgroup)
        .and_then(|cgroup| read::<*const c_void>(cgroup, Field::CgroupNode))
        .and_then(|node| read(node, Field::NodeId))
        .unwrap_or_default()
}

#[inline(always)]
fn addresses(sk: *const c_void, family: u16, local: &mut [u8; 16], remote: &mut [u8; 16]) {
    if family == AF_INET {
        put4(local, read(sk, Field::Local4));
        put4(remote, read(sk, Field::Remote4));
    } else {
        put6(local, read(sk, Field::Local6));
        put6(remote, read(sk, Field::Remote6));
    }
}

#[inline(always)]
fn put4(into: &mut [u8; 16], address: Option<u32>) {
    put6(into, Some([address.unwrap_or_default(), 0, 0, 0]));
}

#[inline(always)]
fn put6(into: &mut [u8; 16], address: Option<[u32; 4]>) {
    // SAFETY: four u32 are sixteen bytes; the records place addresses on 8-byte boundaries.
    unsafe { core::ptr::write(into.as_mut_ptr().cast::<[u32; 4]>(), address.unwrap_or_default()) };
}
