//! What looking at all sockets costs, by their number: flowprobe's sweep, `ss -tinO`, a bare inet_diag dump,
//! and the kernel's walk alone.
//!
//! Idle: nothing happened on any connection since the sweep before. Active: one exchange on each.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::child::{Child, resident_kib};
use super::daemon::{Daemon, Setting};
use super::driver::{self, Holding};
use super::fit;
use super::parts::Context;
use super::sheet::Samples;
use super::{peers, plan};

/// Every method, by the name of its rows.
pub(super) const METHODS: [&str; 7] =
    [IDLE, ACTIVE, NEWLY_IDLE, WALK, "ss -tinO", "inet_diag with TCP_INFO", "inet_diag without"];
/// Nothing happened since the sweep before last: connections are passed by.
const IDLE: &str = "sweep, idle";
/// Something happened on each connection since the last sweep.
const ACTIVE: &str = "sweep, active";
/// Nothing happened since the last sweep.
const NEWLY_IDLE: &str = "sweep, newly idle";
const WALK: &str = "empty iterator";
const LONG: Duration = Duration::from_secs(300);

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for &sockets in &context.plan.sizes {
        context.say(&format!("{sockets} sockets"));
        if let Err(error) = at(context, sockets, samples) {
            samples.absent(format!("{sockets} sockets"), format!("{error:#}"));
        }
    }
    for method in METHODS {
        for what in ["cpu", "wall"] {
            fitted(context, &format!("{method}, {what}"), &format!("{method}/{what}"), "us", samples);
        }
    }
    fitted(context, "daemon's memory", "flowprobe/resident", "B", samples);
    Ok(())
}

/// The straight line through the medians, as rows of their own.
fn fitted(context: &Context<'_>, row: &str, name: &str, unit: &'static str, samples: &mut Samples) {
    let scale = if unit == "B" { 1_048_576.0 } else { 1_000.0 };
    let points: Vec<_> = context
        .plan
        .sizes
        .iter()
        .filter_map(|size| Some((*size as f64, samples.median(&format!("{size} sockets: {name}"))? * scale)))
        .collect();
    if let Some(line) = fit::line(&points) {
        samples.add(format!("fit: {row}/a socket more"), unit, line.slope);
        samples.add(format!("fit: {row}/at none"), unit, line.at_zero);
    }
}

fn at(context: &Context<'_>, sockets: u64, samples: &mut Samples) -> Result<()> {
    let row = format!("{sockets} sockets");
    // No sweep but those that are asked for.
    let setting = Setting { arguments: vec!["--sweep-period".into(), "10m".into()], ..Setting::default() };
    let daemon = Daemon::start(&setting)?;
    let mut holding = Holding::start(sockets, 1.0, 0)?;
    driver::settle(context.plan)?;
    // The first one adds up what the opening brought; the second finds them newly idle.
    daemon.sweep()?;
    daemon.sweep()?;
    let (of_few, of_many) = context.plan.sweeps;
    let sweeps = if sockets > plan::MANY { of_many } else { of_few };
    for _ in 0..sweeps {
        for method in [IDLE, ACTIVE, NEWLY_IDLE] {
            if method == ACTIVE {
                holding.touch()?;
            }
            let sweep = daemon.sweep()?;
            ensure!(sweep.sockets >= sockets as f64, "the sweep saw {} sockets of {sockets}", sweep.sockets);
            add(samples, &row, method, sweep.cpu_us, sweep.wall_us, sockets);
        }
    }
    samples.add(format!("{row}: flowprobe/resident"), "MiB", resident_kib(daemon.id())? as f64 / 1024.0);
    daemon.stop()?;
    for _ in 0..sweeps {
        others(&holding, &row, samples)?;
    }
    if context.plan.sizes.last() == Some(&sockets) {
        share(context, samples)?;
    }
    Ok(())
}

fn others(holding: &Holding, row: &str, samples: &mut Samples) -> Result<()> {
    for (method, info) in [("inet_diag with TCP_INFO", true), ("inet_diag without", false)] {
        let dumped = driver::dump(holding.id(), info)?;
        ensure!(dumped.sockets >= holding.sockets, "inet_diag gave {} sockets", dumped.sockets);
        let (cpu, wall) = (dumped.cpu_seconds * 1e6, dumped.seconds * 1e6);
        add(samples, row, method, cpu, wall, holding.sockets);
    }
    let walked = driver::walk(holding.id())?;
    ensure!(walked.sockets >= holding.sockets, "the walk showed {} sockets", walked.sockets);
    add(samples, row, WALK, walked.cpu_seconds * 1e6, walked.seconds * 1e6, holding.sockets);
    let Some(ss) = peers::installed("ss") else {
        samples.absent("ss -tinO", "ss is not installed: apt-get install -y iproute2");
        return Ok(());
    };
    let mut command = Command::new(ss);
    command.arg("-tinO").stdin(Stdio::null()).stdout(Stdio::null());
    let ended = Child::start(command, Some(holding.id()))?.wait(LONG)?;
    ensure!(ended.code == Some(0), "ss ended with {:?}", ended.code);
    add(
        samples,
        row,
        "ss -tinO",
        ended.cpu.as_secs_f64() * 1e6,
        ended.wall.as_secs_f64() * 1e6,
        holding.sockets,
    );
    Ok(())
}

fn add(samples: &mut Samples, row: &str, method: &str, cpu_us: f64, wall_us: f64, sockets: u64) {
    samples.add(format!("{row}: {method}/cpu"), "ms", cpu_us / 1e3);
    samples.add(format!("{row}: {method}/wall"), "ms", wall_us / 1e3);
    samples.add(format!("{row}: {method}/cpu a socket"), "us", cpu_us / sockets as f64);
}

/// What a daemon that sweeps when it wants to takes of a CPU, while all these connections are idle: from the end of a sweep to
/// the end of a later one, for a part of a period would hold too many or too few.
fn share(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let daemon = Daemon::start(&Setting::default())?;
    daemon.sweep()?;
    let (process, sweeper) = daemon.swept_of_itself()?;
    let begun = Instant::now();
    let (process_ran, sweeper_ran) = loop {
        let (process_now, sweeper_now) = daemon.swept_of_itself()?;
        if begun.elapsed().as_secs_f64() >= context.plan.share {
            break (process_now.since(process), sweeper_now.since(sweeper));
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    for (who, ran) in [("flowprobe", process_ran), ("its sweeps", sweeper_ran)] {
        let share = ran.time.as_secs_f64() / seconds * 100.0;
        samples.add(format!("all day: {who}/of one CPU"), "%", share);
    }
    daemon.stop()
}
