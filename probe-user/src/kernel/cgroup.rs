//! Where is the root of cgroup v2, and which path has a cgroup's id?

use std::{
    collections::HashMap,
    fs::{self, File},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Paths that are remembered at most; beyond that all are looked up anew.
const REMEMBERED: usize = 65_536;

/// The root of the cgroup v2 hierarchy.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    mount_point: PathBuf,
    /// How it was come by, for people.
    pub how: String,
}

impl Root {
    /// Opens the host's mount, or mounts the hierarchy for this process alone; that needs no place in the file
    /// system and vanishes with the process.
    ///
    /// # Errors
    /// The kernel has no cgroup v2, or does not let us mount it.
    pub fn open() -> Result<Self> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
        if let Some(mount_point) = whole_hierarchy(&mounts) {
            let dir = File::open(&mount_point)
                .with_context(|| format!("cannot open {}", mount_point.display()))?
                .into();
            return Ok(Self { dir, how: format!("mounted at {}", mount_point.display()), mount_point });
        }
        let dir = mount_privately().context("there is no cgroup v2 mount and none can be made")?;
        Ok(Self { dir, mount_point: PathBuf::from("/"), how: "mounted for this process".to_owned() })
    }

    /// The directory to attach to.
    #[must_use]
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }
}

/// The mount point of a cgroup2 mount that shows the hierarchy from its root (proc_pid_mountinfo(5)).
fn whole_hierarchy(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, mount_point) = (left.next()?, left.next()?);
        (right.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(unescape(mount_point)))
    })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

fn mount_privately() -> Result<OwnedFd> {
    let fs = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&fs)?;
    let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    // The mount's descriptor is a mere path (O_PATH), which programs cannot be attached to.
    Ok(openat(&mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Paths of cgroups by their ids.
#[derive(Debug)]
pub struct Paths {
    root: Root,
    known: HashMap<u64, Option<Arc<str>>>,
}

impl Paths {
    /// Looks paths up under `root`.
    #[must_use]
    pub fn new(root: Root) -> Self {
        Self { root, known: HashMap::new() }
    }

    /// The path from the hierarchy's root, as `/system.slice/nginx.service`; `None` when the cgroup is gone, was never
    /// there (id 0) or cannot be opened by its id (no CAP_DAC_READ_SEARCH).
    pub fn path(&mut self, id: u64) -> Option<Arc<str>> {
        if id == 0 {
            return None;
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let root = &self.root;
        self.known.entry(id).or_insert_with(|| look_up(root, id)).clone()
    }
}

fn look_up(root: &Root, id: u64) -> Option<Arc<str>> {
    let dir = open_by_id(root, id)?;
    let path = fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?;
    let inside = path.strip_prefix(&root.mount_point).ok()?;
    Some(Path::new("/").join(inside).to_string_lossy().into())
}

/// A kernfs file handle is the node's 64-bit id (FILEID_KERNFS, include/linux/exportfs.h).
#[repr(C)]
struct KernfsHandle {
    bytes: u32,
    kind: i32,
    id: u64,
}

const FILEID_KERNFS: i32 = 0xfe;

fn open_by_id(root: &Root, id: u64) -> Option<OwnedFd> {
    let mut handle = KernfsHandle { bytes: 8, kind: FILEID_KERNFS, id };
    // SAFETY: the handle has the layout of struct file_handle with eight bytes; the call only reads it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            root.dir.as_raw_fd(),
            &raw mut handle,
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_mount_of_a_part_is_passed_over() {
        let mounts = "30 25 0:26 /system.slice /a rw - cgroup2 cgroup2 rw\n\
                      31 25 0:26 / /sys/fs/my\\040cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                      32 25 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n";
        assert_eq!(whole_hierarchy(mounts), Some(PathBuf::from("/sys/fs/my cgroup")));
        assert_eq!(whole_hierarchy(""), None);
    }

    #[test]
    fn the_root_is_found_by_its_own_id() {
        let root = Root::open().expect("cgroup v2");
        let id = fs::metadata(&root.mount_point).expect("an inode").ino();
        assert_eq!(Paths::new(root).path(id).as_deref(), Some("/"));
    }
}
