//! Which BPF objects the kernel holds, by walking their ids, and how often programs were skipped on re-entry.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use bytemuck::{Pod, Zeroable};

const PROG_GET_NEXT_ID: libc::c_int = 11;
const MAP_GET_NEXT_ID: libc::c_int = 12;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const LINK_GET_NEXT_ID: libc::c_int = 31;

/// The beginning of `union bpf_attr` for the commands above.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Attributes {
    start_or_object_id: u32,
    next_id: u32,
    open_flags: u32,
    spare: u32,
}

/// `attributes` is the beginning of `union bpf_attr`; what its addresses point to must live through the call.
pub(super) fn bpf<T: Pod>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes at most the given size of the structure, which lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn ids(command: libc::c_int) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut last = 0;
    loop {
        let mut attributes = Attributes { start_or_object_id: last, ..Attributes::zeroed() };
        match bpf(command, &mut attributes) {
            Ok(_) => last = attributes.next_id,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(error) => return Err(error).context("cannot walk the kernel's BPF objects: run as root"),
        }
        found.insert(last);
    }
}

/// The ids of all BPF programs, maps and links. Ids are never used again, so two equal sets hold the same objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    /// Programs.
    pub programs: BTreeSet<u32>,
    /// Maps.
    pub maps: BTreeSet<u32>,
    /// Links.
    pub links: BTreeSet<u32>,
}

impl Objects {
    /// What the kernel holds now.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn now() -> Result<Self> {
        Ok(Self {
            programs: ids(PROG_GET_NEXT_ID)?,
            maps: ids(MAP_GET_NEXT_ID)?,
            links: ids(LINK_GET_NEXT_ID)?,
        })
    }

    /// What is held now and was not held `before`.
    #[must_use]
    pub fn added_since(&self, before: &Self) -> Self {
        let new = |now: &BTreeSet<u32>, then: &BTreeSet<u32>| now.difference(then).copied().collect();
        Self {
            programs: new(&self.programs, &before.programs),
            maps: new(&self.maps, &before.maps),
            links: new(&self.links, &before.links),
        }
    }

    /// True when nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.maps.is_empty() && self.links.is_empty()
    }

    /// How often the kernel skipped one of these programs because it was already running on that CPU
    /// (`recursion_misses` of its fdinfo), summed.
    ///
    /// # Errors
    /// When a program is gone or its fdinfo has no such line (before 5.12).
    pub fn misses(&self) -> Result<u64> {
        self.programs.iter().map(|id| hook_misses(*id)).sum()
    }
}

/// `recursion_misses` of one program.
///
/// # Errors
/// When the program is gone or its fdinfo has no such line (before 5.12).
pub fn hook_misses(program: u32) -> Result<u64> {
    let mut attributes = Attributes { start_or_object_id: program, ..Attributes::zeroed() };
    let fd =
        bpf(PROG_GET_FD_BY_ID, &mut attributes).with_context(|| format!("BPF program {program} is gone"))?;
    // SAFETY: the kernel just returned this descriptor, and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(libc::c_int::try_from(fd)?) };
    misses_of(&fd)
}

/// A map by its id.
pub(super) fn map(id: u32) -> Result<OwnedFd> {
    let mut attributes = Attributes { start_or_object_id: id, ..Attributes::zeroed() };
    let fd = bpf(MAP_GET_FD_BY_ID, &mut attributes).with_context(|| format!("BPF map {id} is gone"))?;
    // SAFETY: the kernel just returned this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(libc::c_int::try_from(fd)?) })
}

/// `recursion_misses` of the program behind a descriptor.
pub(super) fn misses_of(program: &OwnedFd) -> Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    Ok(line.context("this kernel does not count recursion misses")?.trim().parse()?)
}
