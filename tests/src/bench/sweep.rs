//! What looking at all sockets costs, by their number: flowprobe's sweep, `ss -tinO`, a bare inet_diag dump,
//! and the kernel's walk alone.
//!
//! In turn: each of the others comes some time after a sweep, and a sweep some time after the last of them, so that none finds in
//! the caches what another has just brought there. A round goes over all sizes, so that what is measured of one size is spread over the
//! part's whole time, and so is what the machine does meanwhile.

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
use crate::kit::pause;

/// Every method, by the name of its rows.
pub(super) const METHODS: [&str; 7] = [IDLE, ACTIVE, NEWLY_IDLE, WALK, SS, DUMP_INFO, DUMP];
/// Nothing happened since the sweep before last: connections are passed by.
const IDLE: &str = "sweep, idle";
/// Something happened on each connection since the last sweep.
const ACTIVE: &str = "sweep, active";
/// Nothing happened since the last sweep.
const NEWLY_IDLE: &str = "sweep, newly idle";
const WALK: &str = "empty iterator";
const SS: &str = "ss -tinO";
const DUMP_INFO: &str = "inet_diag with TCP_INFO";
const DUMP: &str = "inet_diag without";
/// A round: each sweep and what comes before the next, which is due a hundred times the dearer of two sweeps later.
const TURNS: [(&str, &[&str]); 3] = [(ACTIVE, &[DUMP_INFO, DUMP]), (NEWLY_IDLE, &[SS]), (IDLE, &[WALK])];
/// Of a sweep's time, what passes before another looks: with two of them two thirds of what passes before the next sweep.
const BETWEEN: u32 = 33;
const LONG: Duration = Duration::from_secs(300);

/// Of one look at all sockets.
#[derive(Clone, Copy)]
struct Cost {
    cpu_us: f64,
    wall_us: f64,
}

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let (of_few, of_many) = context.plan.sweeps;
    let rounds_of = |sockets| if sockets > plan::MANY { of_many } else { of_few };
    let most = context.plan.sizes.iter().max().copied();
    for round in 1..=of_few.max(of_many) {
        for &sockets in context.plan.sizes.iter().filter(|sockets| round <= rounds_of(**sockets)) {
            context.say(&format!("{sockets} sockets, round {round}"));
            let is_last = most == Some(sockets) && round == rounds_of(sockets);
            if let Err(error) = at(context, sockets, is_last, samples) {
                samples.absent(format!("{sockets} sockets"), format!("{error:#}"));
            }
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

/// The straight line through each round's points, as rows of their own; of as many rounds as there are at every size.
fn fitted(context: &Context<'_>, row: &str, name: &str, unit: &'static str, samples: &mut Samples) {
    let scale = if unit == "B" { 1_048_576.0 } else { 1_000.0 };
    let sizes = context.plan.sizes.iter();
    let measured: Vec<_> = sizes
        .map(|size| (*size as f64, samples.values(&format!("{size} sockets: {name}")).to_vec()))
        .filter(|(_, values)| !values.is_empty())
        .collect();
    let rounds = measured.iter().map(|(_, values)| values.len()).min().unwrap_or(0);
    for round in 0..rounds {
        let points: Vec<_> = measured.iter().map(|(size, values)| (*size, values[round] * scale)).collect();
        if let Some(line) = fit::line(&points) {
            samples.add(format!("fit: {row}/a socket more"), unit, line.slope);
            samples.add(format!("fit: {row}/at none"), unit, line.at_zero);
            samples.add(format!("fit: {row}/off"), "%", line.off(&points) * 100.0);
            if let [.., (fewer, less), (more, most)] = points[..] {
                samples.add(
                    format!("fit: {row}/between the largest two"),
                    unit,
                    (most - less) / (more - fewer),
                );
            }
        }
    }
}

/// One round at one size; the last of the largest size ends with a daemon that sweeps when it wants to.
fn at(context: &Context<'_>, sockets: u64, is_last: bool, samples: &mut Samples) -> Result<()> {
    let row = format!("{sockets} sockets");
    let daemon = Daemon::start(&Setting::sweeping_when_asked())?;
    let mut holding = Holding::start(sockets, 1.0, 0)?;
    driver::settle(context.plan)?;
    // Adds up what the opening brought.
    daemon.sweep()?;
    let mut round = Vec::new();
    for (method, others) in TURNS {
        if method == ACTIVE {
            holding.touch()?;
        }
        let sweep = daemon.sweep()?;
        ensure!(sweep.sockets >= sockets as f64, "the sweep saw {} sockets of {sockets}", sweep.sockets);
        round.push((method, Cost { cpu_us: sweep.cpu_us, wall_us: sweep.wall_us }));
        for other in others {
            pause(Duration::from_secs_f64(sweep.cpu_us / 1e6) * BETWEEN);
            round.extend(cost_of(other, &holding, samples)?.map(|cost| (*other, cost)));
        }
    }
    add(samples, &row, &round, sockets);
    samples.add(format!("{row}: flowprobe/resident"), "MiB", resident_kib(daemon.id())? as f64 / 1024.0);
    daemon.stop()?;
    if is_last {
        share(context, samples)?;
    }
    Ok(())
}

/// What a look at all sockets by another way takes; nothing where it is not there.
fn cost_of(method: &str, holding: &Holding, samples: &mut Samples) -> Result<Option<Cost>> {
    let looked = match method {
        SS => return ss(holding, samples),
        WALK => driver::walk(holding.id())?,
        _ => driver::dump(holding.id(), method == DUMP_INFO)?,
    };
    ensure!(looked.sockets >= holding.sockets, "{method} showed {} sockets", looked.sockets);
    Ok(Some(Cost { cpu_us: looked.cpu_seconds * 1e6, wall_us: looked.seconds * 1e6 }))
}

fn ss(holding: &Holding, samples: &mut Samples) -> Result<Option<Cost>> {
    let Some(ss) = peers::installed("ss") else {
        samples.absent(SS, "ss is not installed: apt-get install -y iproute2");
        return Ok(None);
    };
    let mut command = Command::new(ss);
    command.arg("-tinO").stdin(Stdio::null()).stdout(Stdio::null());
    let ended = Child::start(command, Some(holding.id()))?.wait(LONG)?;
    ensure!(ended.code == Some(0), "ss ended with {:?}", ended.code);
    Ok(Some(Cost { cpu_us: ended.cpu.as_secs_f64() * 1e6, wall_us: ended.wall.as_secs_f64() * 1e6 }))
}

/// A round's looks, each beside the kernel's walk in the same round.
fn add(samples: &mut Samples, row: &str, round: &[(&str, Cost)], sockets: u64) {
    let walk = round.iter().find(|(method, _)| *method == WALK).map(|(_, cost)| cost.cpu_us);
    for (method, cost) in round {
        samples.add(format!("{row}: {method}/cpu"), "ms", cost.cpu_us / 1e3);
        samples.add(format!("{row}: {method}/wall"), "ms", cost.wall_us / 1e3);
        samples.add(format!("{row}: {method}/cpu a socket"), "us", cost.cpu_us / sockets as f64);
        if let Some(walk) = walk.filter(|_| *method != WALK) {
            samples.add(format!("{row}: {method}/of the walk"), "", cost.cpu_us / walk);
        }
    }
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
