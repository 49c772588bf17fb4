//! A flowprobe daemon for one test: own port, own run directory, gone with its guard.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::LONG;
use crate::kit::{
    Finished, Line, Process, Scrape, Stream, flowprobe, free_port, get, get_text, parse_lines, wait_until,
};

/// Within this time a signalled daemon has ended, by contract 2 s; the rest is for a busy machine.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// The flowprobe program with this run directory and nothing of the caller's logging.
///
/// # Errors
/// When there is no flowprobe binary.
pub fn command(run_dir: &Path) -> Result<Command> {
    let mut command = Command::new(flowprobe()?);
    command.env("FLOWPROBE_RUN_DIR", run_dir).env_remove("RUST_LOG").env("NO_COLOR", "1");
    Ok(command)
}

/// Run `flowprobe flows -o jsonl WORDS…`.
///
/// # Errors
/// When it fails or prints something else than flows.
pub fn flows(run_dir: &Path, words: &[&str]) -> Result<Vec<Line>> {
    let mut command = command(run_dir)?;
    command.arg("flows").args(words).args(["-o", "jsonl"]);
    let done = Process::run(command, LONG)?;
    ensure!(done.code == Some(0), "flowprobe flows ended with {:?}: {}", done.code, done.err);
    parse_lines(&done.out)
}

/// Where a daemon lives: what a crash leaves, and the next one finds.
#[derive(Debug)]
pub struct Place {
    run_dir: TempDir,
    address: SocketAddr,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    run_dir: TempDir,
    /// Where it serves `/metrics`.
    pub address: SocketAddr,
}

impl Daemon {
    /// Start one and wait until its probes are attached.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the message has its standard error.
    pub fn start() -> Result<Self> {
        Self::start_with(|_| {})
    }

    /// Start one whose command `change` has changed.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_with(change: impl FnOnce(&mut Command)) -> Result<Self> {
        let run_dir = tempfile::tempdir().context("cannot make a run directory")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        Self::start_in(Place { run_dir, address }, change)
    }

    /// Start one in the place of another that is gone, as a supervisor does.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_in(place: Place, change: impl FnOnce(&mut Command)) -> Result<Self> {
        let Place { run_dir, address } = place;
        let mut command = command(run_dir.path())?;
        command.args(["daemon", "--listen", &address.to_string()]);
        change(&mut command);
        let mut process = Process::start(command, None)?;
        wait_until(LONG, "the daemon is ready", || {
            process.expect_running()?;
            Ok(get(address, "/-/ready").is_ok_and(|answer| answer.status == 200))
        })
        .with_context(|| format!("the daemon's errors: {}", process.output(Stream::Err)))?;
        Ok(Self { process, run_dir, address })
    }

    /// Its run directory, for `flows` and `watch`.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        self.run_dir.path()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its metrics, now.
    ///
    /// # Errors
    /// When it does not answer with 200 and valid exposition.
    pub fn scrape(&self) -> Result<Scrape> {
        Scrape::parse(&get_text(self.address, "/metrics")?)
    }

    /// What it says of itself: hooks that are down, what was lost or missed, what it wrote to its standard error. For the
    /// message of a scenario that fails.
    #[must_use]
    pub fn troubles(&self) -> String {
        let mut told = match self.scrape() {
            Ok(scrape) => lost(&scrape),
            Err(error) => format!("the daemon cannot be asked: {error:#}"),
        };
        let errors = self.process.output(Stream::Err);
        if !errors.is_empty() {
            told += &format!("; it wrote: {}", errors.trim_end());
        }
        told
    }

    /// Kill it, with no chance to tidy up.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(self) -> Result<Place> {
        let Self { mut process, run_dir, address } = self;
        process.signal(Signal::KILL)?;
        wait_until(LONG, "the killed daemon has ended", || Ok(!process.is_running()?))?;
        Ok(Place { run_dir, address })
    }

    /// The end of a daemon that was sent a signal before.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop_after_signal(self) -> Result<Finished> {
        self.process.finish(SHUTDOWN)
    }

    /// End it with SIGTERM.
    ///
    /// # Errors
    /// When it does not end in time, not with exit code 0, or panicked on the way.
    pub fn stop(self) -> Result<Finished> {
        let done = self.process.stop(SHUTDOWN)?;
        ensure!(
            done.code == Some(0),
            "the daemon ended with {:?}/{:?}: {}",
            done.code,
            done.signal,
            done.err
        );
        ensure!(!done.err.contains("panicked"), "the daemon panicked: {}", done.err);
        Ok(done)
    }
}

/// What was lost or missed, and hooks that are down.
fn lost(scrape: &Scrape) -> String {
    let mut told = Vec::new();
    for (family, label, fine) in [
        ("flowprobe_hook_up", "hook", 1.0),
        ("flowprobe_hook_missed_total", "hook", 0.0),
        ("flowprobe_records_lost_total", "reason", 0.0),
    ] {
        for which in scrape.label_values(family, label) {
            let value = scrape.sum(family, &[(label, &which)]);
            if value != fine {
                told.push(format!("{family} of {which} is {value}"));
            }
        }
    }
    if told.is_empty() { "the daemon lost and missed nothing".into() } else { told.join(", ") }
}
