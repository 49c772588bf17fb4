//! Which programs run, since when not, and what did they cost?

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

/// From here on callbacks can be switched on for connections that are older than the probe (bpf_setsockopt,
/// TCP_BPF_SOCK_OPS_CB_FLAGS).
pub(super) const CALLBACKS_FOR_OLDER: (u32, u32) = (6, 12);

/// A program and the place that it hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookSpec {
    /// Name of the program, and value of the label `hook`.
    pub name: &'static str,
    /// The kernel's name of the place.
    pub point: &'static str,
    /// Nothing is measured without it.
    pub required: bool,
    /// The kernel skips the program when it interrupts itself, and counts that.
    pub skipped_on_reentry: bool,
    /// What is lost without it.
    pub lost_without: &'static str,
    /// The Linux release (major, minor) from which on nothing is lost without it; it is left out there.
    pub until: Option<(u32, u32)>,
}

impl HookSpec {
    /// Whether this release of Linux wants it; one that was not understood does.
    #[must_use]
    pub fn is_wanted(&self, release: Option<(u32, u32)>) -> bool {
        self.until.is_none_or(|until| release.is_none_or(|release| release < until))
    }
}

/// The spine: lifecycle, round trips, retransmissions.
pub const CONNECTION: HookSpec = HookSpec {
    name: "connection",
    point: "sock_ops on the root of cgroup v2",
    required: true,
    skipped_on_reentry: false,
    lost_without: "everything: connections, round trips, retransmissions",
    until: None,
};
/// The backstop for ends that were not seen.
pub const DESTROY: HookSpec = HookSpec {
    name: "destroy",
    point: "tp_btf/tcp_destroy_sock",
    required: false,
    skipped_on_reentry: true,
    lost_without: "the ends of connections older than the probe, before Linux 6.12",
    until: None,
};
/// The backstop's backstop: for ends that interrupt [`DESTROY`].
pub const DESTROY_NESTED: HookSpec = HookSpec {
    name: "destroy_nested",
    lost_without: "those ends of connections older than the probe that `destroy` missed",
    until: Some(CALLBACKS_FOR_OLDER),
    ..DESTROY
};
/// Loss episodes.
pub const EPISODE: HookSpec = HookSpec {
    name: "episode",
    point: "tp_btf/tcp_cong_state_set",
    required: false,
    skipped_on_reentry: true,
    lost_without: "loss episodes, and retransmissions that the kernel took back",
    until: None,
};
/// Repeated SYN-ACKs.
pub const SYNACK: HookSpec = HookSpec {
    name: "synack",
    point: "tp_btf/tcp_retransmit_synack",
    required: false,
    skipped_on_reentry: true,
    lost_without: "repeated SYN-ACKs of requests that never become connections",
    until: None,
};
/// Snapshot for people.
pub const FLOWS: HookSpec = HookSpec {
    name: "flows",
    point: "iter/tcp",
    required: false,
    skipped_on_reentry: false,
    lost_without: "`flowprobe flows`",
    until: None,
};
/// The daemon's sweep.
pub const ACCOUNT: HookSpec = HookSpec {
    name: "account",
    point: "iter/tcp",
    required: false,
    skipped_on_reentry: false,
    lost_without: "live connections in the metrics before they end, and connections older than the probe",
    until: None,
};

/// All hooks, in the order that people read them.
pub const ALL: [HookSpec; 7] = [CONNECTION, DESTROY, DESTROY_NESTED, EPISODE, SYNACK, FLOWS, ACCOUNT];

/// A hook as it is on this machine.
#[derive(Debug)]
pub struct Hook {
    /// Which.
    pub spec: HookSpec,
    /// Why it is down; `None` while it is up.
    pub down: Option<String>,
    /// The loaded program.
    pub(super) program: Option<OwnedFd>,
}

/// What the kernel counts of a program; `None` where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HookStats {
    /// Runs skipped by the kernel's guard against re-entry.
    pub missed: Option<u64>,
    /// Runs, while kernel.bpf_stats_enabled was on.
    pub runs: Option<u64>,
    /// Time spent in them.
    pub run_time: Option<Duration>,
    /// Instructions that the verifier processed at load.
    pub verified_instructions: Option<u64>,
}

impl Hook {
    /// Whether the program is loaded and attached.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.down.is_none()
    }

    /// Reads the kernel's counters of the program from its /proc/self/fdinfo.
    #[must_use]
    pub fn stats(&self) -> HookStats {
        let Some(program) = &self.program else { return HookStats::default() };
        let text =
            fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).unwrap_or_default();
        parse_fdinfo(&text, self.spec.skipped_on_reentry)
    }
}

/// Whether this one of the hooks is up.
#[must_use]
pub fn is_up(hooks: &[Hook], spec: HookSpec) -> bool {
    hooks.iter().any(|hook| hook.spec == spec && hook.is_up())
}

fn parse_fdinfo(text: &str, skipped_on_reentry: bool) -> HookStats {
    let value = |key: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
    };
    // Without bpf_stats the kernel leaves both at 0, which is no measurement.
    let runs = value("run_cnt").filter(|n| *n > 0);
    HookStats {
        missed: value("recursion_misses").filter(|_| skipped_on_reentry),
        runs,
        run_time: runs.and(value("run_time_ns")).map(Duration::from_nanos),
        verified_instructions: value("verified_insns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nested_hook_is_for_old_kernels() {
        let wanted = |release| ALL.iter().filter(|hook| hook.is_wanted(release)).count();
        assert_eq!([Some((6, 1)), Some((6, 12)), None].map(wanted), [7, 6, 7]);
    }

    #[test]
    fn counters_that_are_off_are_absent() {
        let text =
            "prog_type:\t26\nrun_time_ns:\t0\nrun_cnt:\t0\nrecursion_misses:\t7\nverified_insns:\t120\n";
        let stats = parse_fdinfo(text, true);
        assert_eq!((stats.runs, stats.run_time, stats.missed), (None, None, Some(7)));
        assert_eq!(stats.verified_instructions, Some(120));
        assert_eq!(parse_fdinfo(text, false).missed, None);
    }
}
