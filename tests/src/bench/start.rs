//! How soon flowprobe observes after its start, and how soon `flowprobe flows` shows its first row.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::child::Child;
use super::daemon::{Daemon, Setting};
use super::driver::{self, Holding};
use super::parts::Context;
use super::sheet::Samples;
use crate::kit::{flowprobe, pause};
use crate::truth::Objects;

/// 1,000 connections, both ends.
const SOCKETS: u64 = 2_000;
const LONG: Duration = Duration::from_secs(60);

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let _holding = Holding::start(SOCKETS, 0.0, 0)?;
    for _ in 0..context.plan.rounds {
        driver::settle(context.plan)?;
        let (daemon, attached) = watched_start()?;
        samples.add("daemon, last hook attached/after", "ms", attached.as_secs_f64() * 1e3);
        samples.add("daemon, ready to be scraped/after", "ms", daemon.ready_after.as_secs_f64() * 1e3);
        let first = first_row(daemon.run_dir())?;
        samples.add("flows, first row, asking the daemon/after", "ms", first.as_secs_f64() * 1e3);
        daemon.stop()?;
        let empty = tempfile::tempdir()?;
        let first = first_row(empty.path())?;
        samples.add("flows, first row, without daemon/after", "ms", first.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// A daemon, and when the last of its links appeared, counted from its start.
fn watched_start() -> Result<(Daemon, Duration)> {
    let is_ready = AtomicBool::new(false);
    let begun = Instant::now();
    thread::scope(|scope| {
        let watcher = scope.spawn(|| -> Result<Duration> {
            let mut last = (Objects::now()?.links, Duration::ZERO);
            while !is_ready.load(Ordering::Relaxed) {
                let links = Objects::now()?.links;
                if links != last.0 {
                    last = (links, begun.elapsed());
                }
                pause(Duration::from_millis(1));
            }
            Ok(last.1)
        });
        let daemon = Daemon::start(&Setting::default());
        is_ready.store(true, Ordering::Relaxed);
        let attached = watcher.join().map_err(|_| anyhow!("a watcher panicked"))??;
        Ok((daemon?, attached))
    })
}

/// From the start of the command to its first row.
fn first_row(run_dir: &Path) -> Result<Duration> {
    let mut command = Command::new(flowprobe()?);
    command.args(["flows", "--no-header"]).env("FLOWPROBE_RUN_DIR", run_dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Child::start(command, None)?;
    let begun = child.begun();
    let mut rows = BufReader::new(child.stdout()?);
    let mut row = String::new();
    rows.read_line(&mut row).context("flowprobe flows printed nothing readable")?;
    let took = begun.elapsed();
    let mut count = 1_u64;
    for line in rows.lines() {
        line?;
        count += 1;
    }
    child.wait(LONG)?;
    ensure!(count >= SOCKETS, "flowprobe flows showed {count} of {SOCKETS} flows");
    Ok(took)
}
