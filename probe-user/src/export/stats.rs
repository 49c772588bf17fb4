//! What the daemon knows about itself at a scrape. What is not known is `None` or not listed, and its series is absent.

use std::time::Duration;

use jiff::Timestamp;
use probe_common::fields::Field;

/// One hook of the kernel side.
#[derive(Clone, Debug, PartialEq)]
pub struct HookStats {
    /// Its name, as in `flowprobe check`.
    pub name: String,
    /// It is attached.
    pub up: bool,
    /// Events that the kernel skipped because the hook was already running on that CPU.
    pub missed: Option<u64>,
    /// Runs; the kernel counts them only while kernel.bpf_stats_enabled is 1.
    pub runs: Option<u64>,
    /// Time of these runs, likewise.
    pub run_time: Option<Duration>,
}

/// The last complete walk over all sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepStats {
    /// When it ended.
    pub ended: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// The time until the next: as configured, or longer where sweeps would take too much of a CPU.
    pub period: Duration,
    /// TCP sockets it read.
    pub sockets: u64,
}

/// How reloads of the configuration went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigStats {
    /// The last one succeeded; the start counts as one.
    pub is_last_good: bool,
    /// When one last succeeded.
    pub last_good: Timestamp,
}

/// A file of networks.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceStats {
    /// What it is: `list`, `mmdb` or `bgp`.
    pub source: &'static str,
    /// Where it is.
    pub path: String,
    /// Date of the data in use.
    pub date: Option<Timestamp>,
    /// Prefixes in use.
    pub prefixes: u64,
    /// The file as it is now is in use.
    pub is_good: bool,
}

/// The daemon's own numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SelfStats {
    /// Version of flowprobe.
    pub version: String,
    /// All hooks, those that are not attached too.
    pub hooks: Vec<HookStats>,
    /// Records lost, by reason; a reason that is watched and had no loss is listed with 0.
    pub losses: Vec<(String, u64)>,
    /// Round trips of which no sample was taken, as configured.
    pub rtt_samples_left_out: Option<u64>,
    /// The last sweep; `None` before the first.
    pub sweep: Option<SweepStats>,
    /// What was counted divided by what the kernel counted, by the kernel's name of the counter; only where the
    /// kernel's count can be read and is not 0.
    pub reconciliation: Vec<(String, f64)>,
    /// The kernel's jiffies per second (CONFIG_HZ).
    pub jiffies_per_second: Option<u32>,
    /// Whether the web configuration is in force as its files are; `None` without one.
    pub web_config: Option<bool>,
    /// Optional kernel fields that this kernel does not have; their counters in records are 0 and mean nothing.
    pub absent_fields: Vec<Field>,
    /// The configuration; `None` where there is nothing to reload.
    pub config: Option<ConfigStats>,
    /// The files of networks.
    pub sources: Vec<SourceStats>,
}
