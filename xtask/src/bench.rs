//! `cargo xtask bench`: what flowprobe and its peers cost, every condition under the same load, in turn, in one run.
//!
//! The programs `load` and `bench` of the crate `tests` do the measuring and the writing. The full form takes
//! more than two hours and writes docs/performance.md, docs/performance.json and docs/performance/*.svg; the quick one takes less
//! than two minutes behind the build and writes the same under target/bench/quick, for it shows only that the measuring works.

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{
    build,
    setup::{self, Purpose},
    step::{self, say},
    test, workspace,
};

/// Another flowprobe to be measured: then none is built.
const OTHER: &str = "FLOWPROBE_BIN";

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(after_help = "\
Parts: rates, kernel-time, sweep, memory, scrape, networks, start, delay, latency, highest, cpus, open.
Conditions (of rates and kernel-time): empty, flowprobe, tcplife, tcpstates, bpftrace-count;
in the full form also bpftrace-printf, bpftrace-map, \"flowprobe: a round trip in 100ms\",
\"flowprobe: connection\" and other hooks.

Examples:
  cargo xtask bench --quick
  cargo xtask bench                            writes docs/performance.md
  cargo xtask bench --only sweep,memory        the other parts keep their last figures
  cargo xtask bench --only rates,flowprobe --rounds 15
  cargo xtask bench --only sweep --most 100000  seven minutes instead of half an hour
  FLOWPROBE_BIN=old/flowprobe cargo xtask bench --quick --only kernel-time

Peers are Debian's: apt-get install -y bpftrace libbpf-tools iproute2. Those that are missing
are left out, by name. A part that is measured replaces its last figures as a whole, and says
how the new ones stand to them; what it was in three runs before stays in the spread.")]
pub(crate) struct Arguments {
    /// Less than two minutes, behind the build, instead of more than two hours; writes target/bench/quick instead of docs
    #[arg(long)]
    quick: bool,
    /// How often each condition is measured [default: 7, quick: 1]
    #[arg(long, value_name = "N")]
    rounds: Option<u16>,
    /// Open sockets at most: a sweep is asked for only after a hundred times the last one's time
    #[arg(long, value_name = "SOCKETS")]
    most: Option<u64>,
    /// Parts and conditions to measure, separated by commas [default: all]
    #[arg(long, value_name = "ROWS", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure nothing: make the document anew of the figures that are there
    #[arg(long)]
    report: bool,
}

/// The verb.
pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    test::require_root("bench")?;
    let other = env::var_os(OTHER).map(PathBuf::from);
    if other.is_none() {
        setup::prepare(Purpose::Build)?;
        build::release()?;
    }
    build_programs()?;
    let folder = if arguments.quick {
        workspace::target().join("bench/quick")
    } else {
        workspace::root().join("docs")
    };
    let mut command = Command::new(workspace::target().join("release/bench"));
    command.arg("--folder").arg(&folder);
    for (given, option) in [(arguments.quick, "--quick"), (arguments.report, "--report")] {
        command.args(given.then_some(option));
    }
    if let Some(rounds) = arguments.rounds {
        command.args(["--rounds", &rounds.to_string()]);
    }
    if let Some(most) = arguments.most {
        command.args(["--most", &most.to_string()]);
    }
    if !arguments.only.is_empty() {
        command.args(["--only", &arguments.only.join(",")]);
    }
    command
        .env(OTHER, other.unwrap_or_else(workspace::flowprobe))
        .env("RUST_BACKTRACE", "0")
        .env("PATH", workspace::path_with_tools());
    say(&format!("measuring; the figures go to {}", folder.display()));
    let status = command.stdin(Stdio::null()).status().context("cannot start the bench")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build_programs() -> Result<()> {
    let mut build = workspace::cargo("build");
    build.args(["--release", "--package", "tests", "--bin", "load", "--bin", "bench"]);
    step::shown(&mut build)
}
