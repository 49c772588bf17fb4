//! Where a load runs: a network namespace of its own, with room for it.

use std::fs::{self, File};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::link::device;

/// Namespaced settings, so that runs are alike: no TIME_WAIT is cut short (that would answer a peer's FIN with a reset),
/// ports are plenty, and the congestion control is the one that loopback does not make jump.
const SETTINGS: [(&str, &str); 4] = [
    ("tcp_max_tw_buckets", "4194304"),
    ("ip_local_port_range", "10000 65535"),
    ("tcp_congestion_control", "reno"),
    ("tcp_max_syn_backlog", "65536"),
];

/// Moves this process, which has one thread yet, to a new namespace with its loopback up. It goes with the last
/// process in it.
pub(super) fn new_namespace() -> Result<()> {
    // SAFETY: no other thread exists whose assumptions could break; memory and descriptors stay shared as they were.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .context("cannot make a network namespace: run as root")?;
    device::set_up("lo", true).context("cannot bring lo up in a new network namespace")?;
    for (name, value) in SETTINGS {
        let path = format!("/proc/sys/net/ipv4/{name}");
        fs::write(&path, value).with_context(|| format!("cannot set {path} to {value}"))?;
    }
    // The backlog of listen() is cut to this.
    fs::write("/proc/sys/net/core/somaxconn", "65535").context("cannot set net.core.somaxconn")
}

/// Moves this process to the namespace of another one, if it is named.
pub(super) fn enter_namespace(process: Option<u32>) -> Result<()> {
    let Some(process) = process else { return Ok(()) };
    let namespace = File::open(format!("/proc/{process}/ns/net"))
        .with_context(|| format!("process {process} is gone"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("cannot enter a network namespace: run as root")
}

/// As many descriptors as this process may have; returns how many.
pub(super) fn all_descriptors() -> Result<u64> {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })
        .context("cannot raise the limit of descriptors to the hard one")?;
    Ok(hard.unwrap_or(1 << 20))
}
