//! What the programs know of one connection, kept in the socket's local storage.
//!
//! Every connection has a [`FlowState`], which with the kernel's 72 bytes for an element fills its 256-byte slab class; the
//! head of a socket's storage (`struct bpf_local_storage`, 176 bytes) takes the class of 192. What few connections need is made
//! when they do: [`Trouble`], [`WideHistogram`].

use core::{ffi::c_void, mem::offset_of};

use probe_common::{
    histogram::{BUCKETS, NEAR, NearHistogram},
    loss::Loss,
    record::{Counters, flag},
};

use crate::{
    kernel::{Limits, TcpSock, storage_create, storage_get},
    maps::{TROUBLES, WIDES, count},
};

/// A connection's state; all zero when the kernel makes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FlowState {
    /// Bits of `record::flag`.
    pub(crate) flags: u32,
    pub(crate) rtt_samples: u32,
    /// Sum of the round-trip samples, µs.
    pub(crate) rtt_sum_us: u64,
    /// u32::MAX until there is one.
    pub(crate) own_min_rtt_us: u32,
    pub(crate) rtt_max_us: u32,
    /// What the clock of the peer's window showed when it was last looked at, jiffies.
    pub(crate) rwnd_seen: u32,
    /// When the newest round trip was counted, µs, of its clock the low half; kept where not each one is counted.
    pub(crate) sampled_at_us: u32,
    /// What was handed out as increments so far, or stood there when the connection was adopted, of the u32 counters that every
    /// connection moves; those of trouble are in its [`Trouble`].
    pub(crate) accounted_narrow: [u32; Counters::NARROW],
    /// Round trips by bucket, until `flag::WIDE` says that they are in a [`WideHistogram`].
    pub(crate) near: NearHistogram,
    /// u32::MAX until there is one.
    pub(crate) handshake_rtt_us: u32,
    /// CLOCK_MONOTONIC of the beginning, ns; 0 for adopted connections.
    pub(crate) opened_ns: u64,
    /// How often the socket was connected before.
    pub(crate) generation: u32,
    /// Segments with payload received when the application closed the socket.
    pub(crate) data_in_at_close: u32,
    /// … handed out of the u64.
    pub(crate) accounted_wide: [u64; Counters::WIDE],
    /// … of the round trips by bucket; like `near`, with the same first bucket.
    pub(crate) accounted_near: [u16; NEAR],
}

/// Segments of a connection: either grows with whatever else does.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activity {
    pub(crate) sent: u32,
    pub(crate) received: u32,
}

/// All buckets of a connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct WideHistogram {
    /// Samples.
    pub(crate) counts: [u32; BUCKETS],
    /// … of these handed out as increments.
    pub(crate) accounted: [u32; BUCKETS],
}

/// What went wrong in a connection; all zero when the kernel makes it, with the first retransmission or stall, or when a sweep
/// finds segments that came out of order, twice or with a mark.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Trouble {
    /// Time in loss episodes that ended, µs.
    pub(crate) loss_episode_us: u64,
    /// CLOCK_MONOTONIC when the present loss episode began, ns; 0 outside one.
    pub(crate) episode_began_ns: u64,
    /// What was handed out as increments of the counters that are of trouble, or stood there when the connection was adopted: of
    /// the u64.
    pub(crate) accounted_wide: [u64; Counters::WIDE_TROUBLE],
    /// Time in stalls by kind, µs.
    pub(crate) stall_us: [u64; STALL_KINDS],
    /// CLOCK_MONOTONIC when what may become a stall began, ns; 0 outside one.
    pub(crate) stall_began_ns: u64,
    /// When `snd_una` was last seen unmoved, ns.
    pub(crate) stall_seen_ns: u64,
    /// Up to when its time was added, ns; 0 while it is not counted as a stall.
    pub(crate) stall_added_ns: u64,
    /// `snd_una` in it.
    pub(crate) stall_una: u32,
    /// How long it must be to count, µs.
    pub(crate) stall_threshold_us: u32,
    /// Which kind it would be.
    pub(crate) stall_kind: u32,
    /// Stalls by kind.
    pub(crate) stalls: [u32; STALL_KINDS],
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
    /// … of the u32.
    pub(crate) accounted_narrow: [u32; Counters::NARROW_TROUBLE],
    /// What the socket's clocks showed before this connection, jiffies: they outlive a disconnect.
    pub(crate) limits_before: Limits,
}

/// Kinds of stalls, as indices.
pub(crate) const STALL_KINDS: usize = 3;
pub(crate) const STALL_RTO: u32 = 0;
pub(crate) const STALL_ZERO_WINDOW: u32 = 1;
pub(crate) const STALL_OTHER: u32 = 2;

// With the kernel's pointer before it: what an idle sweep reads, and of a round trip the sums, fills the first cache line; what else a
// connection has of its own the second, its buckets among it; what only sweeps need the third.
const _: () = assert!(offset_of!(FlowState, accounted_narrow) + 4 * (SEGS_IN + 1) <= 64 - 8);
const _: () = assert!(offset_of!(FlowState, accounted_wide) == 128 - 8);
// The kernel's slab classes, less its 72 bytes for the element.
const _: () = assert!(size_of::<FlowState>() == 256 - 72);
const _: () = assert!(size_of::<Trouble>() == 280);
const _: () = assert!(size_of::<Trouble>() <= 512 - 72);

/// Places among the narrow counters.
const SEGS_OUT: usize = place_of(offset_of!(Counters, segs_out));
const SEGS_IN: usize = place_of(offset_of!(Counters, segs_in));
const RETRANS_SEGS: usize = place_of(offset_of!(Counters, retrans_segs)) - Counters::NARROW;
const SPURIOUS_SEGS: usize = place_of(offset_of!(Counters, spurious_segs)) - Counters::NARROW;
const NEEDLESS_SEGS: usize = place_of(offset_of!(Counters, needless_segs)) - Counters::NARROW;

const fn place_of(offset: usize) -> usize {
    (offset - offset_of!(Counters, rtt_samples)) / 4
}

impl Trouble {
    /// Segments sent again, as far as they were accounted for.
    #[inline(always)]
    pub(crate) fn accounted_retrans_segs(&self) -> u32 {
        self.accounted_narrow[RETRANS_SEGS]
    }

    /// Of these, those sent again without need: as the peer reported, and by either evidence.
    #[inline(always)]
    pub(crate) fn accounted_needless(&self) -> (u32, u32) {
        (self.accounted_narrow[SPURIOUS_SEGS], self.accounted_narrow[NEEDLESS_SEGS])
    }
}

impl FlowState {
    /// As the kernel makes it.
    // SAFETY: integers only.
    pub(crate) const ZERO: Self = unsafe { core::mem::zeroed() };

    /// Begins to fetch what an increment reads beside what tells whether there is one; as `TcpSock::fetch_increment`.
    #[inline(always)]
    pub(crate) fn fetch(&self) {
        // SAFETY: references are valid for reads.
        unsafe {
            core::ptr::read_volatile(&raw const self.near.first);
            core::ptr::read_volatile(&raw const self.accounted_wide[0]);
        }
    }

    /// One of `record::role`.
    #[inline(always)]
    pub(crate) fn role(&self) -> u8 {
        ((self.flags & flag::ROLE) >> flag::ROLE_SHIFT) as u8
    }

    /// Segments when a sweep last accounted for the connection: what an idle one's sweep looks at.
    #[inline(always)]
    pub(crate) fn activity_accounted(&self) -> Activity {
        Activity { sent: self.accounted_narrow[SEGS_OUT], received: self.accounted_narrow[SEGS_IN] }
    }

    /// Whether the socket, which shows this activity, was zeroed: a connection, whoever saw it, has had its segments.
    #[inline(always)]
    pub(crate) fn is_wiped(&self, shown: Activity) -> bool {
        self.flags & (flag::ESTABLISHED | flag::ACCOUNTED | flag::ADOPTED) != 0
            && shown == Activity { sent: 0, received: 0 }
    }

    /// The socket's counters are gone: what was not handed out by now never is.
    #[inline(always)]
    pub(crate) fn forget(&mut self) {
        self.flags = self.flags & !flag::WIDE | flag::WIPED;
        for i in 0..NEAR {
            // SAFETY: places of arrays of that length; volatile keeps the compiler from calling memset.
            unsafe {
                core::ptr::write_volatile(&raw mut self.near.counts[i], 0);
                core::ptr::write_volatile(&raw mut self.accounted_near[i], 0);
            }
        }
    }

    /// What went wrong so far, if anything did.
    #[inline(always)]
    pub(crate) fn trouble(&self, sk: *const c_void) -> Option<&'static mut Trouble> {
        if self.flags & flag::TROUBLED == 0 {
            return None;
        }
        storage_get(&TROUBLES, sk)
    }

    /// Makes sure that what the kernel has counted of trouble can be accounted for; false when it cannot, which is counted.
    #[inline(always)]
    pub(crate) fn keep_trouble(&mut self, tp: TcpSock) -> bool {
        self.flags & flag::TROUBLED != 0 || !tp.has_trouble() || self.in_trouble(tp.as_ptr()).is_some()
    }

    /// The same, made if there is none; `None` when the kernel refuses the memory, which is counted.
    #[inline(always)]
    pub(crate) fn in_trouble(&mut self, sk: *const c_void) -> Option<&'static mut Trouble> {
        let trouble = storage_create(&TROUBLES, sk);
        if trouble.is_some() {
            self.flags |= flag::TROUBLED;
        } else {
            count(Loss::TroubleRefused);
        }
        trouble
    }

    /// Counts a round trip of that bucket.
    #[inline(always)]
    pub(crate) fn count_round_trip(&mut self, sk: *const c_void, bucket: usize) {
        if self.flags & flag::WIDE == 0 {
            if self.near.add(bucket as u32, self.rtt_samples == 0) {
                return;
            }
            self.widen(sk);
        }
        if let Some(wide) = self.wide(sk) {
            let count = &mut wide.counts[bucket & (BUCKETS - 1)];
            *count = count.wrapping_add(1);
        }
    }

    /// All buckets, if the connection has them.
    #[inline(always)]
    pub(crate) fn wide(&self, sk: *const c_void) -> Option<&'static mut WideHistogram> {
        if self.flags & flag::WIDE == 0 {
            return None;
        }
        storage_get(&WIDES, sk)
    }

    /// From now on all buckets are counted, those so far among them.
    #[inline(never)]
    fn widen(&mut self, sk: *const c_void) {
        let Some(wide) = storage_create(&WIDES, sk) else {
            count(Loss::HistogramRefused);
            return;
        };
        self.flags |= flag::WIDE;
        let first = self.near.first as usize & (BUCKETS - 1);
        for i in 0..NEAR {
            let bucket = (first + i) & (BUCKETS - 1);
            wide.counts[bucket] = u32::from(self.near.counts[i]);
            wide.accounted[bucket] = u32::from(self.accounted_near[i]);
        }
    }
}
