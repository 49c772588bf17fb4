//! A daemon and a watch on it, with a way to know that every record so far has come through.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::watch::COUNTED;
use super::{Daemon, LONG, Watch, flows, local_port};
use crate::kit::{Line, Namespace, Scrape, take_turn, wait_until};
use crate::traffic::{Behaviour, Options, Server, connect};

/// A running daemon with a watch on it. Scenarios share it by reference.
#[derive(Debug)]
pub struct Probe {
    // The watch ends before its daemon.
    watch: RefCell<Watch>,
    daemon: Option<Daemon>,
    run_dir: PathBuf,
    /// The run directory of a watch without daemon.
    _own: Option<TempDir>,
    fence: Fence,
}

/// A namespace whose only connections are marks in the stream of records.
#[derive(Debug)]
struct Fence {
    namespace: Namespace,
    server: Server,
}

impl Fence {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let server = Server::start(&namespace, address, Behaviour::Sink, &Options::default())?;
        Ok(Self { namespace, server })
    }

    /// Make one connection; its client port.
    fn mark(&self) -> Result<u16> {
        let stream = connect(&self.namespace, self.server.address, &Options::default())??;
        Ok(stream.local_addr()?.port())
    }

    /// Wait until a connection made from now on is reported. Its record may be lost where records are, so that further
    /// ones are made until one comes.
    fn pass(&self, watch: &mut Watch, what: &str) -> Result<()> {
        let mut marks = vec![self.mark()?];
        let mut marked = Instant::now();
        wait_until(LONG, what, || {
            if marked.elapsed() > Duration::from_millis(500) {
                marks.push(self.mark()?);
                marked = Instant::now();
            }
            let seen: Result<Vec<bool>> = marks.iter().map(|port| self.is_seen(watch, *port)).collect();
            Ok(seen?.contains(&true))
        })
    }

    fn is_seen(&self, watch: &mut Watch, port: u16) -> Result<bool> {
        let lines = watch.flows_of(self.namespace.inode())?;
        Ok(lines.iter().any(|line| local_port(line).is_ok_and(|have| have == port)))
    }
}

impl Probe {
    /// Start a daemon and a watch, and wait until a connection made now is reported.
    ///
    /// # Errors
    /// When either fails.
    pub fn start() -> Result<Self> {
        Self::on(Daemon::start()?)
    }

    /// Start a watch on a running daemon.
    ///
    /// # Errors
    /// As [`Probe::start`].
    pub fn on(daemon: Daemon) -> Result<Self> {
        let run_dir = daemon.run_dir().to_path_buf();
        Self::in_run_dir(run_dir, &[], Some(daemon), None)
    }

    /// Start a daemon and a watch that prints only what it takes to count flows, for a great many of them.
    ///
    /// # Errors
    /// As [`Probe::start`].
    pub fn counting() -> Result<Self> {
        let daemon = Daemon::start()?;
        let run_dir = daemon.run_dir().to_path_buf();
        Self::in_run_dir(run_dir, &["--columns", COUNTED], Some(daemon), None)
    }

    /// A watch that has no daemon to ask: it loads its own probes.
    ///
    /// # Errors
    /// As [`Probe::start`].
    pub fn alone() -> Result<Self> {
        let own = tempfile::tempdir()?;
        Self::in_run_dir(own.path().to_path_buf(), &[], None, Some(own))
    }

    fn in_run_dir(
        run_dir: PathBuf,
        words: &[&str],
        daemon: Option<Daemon>,
        own: Option<TempDir>,
    ) -> Result<Self> {
        let mut watch = Watch::start(&run_dir, words)?;
        let fence = Fence::new()?;
        let seen = fence.pass(&mut watch, "flowprobe watch reports a connection");
        seen.with_context(|| format!("its errors: {}", watch.errors()))?;
        Ok(Self { watch: watch.into(), daemon, run_dir, _own: own, fence })
    }

    /// The daemon.
    ///
    /// # Errors
    /// When this is a watch without daemon.
    pub fn daemon(&self) -> Result<&Daemon> {
        self.daemon.as_ref().context("this probe has no daemon")
    }

    /// The daemon's metrics, now.
    ///
    /// # Errors
    /// When the scrape fails.
    pub fn scrape(&self) -> Result<Scrape> {
        self.daemon()?.scrape()
    }

    /// The live flows of a namespace, now.
    ///
    /// # Errors
    /// When `flowprobe flows` fails.
    pub fn live(&self, namespace: &Namespace) -> Result<Vec<Line>> {
        let all = flows(&self.run_dir, &[])?;
        let mut mine = Vec::new();
        for line in all {
            if super::check::netns(&line)? == namespace.inode() {
                mine.push(line);
            }
        }
        Ok(mine)
    }

    /// The records of exactly `count` ended connections of a namespace: waits for them, and then until a connection
    /// made later is reported too, so that one record too many is found as well.
    ///
    /// # Errors
    /// When there are fewer or more, or one came twice.
    pub fn ended(&self, namespace: &Namespace, count: usize) -> Result<Vec<Line>> {
        let mut seen = 0;
        let complete =
            wait_until(LONG, &format!("{count} connections of the namespace are reported"), || {
                seen = self.watch.borrow_mut().flows_of(namespace.inode())?.len();
                Ok(seen >= count)
            });
        complete.with_context(|| format!("{seen} are"))?;
        self.pass_fence()?;
        let lines = self.watch.borrow_mut().flows_of(namespace.inode())?;
        ensure!(lines.len() == count, "{} connections were reported, {count} ended: {lines:#?}", lines.len());
        Ok(lines)
    }

    /// The records of a namespace so far, however many.
    ///
    /// # Errors
    /// When one came twice.
    pub fn records(&self, namespace: &Namespace) -> Result<Vec<Line>> {
        self.watch.borrow_mut().flows_of(namespace.inode())
    }

    /// The cookies of a namespace's sockets whose ends were recorded so far.
    ///
    /// # Errors
    /// When one came twice, or is no number.
    pub fn recorded_sockets(&self, namespace: &Namespace) -> Result<HashSet<u64>> {
        self.watch.borrow_mut().sockets_of(namespace.inode())
    }

    /// The record of the only ended connection of a namespace.
    ///
    /// # Errors
    /// As [`Probe::ended`].
    pub fn ended_one(&self, namespace: &Namespace) -> Result<Line> {
        self.ended(namespace, 1)?.pop().context("no record")
    }

    /// Count the records of a namespace instead of keeping them: call it before the traffic.
    pub fn only_count(&self, namespace: &Namespace) {
        self.watch.borrow().only_count(namespace.inode());
    }

    /// Up to three records of a counted namespace that say to be older than the probes, or to be a socket's second life.
    ///
    /// # Errors
    /// When one came twice.
    pub fn evidence(&self, namespace: &Namespace) -> Result<Vec<Line>> {
        let mut lines = self.watch.borrow_mut().flows_of(namespace.inode())?;
        lines.truncate(3);
        Ok(lines)
    }

    /// How many records the watch says it could not follow, since its start.
    #[must_use]
    pub fn watch_lost(&self) -> u64 {
        // `flowprobe: 494 records lost, 661 since the start`: the last such line has the sum.
        let errors = self.watch.borrow().errors();
        let last = errors.lines().rfind(|line| line.contains("records lost"));
        last.and_then(|line| line.split(", ").nth(1)?.split(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// How many records of a namespace had this role.
    ///
    /// # Errors
    /// When one came twice.
    pub fn count(&self, namespace: &Namespace, role: &str) -> Result<u64> {
        self.watch.borrow_mut().count_of(namespace.inode(), role)
    }

    /// Wait until a connection made now is reported: every record before it was then reported, because there is one
    /// stream of records.
    ///
    /// # Errors
    /// When it is not reported in time.
    pub fn pass_fence(&self) -> Result<()> {
        let mut watch = self.watch.borrow_mut();
        self.fence.pass(&mut watch, "a connection made after the traffic is reported")
    }

    /// What the daemon says of itself, for the message of a scenario that fails.
    #[must_use]
    pub fn troubles(&self) -> String {
        self.daemon.as_ref().map_or_else(|| "there is no daemon to ask".into(), Daemon::troubles)
    }

    /// End both.
    ///
    /// # Errors
    /// When one does not end as it should.
    pub fn stop(self) -> Result<()> {
        let done = self.watch.into_inner().interrupt()?;
        ensure!(!done.err.contains("panicked"), "flowprobe watch panicked: {}", done.err);
        self.daemon.map_or(Ok(()), |daemon| daemon.stop().map(drop))
    }
}

/// Take the turn, start a probe, hold the scenario to it, and end the probe.
///
/// # Errors
/// What the scenario or the probe says.
pub fn hold(scenario: fn(&Probe) -> Result<()>) -> Result<()> {
    let _turn = take_turn()?;
    let probe = Probe::start()?;
    scenario(&probe).with_context(|| probe.troubles())?;
    probe.stop()
}

/// As [`hold`], for a scenario that compares times, each judged by [`again`].
///
/// # Errors
/// As [`hold`].
pub fn hold_times(scenario: fn(&Probe) -> Result<()>) -> Result<()> {
    let _turn = take_turn()?;
    let probe = Probe::start()?;
    again(|| scenario(&probe)).with_context(|| probe.troubles())?;
    probe.stop()
}

/// Asks up to three times about times. The link sees a packet when it reads it from the device. A machine that stalls in between
/// makes it see other round trips and pauses than there were; a fault of the probe's would be there each time.
pub(super) fn again(scenario: impl Fn() -> Result<()>) -> Result<()> {
    const ATTEMPTS: usize = 3;
    for _ in 1..ATTEMPTS {
        match scenario() {
            Ok(()) => return Ok(()),
            Err(error) => println!("# once more, because {error:#}"),
        }
    }
    scenario()
}

/// Take the turn and run a scenario that starts its own daemons, with no other beside them: one would switch callbacks on.
///
/// # Errors
/// What the scenario says.
pub fn alone(scenario: fn() -> Result<()>) -> Result<()> {
    let _turn = take_turn()?;
    scenario()
}
