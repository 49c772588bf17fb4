//! What others feel while many sockets are swept: a request-response client's latency beside nothing, beside flowprobe between
//! two sweeps, and beside flowprobe while it sweeps.
//!
//! A window of the last kind is open from the scrape that brings a sweep about to that scrape's answer, which comes with the
//! sweep's end or after 200 ms, whichever is first; the others are as long. How much of a CPU flowprobe had meanwhile stands beside.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::daemon::{Daemon, Setting};
use super::driver::{self, Holding, Load, Running};
use super::parts::Context;
use super::sheet::Samples;
use crate::kit::pause;
use crate::load::{Outcome, cpu};

/// What a scrape waits for a sweep at most.
const WINDOW: Duration = Duration::from_millis(200);

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let all = cpu::allowed()?;
    let one = all.get(..1).context("no CPU is allowed")?;
    let mut busy = vec![("one CPU busy", one)];
    if all.len() > 1 {
        busy.push(("every CPU busy", &all[..]));
    }
    let mut holding = Holding::start(context.plan.latency_sockets, 1.0, 0)?;
    for round in 1..=context.plan.long_rounds {
        context.say(&format!("round {round} of {}", context.plan.long_rounds));
        for (row, cpus) in &busy {
            driver::settle(context.plan)?;
            let bare = undisturbed(context, cpus, &[])?;
            add(samples, &format!("{row}: nothing"), &bare)?;
            let daemon = Daemon::start(&Setting::sweeping_when_asked())?;
            // The first adds up what there was before the daemon.
            daemon.sweep()?;
            let between = undisturbed(context, cpus, &[daemon.id()])?;
            beside(samples, &format!("{row}: flowprobe, between sweeps"), &between, &bare)?;
            holding.touch()?;
            let swept = swept(context, cpus, &daemon)?;
            beside(samples, &format!("{row}: flowprobe sweeps"), &swept, &bare)?;
            daemon.stop()?;
        }
    }
    Ok(())
}

fn undisturbed(context: &Context<'_>, cpus: &[usize], watch: &[u32]) -> Result<Outcome> {
    let mut load = Running::start(Load::Rr, context.plan, cpus, watch)?;
    load.open()?;
    pause(WINDOW);
    load.close()?;
    load.outcome()
}

/// A scrape that finds the sums fresh opens a window too; the last counts.
fn swept(context: &Context<'_>, cpus: &[usize], daemon: &Daemon) -> Result<Outcome> {
    let mut load = Running::start(Load::Rr, context.plan, cpus, &[daemon.id()])?;
    daemon.sweep_by(|| {
        load.open()?;
        let text = daemon.metrics()?;
        load.close()?;
        Ok(text.len())
    })?;
    load.outcome()
}

fn add(samples: &mut Samples, row: &str, outcome: &Outcome) -> Result<()> {
    let latency = outcome.latency.context("the load measured no latency")?;
    samples.add(format!("{row}/rate"), "1/s", rate(outcome));
    samples.add(format!("{row}/p50"), "us", latency.p50_us);
    samples.add(format!("{row}/p99"), "us", latency.p99_us);
    samples.add(format!("{row}/p99.9"), "us", latency.p999_us);
    samples.add(format!("{row}/longest"), "us", latency.max_us);
    Ok(())
}

fn rate(outcome: &Outcome) -> f64 {
    outcome.operations as f64 / outcome.seconds
}

/// With the bare machine's window of the same round beside it.
fn beside(samples: &mut Samples, row: &str, outcome: &Outcome, bare: &Outcome) -> Result<()> {
    add(samples, row, outcome)?;
    samples.add(format!("{row}/ratio"), "", rate(outcome) / rate(bare));
    if let (Some(latency), Some(bare)) = (outcome.latency, bare.latency) {
        samples.add(format!("{row}/p99.9 of the bare"), "", latency.p999_us / bare.p999_us);
    }
    let share = outcome.watched_cpu_seconds / outcome.seconds * 100.0;
    samples.add(format!("{row}/flowprobe's CPU"), "%", share);
    Ok(())
}
