//! The thread that owns the probe and walks the sockets: on time, on request, and for people.
//!
//! A thread of its own, for entering a network namespace moves the thread that does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use probe_common::{
    decode::{Record, decode},
    record::{FlowRecord, flag},
};
use rustix::{
    process::nice,
    time::{ClockId, clock_gettime},
};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::{
    ledger::{Ledger, Timing},
    reader,
};
use crate::{
    control::End,
    kernel::{probe::Probe, walk::Walk},
};

/// Sweeps may take one in this many of a CPU's seconds: the period stretches when there are many sockets.
const SHARE_OF_A_CPU: u32 = 100;

/// Where CPUs are short the sweeping thread stands back by so many steps of nice(2): it gets a third as much as a thread that does
/// not. More would leave the sums old where many threads want each CPU (docs/decisions/cost.md).
const NICE: i32 = 5;

/// Time between two looks at which groups need their places.
const SETTLE_EVERY: Duration = Duration::from_secs(60);

/// Records a piece of a snapshot.
const PIECE: usize = 64;

/// All that a client may take of a snapshot's time by being slow: sweeps wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// At the end the last sweep is waited for so long, and then the thread for half of it.
const LAST_PATIENCE: Duration = Duration::from_millis(1000);

enum Request {
    Sweep(oneshot::Sender<()>),
    Snapshot(tokio::sync::mpsc::Sender<Result<Bytes, End>>),
    Stop,
}

/// The thread.
pub(super) struct Sweeper {
    handle: Handle,
    thread: JoinHandle<()>,
}

/// What others may ask of it.
#[derive(Clone)]
pub(super) struct Handle {
    requests: mpsc::Sender<Request>,
    /// Snapshots for people end early.
    ending: Arc<AtomicBool>,
}

impl Handle {
    /// Sweeps now and waits for the end of it.
    pub(super) async fn sweep(&self) {
        let (done, wait) = oneshot::channel();
        if self.requests.send(Request::Sweep(done)).is_ok() {
            // An error says that the thread is gone, and so is the daemon.
            let _ = wait.await;
        }
    }

    /// Starts a snapshot.
    pub(super) fn snapshot(&self, pieces: tokio::sync::mpsc::Sender<Result<Bytes, End>>) {
        // When the thread is gone the channel closes, which its reader sees.
        let _ = self.requests.send(Request::Snapshot(pieces));
    }

    /// The sweep that the daemon ends with, for which snapshots make way.
    pub(super) async fn last_sweep(&self) {
        self.ending.store(true, Ordering::Relaxed);
        if tokio::time::timeout(LAST_PATIENCE, self.sweep()).await.is_err() {
            warn!(
                "the last sweep took too long: what live connections added since the one before is not accounted"
            );
        }
    }
}

impl Sweeper {
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(
        probe: Probe,
        ledger: Arc<Ledger>,
        period: Duration,
        runtime: tokio::runtime::Handle,
        reader: reader::Handle,
    ) -> Result<Self> {
        let (sender, requests) = mpsc::channel();
        let ending = Arc::new(AtomicBool::new(false));
        let mut work = Work {
            probe,
            ledger,
            period,
            runtime,
            reader,
            ending: Arc::clone(&ending),
            records_lost: 0,
            visited: BTreeSet::new(),
            spent_before: Duration::ZERO,
            said_period: period,
            settled: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("sweeper".to_owned())
            .spawn(move || {
                stand_back();
                work.run(&requests);
            })
            .context("cannot start the sweeper")?;
        Ok(Self { handle: Handle { requests: sender, ending }, thread })
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Returns when the thread has ended, which it does of itself only by breaking down.
    pub(super) async fn ended(&self) {
        let mut tick = tokio::time::interval(LAST_PATIENCE);
        while !self.thread.is_finished() {
            tick.tick().await;
        }
    }

    /// Ends the thread, and with it takes the programs out of the kernel; a walk that goes on is left to the end of the
    /// process, which does the same.
    pub(super) async fn stop(self) {
        let _ = self.handle.requests.send(Request::Stop);
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let ended = async {
            while !self.thread.is_finished() {
                tick.tick().await;
            }
        };
        if tokio::time::timeout(LAST_PATIENCE / 2, ended).await.is_ok() && self.thread.join().is_err() {
            warn!("the sweeper broke down");
        }
    }
}

struct Work {
    probe: Probe,
    ledger: Arc<Ledger>,
    period: Duration,
    runtime: tokio::runtime::Handle,
    reader: reader::Handle,
    ending: Arc<AtomicBool>,
    records_lost: u64,
    /// Namespaces that stand and that a sweep has visited: live connections in them are counted.
    visited: BTreeSet<u32>,
    /// CPU time of the sweep before.
    spent_before: Duration,
    /// The period that was last told.
    said_period: Duration,
    settled: Instant,
}

impl Work {
    fn run(&mut self, requests: &mpsc::Receiver<Request>) {
        let mut next = Instant::now();
        loop {
            let request = match requests.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Request::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Ok(Request::Snapshot(pieces)) => {
                    // However many people look, sweeps come in time.
                    if Instant::now() >= next {
                        next = Instant::now() + self.sweep();
                    }
                    self.snapshot(&pieces);
                    continue;
                }
                // Whoever asked has given up, as a scrape does after a while.
                Ok(Request::Sweep(done)) if done.is_closed() => continue,
                Ok(Request::Sweep(done)) => Some(done),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
            };
            next = Instant::now() + self.sweep();
            if let Some(done) = request {
                // Whoever asked may be gone.
                let _ = done.send(());
            }
        }
    }

    /// Sweeps; gives the time until the next, which is longer than configured where sweeps are dear.
    fn sweep(&mut self) -> Duration {
        let (begun, cpu_before) = (Instant::now(), cpu_of_this_thread());
        let spent = || cpu_of_this_thread().saturating_sub(cpu_before);
        let ledger = Arc::clone(&self.ledger);
        match self.probe.account(&mut |record| _ = ledger.add(record)) {
            Ok(walk) => {
                self.visited.retain(|inode| walk.unvisited.contains(inode));
                self.visited.extend(walk.counters.keys());
                if let Some(why) = &walk.incomplete {
                    warn!("the sweep is incomplete: {why}");
                }
                let took = begun.elapsed();
                // What ended by now is in the kernel's counters that the walk read.
                self.runtime.block_on(self.reader.drain());
                let cpu = spent();
                let rest = rest(self.spent_before, cpu);
                let period = self.period.max(rest);
                self.say_if_stretched(period, cpu);
                self.ledger.swept(walk, Timing { took, rest, period });
                self.recount_if_records_were_lost();
            }
            Err(error) => {
                self.ledger.sweep_failed();
                warn!("no sweep: {error:#}");
            }
        }
        if self.settled.elapsed() >= SETTLE_EVERY {
            self.settled = Instant::now();
            self.ledger.settle();
        }
        let spent = spent();
        let rest = rest(self.spent_before, spent);
        self.spent_before = spent;
        self.period.max(rest)
    }

    /// Tells when the period doubles or comes back.
    fn say_if_stretched(&mut self, period: Duration, cpu: Duration) {
        if period >= self.said_period * 2 || (period == self.period && self.said_period > self.period) {
            self.said_period = period;
            info!("a sweep takes {cpu:.1?} of a CPU: one every {period:.1?} (configured: {:?})", self.period);
        }
    }

    /// A lost record may have been an end, which leaves a gauge too high. Counts anew what sweeps have accounted for,
    /// after the rings were emptied: ends during the count are off by one each, until the next loss. One that fails, or lacks a
    /// namespace that sweeps have visited, is left to the next sweep.
    fn recount_if_records_were_lost(&mut self) {
        let lost = self.ledger.records_lost();
        if lost == self.records_lost {
            return;
        }
        self.runtime.block_on(self.reader.drain());
        let regroupings = self.ledger.regroupings();
        let ledger = Arc::clone(&self.ledger);
        let mut counts = BTreeMap::new();
        let mut each = |bytes: &[u8]| {
            if let Ok(Record::Flow(record)) = decode(bytes)
                && record.flags & flag::ACCOUNTED != 0
            {
                *counts.entry(ledger.live_group(&record)).or_insert(0) += 1;
            }
        };
        match self.probe.snapshot(&mut each) {
            Ok(walk) => {
                if walk.unvisited.is_disjoint(&self.visited)
                    && self.ledger.recounted(&counts.into_iter().collect::<Vec<_>>(), regroupings)
                {
                    self.records_lost = lost;
                }
            }
            Err(error) => warn!("connections could not be counted anew: {error:#}"),
        }
    }

    fn snapshot(&mut self, pieces: &tokio::sync::mpsc::Sender<Result<Bytes, End>>) {
        if self.ending.load(Ordering::Relaxed) {
            return; // the channel closes, which its reader sees
        }
        let (runtime, ending) = (self.runtime.clone(), Arc::clone(&self.ending));
        let mut patience = PATIENCE;
        let mut gone = false;
        let mut send = |piece: Result<Bytes, End>| {
            if gone || ending.load(Ordering::Relaxed) {
                return;
            }
            let begun = Instant::now();
            let sent = runtime.block_on(async { tokio::time::timeout(patience, pieces.send(piece)).await });
            patience = patience.saturating_sub(begun.elapsed());
            if !matches!(sent, Ok(Ok(()))) {
                gone = true;
                debug!("a client left during a snapshot");
            }
        };
        let mut piece = Vec::new();
        let cut = self.ledger.cut();
        let walk = self.probe.snapshot(&mut |record| {
            let begin = piece.len();
            piece.extend_from_slice(record);
            cut.apply(&mut piece[begin..]);
            if piece.len() >= PIECE * size_of::<FlowRecord>() {
                send(Ok(std::mem::take(&mut piece).into()));
            }
        });
        if !piece.is_empty() {
            send(Ok(piece.into()));
        }
        send(Err(end(walk)));
    }
}

/// The least time until the next sweep, in which that has at most its share of a CPU if it takes no more than the dearer of the
/// last two: sweeps of the same sockets differ by some percent, and after the last alone each dearer one would come too early.
fn rest(before: Duration, last: Duration) -> Duration {
    last.max(before) * SHARE_OF_A_CPU
}

/// Of the calling thread alone, as Linux does it.
fn stand_back() {
    if let Err(error) = nice(NICE) {
        debug!("the sweeper does not stand back: {error}");
    }
}

/// CPU time of the calling thread, in the kernel and outside.
fn cpu_of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn end(walk: Result<Walk>) -> End {
    match walk {
        Ok(walk) => End { unseen_namespaces: walk.unseen_namespaces, incomplete: walk.incomplete },
        Err(error) => End { unseen_namespaces: 0, incomplete: Some(format!("{error:#}")) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearer_of_two_sweeps_tells_when_the_next_is_due() {
        let ms = Duration::from_millis;
        assert_eq!(rest(ms(20), ms(30)), ms(3_000));
        assert_eq!(rest(ms(30), ms(20)), ms(3_000));
    }
}
