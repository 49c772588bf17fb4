//! Where a part was measured, and how busy the machine was with other things.

use std::fs;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::load::cpu;

/// The machine as it is when a part begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Machine {
    /// The day, UTC, as 2026-11-30.
    #[serde(default)]
    pub(super) date: String,
    /// `uname -r`.
    pub(super) kernel: String,
    /// The processor's name for itself.
    pub(super) processor: String,
    /// CPUs that may be used.
    pub(super) cpus: usize,
    /// MemTotal.
    pub(super) memory_mib: u64,
    /// Processes that wanted a CPU over the last minute: before the first part they are others'.
    pub(super) load_average: f64,
}

impl Machine {
    /// # Errors
    /// When `/proc` is not mounted.
    pub(super) fn now() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let processor = read("/proc/cpuinfo")?;
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            date: Timestamp::now().strftime("%F").to_string(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processor: processor.map_or("unknown processor", |(_, name)| name).to_owned(),
            cpus: cpu::allowed()?.len(),
            memory_mib: kib_of(&read("/proc/meminfo")?, "MemTotal")? / 1024,
            load_average: read("/proc/loadavg")?.split(' ').next().context("no load average")?.parse()?,
        })
    }

    /// Whether figures of both compare: the same kernel on as many of the same processors.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (&self.kernel, &self.processor, self.cpus) == (&other.kernel, &other.processor, other.cpus)
    }
}

/// A line of `/proc/meminfo` or `/proc/PID/status`, in KiB.
pub(super) fn kib_of(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = value.with_context(|| format!("no {name}"))?.trim().trim_end_matches(" kB");
    value.parse().with_context(|| format!("{name} is {value}"))
}
