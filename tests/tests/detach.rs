//! Is the machine as it was before, however flowprobe ends? (CASE 34)

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tests::kit::{Process, flowprobe, take_turn, wait_until};
use tests::scenario::refusal::nothing_is_left;
use tests::scenario::{Daemon, Probe, Watch, command, expect, flows};
use tests::truth::Objects;

/// By contract a daemon ends within 2 s of a signal.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Ids of the BPF objects whose descriptors a process holds.
fn held_by(process: u32) -> Result<Objects> {
    let mut held = Objects { programs: BTreeSet::new(), maps: BTreeSet::new(), links: BTreeSet::new() };
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
        // A descriptor may be closed between the listing and the look.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let id = |key: &str| -> Option<u32> {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
        };
        held.links.extend(id("link_id"));
        held.maps.extend(id("map_id"));
        held.programs.extend(id("prog_id"));
    }
    Ok(held)
}

/// A daemon that ends so leaves no object of the kernel.
fn ends_clean(end: impl FnOnce(Daemon) -> Result<()>) -> Result<()> {
    let _turn = take_turn()?;
    let before = Objects::now()?;
    let mut daemon = Daemon::start()?;
    let held = held_by(daemon.process().id())?;
    ensure!(
        !held.programs.is_empty() && !held.maps.is_empty() && !held.links.is_empty(),
        "it loaded {held:?}"
    );
    let now = Objects::now()?;
    ensure!(held.programs.is_subset(&now.programs), "the kernel does not hold what the daemon holds");
    end(daemon)?;
    nothing_is_left(&before)?;
    let after = Objects::now()?;
    for (what, held, after) in [
        ("programs", &held.programs, &after.programs),
        ("maps", &held.maps, &after.maps),
        ("links", &held.links, &after.links),
    ] {
        ensure!(held.is_disjoint(after), "{what} of the daemon are still there");
    }
    Ok(())
}

/// It is asked to end, and does in time and without complaint.
fn obeys(mut daemon: Daemon, signal: Signal) -> Result<()> {
    daemon.process().signal(signal)?;
    let begun = Instant::now();
    wait_until(Duration::from_secs(20), "the daemon has ended", || Ok(!daemon.process().is_running()?))?;
    ensure!(begun.elapsed() < SHUTDOWN, "it took {:?}, not 2 s at most", begun.elapsed());
    expect("the exit code", daemon.stop_after_signal()?.code, Some(0))
}

#[test]
fn after_sigterm() -> Result<()> {
    ends_clean(|daemon| obeys(daemon, Signal::TERM))
}

#[test]
fn after_sigint() -> Result<()> {
    ends_clean(|daemon| obeys(daemon, Signal::INT))
}

/// The run directory stays as a crash leaves it, which does not disturb the next daemon.
#[test]
fn after_sigkill() -> Result<()> {
    ends_clean(|daemon| {
        let next =
            Daemon::start_in(daemon.kill()?, |_| {}).context("a daemon in the place of a killed one")?;
        next.stop()?;
        Ok(())
    })
}

#[test]
fn after_flows_and_watch_without_daemon() -> Result<()> {
    let _turn = take_turn()?;
    let before = Objects::now()?;
    let folder = tempfile::tempdir()?;
    flows(folder.path(), &[])?;
    nothing_is_left(&before)?;
    let watch = Watch::start(folder.path(), &[])?;
    wait_until(Duration::from_secs(60), "the watch has loaded its probes", || {
        Ok(!Objects::now()?.added_since(&before).links.is_empty())
    })?;
    let done = watch.interrupt()?;
    ensure!(!done.err.contains("panicked"), "it panicked: {}", done.err);
    expect("the exit code", done.code, Some(0))?;
    nothing_is_left(&before)
}

#[test]
fn watch_without_daemon_reports_connections() -> Result<()> {
    let _turn = take_turn()?;
    let before = Objects::now()?;
    let probe = Probe::alone()?;
    tests::scenario::lifecycle::server_that_closes_first_is_no_failure(&probe)?;
    probe.stop()?;
    nothing_is_left(&before)
}

#[test]
fn check_names_hooks_and_leaves_nothing() -> Result<()> {
    let _turn = take_turn()?;
    let before = Objects::now()?;
    let folder = tempfile::tempdir()?;
    let mut command = command(folder.path())?;
    command.arg("check");
    let done = Process::run(command, Duration::from_secs(60))?;
    expect("the exit code", done.code, Some(0))?;
    for word in ["sock_ops", "tcp_destroy_sock", "iter"] {
        ensure!(done.out.contains(word), "`flowprobe check` does not name {word}: {}", done.out);
    }
    nothing_is_left(&before)
}

#[test]
fn help_version_completions_and_man_need_nothing() -> Result<()> {
    let _turn = take_turn()?;
    for words in [&["--help"][..], &["--version"], &["completions", "bash"], &["man"], &["flows", "--help"]] {
        let mut command = Command::new(flowprobe()?);
        command.args(words);
        let done = Process::run(command, Duration::from_secs(20))?;
        expect(&format!("the exit code of {words:?}"), done.code, Some(0))?;
        ensure!(done.out.contains("flowprobe"), "{words:?} printed {}", done.out);
    }
    Ok(())
}
