//! A flowprobe daemon under measurement: what it cost, what its last sweep was, and a sweep on demand.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::child::Child;
use crate::kit::{PROTOBUF, Scrape, fetch, flowprobe, free_port, get, get_text, pause, wait_until};
use crate::load::cpu::Ran;

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(120);
/// At the most sockets a sweep takes a second and a half, and they are a hundred times that apart.
const SWEPT: Duration = Duration::from_secs(300);
/// The thread that walks the sockets.
const SWEEPER: &str = "sweeper";

/// How the names of run directories begin.
const RUN_DIR: &str = "flowprobe-bench-";

/// Removes what a bench that was killed left in the temporary directory; call it while no other bench runs.
pub(super) fn remove_leftovers() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(RUN_DIR)) {
        // One that cannot be removed does no harm.
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// How a daemon is started.
#[derive(Clone, Debug, Default)]
pub(super) struct Setting {
    /// More arguments.
    pub(super) arguments: Vec<String>,
    /// Only these hooks, separated by commas (`FLOWPROBE_HOOKS`).
    pub(super) hooks: Option<String>,
    /// Only on these CPUs.
    pub(super) cpus: Vec<usize>,
    /// Text of a configuration file.
    pub(super) configuration: Option<String>,
}

impl Setting {
    /// No sweep for as long as a part takes, but those that scrapes ask for.
    pub(super) fn sweeping_when_asked() -> Self {
        Self { arguments: vec!["--sweep-period".into(), "10m".into()], ..Self::default() }
    }
}

/// A running daemon; dropping it kills it.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    run_dir: TempDir,
    address: SocketAddr,
    /// From the start until it answered that it was ready.
    pub(super) ready_after: Duration,
}

/// One sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    /// Sockets that it looked at.
    pub(super) sockets: f64,
    /// The daemon's own figure.
    pub(super) wall_us: f64,
    /// What the thread that sweeps was on a CPU for it.
    pub(super) cpu_us: f64,
    /// Time on the wall of the scrape that it was made for, if it was not its period that made it.
    pub(super) scrape: Duration,
    /// Length of what that scrape gave, bytes.
    pub(super) scrape_len: usize,
}

impl Daemon {
    /// Starts one and waits until it is ready.
    pub(super) fn start(setting: &Setting) -> Result<Self> {
        let run_dir =
            tempfile::Builder::new().prefix(RUN_DIR).tempdir().context("cannot make a run directory")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let log = fs::File::create(run_dir.path().join("log"))?;
        let mut command = match &setting.cpus[..] {
            [] => Command::new(flowprobe()?),
            cpus => on_cpus(cpus)?,
        };
        command.args(["daemon", "--listen", &address.to_string()]).args(&setting.arguments);
        command.env("FLOWPROBE_RUN_DIR", run_dir.path()).env_remove("FLOWPROBE_LOG").env("NO_COLOR", "1");
        if let Some(text) = &setting.configuration {
            let file = run_dir.path().join("flowprobe.toml");
            fs::write(&file, text)?;
            command.arg("--config").arg(file);
        }
        if let Some(hooks) = &setting.hooks {
            command.env("FLOWPROBE_HOOKS", hooks);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = Child::start(command, None)?;
        let mut daemon = Self { child, run_dir, address, ready_after: Duration::ZERO };
        let ready = wait_until(LONG, "flowprobe is ready", || {
            ensure!(daemon.child.is_running()?, "flowprobe ended early");
            Ok(get(address, "/-/ready").is_ok_and(|answer| answer.status == 200))
        });
        ready.with_context(|| format!("it said: {}", daemon.log().trim()))?;
        daemon.ready_after = daemon.child.begun().elapsed();
        if let Some(hooks) = &setting.hooks {
            daemon.ensure_only(hooks)?;
        }
        Ok(daemon)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.run_dir.path().join("log")).unwrap_or_default()
    }

    fn ensure_only(&self, hooks: &str) -> Result<()> {
        let scrape = self.scrape()?;
        for hook in scrape.label_values("flowprobe_hook_up", "hook") {
            let up = scrape.value("flowprobe_hook_up", &[("hook", &hook)]) == Some(1.0);
            let wanted = hooks.split(',').any(|wanted| wanted == hook);
            // The iterators run only when someone walks the sockets.
            let walks = matches!(hook.as_str(), "flows" | "account");
            ensure!(
                walks || up == wanted,
                "this flowprobe cannot load a part of its hooks (FLOWPROBE_HOOKS is without effect)"
            );
        }
        Ok(())
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where the command line finds it.
    pub(super) fn run_dir(&self) -> &Path {
        self.run_dir.path()
    }

    /// The text of its metrics.
    pub(super) fn metrics(&self) -> Result<String> {
        get_text(self.address, "/metrics").with_context(|| format!("it said: {}", self.log().trim()))
    }

    /// Length of its metrics in a format and a content coding, bytes.
    pub(super) fn metrics_as(&self, accept: &str, coding: &str) -> Result<usize> {
        let answer = fetch(self.address, "/metrics", &[("Accept", accept), ("Accept-Encoding", coding)])?;
        let head = answer.head.to_ascii_lowercase();
        ensure!(answer.status == 200, "a scrape gave {}", answer.status);
        ensure!(
            head.contains("application/vnd.google.protobuf") == (accept == PROTOBUF),
            "another form came"
        );
        ensure!(head.contains("content-encoding: gzip") == (coding == "gzip"), "another coding came");
        Ok(answer.body.len())
    }

    /// Its metrics.
    pub(super) fn scrape(&self) -> Result<Scrape> {
        Scrape::parse(&self.metrics()?)
    }

    /// Lets the daemon sweep once, by a scrape that finds its sums stale: when that is the daemon alone knows, so it is scraped
    /// once a second until it swept.
    pub(super) fn sweep(&self) -> Result<Sweep> {
        self.sweep_by(|| Ok(self.metrics()?.len()))
    }

    /// The same by other scrapes, of which each gives the length of its answer.
    pub(super) fn sweep_by(&self, mut scrape: impl FnMut() -> Result<usize>) -> Result<Sweep> {
        let begun = Instant::now();
        let before = Ran::of_thread(self.id(), SWEEPER)?;
        let (spent, took, length) = loop {
            pause(Duration::from_secs(1));
            let asked = Instant::now();
            let length = scrape()?;
            let took = asked.elapsed();
            let spent = self.sweeper_at_rest()?.since(before).time;
            if !spent.is_zero() {
                break (spent, took, length);
            }
            ensure!(begun.elapsed() < SWEPT, "the daemon did not sweep in {} s", SWEPT.as_secs());
        };
        let scrape = self.scrape()?;
        let value = |name: &str| scrape.value(name, &[]).with_context(|| format!("no {name}"));
        Ok(Sweep {
            sockets: value("flowprobe_sweep_sockets")?,
            wall_us: value("flowprobe_sweep_duration_seconds")? * 1e6,
            cpu_us: spent.as_secs_f64() * 1e6,
            scrape: took,
            scrape_len: length,
        })
    }

    /// What the thread that sweeps was on a CPU so far.
    pub(super) fn sweeper(&self) -> Result<Ran> {
        Ran::of_thread(self.id(), SWEEPER)
    }

    /// Waits for the end of a sweep that the daemon makes of itself, and tells what its threads and the one that sweeps were on
    /// a CPU so far.
    pub(super) fn swept_of_itself(&self) -> Result<(Ran, Ran)> {
        let before = Ran::of_thread(self.id(), SWEEPER)?;
        let mut sweeper = before;
        wait_until(SWEPT, "the daemon has swept of itself", || {
            sweeper = self.sweeper_at_rest()?;
            Ok(!sweeper.since(before).time.is_zero())
        })?;
        Ok((Ran::of_process(self.id())?, sweeper))
    }

    /// Waits until the thread that sweeps has not run for a while.
    fn sweeper_at_rest(&self) -> Result<Ran> {
        const REST: Duration = Duration::from_millis(100);
        let mut last = (Ran::of_thread(self.id(), SWEEPER)?, Instant::now());
        wait_until(LONG, "the sweep has ended", || {
            let now = Ran::of_thread(self.id(), SWEEPER)?;
            if now != last.0 || Ran::is_runnable(self.id(), SWEEPER)? {
                last = (now, Instant::now());
            }
            Ok(last.1.elapsed() >= REST)
        })?;
        Ok(last.0)
    }

    /// Ends it as an operator does.
    pub(super) fn stop(self) -> Result<()> {
        let Self { child, run_dir, .. } = self;
        let ended = child.stop(Signal::TERM, LONG)?;
        let log = fs::read_to_string(run_dir.path().join("log")).unwrap_or_default();
        ensure!(ended.code == Some(0), "flowprobe ended with {:?}: {log}", ended.code);
        Ok(())
    }
}

/// util-linux has it everywhere.
fn on_cpus(cpus: &[usize]) -> Result<Command> {
    let list: Vec<_> = cpus.iter().map(ToString::to_string).collect();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &list.join(",")]).arg(flowprobe()?);
    Ok(command)
}
