//! What others feel while many sockets are swept: a request-response client's latency, beside nothing, beside flowprobe as
//! it comes, and beside a flowprobe that is scraped without pause, which makes it sweep as often as it ever does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};

use super::daemon::{Daemon, Setting};
use super::driver::{self, Holding, Load};
use super::parts::Context;
use super::sheet::Samples;
use crate::kit::pause;
use crate::load::{Outcome, cpu};

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let all = cpu::allowed()?;
    let one = all.get(..1).context("no CPU is allowed")?;
    let mut busy = vec![("one CPU busy", one)];
    if all.len() > 1 {
        busy.push(("every CPU busy", &all[..]));
    }
    for round in 1..=context.plan.long_rounds {
        context.say(&format!("round {round} of {}", context.plan.long_rounds));
        let holding = Holding::start(context.plan.latency_sockets, 0.1, 1_000)?;
        for (row, cpus) in &busy {
            let run = || driver::run(Load::Rr, context.plan.run, context.plan, cpus, &[]);
            driver::settle(context.plan)?;
            add(samples, &format!("{row}: nothing"), &run()?)?;
            let daemon = Daemon::start(&Setting::default())?;
            daemon.sweep()?;
            add(samples, &format!("{row}: flowprobe"), &run()?)?;
            add(samples, &format!("{row}: flowprobe, scraped without pause"), &while_scraped(&daemon, run)?)?;
            daemon.stop()?;
        }
        drop(holding);
    }
    Ok(())
}

fn while_scraped(daemon: &Daemon, run: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    const BETWEEN: std::time::Duration = std::time::Duration::from_millis(50);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraper = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                daemon.metrics()?;
                pause(BETWEEN);
            }
            Ok(())
        });
        let outcome = run();
        over.store(true, Ordering::Relaxed);
        scraper.join().map_err(|_| anyhow!("a scraper panicked"))??;
        outcome
    })
}

fn add(samples: &mut Samples, row: &str, outcome: &Outcome) -> Result<()> {
    let latency = outcome.latency.context("the load measured no latency")?;
    samples.add(format!("{row}/rate"), "1/s", outcome.operations as f64 / outcome.seconds);
    samples.add(format!("{row}/p50"), "us", latency.p50_us);
    samples.add(format!("{row}/p99"), "us", latency.p99_us);
    samples.add(format!("{row}/p99.9"), "us", latency.p999_us);
    samples.add(format!("{row}/longest"), "us", latency.max_us);
    Ok(())
}
