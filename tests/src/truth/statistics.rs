//! How often each BPF program of the machine ran and how long, while someone holds the kernel's run statistics on.
//!
//! The statistics are switched on by a descriptor (BPF_ENABLE_STATS, Linux 5.8) and go off with it, however the holder
//! ends; the sysctl kernel.bpf_stats_enabled stays as it is. They cost every program tens of nanoseconds a run.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use bytemuck::{Pod, Zeroable};

use super::Objects;
use super::bpf::{bpf, map};

const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const ENABLE_STATS: libc::c_int = 32;

/// The run statistics are on while this lives.
#[derive(Debug)]
pub struct RunStatistics(#[expect(dead_code, reason = "held, not used")] OwnedFd);

impl RunStatistics {
    /// Switch them on.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or before Linux 5.8.
    pub fn enable() -> Result<Self> {
        // Type 0 is BPF_STATS_RUN_TIME, the only one.
        let fd = bpf(ENABLE_STATS, &mut [0_u32; 4])
            .context("cannot switch the run statistics of BPF on: run as root, on Linux 5.8 or later")?;
        // SAFETY: the kernel just returned this descriptor, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(libc::c_int::try_from(fd)?) }))
    }
}

/// `struct bpf_prog_info` of linux/bpf.h; what is not asked for stays zero.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Info {
    kind: u32,
    id: u32,
    before_name: [u64; 7],
    name: [u8; 16],
    after_name: [u64; 14],
    run_time_ns: u64,
    run_cnt: u64,
    recursion_misses: u64,
    verified_insns: u32,
    rest: [u32; 3],
}

const _: () = assert!(std::mem::offset_of!(Info, name) == 64, "as in linux/bpf.h");
const _: () = assert!(std::mem::offset_of!(Info, run_time_ns) == 192, "as in linux/bpf.h");

/// `union bpf_attr` of BPF_OBJ_GET_INFO_BY_FD.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Ask {
    fd: u32,
    len: u32,
    info: u64,
}

/// `BPF_PROG_TYPE_SOCK_OPS`.
pub const SOCK_OPS: u32 = 13;

/// What the kernel counts of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: String,
    /// Its type, `BPF_PROG_TYPE_…`.
    pub kind: u32,
    /// Runs while the statistics were on.
    pub runs: u64,
    /// Nanoseconds in them, the statistics' own cost among them.
    pub time_ns: u64,
    /// Instructions that the verifier processed at load; 0 before Linux 5.16.
    pub verified_instructions: u32,
}

impl Objects {
    /// What the kernel counts of these programs, by their ids; one that is gone is left out.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn runs(&self) -> Result<BTreeMap<u32, Runs>> {
        let mut all = BTreeMap::new();
        for &id in &self.programs {
            let Ok(fd) = bpf(PROG_GET_FD_BY_ID, &mut [id, 0, 0, 0]) else { continue };
            // SAFETY: the kernel just returned this descriptor, and nobody else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(libc::c_int::try_from(fd)?) };
            let mut info = Info::zeroed();
            let mut ask = Ask {
                fd: fd.as_raw_fd().cast_unsigned(),
                len: u32::try_from(size_of::<Info>())?,
                info: (&raw mut info) as u64,
            };
            bpf(OBJ_GET_INFO_BY_FD, &mut ask).context("the kernel does not describe a BPF program")?;
            let end = info.name.iter().position(|byte| *byte == 0).unwrap_or(info.name.len());
            all.insert(
                id,
                Runs {
                    name: String::from_utf8_lossy(&info.name[..end]).into_owned(),
                    kind: info.kind,
                    runs: info.run_cnt,
                    time_ns: info.run_time_ns,
                    verified_instructions: info.verified_insns,
                },
            );
        }
        Ok(all)
    }

    /// Bytes that the kernel says these maps hold (`memlock` of their fdinfo). Of socket storage it says nothing: that
    /// is the sockets'.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn map_bytes(&self) -> Result<u64> {
        let mut sum = 0;
        for &id in &self.maps {
            let Ok(fd) = map(id) else { continue };
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
            let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
            sum += line.context("the kernel does not say what a map holds")?.trim().parse::<u64>()?;
        }
        Ok(sum)
    }
}
