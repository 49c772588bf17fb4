//! Starts the load generator, which lies beside this program, and reads what it says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;

use super::child::{self, Child};
use super::plan::Plan;
use crate::kit::{pause, wait_until};
use crate::load::{CLOSE, Held, Looked, OPEN, Outcome, TOUCH, Touched, cpu};

/// Beyond its own length, what a load may take to start and end on a busy machine.
const SPARE: Duration = Duration::from_secs(60);

/// A load that keeps CPUs busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Connect, request, response, close.
    Crr,
    /// Request, response.
    Rr,
    /// A stream.
    Bulk,
}

impl Load {
    /// All, as a table has them.
    pub(super) const ALL: [Self; 3] = [Self::Crr, Self::Rr, Self::Bulk];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crr => "crr",
            Self::Rr => "rr",
            Self::Bulk => "bulk",
        }
    }
}

fn program() -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("load");
    ensure!(beside.is_file(), "{} is missing: cargo build --release -p tests --bins", beside.display());
    Ok(beside)
}

/// Runs a load for so long on these CPUs (all, when none are named) and watches these processes meanwhile.
pub(super) fn run(load: Load, seconds: f64, plan: &Plan, cpus: &[usize], watch: &[u32]) -> Result<Outcome> {
    let mut command = command(load, plan, cpus, watch)?;
    command.args(["--seconds", &seconds.to_string()]);
    let deadline = Duration::from_secs_f64(seconds + plan.warm_up) + SPARE;
    let (text, _) = child::output(command, deadline).with_context(|| format!("the load {}", load.name()))?;
    parse(&text)
}

fn command(load: Load, plan: &Plan, cpus: &[usize], watch: &[u32]) -> Result<Command> {
    let mut command = Command::new(program()?);
    command.args([load.name(), "--warm-up", &plan.warm_up.to_string()]);
    for (option, numbers) in [
        ("--cpus", cpus.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ("--watch", watch.iter().map(ToString::to_string).collect()),
    ] {
        if !numbers.is_empty() {
            command.args([option, &numbers.join(",")]);
        }
    }
    Ok(command)
}

/// A load that runs until it is asked for its outcome.
pub(super) struct Running(Dialogue);

impl Running {
    /// Starts a load on these CPUs and watches these processes meanwhile.
    pub(super) fn start(load: Load, plan: &Plan, cpus: &[usize], watch: &[u32]) -> Result<Self> {
        let mut command = command(load, plan, cpus, watch)?;
        command.arg("--by-command");
        Dialogue::start(command).map(Self)
    }

    /// What happens from now on counts, and nothing before.
    pub(super) fn open(&mut self) -> Result<()> {
        self.0.ask(OPEN).map(drop)
    }

    /// What happens from now on does not count.
    pub(super) fn close(&mut self) -> Result<()> {
        self.0.ask(CLOSE).map(drop)
    }

    /// Ends it.
    pub(super) fn outcome(mut self) -> Result<Outcome> {
        self.0.end();
        parse(&self.0.line()?)
    }
}

/// A load that takes commands: a byte on its standard input, a line back. It ends with its input.
struct Dialogue {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Dialogue {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Child::start(command, None)?;
        let commands = Some(child.stdin()?);
        let answers = BufReader::new(child.stdout()?);
        Ok(Self { child, commands, answers })
    }

    fn ask(&mut self, what: u8) -> Result<String> {
        self.commands.as_mut().context("it ends")?.write_all(&[what])?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }

    fn end(&mut self) {
        drop(self.commands.take());
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // It closes its connections and waits for its processes, so that the next measurement finds nothing of it.
        self.end();
        let _ = wait_until(SPARE, "the load has ended", || Ok(!self.child.is_running()?));
    }
}

/// Counts the sockets of a process' namespace by inet_diag.
pub(super) fn dump(of: u32, info: bool) -> Result<Looked> {
    let mut command = Command::new(program()?);
    command.args(["dump", "--of", &of.to_string()]);
    if info {
        command.arg("--info");
    }
    parse(&child::output(command, SPARE)?.0)
}

/// Shows them to a program that does nothing.
pub(super) fn walk(of: u32) -> Result<Looked> {
    let mut command = Command::new(program()?);
    command.args(["walk", "--of", &of.to_string()]);
    parse(&child::output(command, SPARE)?.0)
}

fn parse<T: DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line).with_context(|| format!("the load printed: {line}"))
}

/// Held connections; they go when dropped.
pub(super) struct Holding {
    dialogue: Dialogue,
    /// Sockets: two for each connection.
    pub(super) sockets: u64,
}

impl Holding {
    /// Opens so many sockets; a share of their connections is active, every so many milliseconds if not 0.
    pub(super) fn start(sockets: u64, active: f64, every: u64) -> Result<Self> {
        let mut command = Command::new(program()?);
        command.args(["hold", "--connections", &(sockets / 2).to_string()]);
        command.args(["--active", &active.to_string(), "--every", &every.to_string()]);
        let mut dialogue = Dialogue::start(command)?;
        let held: Held =
            parse(&dialogue.line()?).with_context(|| format!("{sockets} sockets cannot be held"))?;
        Ok(Self { dialogue, sockets: held.connections * 2 })
    }

    /// The process whose namespace it is.
    pub(super) fn id(&self) -> u32 {
        self.dialogue.child.id()
    }

    /// One exchange on every active connection.
    pub(super) fn touch(&mut self) -> Result<Touched> {
        parse(&self.dialogue.ask(TOUCH)?)
    }
}

/// Waits until the machine has been quiet for a moment: less than a tenth of one CPU busy. Gives up when others do not
/// let it be.
pub(super) fn settle(plan: &Plan) -> Result<()> {
    const LOOK: Duration = Duration::from_millis(100);
    let end = Instant::now() + plan.settle;
    loop {
        let before = cpu::machine_busy()?;
        pause(LOOK);
        if cpu::machine_busy()?.saturating_sub(before) <= LOOK / 10 || Instant::now() >= end {
            return Ok(());
        }
    }
}
