//! What each condition does to the loads: rate and CPU, each condition between two measurements of the bare machine.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::child::resident_kib;
use super::condition::Condition;
use super::driver::{self, Load};
use super::parts::Context;
use super::sheet::Samples;
use crate::load::Outcome;

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for load in Load::ALL {
        driver::run(load, 0.1, context.plan, &[], &[]).context("the loads do not run on this machine")?;
    }
    for round in 1..=context.plan.rounds {
        let mut before = all_loads(context, &[])?;
        for condition in context.turn(round) {
            let name = condition.name();
            if samples.is_absent(&name) {
                continue;
            }
            context.say(&format!("round {round} of {}: {name}", context.plan.rounds));
            match beside(context, condition) {
                Ok((with, resident)) => {
                    if resident > 0 {
                        samples.add(format!("crr/{name}/resident"), "MiB", resident as f64 / 1024.0);
                    }
                    let after = all_loads(context, &[])?;
                    for load in Load::ALL.map(Load::name) {
                        add(samples, &name, &with[load], [&before[load], &after[load]]);
                        add_bare(samples, &after[load]);
                    }
                    before = after;
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    context.say(&format!("  not measured: {why}"));
                    samples.absent(name, why);
                }
            }
        }
    }
    Ok(())
}

type Outcomes = BTreeMap<&'static str, Outcome>;

/// With the observing processes' resident memory, KiB.
fn beside(context: &Context<'_>, condition: Condition) -> Result<(Outcomes, u64)> {
    let running = condition.start()?;
    let outcomes = all_loads(context, &running.processes())?;
    let resident = running.processes().into_iter().map(resident_kib).sum::<Result<u64>>()?;
    running.stop()?;
    Ok((outcomes, resident))
}

fn all_loads(context: &Context<'_>, watch: &[u32]) -> Result<Outcomes> {
    let one = |load: Load| {
        // What the load before left, sockets that wait and memory that is freed late, is gone.
        driver::settle(context.plan)?;
        let seconds = if load == Load::Bulk { context.plan.run } else { context.plan.period };
        Ok((load.name(), driver::run(load, seconds, context.plan, &[], watch)?))
    };
    Load::ALL.into_iter().map(one).collect()
}

/// Operations a second.
fn rate(outcome: &Outcome) -> f64 {
    outcome.operations as f64 / outcome.seconds
}

/// The machine's CPU time of an operation; of bulk, of a mebibyte.
fn cpu_us(outcome: &Outcome) -> f64 {
    outcome.machine_busy_seconds * 1e6 / units(outcome)
}

/// The load's own part of it: what runs in its system calls and in the softirqs between them.
fn load_cpu_us(outcome: &Outcome) -> f64 {
    outcome.own_cpu_seconds * 1e6 / units(outcome)
}

fn units(outcome: &Outcome) -> f64 {
    let bytes = if outcome.load == "bulk" { 1_048_576.0 } else { 1.0 };
    outcome.operations as f64 / bytes
}

fn add_bare(samples: &mut Samples, bare: &Outcome) {
    add_absolute(samples, &format!("{}/nothing", bare.load), bare);
}

fn add_absolute(samples: &mut Samples, row: &str, outcome: &Outcome) {
    let unit = if outcome.load == "bulk" { "MiB/s" } else { "1/s" };
    samples.add(format!("{row}/rate"), unit, units(outcome) / outcome.seconds);
    samples.add(format!("{row}/cpu"), "us", cpu_us(outcome));
    samples.add(format!("{row}/load cpu"), "us", load_cpu_us(outcome));
    if let Some(latency) = outcome.latency {
        samples.add(format!("{row}/p50"), "us", latency.p50_us);
        samples.add(format!("{row}/p99"), "us", latency.p99_us);
    }
}

fn add(samples: &mut Samples, condition: &str, with: &Outcome, bare: [&Outcome; 2]) {
    let row = format!("{}/{condition}", with.load);
    add_absolute(samples, &row, with);
    let mean = |value: fn(&Outcome) -> f64| f64::midpoint(value(bare[0]), value(bare[1]));
    samples.add(format!("{row}/ratio"), "", rate(with) / mean(rate));
    samples.add(format!("{row}/added cpu"), "us", cpu_us(with) - mean(cpu_us));
    samples.add(format!("{row}/added load cpu"), "us", load_cpu_us(with) - mean(load_cpu_us));
    if with.watched_times > 0 || with.watched_cpu_seconds > 0.0 {
        samples.add(format!("{row}/own cpu"), "us", with.watched_cpu_seconds * 1e6 / units(with));
        samples.add(format!("{row}/wake-ups"), "", with.watched_times as f64 / units(with));
    }
}
