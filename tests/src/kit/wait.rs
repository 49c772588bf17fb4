//! Waiting for a condition with a deadline, the clock it uses, and free ports.
//!
//! A condition is looked at every 5 ms: cheap beside the round trips the scenarios wait for.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::time::{ClockId, clock_gettime};

/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Wait until `condition` gives true.
///
/// # Errors
/// When `deadline` has passed: the message says `what` was waited for. An error of the condition itself ends the wait.
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(deadline, what, || Ok(condition()?.then_some(())))
}

/// Wait until `look` gives a value, and return it.
///
/// # Errors
/// When `deadline` has passed: the message says `what` was waited for. An error of `look` itself ends the wait.
pub fn wait_for<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = look().with_context(|| format!("while waiting until {what}"))? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {:.1} s in vain until {what}", deadline.as_secs_f64());
        }
        pause(LOOK_EVERY);
    }
}

/// Let `length` pass: for programmed faults that last a time (a blackout of two seconds), never to hope for an effect.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that sleeps: wait_until and programmed fault lengths"
)]
pub fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of the ledger.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// A TCP port of 127.0.0.1 that was free a moment ago, in the caller's network namespace.
///
/// # Errors
/// When no socket can be bound.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind a port of 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}
