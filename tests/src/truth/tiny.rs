//! Loads programs of a few instructions by hand and attaches them: to a BTF tracepoint, to the root of cgroup v2 for
//! all sockets, or to one of the kernel's walks. No object file and no loader stand between; a program goes with its value.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use aya_obj::btf::{Btf, BtfKind};
use bytemuck::{Pod, Zeroable};

use super::bpf::map;

const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const LINK_CREATE: libc::c_int = 28;
const ITER_CREATE: libc::c_int = 33;
const PROG_TYPE_SOCK_OPS: u32 = 13;
const PROG_TYPE_TRACING: u32 = 26;
const CGROUP_SOCK_OPS: u32 = 3;
const TRACE_RAW_TP: u32 = 23;
const TRACE_ITER: u32 = 28;

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

/// `union bpf_attr` of BPF_LINK_CREATE.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Link {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    /// Of a walk: the address of a [`Walked`], and its length.
    walked: u64,
    walked_len: u32,
    padding: u32,
}

/// `union bpf_iter_link_info` for a walk over a map.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Walked {
    map_fd: u32,
}

/// `union bpf_attr` of BPF_ITER_CREATE.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Iterator {
    link_fd: u32,
    flags: u32,
}

/// Where a program is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// `tp_btf/NAME`.
    Tracepoint(&'static str),
    /// sock_ops of every socket; a callback that wants a flag comes only while another program sets that flag.
    SockOps,
    /// `iter/tcp`: once for each socket, and at the end, of every [`Tiny::walk`].
    Sockets,
    /// `iter/bpf_sk_storage_map`: once for each element of the socket storage with this id, and at the end, of every walk.
    Storage(u32),
}

/// One instruction, `struct bpf_insn`: opcode, registers (destination low, source high), offset, immediate.
pub(super) const fn instruction(opcode: u8, registers: u8, offset: i16, immediate: i32) -> u64 {
    opcode as u64
        | (registers as u64) << 8
        | (offset.cast_unsigned() as u64) << 16
        | (immediate.cast_unsigned() as u64) << 32
}

/// r0 = 1; return r0: a sock_ops program's consent; a tracing program's result is not looked at.
const EMPTY: [u64; 2] = [instruction(0xb7, 0, 0, 1), instruction(0x95, 0, 0, 0)];
/// The same with 0: an iterator is done with the socket.
const EMPTY_WALK: [u64; 2] = [instruction(0xb7, 0, 0, 0), instruction(0x95, 0, 0, 0)];

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

/// A loaded and attached program; it goes when dropped.
#[derive(Debug)]
pub struct Tiny {
    pub(super) program: OwnedFd,
    link: OwnedFd,
}

impl Tiny {
    /// A program that does nothing, by this name (15 bytes count): what being called at all costs.
    ///
    /// # Errors
    /// When the kernel has no such place, no BTF or no cgroup v2, or refuses.
    pub fn empty(point: Point, name: &str) -> Result<Self> {
        let walks = matches!(point, Point::Sockets | Point::Storage(_));
        Self::start(point, name, if walks { &EMPTY_WALK } else { &EMPTY })
    }

    /// Has the kernel show all TCP sockets of this thread's network namespace to a program on [`Point::Sockets`], or all
    /// elements to one on [`Point::Storage`].
    ///
    /// # Errors
    /// When it is not on that, or the kernel refuses.
    pub fn walk(&self) -> Result<()> {
        let iterator = Iterator { link_fd: self.link.as_raw_fd().cast_unsigned(), ..Iterator::zeroed() };
        let iterator = bpf(ITER_CREATE, &iterator).context("cannot begin a walk")?;
        let written = File::from(iterator).read(&mut [0; 64]).context("cannot walk")?;
        ensure!(written == 0, "a program that does nothing wrote {written} bytes");
        Ok(())
    }

    /// How often the program ran while [`super::RunStatistics`] were on.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn runs(&self) -> Result<u64> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.program.as_raw_fd()))?;
        let runs = info.lines().find_map(|line| line.strip_prefix("run_cnt:"));
        Ok(runs.context("the kernel does not tell how often a program ran")?.trim().parse()?)
    }

    /// Load and attach these instructions.
    pub(super) fn start(point: Point, name: &str, instructions: &[u64]) -> Result<Self> {
        let mut prog_name = [0; 16];
        for (to, from) in prog_name.iter_mut().zip(name.bytes().take(15)) {
            *to = from;
        }
        let load = Load {
            insn_cnt: u32::try_from(instructions.len())?,
            insns: instructions.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            prog_name,
            ..Load::zeroed()
        };
        match point {
            Point::Tracepoint(tracepoint) => Self::trace(tracepoint, load),
            Point::SockOps => Self::sock_ops(load),
            Point::Sockets => Self::walker("tcp", load, Link::zeroed()),
            Point::Storage(id) => {
                let map = map(id)?;
                let walked = Walked { map_fd: map.as_raw_fd().cast_unsigned() };
                let link = Link {
                    walked: (&raw const walked) as u64,
                    walked_len: u32::try_from(size_of::<Walked>())?,
                    ..Link::zeroed()
                };
                Self::walker("bpf_sk_storage_map", load, link)
            }
        }
    }

    /// What `link` points to must live through the call.
    fn walker(over: &str, load: Load, link: Link) -> Result<Self> {
        let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
        let attach_btf_id = btf
            .id_by_type_name_kind(&format!("bpf_iter_{over}"), BtfKind::Func)
            .with_context(|| format!("the kernel has no iter/{over} (CONFIG_BPF_SYSCALL, since 5.9)"))?;
        let load =
            Load { prog_type: PROG_TYPE_TRACING, expected_attach_type: TRACE_ITER, attach_btf_id, ..load };
        let program = bpf(PROG_LOAD, &load).context("cannot load an iterator's program: run as root")?;
        let link = Link { prog_fd: program.as_raw_fd().cast_unsigned(), attach_type: TRACE_ITER, ..link };
        let link = bpf(LINK_CREATE, &link).context("cannot attach an iterator's program")?;
        Ok(Self { program, link })
    }

    fn trace(tracepoint: &str, load: Load) -> Result<Self> {
        let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
        let attach_btf_id = btf
            .id_by_type_name_kind(&format!("btf_trace_{tracepoint}"), BtfKind::Typedef)
            .with_context(|| format!("the kernel has no tracepoint {tracepoint}"))?;
        let load =
            Load { prog_type: PROG_TYPE_TRACING, expected_attach_type: TRACE_RAW_TP, attach_btf_id, ..load };
        let program = bpf(PROG_LOAD, &load)
            .with_context(|| format!("cannot load a program on {tracepoint}: run as root"))?;
        let open = Open { prog_fd: program.as_raw_fd().cast_unsigned(), ..Open::zeroed() };
        let link = bpf(RAW_TRACEPOINT_OPEN, &open)
            .with_context(|| format!("cannot attach a program to {tracepoint}"))?;
        Ok(Self { program, link })
    }

    fn sock_ops(load: Load) -> Result<Self> {
        let root = cgroup_root()?;
        let load = Load { prog_type: PROG_TYPE_SOCK_OPS, expected_attach_type: CGROUP_SOCK_OPS, ..load };
        let program = bpf(PROG_LOAD, &load).context("cannot load a sock_ops program: run as root")?;
        let link = Link {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_fd: root.as_raw_fd().cast_unsigned(),
            attach_type: CGROUP_SOCK_OPS,
            ..Link::zeroed()
        };
        let link = bpf(LINK_CREATE, &link).context("cannot attach a sock_ops program")?;
        Ok(Self { program, link })
    }
}

/// The root of cgroup v2, where it is mounted.
fn cgroup_root() -> Result<File> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let place = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        (right.starts_with("cgroup2 ") && left.next() == Some("/")).then(|| left.next()).flatten()
    });
    let place = place.context("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")?;
    File::open(place).with_context(|| format!("cannot open {place}"))
}
