//! A kernel field by its place, which the user side found in this kernel's BTF and injected.
//!
//! The verifier reads the frozen table as constants: a read is one load at a fixed offset, and code for a field that
//! this kernel lacks is removed before it can run. Costs nothing at run time beyond the load.

use core::ffi::c_void;

use probe_common::fields::{ABSENT, FIELD_COUNT, Field, Places};

/// Injected by the user side; see `probe_common::fields`.
#[unsafe(no_mangle)]
static PLACES: Places = [ABSENT; FIELD_COUNT];

#[inline(always)]
fn place_of(field: Field) -> u32 {
    // SAFETY: `field` is an index into the table by construction; volatile, as the loader overwrites it.
    unsafe { core::ptr::read_volatile(&raw const PLACES[field as usize]) }
}

/// Address of a field in the structure at `base`; `None` where the kernel has no such field.
#[inline(always)]
pub(super) fn address(base: *const c_void, field: Field) -> Option<*const u8> {
    let place = place_of(field);
    if place == ABSENT {
        return None;
    }
    Some(base.cast::<u8>().wrapping_add((place & 0xffff) as usize))
}

/// A field of whole bytes.
#[inline(always)]
pub(super) fn read<T: Copy>(base: *const c_void, field: Field) -> Option<T> {
    let at = address(base, field)?;
    // SAFETY: `base` is a pointer that the verifier knows the type of, and it checks that the field lies in it.
    Some(unsafe { core::ptr::read_volatile(at.cast::<T>()) })
}

/// A bitfield that lies in one byte.
#[inline(always)]
pub(super) fn read_bits(base: *const c_void, field: Field) -> Option<u8> {
    let byte: u8 = read(base, field)?;
    let place = place_of(field);
    let bits = place >> 24;
    if bits == 0 {
        return Some(byte);
    }
    Some((byte >> (place >> 16 & 7)) & (0xff_u32 >> (8 - (bits & 7)) & 0xff) as u8)
}

/// Argument `n` of a BTF tracepoint or field `n` of an iterator's context: 8 bytes each.
#[inline(always)]
pub(crate) fn read_arg(ctx: *const c_void, n: usize) -> *const c_void {
    // SAFETY: the verifier knows the context's layout and refuses an argument that does not exist.
    unsafe { core::ptr::read_volatile(ctx.cast::<*const c_void>().wrapping_add(n)) }
}
