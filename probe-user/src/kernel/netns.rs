//! Which network namespaces are there, and a visit to each.
//!
//! The TCP iterator shows the namespace of the thread that opens it. A namespace is found through the processes in it
//! and through its name under /run/netns; descriptors are closed after each visit, for an open one keeps the namespace
//! alive. Costs one readlink a process.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps the names.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// A namespace to be visited.
#[derive(Debug)]
pub struct Namespace {
    /// Inode number, its identity while it lives.
    pub inode: u32,
    path: PathBuf,
}

/// Every namespace that a process or a name leads to, each once.
///
/// # Errors
/// /proc cannot be read.
pub fn all() -> Result<Vec<Namespace>> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut add = |inode: Option<u32>, path: PathBuf| {
        if let Some(inode) = inode
            && seen.insert(inode)
        {
            found.push(Namespace { inode, path });
        }
    };
    for entry in fs::read_dir("/proc").context("cannot list /proc")?.flatten() {
        if entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            let path = entry.path().join("ns/net");
            add(inode_of_link(&path), path);
        }
    }
    for entry in NAMED.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten() {
        let path = entry.path();
        add(inode_of_file(&path), path);
    }
    Ok(found)
}

fn inode_of_link(path: &Path) -> Option<u32> {
    let target = fs::read_link(path).ok()?;
    target.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// A named namespace is a bind mount of the namespace's file; a leftover name is an ordinary file on another device.
fn inode_of_file(path: &Path) -> Option<u32> {
    let nsfs = fs::metadata("/proc/self/ns/net").ok()?.dev();
    let meta = fs::metadata(path).ok().filter(|m| m.dev() == nsfs)?;
    u32::try_from(meta.ino()).ok()
}

/// The calling thread's way home.
#[derive(Debug)]
pub struct Traveller {
    home: File,
    home_inode: Option<u32>,
}

impl Traveller {
    /// # Errors
    /// The thread's own namespace cannot be opened.
    pub fn new() -> Result<Self> {
        let path = Path::new("/proc/thread-self/ns/net");
        let home = File::open(path).context("cannot open this thread's network namespace")?;
        Ok(Self { home, home_inode: inode_of_link(path) })
    }

    /// Runs `visit` with the calling thread in the namespace, and returns home.
    ///
    /// # Errors
    /// The namespace cannot be entered (gone since, or no CAP_SYS_ADMIN), or there is no way back.
    pub fn visit<T>(&self, namespace: &Namespace, visit: impl FnOnce() -> T) -> io::Result<T> {
        if Some(namespace.inode) == self.home_inode {
            return Ok(visit());
        }
        let there = File::open(&namespace.path)?;
        if there.metadata()?.ino() != u64::from(namespace.inode) {
            // The process ended and its number went to another, in another namespace.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network))?;
        let result = visit();
        move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(result)
    }
}
