//! What was added since the last accounting: counters and buckets less what was handed out, field by field.

use core::mem::offset_of;

use probe_common::{
    histogram::{BUCKETS, NEAR, NearHistogram},
    record::Counters,
};

use crate::state::{FlowState, Trouble, WideHistogram};

/// Where the four kinds of counters begin, bytes; [`Counters`] says which they are.
const WIDE: usize = 0;
const WIDE_TROUBLE: usize = offset_of!(Counters, bytes_retrans);
const NARROW: usize = offset_of!(Counters, rtt_samples);
const NARROW_TROUBLE: usize = offset_of!(Counters, retrans_segs);

/// Takes off what was handed out. Of trouble nothing is an increment as long as there is no place to keep what was.
#[inline(always)]
pub(crate) fn subtract(counters: &mut Counters, flow: &FlowState, trouble: Option<&Trouble>) {
    change(counters, WIDE, &flow.accounted_wide, u64::wrapping_sub);
    change(counters, NARROW, &flow.accounted_narrow, u32::wrapping_sub);
    if let Some(trouble) = trouble {
        change(counters, WIDE_TROUBLE, &trouble.accounted_wide, u64::wrapping_sub);
        change(counters, NARROW_TROUBLE, &trouble.accounted_narrow, u32::wrapping_sub);
    } else {
        clear::<u64>(counters, WIDE_TROUBLE, Counters::WIDE_TROUBLE);
        clear::<u32>(counters, NARROW_TROUBLE, Counters::NARROW_TROUBLE);
    }
}

/// Keeps in mind that `handed_out` was taken.
#[inline(always)]
pub(crate) fn keep(flow: &mut FlowState, trouble: Option<&mut Trouble>, handed_out: &Counters) {
    remember(&mut flow.accounted_wide, handed_out, WIDE, u64::wrapping_add);
    remember(&mut flow.accounted_narrow, handed_out, NARROW, u32::wrapping_add);
    if let Some(trouble) = trouble {
        remember(&mut trouble.accounted_wide, handed_out, WIDE_TROUBLE, u64::wrapping_add);
        remember(&mut trouble.accounted_narrow, handed_out, NARROW_TROUBLE, u32::wrapping_add);
    }
}

/// Takes off the near buckets that were handed out.
#[inline(always)]
pub(crate) fn near(near: &mut NearHistogram, flow: &FlowState) {
    for i in 0..NEAR {
        near.counts[i] = near.counts[i].wrapping_sub(flow.accounted_near[i]);
    }
}

/// Keeps in mind that they were taken.
#[inline(always)]
pub(crate) fn keep_near(flow: &mut FlowState, handed_out: &NearHistogram) {
    for i in 0..NEAR {
        flow.accounted_near[i] = flow.accounted_near[i].wrapping_add(handed_out.counts[i]);
    }
}

/// All buckets less those that were handed out.
#[inline(always)]
pub(crate) fn buckets(into: &mut [u32; BUCKETS], wide: &WideHistogram) {
    for (into, (count, accounted)) in into.iter_mut().zip(wide.counts.iter().zip(&wide.accounted)) {
        *into = count.wrapping_sub(*accounted);
    }
}

/// Keeps in mind that they were taken.
#[inline(always)]
pub(crate) fn keep_buckets(wide: &mut WideHistogram, handed_out: &[u32; BUCKETS]) {
    for (accounted, more) in wide.accounted.iter_mut().zip(handed_out) {
        *accounted = accounted.wrapping_add(*more);
    }
}

#[inline(always)]
fn change<T: Copy>(counters: &mut Counters, begin: usize, by: &[T], operation: impl Fn(T, T) -> T) {
    let counters = core::ptr::from_mut(counters).cast::<u8>().wrapping_add(begin).cast::<T>();
    for (i, by) in by.iter().enumerate() {
        let counter = counters.wrapping_add(i);
        // SAFETY: from `begin` on the counters are at least that many of this type.
        unsafe { *counter = operation(*counter, *by) };
    }
}

/// Volatile, for the compiler would call memset, which goes byte by byte here.
#[inline(always)]
fn clear<T: Default>(counters: &mut Counters, begin: usize, count: usize) {
    let counters = core::ptr::from_mut(counters).cast::<u8>().wrapping_add(begin).cast::<T>();
    for i in 0..count {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(counters.wrapping_add(i), T::default()) };
    }
}

#[inline(always)]
fn remember<T: Copy>(kept: &mut [T], handed_out: &Counters, begin: usize, operation: impl Fn(T, T) -> T) {
    let counters = core::ptr::from_ref(handed_out).cast::<u8>().wrapping_add(begin).cast::<T>();
    for (i, kept) in kept.iter_mut().enumerate() {
        // SAFETY: as above.
        *kept = operation(*kept, unsafe { *counters.wrapping_add(i) });
    }
}
