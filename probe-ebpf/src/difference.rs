//! What was added since the last accounting: counters and buckets less what was handed out, field by field.

use core::mem::offset_of;

use probe_common::{
    histogram::{BUCKETS, NEAR, NearHistogram},
    record::Counters,
};

use crate::state::{Accounted, Trouble, WideHistogram};

/// Where the four kinds of counters begin, bytes; [`Counters`] says which they are.
const WIDE: usize = 0;
const WIDE_TROUBLE: usize = offset_of!(Counters, loss_episode_us);
const NARROW: usize = offset_of!(Counters, rtt_samples);
const NARROW_TROUBLE: usize = offset_of!(Counters, retrans_fast);

/// Takes off what was handed out.
#[inline(always)]
pub(crate) fn subtract(counters: &mut Counters, accounted: &Accounted, trouble: Option<&Trouble>) {
    change(counters, WIDE, &accounted.wide, u64::wrapping_sub);
    change(counters, NARROW, &accounted.narrow, u32::wrapping_sub);
    if let Some(trouble) = trouble {
        change(counters, WIDE_TROUBLE, &trouble.accounted_wide, u64::wrapping_sub);
        change(counters, NARROW_TROUBLE, &trouble.accounted_narrow, u32::wrapping_sub);
    }
}
/// Keeps in mind that `handed_out` was taken.
#[inline(always)]
pub(crate) fn keep(accounted: &mut Accounted, trouble: Option<&mut Trouble>, handed_out: &Counters) {
    remember(&mut accounted.wide, handed_out, WIDE, u64::wrapping_add);
    remember(&mut accounted.narrow, handed_out, NARROW, u32::wrapping_add);
    if let Some(trouble) = trouble {
        remember(&mut trouble.accounted_wide, handed_out, WIDE_TROUBLE, u64::wrapping_add);
        remember(&mut trouble.accounted_narrow, handed_out, NARROW_TROUBLE, u32::wrapping_add);
    }
}

/// Takes off the near buckets that were handed out.
#[inline(always)]
pub(crate) fn near(near: &mut NearHistogram, accounted: &Accounted) {
    for i in 0..NEAR {
        near.counts[i] = near.counts[i].wrapping_sub(accounted.near[i]);
    }
}

/// Keeps in mind that they were taken.
#[inline(always)]
pub(crate) fn keep_near(accounted: &mut Accounted, handed_out: &NearHistogram) {
    for i in 0..NEAR {
        accounted.near[i] = accounted.near[i].wrapping_add(handed_out.counts[i]);
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

#[inline(always)]
fn remember<T: Copy>(kept: &mut [T], handed_out: &Counters, begin: usize, operation: impl Fn(T, T) -> T) {
    let counters = core::ptr::from_ref(handed_out).cast::<u8>().wrapping_add(begin).cast::<T>();
    for (i, kept) in kept.iter_mut().enumerate() {
        // SAFETY: as above.
        *kept = operation(*kept, unsafe { *counters.wrapping_add(i) });
    }
}
