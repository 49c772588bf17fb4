//! The measured part of a load: it runs already when the window opens and still runs when it closes, so that neither
//! start nor end is in the figures.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::cpu::{self, Ran};
use crate::kit::pause;

/// What a load prints: one JSON line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// crr, rr or bulk.
    pub load: String,
    /// Connections, transactions or bytes in the window.
    pub operations: u64,
    /// The same from the load's first to its last, warm-up included.
    pub all_operations: u64,
    /// Length of the window.
    pub seconds: f64,
    /// What the machine's CPUs were busy in the window, summed over CPUs.
    pub machine_busy_seconds: f64,
    /// CPU time of the load itself.
    pub own_cpu_seconds: f64,
    /// CPU time of the processes that were to be watched.
    pub watched_cpu_seconds: f64,
    /// How often these were given a CPU.
    pub watched_times: u64,
    /// Of one operation, where it has a beginning and an end.
    pub latency: Option<Latency>,
}

/// Latency of an operation in microseconds, over all operations that began in the window.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Half took less.
    pub p50_us: f64,
    /// 99 of 100 took less.
    pub p99_us: f64,
    /// 999 of 1,000 took less.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// What the threads of a load share with the window.
#[derive(Debug, Default)]
pub(super) struct Shared {
    open: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    /// Whether the threads are to end.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Tells the threads to end.
    pub(super) fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether latencies count.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }
}

/// A thread's count of operations, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, operations: u64) {
        self.0.fetch_add(operations, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long to measure, and whom.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) warm_up: Duration,
    pub(super) length: Duration,
    pub(super) watch: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    operations: u64,
    machine: Duration,
    own: Duration,
    watched: Ran,
}

impl Window {
    /// Opens and closes the window over threads that run; what is known only at their end is the caller's to fill in.
    pub(super) fn measure(&self, load: &str, shared: &Shared, counters: &[Counter]) -> Result<Outcome> {
        pause(self.warm_up);
        let begin = self.read(counters)?;
        shared.open.store(true, Ordering::Relaxed);
        pause(self.length);
        shared.open.store(false, Ordering::Relaxed);
        let end = self.read(counters)?;
        let watched = end.watched.since(begin.watched);
        Ok(Outcome {
            load: load.to_owned(),
            operations: end.operations - begin.operations,
            all_operations: 0,
            seconds: end.at.duration_since(begin.at).as_secs_f64(),
            machine_busy_seconds: end.machine.saturating_sub(begin.machine).as_secs_f64(),
            own_cpu_seconds: end.own.saturating_sub(begin.own).as_secs_f64(),
            watched_cpu_seconds: watched.time.as_secs_f64(),
            watched_times: watched.times,
            latency: None,
        })
    }

    fn read(&self, counters: &[Counter]) -> Result<Reading> {
        let mut watched = Ran::default();
        for &process in &self.watch {
            watched += Ran::of_process(process).context("a process that is to be watched")?;
        }
        Ok(Reading {
            at: Instant::now(),
            operations: counters.iter().map(Counter::get).sum(),
            machine: cpu::machine_busy()?,
            own: cpu::own()?,
            watched,
        })
    }
}

/// One thread's latencies in nanoseconds: three digits, up to a minute.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Result<Self> {
        const LONGEST_NS: u64 = 60_000_000_000;
        Ok(Self(Histogram::new_with_bounds(1, LONGEST_NS, 3).context("no such histogram")?))
    }

    pub(super) fn add(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// All threads' together; none when nothing was recorded.
    pub(super) fn summary(parts: Vec<Self>) -> Result<Option<Latency>> {
        let mut all = Self::new()?;
        for part in parts {
            all.0.add(part.0).context("histograms of one shape add up")?;
        }
        let us = |ns: u64| ns as f64 / 1e3;
        Ok((!all.0.is_empty()).then(|| Latency {
            p50_us: us(all.0.value_at_quantile(0.5)),
            p99_us: us(all.0.value_at_quantile(0.99)),
            p999_us: us(all.0.value_at_quantile(0.999)),
            max_us: us(all.0.max()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_over_all_threads() {
        let mut fast = Latencies::new().unwrap();
        let mut slow = Latencies::new().unwrap();
        (0..990).for_each(|_| fast.add(Duration::from_micros(10)));
        (0..10).for_each(|_| slow.add(Duration::from_millis(10)));
        let all = Latencies::summary(vec![fast, slow]).unwrap().unwrap();
        assert!((all.p50_us - 10.0).abs() < 0.1, "{all:?}");
        assert!((all.p999_us - 10_000.0).abs() < 100.0, "{all:?}");
        assert!(Latencies::summary(vec![]).unwrap().is_none());
    }
}
