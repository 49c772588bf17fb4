//! Many open connections in one namespace, in as many processes as the limit of descriptors asks for.
//!
//! Prints a line when all are open, and then answers commands on standard input until that ends: `t` makes one exchange on
//! every active connection. One connection is two sockets, as both ends are on this machine.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{hold_part, place};

/// The first line.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Open connections.
    pub connections: u64,
    /// Processes that hold them.
    pub processes: usize,
    /// What opening them took.
    pub seconds: f64,
}

/// The answer to `t`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Touched {
    /// Connections with an exchange.
    pub touched: u64,
    /// What it took.
    pub seconds: f64,
}

/// Connections of one process at most, both ends of each; the addresses of a part end there.
const OF_A_PROCESS: u64 = 60_000;
/// Descriptors that a process wants for other things.
const OTHERS: u64 = 64;
/// 127.1.0.0/16 and on are the clients'.
const PROCESSES: usize = 190;

/// Holds until standard input ends.
pub(super) fn run(connections: u64, active: f64, every: u64) -> Result<()> {
    let begun = Instant::now();
    let of_a_process = ((place::all_descriptors()? - OTHERS) / 2).min(OF_A_PROCESS);
    let mut parts = Vec::new();
    let mut left = connections;
    while left > 0 {
        ensure!(
            parts.len() < PROCESSES,
            "{connections} connections want more than {PROCESSES} processes; raise `ulimit -n`"
        );
        let count = left.min(of_a_process);
        left -= count;
        let active = (count as f64 * active).round();
        parts.push(Part::start(parts.len(), count, active, every)?);
    }
    let mut open = 0;
    for part in &mut parts {
        open += part.answer()?;
    }
    let held = Held { connections: open, processes: parts.len(), seconds: begun.elapsed().as_secs_f64() };
    print(&held)?;
    for command in io::stdin().lock().bytes() {
        if command? != hold_part::TOUCH {
            continue;
        }
        let begun = Instant::now();
        for part in &mut parts {
            part.child.stdin.as_mut().context("piped")?.write_all(&[hold_part::TOUCH])?;
        }
        let mut touched = 0;
        for part in &mut parts {
            touched += part.answer()?;
        }
        print(&Touched { touched, seconds: begun.elapsed().as_secs_f64() })?;
    }
    Ok(())
}

fn print(line: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// A process of the hold; it ends when this does, and is waited for.
struct Part {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Part {
    fn start(index: usize, connections: u64, active: f64, every: u64) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["hold-part", "--index", &index.to_string()]);
        command.args(["--connections", &connections.to_string(), "--active", &active.to_string()]);
        command.args(["--every", &every.to_string()]);
        // SAFETY: between fork and exec only one system call is made, which touches no memory of this process.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().context("piped")?);
        Ok(Self { child, answers })
    }

    fn answer(&mut self) -> Result<u64> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.trim().parse().context("a process that holds connections failed; its reason is above")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
