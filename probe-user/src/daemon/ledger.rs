//! Where increments, ended connections and the kernel's own counters are added up.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use jiff::Timestamp;
use probe_common::{
    decode::{Record, decode},
    record::{FlowRecord, kind},
};

use crate::{
    aggregate::{Aggregator, Group, Grouping, Snapshot},
    control::Watchers,
    flow::{cut::Cut, from_record::Context},
    kernel::{
        clock,
        hooks::{self, Hook},
        probe::{Losses, Probe},
        walk::Walk,
    },
    networks::Networks,
    reconcile::Reconciliation,
};

/// What a sweep cost, and what follows from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// How long it took.
    pub(super) took: Duration,
    /// The least time until the next, by the sweeps' share of a CPU.
    pub(super) rest: Duration,
    /// The time until the next.
    pub(super) period: Duration,
}

/// How the last sweep went.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastSweep {
    /// When it ended.
    pub(super) ended: Instant,
    /// The same by the wall clock.
    pub(super) ended_wall: Timestamp,
    /// What it cost.
    pub(super) timing: Timing,
    /// Connections that it looked at.
    pub(super) sockets: u64,
}

/// The daemon's sums. Every method may be called from any thread.
pub(super) struct Ledger {
    aggregator: Mutex<Aggregator>,
    reconciliation: Mutex<Reconciliation>,
    ratios: Mutex<Vec<(String, f64)>>,
    last_sweep: Mutex<Option<LastSweep>>,
    malformed: AtomicU64,
    incomplete_sweeps: AtomicU64,
    cut: Mutex<Cut>,
    losses: Losses,
    /// The hooks, for their state and statistics.
    pub(super) hooks: Arc<Vec<Hook>>,
    /// What records mean.
    pub(super) context: Context,
    /// Who watches connections end.
    pub(super) watchers: Watchers,
}

/// A panic while adding cannot leave a sum half-made: each is one addition.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Sums at zero for a probe that was just loaded.
    ///
    /// # Errors
    /// The probe's loss counters were taken before.
    pub(super) fn new(probe: &mut Probe, grouping: Grouping, cut: Cut) -> Result<Self> {
        let hooks = probe.hooks();
        let synack_hook = hooks::is_up(&hooks, hooks::SYNACK);
        Ok(Self {
            aggregator: Mutex::new(Aggregator::grouped(synack_hook, grouping)),
            reconciliation: Mutex::new(Reconciliation::new(synack_hook)),
            ratios: Mutex::default(),
            last_sweep: Mutex::default(),
            malformed: AtomicU64::new(0),
            incomplete_sweeps: AtomicU64::new(0),
            cut: Mutex::new(cut),
            losses: probe.take_losses()?,
            hooks,
            context: probe.context(),
            watchers: Watchers::default(),
        })
    }

    /// A record from a ring buffer.
    pub(super) fn take_ended(&self, bytes: &[u8]) {
        if self.add(bytes) == Some(kind::CLOSED) && self.watchers.any() {
            let mut record = bytes.to_vec();
            self.cut().apply(&mut record);
            self.watchers.tell(record);
        }
    }

    /// How peers' addresses are cut in what leaves the daemon.
    pub(super) fn cut(&self) -> Cut {
        *locked(&self.cut)
    }

    /// Another configuration.
    pub(super) fn reconfigure(&self, grouping: Grouping, cut: Cut) {
        locked(&self.aggregator).regroup(grouping);
        *locked(&self.cut) = cut;
    }

    /// Tables of networks that were read again.
    pub(super) fn set_networks(&self, networks: Arc<Networks>) {
        locked(&self.aggregator).set_networks(networks);
    }

    /// Gives places of groups to those that need them.
    pub(super) fn settle(&self) {
        locked(&self.aggregator).settle();
    }

    /// Adds a record up; its kind, unless it is malformed.
    pub(super) fn add(&self, bytes: &[u8]) -> Option<u8> {
        match decode(bytes) {
            Ok(Record::Flow(record)) => {
                locked(&self.aggregator).add(&record);
                Some(record.kind)
            }
            Ok(Record::Synack(record)) => {
                locked(&self.aggregator).add_synack(&record);
                Some(record.kind)
            }
            Err(_) => {
                self.malformed.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// A sweep could not be made at all.
    pub(super) fn sweep_failed(&self) {
        self.incomplete_sweeps.fetch_add(1, Ordering::Relaxed);
    }

    /// A sweep is over.
    pub(super) fn swept(&self, walk: Walk, timing: Timing) {
        if walk.incomplete.is_some() {
            self.incomplete_sweeps.fetch_add(1, Ordering::Relaxed);
        }
        let mut aggregator = locked(&self.aggregator);
        let mut reconciliation = locked(&self.reconciliation);
        reconciliation.observe(walk.counters, &walk.unvisited, aggregator.namespaces());
        aggregator.retain_namespaces(|inode| !reconciliation.is_gone(inode));
        *locked(&self.ratios) = reconciliation.ratios(aggregator.namespaces());
        *locked(&self.last_sweep) = Some(LastSweep {
            ended: Instant::now(),
            ended_wall: clock::wall(),
            timing,
            sockets: walk.sockets,
        });
    }

    /// Where the recount of live connections begins: to be given to [`Ledger::recounted`].
    pub(super) fn regroupings(&self) -> u64 {
        locked(&self.aggregator).regroupings()
    }

    /// The group that a live connection is counted in.
    pub(super) fn live_group(&self, record: &FlowRecord) -> Group {
        locked(&self.aggregator).live_group(record)
    }

    /// The gauges of live connections from an exact count, after records were lost. False if groups were made in another
    /// way meanwhile.
    pub(super) fn recounted(&self, counts: &[(Group, u64)], regroupings: u64) -> bool {
        let mut aggregator = locked(&self.aggregator);
        let is_usable = aggregator.regroupings() == regroupings;
        if is_usable {
            aggregator.resync_live(counts);
        }
        is_usable
    }

    /// The last sweep; `None` before the first.
    pub(super) fn last_sweep(&self) -> Option<LastSweep> {
        *locked(&self.last_sweep)
    }

    /// The sums for a scrape.
    pub(super) fn show(&self) -> Snapshot {
        locked(&self.aggregator).show()
    }

    /// The sums now.
    pub(super) fn snapshot(&self) -> Snapshot {
        locked(&self.aggregator).snapshot()
    }

    /// Ours against the kernel's, by the name of its counter, as of the last sweep: the kernel's counters are read then.
    pub(super) fn ratios(&self) -> Vec<(String, f64)> {
        locked(&self.ratios).clone()
    }

    /// What was lost, by reason.
    pub(super) fn losses(&self) -> Vec<(String, u64)> {
        let own = [("malformed", &self.malformed), ("sweep_incomplete", &self.incomplete_sweeps)];
        let of_programs = self.losses.read().into_iter().map(|(loss, n)| (loss.reason().to_owned(), n));
        of_programs.chain(own.map(|(reason, n)| (reason.to_owned(), n.load(Ordering::Relaxed)))).collect()
    }

    /// Records that never arrived; each may have been a connection's end.
    pub(super) fn records_lost(&self) -> u64 {
        self.losses.records()
    }

    /// Round trips that were left out, so that samples of one connection keep their distance.
    pub(super) fn round_trips_left_out(&self) -> Option<u64> {
        self.losses.round_trips_left_out()
    }

    /// The sums in a sentence, for the log.
    pub(super) fn summary(&self) -> String {
        let snapshot = self.snapshot();
        let sum = |of: fn(&crate::aggregate::Series) -> u64| -> u64 {
            snapshot.groups.values().map(|series| of(series)).sum()
        };
        format!(
            "accounted for {} connections opened and {} closed, {} records lost",
            sum(|s| s.opened),
            sum(|s| s.closed.total()),
            self.records_lost()
        )
    }
}
