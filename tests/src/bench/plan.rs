//! How long and how often each thing is measured, in the full and in the quick form.

use std::time::Duration;

/// Sockets above which a sweep takes so long that the daemon, at its share of a CPU, seldom makes one.
pub(super) const MANY: u64 = 50_000;

/// The amounts of one run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Minutes instead of hours: shows that the machinery works, not what things cost.
    pub(super) quick: bool,
    /// How often each condition is measured.
    pub(super) rounds: usize,
    /// The same where a round is long.
    pub(super) long_rounds: usize,
    /// Seconds of one measurement.
    pub(super) run: f64,
    /// The same where one of the daemon's sweeps is to be in each: in the full form the usual time between two.
    pub(super) period: f64,
    /// Seconds that a load runs before.
    pub(super) warm_up: f64,
    /// How long a quiet machine is waited for between two measurements, at most.
    pub(super) settle: Duration,
    /// Numbers of open sockets, both ends of a connection counted.
    pub(super) sizes: Vec<u64>,
    /// Rounds at each size, and at those above [`MANY`], where a round takes minutes.
    pub(super) sweeps: (usize, usize),
    /// Sockets for the memory of one, and for the daemon's beside many groups.
    pub(super) memory_sockets: u64,
    /// Sockets that are open while others' latency is looked at.
    pub(super) latency_sockets: u64,
    /// Scrapes that find fresh sums, and scrapes that wait for a sweep.
    pub(super) scrapes: (usize, usize),
    /// Seconds at the highest rate, unbroken.
    pub(super) highest: f64,
    /// Ring sizes that are tried, from the smallest, seconds for each, and how often.
    pub(super) rings: (&'static [&'static str], f64, usize),
    /// Seconds over which the daemon's share of a CPU is taken at least, at the largest size.
    pub(super) share: f64,
}

impl Plan {
    /// The full form.
    pub(super) fn full() -> Self {
        Self {
            quick: false,
            rounds: 7,
            long_rounds: 7,
            run: 2.0,
            period: 5.0,
            warm_up: 0.5,
            settle: Duration::from_secs(3),
            sizes: vec![1_000, 10_000, 100_000, 400_000],
            sweeps: (7, 3),
            memory_sockets: 200_000,
            latency_sockets: 200_000,
            scrapes: (500, 30),
            highest: 60.0,
            rings: (&["64Ki", "256Ki", "512Ki", "1Mi", "2Mi", "4Mi"], 20.0, 3),
            share: 90.0,
        }
    }

    /// The quick form.
    pub(super) fn quick() -> Self {
        Self {
            quick: true,
            rounds: 1,
            long_rounds: 1,
            run: 0.3,
            period: 0.3,
            warm_up: 0.1,
            settle: Duration::from_millis(100),
            sizes: vec![1_000],
            sweeps: (1, 1),
            memory_sockets: 1_000,
            latency_sockets: 1_000,
            scrapes: (20, 2),
            highest: 5.0,
            rings: (&["64Ki"], 2.0, 1),
            share: 3.0,
        }
    }
}
