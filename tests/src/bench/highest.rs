//! Connections as fast as all CPUs make them: is every record there, and how small may the ring buffers be, all together?

use anyhow::Result;

use super::daemon::{Daemon, Setting};
use super::driver::{self, Load};
use super::parts::Context;
use super::sheet::Samples;
use crate::load::cpu;

/// The daemon's own size, by its documentation.
const DEFAULT: &str = "4Mi";
/// The row of that size, unbroken for long.
pub(super) const UNBROKEN: &str = "ring of 4Mi, unbroken";

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let (rings, seconds, rounds) = context.plan.rings;
    for round in 1..=rounds {
        for ring in rings {
            context.say(&format!("round {round} of {rounds}: ring of {ring}, {seconds} s"));
            at(context, &format!("ring of {ring}"), ring, seconds, samples)?;
        }
    }
    let seconds = context.plan.highest;
    context.say(&format!("ring of {DEFAULT}, {seconds} s"));
    at(context, UNBROKEN, DEFAULT, seconds, samples)
}

fn at(context: &Context<'_>, row: &str, ring: &str, seconds: f64, samples: &mut Samples) -> Result<()> {
    driver::settle(context.plan)?;
    let setting = Setting { arguments: vec!["--ring-size".into(), ring.into()], ..Setting::default() };
    let daemon = Daemon::start(&setting)?;
    let before = daemon.scrape()?;
    let sweeper = daemon.sweeper()?;
    let outcome = driver::run(Load::Crr, seconds, context.plan, &[], &[daemon.id()])?;
    let sweeps = daemon.sweeper()?.since(sweeper).time;
    let after = daemon.scrape()?;
    let grown = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
    // Each load thread ends with one connection more, and each connection has two ends.
    let ends = (outcome.all_operations + cpu::allowed()?.len() as u64) as f64 * 2.0;
    let per_record = outcome.operations as f64 * 2.0;
    samples.add(format!("{row}/seconds"), "s", outcome.seconds);
    samples.add(format!("{row}/rate"), "1/s", outcome.operations as f64 / outcome.seconds);
    samples.add(format!("{row}/socket ends"), "count", ends);
    // Scrapes and whatever else this machine does are connections too: more than were made is no fault.
    samples.add(format!("{row}/closed"), "count", grown("flowprobe_tcp_connections_closed_total"));
    samples.add(format!("{row}/lost"), "", grown("flowprobe_records_lost_total"));
    samples.add(format!("{row}/daemon's cpu a record"), "us", outcome.watched_cpu_seconds * 1e6 / per_record);
    // Over a little more than the window: the load's start and end too.
    let all_records = outcome.all_operations as f64 * 2.0;
    samples.add(format!("{row}/of it sweeps"), "us", sweeps.as_secs_f64() * 1e6 / all_records);
    samples.add(format!("{row}/wake-ups a record"), "count", outcome.watched_times as f64 / per_record);
    daemon.stop()
}
