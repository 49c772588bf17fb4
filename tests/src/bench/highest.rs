//! Connections as fast as all CPUs make them: is every record there, and how small may the ring buffers be, all together?

use anyhow::Result;

use super::daemon::{Daemon, Setting};
use super::driver::{self, Load};
use super::parts::Context;
use super::sheet::Samples;
use crate::load::cpu;

/// The daemon's own size, by its documentation.
const DEFAULT: &str = "4Mi";

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let (rings, seconds) = context.plan.rings;
    let runs = rings.iter().map(|ring| (*ring, seconds)).chain([(DEFAULT, context.plan.highest)]);
    for (ring, seconds) in runs {
        context.say(&format!("ring of {ring}, {seconds} s"));
        at(context, ring, seconds, samples)?;
    }
    Ok(())
}

fn at(context: &Context<'_>, ring: &str, seconds: f64, samples: &mut Samples) -> Result<()> {
    let row = format!("ring of {ring}");
    driver::settle(context.plan)?;
    let setting = Setting { arguments: vec!["--ring-size".into(), ring.into()], ..Setting::default() };
    let daemon = Daemon::start(&setting)?;
    let before = daemon.scrape()?;
    let outcome = driver::run(Load::Crr, seconds, context.plan, &[], &[daemon.id()])?;
    let after = daemon.scrape()?;
    let grown = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
    // Each load thread ends with one connection more, and each connection has two ends.
    let ends = (outcome.all_operations + cpu::allowed()?.len() as u64) as f64 * 2.0;
    let per_record = outcome.operations as f64 * 2.0;
    samples.add(format!("{row}/seconds"), "s", outcome.seconds);
    samples.add(format!("{row}/rate"), "1/s", outcome.operations as f64 / outcome.seconds);
    samples.add(format!("{row}/socket ends"), "", ends);
    // Scrapes and whatever else this machine does are connections too: more than were made is no fault.
    samples.add(format!("{row}/closed"), "", grown("flowprobe_tcp_connections_closed_total"));
    samples.add(format!("{row}/lost"), "", grown("flowprobe_records_lost_total"));
    samples.add(format!("{row}/daemon's cpu a record"), "us", outcome.watched_cpu_seconds * 1e6 / per_record);
    samples.add(format!("{row}/wake-ups a record"), "", outcome.watched_times as f64 / per_record);
    daemon.stop()
}
