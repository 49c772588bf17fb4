//! What a connection costs the kernel's memory with flowprobe and without: growth of `Slab` in /proc/meminfo while so many
//! sockets are opened, in turn, all of it and by the caches that it is in; and what the daemon's maps hold however many there are.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::condition::{Condition, Running};
use super::driver::Holding;
use super::machine::kib_of;
use super::parts::Context;
use super::sheet::{Figure, Samples};
use crate::kit::pause;

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let mut added: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for round in 0..context.plan.long_rounds {
        // What was freed in one measurement is used in the next: neither is always the first.
        let before = if round % 2 == 0 { Some(growth(context, None)?) } else { None };
        let flowprobe = Condition::Flowprobe.start()?;
        let with = growth(context, Some(&flowprobe))?;
        samples.add("maps, once/memory", "KiB", flowprobe.objects.map_bytes()? as f64 / 1024.0);
        flowprobe.stop()?;
        let without = before.map_or_else(|| growth(context, None), Ok)?;
        samples.add("a socket, nothing/memory", "B", without.all);
        samples.add("a socket, flowprobe/memory", "B", with.all);
        samples.add("a socket, added/memory", "B", with.general() - without.general());
        for (cache, bytes) in with.caches {
            let more = bytes - without.caches.get(&cache).copied().unwrap_or(0.0);
            added.entry(cache).or_default().push(more);
        }
    }
    for (cache, bytes) in added {
        let is_worth = |middle: Figure| middle.median.abs() >= WORTH_A_ROW;
        if Figure::of("B", bytes.clone()).is_some_and(is_worth) {
            bytes
                .iter()
                .for_each(|bytes| samples.add(format!("a socket, added in {cache}/memory"), "B", *bytes));
        }
    }
    Ok(())
}

/// A cache whose part of a socket changed by so many bytes, in the middle of the rounds, is named.
const WORTH_A_ROW: f64 = 16.0;

/// Bytes of slab memory that a socket takes.
struct Growth {
    all: f64,
    /// By the kernel's cache (/proc/slabinfo).
    caches: BTreeMap<String, f64>,
}

impl Growth {
    /// In the caches of general allocations, where the storage of a socket is. File and inode caches move with whatever
    /// else the machine does, and flowprobe has nothing in them.
    fn general(&self) -> f64 {
        self.caches.iter().filter(|(name, _)| name.starts_with("kmalloc")).map(|(_, bytes)| bytes).sum()
    }
}

/// Of sockets that a sweep has seen.
fn growth(context: &Context<'_>, beside: Option<&Running>) -> Result<Growth> {
    let before = slab_at_rest()?;
    let caches_before = caches(&fs::read_to_string("/proc/slabinfo")?);
    let holding = Holding::start(context.plan.memory_sockets, 0.0, 0)?;
    if let Some(flowprobe) = beside {
        flowprobe.sweep()?;
    }
    let after = slab_at_rest()?;
    let mut caches = caches(&fs::read_to_string("/proc/slabinfo")?);
    for (name, bytes) in &mut caches {
        *bytes = (*bytes - caches_before.get(name).copied().unwrap_or(0.0)) / holding.sockets as f64;
    }
    Ok(Growth { all: (after as f64 - before as f64) * 1024.0 / holding.sockets as f64, caches })
}

/// Bytes of each cache: all its objects, used or not.
fn caches(slabinfo: &str) -> BTreeMap<String, f64> {
    let cache = |line: &str| -> Option<(String, f64)> {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let (objects, size): (f64, f64) = (words.nth(1)?.parse().ok()?, words.next()?.parse().ok()?);
        Some((name.to_owned(), objects * size))
    };
    slabinfo.lines().filter(|line| !line.starts_with('#')).filter_map(cache).collect()
}

/// `Slab` once it no longer moves: what is freed comes back late.
fn slab_at_rest() -> Result<u64> {
    const LOOK: Duration = Duration::from_millis(250);
    const LOOKS: usize = 20;
    const STILL_KIB: u64 = 256;
    let mut last = slab()?;
    for _ in 0..LOOKS {
        pause(LOOK);
        let now = slab()?;
        if now.abs_diff(last) <= STILL_KIB {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

fn slab() -> Result<u64> {
    kib_of(&fs::read_to_string("/proc/meminfo")?, "Slab")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cache_is_its_objects_by_their_size() {
        let text = "slabinfo - version: 2.1\n# name <active>\nTCP 65 117 2368 13 8 : tunables 0\n";
        let caches = super::caches(text);
        assert_eq!(caches.into_iter().collect::<Vec<_>>(), [("TCP".to_owned(), 117.0 * 2368.0)]);
    }
}
