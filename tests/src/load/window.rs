//! The measured part of a load: it runs already when the window opens and still runs when it closes, so that neither
//! start nor end is in the figures.
//!
//! A window opens after the warm-up for a time, or opens and closes by command: then the last one counts.

use std::io::{Read as _, Write as _, stdin, stdout};
use std::num::NonZeroU64;
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

/// Opens the window, as a byte on standard input; the answer is a line.
pub const OPEN: u8 = b'o';
/// Closes it.
pub const CLOSE: u8 = b'c';

/// What the threads of a load share with the window.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Number of the window that is open, from 1; 0 when none is.
    open: AtomicU64,
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

    /// The window that is open: latencies count.
    pub(super) fn window(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.open.load(Ordering::Relaxed))
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
    /// Without one the window opens and closes by command.
    pub(super) length: Option<Duration>,
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
        let (begin, end) = match self.length {
            Some(length) => {
                let begin = self.open(1, shared, counters)?;
                pause(length);
                (begin, self.close(shared, counters)?)
            }
            None => self.by_command(shared, counters)?.context("no window was opened and closed")?,
        };
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

    /// The beginning and the end of the last window, when standard input has ended.
    fn by_command(&self, shared: &Shared, counters: &[Counter]) -> Result<Option<(Reading, Reading)>> {
        let (mut number, mut begin, mut last) = (0, None, None);
        for command in stdin().lock().bytes() {
            match command? {
                OPEN => {
                    number += 1;
                    begin = Some(self.open(number, shared, counters)?);
                }
                CLOSE => last = begin.take().zip(Some(self.close(shared, counters)?)),
                _ => continue,
            }
            writeln!(stdout(), "{number}")?;
        }
        Ok(last)
    }

    fn open(&self, number: u64, shared: &Shared, counters: &[Counter]) -> Result<Reading> {
        let begin = self.read(counters)?;
        shared.open.store(number, Ordering::Relaxed);
        Ok(begin)
    }

    fn close(&self, shared: &Shared, counters: &[Counter]) -> Result<Reading> {
        shared.open.store(0, Ordering::Relaxed);
        self.read(counters)
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

/// One thread's latencies in the last window, in nanoseconds: three digits, up to a minute.
#[derive(Debug)]
pub(super) struct Latencies {
    /// The window that they are of.
    window: Option<NonZeroU64>,
    histogram: Histogram<u64>,
}

impl Latencies {
    pub(super) fn new() -> Result<Self> {
        const LONGEST_NS: u64 = 60_000_000_000;
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).context("no such histogram")?;
        Ok(Self { window: None, histogram })
    }

    /// Of an operation that began in `window`, if one was open; those of an earlier one are forgotten.
    pub(super) fn add(&mut self, window: Option<NonZeroU64>, took: Duration) {
        if window.is_none() {
            return;
        }
        if window != self.window {
            self.window = window;
            self.histogram.reset();
        }
        self.histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// All threads' of the last window together; none when nothing was recorded.
    pub(super) fn summary(parts: Vec<Self>) -> Result<Option<Latency>> {
        let mut all = Self::new()?.histogram;
        let last = parts.iter().filter_map(|part| part.window).max();
        for part in parts.into_iter().filter(|part| part.window == last) {
            all.add(part.histogram).context("histograms of one shape add up")?;
        }
        let us = |ns: u64| ns as f64 / 1e3;
        Ok((!all.is_empty()).then(|| Latency {
            p50_us: us(all.value_at_quantile(0.5)),
            p99_us: us(all.value_at_quantile(0.99)),
            p999_us: us(all.value_at_quantile(0.999)),
            max_us: us(all.max()),
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
        (0..990).for_each(|_| fast.add(NonZeroU64::new(1), Duration::from_micros(10)));
        (0..10).for_each(|_| slow.add(NonZeroU64::new(1), Duration::from_millis(10)));
        let all = Latencies::summary(vec![fast, slow]).unwrap().unwrap();
        assert!((all.p50_us - 10.0).abs() < 0.1, "{all:?}");
        assert!((all.p999_us - 10_000.0).abs() < 100.0, "{all:?}");
        assert!(Latencies::summary(vec![]).unwrap().is_none());
    }

    #[test]
    fn latencies_are_of_the_last_window() {
        let [mut both, mut first, none] = [(); 3].map(|()| Latencies::new().unwrap());
        first.add(NonZeroU64::new(1), Duration::from_secs(1));
        both.add(NonZeroU64::new(1), Duration::from_secs(1));
        both.add(NonZeroU64::new(2), Duration::from_millis(1));
        both.add(None, Duration::from_secs(1));
        let all = Latencies::summary(vec![both, first, none]).unwrap().unwrap();
        assert!((all.max_us - 1_000.0).abs() < 2.0, "{all:?}");
    }
}
