//! Shows that the kernel did skip tracing programs on re-entry: a small program on tp_btf/inet_sock_set_state, which is
//! called in process context with softirqs on, so that a steered packet's softirq calls it again on the same CPU.
//!
//! It counts to a thousand (about a microsecond) to be met at it; it reads and keeps nothing.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya_obj::btf::{Btf, BtfKind};
use bytemuck::{Pod, Zeroable};

use super::bpf::misses_of;

const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const PROG_TYPE_TRACING: u32 = 26;
const TRACE_RAW_TP: u32 = 23;

/// `union bpf_attr` of BPF_PROG_LOAD up to `attach_btf_id`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u32; 4],
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    no_btf_of_its_own: [u32; 9],
    attach_btf_id: u32,
    attach_prog_fd: u32,
    padding: u32,
}

const _: () = assert!(std::mem::offset_of!(Load, attach_btf_id) == 108, "as in linux/bpf.h");

/// `union bpf_attr` of BPF_RAW_TRACEPOINT_OPEN; a tracing program names its tracepoint itself.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Open {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

/// One instruction, `struct bpf_insn`: opcode, registers (destination low, source high), offset, immediate.
const fn instruction(opcode: u8, registers: u8, offset: i16, immediate: i32) -> u64 {
    opcode as u64
        | (registers as u64) << 8
        | (offset.cast_unsigned() as u64) << 16
        | (immediate.cast_unsigned() as u64) << 32
}

/// r0 = 0; r1 = 1000; do r1 -= 1 while r1 != 0; return r0.
const PROGRAM: [u64; 5] = [
    instruction(0xb7, 0, 0, 0),
    instruction(0xb7, 1, 0, 1000),
    instruction(0x17, 1, 0, 1),
    instruction(0x55, 1, -2, 0),
    instruction(0x95, 0, 0, 0),
];

fn bpf<T: Pod>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads the structure, and what its addresses point to; all of it lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The attached program; it goes when dropped.
#[derive(Debug)]
pub struct Witness {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Witness {
    /// Load and attach it.
    ///
    /// # Errors
    /// When the kernel has no BTF, or refuses.
    pub fn start() -> Result<Self> {
        let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
        let tracepoint = btf
            .id_by_type_name_kind("btf_trace_inet_sock_set_state", BtfKind::Typedef)
            .context("the kernel has no such tracepoint")?;
        let load = Load {
            prog_type: PROG_TYPE_TRACING,
            insn_cnt: PROGRAM.len() as u32,
            insns: PROGRAM.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            expected_attach_type: TRACE_RAW_TP,
            attach_btf_id: tracepoint,
            ..Load::zeroed()
        };
        let program = bpf(PROG_LOAD, &load).context("cannot load the witness of re-entry: run as root")?;
        let open = Open { prog_fd: program.as_raw_fd().cast_unsigned(), ..Open::zeroed() };
        let link = bpf(RAW_TRACEPOINT_OPEN, &open).context("cannot attach the witness of re-entry")?;
        Ok(Self { program, _link: link })
    }

    /// How often the kernel skipped it.
    ///
    /// # Errors
    /// When the kernel does not say (before 5.12).
    pub fn misses(&self) -> Result<u64> {
        misses_of(&self.program)
    }
}
