//! May this process load programs, enter namespaces, resolve cgroups?

use std::fs;

use anyhow::{Result, bail};

/// A capability (include/uapi/linux/capability.h) and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Name.
    pub name: &'static str,
    bit: u32,
    /// Nothing works without it.
    pub required: bool,
    /// What is lost without it.
    pub lost_without: &'static str,
}

const SYS_ADMIN: u32 = 21;

/// What flowprobe uses. CAP_SYS_ADMIN stands for the first two as well.
pub const CAPABILITIES: [Capability; 6] = [
    Capability {
        name: "CAP_BPF",
        bit: 39,
        required: true,
        lost_without: "everything: programs cannot be loaded",
    },
    Capability {
        name: "CAP_PERFMON",
        bit: 38,
        required: true,
        lost_without: "everything: programs cannot read kernel structures",
    },
    Capability {
        name: "CAP_NET_ADMIN",
        bit: 12,
        required: true,
        lost_without: "everything: programs cannot be attached to the cgroup",
    },
    Capability {
        name: "CAP_SYS_ADMIN",
        bit: SYS_ADMIN,
        required: false,
        lost_without: "live connections of other network namespaces",
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        required: false,
        lost_without: "namespaces of other users' processes",
    },
    Capability { name: "CAP_DAC_READ_SEARCH", bit: 2, required: false, lost_without: "paths of cgroups" },
];

/// Effective capabilities of this process, a bit each.
#[must_use]
pub fn effective() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0)
}

impl Capability {
    /// Whether `effective` holds it, or stands for it.
    #[must_use]
    pub fn held(&self, effective: u64) -> bool {
        let stands_for = matches!(self.name, "CAP_BPF" | "CAP_PERFMON") && effective >> SYS_ADMIN & 1 == 1;
        effective >> self.bit & 1 == 1 || stands_for
    }
}

/// # Errors
/// A required capability is missing; the sentence names all of them and the remedy.
pub fn require(effective: u64) -> Result<()> {
    let missing: Vec<_> =
        CAPABILITIES.iter().filter(|c| c.required && !c.held(effective)).map(|c| c.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "loading the probes needs {}: run as root, or give the binary these capabilities",
        missing.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let error = require(1 << 39).expect_err("two are missing").to_string();
        assert!(error.contains("CAP_PERFMON, CAP_NET_ADMIN") && !error.contains("CAP_BPF"), "{error}");
        assert!(require(1 << SYS_ADMIN | 1 << 12).is_ok());
    }
}
