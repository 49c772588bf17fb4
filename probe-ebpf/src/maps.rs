//! What the programs keep. State lives with its socket; there is no table of connections.

use core::arch::asm;

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, PerCpuArray, RingBuf, SkStorage},
    helpers::bpf_get_smp_processor_id,
    macros::btf_map,
};
use probe_common::{
    loss::Loss,
    record::{FlowHead, FlowRecord},
    visit::Visit,
};

use crate::state::{FlowState, Trouble, WideHistogram};

/// What is known of each connection, and what of it the daemon has accounted for; freed by the kernel with its socket.
#[btf_map]
pub(crate) static STATES: SkStorage<FlowState> = SkStorage::new();

/// What went wrong in those connections where something did.
#[btf_map]
pub(crate) static TROUBLES: SkStorage<Trouble> = SkStorage::new();

/// Round trips of those connections where they lie too far apart for the small histogram.
#[btf_map]
pub(crate) static WIDES: SkStorage<WideHistogram> = SkStorage::new();

/// Room for records on their way to the user side, which makes the rings and sets their size.
pub(crate) type Ring = RingBuf<FlowHead, { 1 << 12 }>;

/// Records of connections that ended, and of repeated SYN-ACKs. A ring a CPU, for each reservation takes the ring's lock: of
/// one for all, its cache lines would move between the CPUs with every record.
#[btf_map]
static RECORDS: ArrayOfMaps<Ring, 1> = ArrayOfMaps::new();

/// Number of rings less one; they are a power of two. Injected by the user side.
#[unsafe(no_mangle)]
static RINGS_MASK: u32 = 0;

/// What could not be done, by [`Loss`].
#[btf_map]
static LOSSES: Array<u64, { Loss::ALL.len() }> = Array::new();

/// Where the iterators put a record together, for it is larger than a program's stack. Each iterator has a map of its
/// own and one reader, so no other run can interleave on a CPU's slot.
#[btf_map]
pub(crate) static SCRATCH_FLOWS: PerCpuArray<FlowRecord, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static SCRATCH_ACCOUNT: PerCpuArray<FlowRecord, 1> = PerCpuArray::new();

/// Round trips that were not counted because they came too soon after the connection's last.
#[btf_map]
static LEFT_OUT: PerCpuArray<u64, 1> = PerCpuArray::new();

/// The walk of [`crate::probes`]' `account` that is under way; there is one at a time.
#[btf_map]
static VISIT: Array<Visit, 1> = Array::new();

/// This CPU's ring. There is one for each: `None` only satisfies the verifier.
#[inline(always)]
pub(crate) fn ring() -> Option<&'static Ring> {
    // SAFETY: the loader overwrites the constant before the program loads.
    let mask = unsafe { core::ptr::read_volatile(&raw const RINGS_MASK) };
    // SAFETY: no argument, no effect.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    RECORDS.get(cpu & mask)
}

/// The walk under way.
#[inline(always)]
pub(crate) fn visit() -> Option<&'static mut Visit> {
    let visit = VISIT.get_ptr_mut(0)?;
    // SAFETY: the map's value lives as long as the program, and no other run of it is under way.
    Some(unsafe { &mut *visit })
}

/// Counts a loss.
#[inline(always)]
pub(crate) fn count(loss: Loss) {
    if let Some(counter) = LOSSES.get_ptr_mut(loss as u32) {
        increment(counter);
    }
}

/// Counts a round trip that is not counted.
#[inline(always)]
pub(crate) fn count_left_out() {
    if let Some(counter) = LEFT_OUT.get_ptr_mut(0) {
        increment(counter);
    }
}

/// Atomic, for sock_ops programs re-enter each other on one CPU; in assembly, for this target has no
/// `AtomicU64::fetch_add`.
#[inline(always)]
fn increment(counter: *mut u64) {
    // SAFETY: a map's value is an aligned u64 that lives as long as the program.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter, one = in(reg) 1_u64);
    };
}
