//! What runs beside the load: nothing, empty programs, flowprobe, or a peer.

use std::io::{Read as _, Seek as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use rustix::process::Signal;

use super::child::Child;
use super::daemon::{Daemon, Setting};
use super::peers::{self, Peer};
use super::plan::Plan;
use crate::kit::wait_until;
use crate::truth::{Objects, Point, Tiny};

/// For a peer to load its programs.
const LOADED: Duration = Duration::from_secs(30);
/// For a peer to end when asked.
const ENDED: Duration = Duration::from_secs(60);

/// Of round trips of a connection that come sooner after a counted one, none is counted.
const SPACE: &str = "100ms";

/// A condition of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Empty programs on tp_btf/inet_sock_set_state and tp_btf/tcp_probe: the floor.
    Floor,
    /// The daemon as it comes.
    Flowprobe,
    /// The daemon with the least time between two counted round trips of a connection.
    Spaced,
    /// The daemon with these hooks only.
    Hooks(&'static str),
    /// Another tool.
    Peer(&'static Peer),
}

/// The hook that all of flowprobe stands on, and each of the others beside it.
const HOOKS: [&str; 4] = ["connection", "connection,destroy", "connection,episode", "connection,synack"];

impl Condition {
    /// All that a plan compares.
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        let mut all = vec![Self::Floor, Self::Flowprobe];
        if !plan.quick {
            all.push(Self::Spaced);
            all.extend(HOOKS.map(Self::Hooks));
        }
        all.extend(peers::ALL.iter().filter(|peer| !(plan.quick && peer.full_only)).map(Self::Peer));
        all
    }

    /// Its name in tables.
    pub(super) fn name(self) -> String {
        match self {
            Self::Floor => "empty".to_owned(),
            Self::Flowprobe => "flowprobe".to_owned(),
            Self::Spaced => format!("flowprobe: a round trip in {SPACE}"),
            Self::Hooks(hooks) => format!("flowprobe: {}", hooks.replace(',', "+")),
            Self::Peer(peer) => peer.name.to_owned(),
        }
    }

    /// Starts it and waits until it observes.
    pub(super) fn start(self) -> Result<Running> {
        let before = Objects::now()?;
        let daemon = |setting| anyhow::Ok(Guard::Flowprobe(Box::new(Daemon::start(&setting)?)));
        let guard = match self {
            Self::Floor => Guard::Floor(floor()?),
            Self::Flowprobe => daemon(Setting::default())?,
            Self::Spaced => {
                let arguments = vec!["--rtt-interval".to_owned(), SPACE.to_owned()];
                daemon(Setting { arguments, ..Setting::default() })?
            }
            Self::Hooks(hooks) => daemon(Setting { hooks: Some(hooks.to_owned()), ..Setting::default() })?,
            Self::Peer(peer) => Guard::Peer(start_peer(peer, &before)?),
        };
        let objects = Objects::now()?.added_since(&before);
        Ok(Running { guard, objects })
    }
}

/// The programs that do nothing.
pub(super) fn floor() -> Result<Vec<Tiny>> {
    Ok(vec![
        Tiny::empty(Point::Tracepoint("inet_sock_set_state"), "empty_state")?,
        Tiny::empty(Point::Tracepoint("tcp_probe"), "empty_probe")?,
    ])
}

fn start_peer(peer: &Peer, before: &Objects) -> Result<Child> {
    let mut command = peer.command().map_err(|missing| anyhow!(missing))?;
    let mut log = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.try_clone()?);
    let mut child = Child::start_tracing(command)?;
    // It observes when it has stopped loading and attaching.
    const STILL: Duration = Duration::from_millis(300);
    let mut last = (before.clone(), Instant::now());
    let attached = wait_until(LOADED, &format!("{} has attached its programs", peer.name), || {
        ensure!(child.is_running()?, "it ended at once");
        let now = Objects::now()?;
        if now != last.0 {
            last = (now, Instant::now());
        }
        Ok(!last.0.added_since(before).programs.is_empty() && last.1.elapsed() >= STILL)
    });
    if let Err(error) = attached {
        let mut said = String::new();
        log.rewind()?;
        log.read_to_string(&mut said)?;
        bail!("{} does not run here: {}: {}", peer.name, error.root_cause(), said.trim().replace('\n', "; "));
    }
    Ok(child)
}

/// A condition that holds; dropping it ends it.
pub(super) struct Running {
    guard: Guard,
    /// What it loaded.
    pub(super) objects: Objects,
}

enum Guard {
    Floor(Vec<Tiny>),
    Flowprobe(Box<Daemon>),
    Peer(Child),
}

impl Running {
    /// The processes that it has.
    pub(super) fn processes(&self) -> Vec<u32> {
        match &self.guard {
            Guard::Floor(_) => Vec::new(),
            Guard::Flowprobe(daemon) => vec![daemon.id()],
            Guard::Peer(child) => vec![child.id()],
        }
    }

    /// Has flowprobe look at every socket once; nothing for what does not sweep.
    pub(super) fn sweep(&self) -> Result<()> {
        if let Guard::Flowprobe(daemon) = &self.guard {
            daemon.sweep()?;
        }
        Ok(())
    }

    /// Ends it and waits for its end.
    pub(super) fn stop(self) -> Result<()> {
        match self.guard {
            Guard::Floor(programs) => drop(programs),
            Guard::Flowprobe(daemon) => daemon.stop()?,
            Guard::Peer(child) => {
                child.stop(Signal::INT, ENDED)?;
            }
        }
        Ok(())
    }
}
