//! Socket-local storage by helper call: aya-ebpf's wrapper takes the context of another program type.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    btf_maps::SkStorage,
    helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get},
};

#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "the value belongs to the socket, not to the map's name")]
fn get<T>(map: &'static SkStorage<T>, sk: *const c_void, flags: u64) -> Option<&'static mut T> {
    let map = ptr::from_ref(map).cast_mut().cast::<c_void>();
    // SAFETY: `sk` is a full socket as the verifier checks; the value outlives the run, and the socket's lock keeps
    // other writers away in every program but `synack`, which counts in a child that nobody else holds.
    unsafe { bpf_sk_storage_get(map, sk.cast_mut(), ptr::null_mut(), flags).cast::<T>().as_mut() }
}

/// The socket's value in `map`, if it has one.
#[inline(always)]
pub(crate) fn storage_get<T>(map: &'static SkStorage<T>, sk: *const c_void) -> Option<&'static mut T> {
    get(map, sk, 0)
}

/// The socket's value in `map`, made of zeros if it had none; `None` when the kernel refuses the memory.
#[inline(always)]
pub(crate) fn storage_create<T>(map: &'static SkStorage<T>, sk: *const c_void) -> Option<&'static mut T> {
    get(map, sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
}

/// Forgets the socket's value in `map`.
#[inline(always)]
pub(crate) fn storage_delete<T>(map: &'static SkStorage<T>, sk: *const c_void) {
    // SAFETY: as above; a value that is not there is no error.
    unsafe { bpf_sk_storage_delete(ptr::from_ref(map).cast_mut().cast(), sk.cast_mut()) };
}
