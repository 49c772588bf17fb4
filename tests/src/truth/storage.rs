//! How much state is with the sockets: the kernel tells no size of socket storage, but walks over its elements.

use std::fs;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};

use super::bpf::map;
use super::{Objects, Point, RunStatistics, Tiny};

/// `BPF_MAP_TYPE_SK_STORAGE`.
const SK_STORAGE: u32 = 24;

impl Objects {
    /// Elements of all socket storages among these maps, over all sockets of the machine.
    ///
    /// # Errors
    /// When a map is gone, or the kernel does not walk over it (before 5.9).
    pub fn stored(&self) -> Result<u64> {
        let _on = RunStatistics::enable()?;
        let mut sum = 0;
        for &id in &self.maps {
            if kind(id)? == SK_STORAGE {
                let counter = Tiny::empty(Point::Storage(id), "stored")?;
                counter.walk()?;
                // Once for each element, and once at the end.
                sum += counter.runs()?.checked_sub(1).context("the walk called its program not once")?;
            }
        }
        Ok(sum)
    }
}

fn kind(id: u32) -> Result<u32> {
    let map = map(id)?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let line = info.lines().find_map(|line| line.strip_prefix("map_type:"));
    Ok(line.context("the kernel does not tell a map's type")?.trim().parse()?)
}
