//! Loads a probe of its own for a while and compares what it counted with what the kernel counted.
//!
//! Records are added up as the daemon does it. What the daemon leaves to the next sweep is asked for here: connects that
//! are still under way are looked at, for the kernel has counted them and no record has come of them yet. A reading costs
//! two walks over the sockets and two files of /proc in each network namespace, twice.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use probe_common::{
    decode::{Record, decode},
    loss::Loss,
    record::{FlowRecord, flag},
};
use tokio::signal::unix::{SignalKind, signal};

use super::report::{Circumstances, Reading, Report, compare};
use crate::{
    aggregate::{Aggregator, NamespaceSums},
    kernel::{
        hooks::{self, Hook},
        probe::{Losses, Probe, Purpose},
        release,
        ring::{self, AsyncRings},
        walk,
    },
};

/// Ring buffers of the comparison, at least.
const RING_BYTES: u32 = 1 << 23;

/// A comparison of this machine.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Release of the running kernel.
    pub kernel: String,
    /// Time between the readings.
    pub lasted: Duration,
    /// Counter by counter.
    pub report: Report,
    /// What limits it.
    pub notes: Vec<String>,
}

/// Counts for `duration`, or until SIGINT or SIGTERM. `ready` is called when counting has begun.
///
/// # Errors
/// The probes cannot be loaded, or the sockets cannot be walked.
pub fn run(duration: Duration, ready: &mut dyn FnMut()) -> Result<Comparison> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut counting = Counting::start()?;
        let begin = counting.read()?;
        let begun = Instant::now();
        ready();
        tokio::select! {
            () = counting.go_on() => {}
            () = tokio::time::sleep(duration) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let end = counting.read()?;
        Ok(counting.conclude(&begin, &end, begun.elapsed()))
    })
}

struct Counting {
    probe: Probe,
    rings: AsyncRings,
    losses: Losses,
    aggregator: Aggregator,
    malformed: u64,
    notes: Vec<String>,
}

/// Connects under way, by cookie and generation: their namespace and what they have added to the kernel's counters.
type UnderWay = HashMap<(u64, u32), (u32, NamespaceSums)>;

impl Counting {
    fn start() -> Result<Self> {
        let mut probe = Probe::load(&Purpose::observe(ring::usual_bytes().max(RING_BYTES), false))?;
        let losses = probe.take_losses()?;
        let rings = probe.take_rings()?.into_async()?;
        let aggregator = Aggregator::new(hooks::is_up(&probe.hooks(), hooks::SYNACK));
        Ok(Self { probe, rings, losses, aggregator, malformed: 0, notes: Vec::new() })
    }

    /// Empties the rings until it is dropped.
    async fn go_on(&mut self) {
        loop {
            self.rings.wait().await;
            let (aggregator, malformed) = (&mut self.aggregator, &mut self.malformed);
            self.rings.drain(&mut |bytes| add(aggregator, malformed, &mut HashMap::new(), bytes));
        }
    }

    /// The order makes it exact: whatever the kernel counted before the first look at its counters is in our sums, and
    /// whatever is in our sums it had counted before the second.
    fn read(&mut self) -> Result<Reading> {
        let before = walk::counters()?;
        let (mut under_way, older_connects) = self.handshakes()?;
        let (aggregator, malformed) = (&mut self.aggregator, &mut self.malformed);
        let mut each = |bytes: &[u8]| add(aggregator, malformed, &mut under_way, bytes);
        let walk = self.probe.account(&mut each)?;
        self.rings.drain(&mut each);
        let after = walk::counters()?;
        if let Some(why) = walk.incomplete {
            self.notes.push(format!("connections may be missing: {why}"));
        }
        let mut sums = self.aggregator.namespaces().clone();
        for (netns, more) in under_way.values() {
            let sum = sums.entry(*netns).or_default();
            *sum = sum.plus(more);
        }
        Ok(Reading { before, after, sums, older_connects })
    }

    /// Connections in their handshake: those whose beginning was seen, and how many whose was not.
    fn handshakes(&mut self) -> Result<(UnderWay, BTreeMap<u32, u64>)> {
        let synack_hook = hooks::is_up(&self.probe.hooks(), hooks::SYNACK);
        let (mut under_way, mut older) = (HashMap::new(), BTreeMap::new());
        self.probe.snapshot(&mut |bytes| {
            let Ok(Record::Flow(record)) = decode(bytes) else { return };
            if record.flags & flag::ESTABLISHED != 0 {
                return;
            }
            if record.flags & flag::ADOPTED != 0 {
                *older.entry(record.netns).or_insert(0) += 1;
            } else {
                let sums = NamespaceSums::under_way(&record, synack_hook);
                under_way.insert(id(&record), (record.netns, sums));
            }
        })?;
        Ok((under_way, older))
    }

    fn conclude(mut self, begin: &Reading, end: &Reading, lasted: Duration) -> Comparison {
        let hooks = self.probe.hooks();
        let losses = self.losses.read().into_iter().filter(|(loss, _)| *loss != Loss::RttUnknown);
        let circumstances = Circumstances {
            seconds: lasted.as_secs() + 1,
            synack_hook: hooks::is_up(&hooks, hooks::SYNACK),
            synacks_missed: hooks.iter().filter(|h| h.spec == hooks::SYNACK).filter_map(missed).sum(),
            lost: losses.map(|(_, n)| n).sum::<u64>() + self.malformed,
        };
        let report = compare(begin, end, &circumstances);
        if report.gone > 0 {
            let n = report.gone;
            self.notes.push(format!("{n} network namespaces ended meanwhile; their counters went with them"));
        }
        self.notes.dedup();
        Comparison { kernel: release::release(), lasted, report, notes: self.notes }
    }
}

/// Adds a record; a connect that it tells of is not under way any more.
fn add(aggregator: &mut Aggregator, malformed: &mut u64, under_way: &mut UnderWay, bytes: &[u8]) {
    match decode(bytes) {
        Ok(Record::Flow(record)) => {
            under_way.remove(&id(&record));
            aggregator.add(&record);
        }
        Ok(Record::Synack(record)) => aggregator.add_synack(&record),
        Err(_) => *malformed += 1,
    }
}

fn id(record: &FlowRecord) -> (u64, u32) {
    (record.cookie, record.generation)
}

fn missed(hook: &Hook) -> Option<u64> {
    hook.stats().missed
}
