//! How long a scrape takes and how long it is, while many connections are open and a tenth of them is active each second.
//!
//! Fresh: one scrape after the other, from sums that are there. Stale: each finds its sums old and waits for a sweep.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::daemon::{Daemon, Setting};
use super::driver::Holding;
use super::parts::Context;
use super::sheet::Samples;
use crate::kit::{Scrape, pause};

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let mut sizes =
        [context.plan.sizes.first(), context.plan.sizes.last()].map(Option::<&u64>::copied).to_vec();
    sizes.dedup();
    for sockets in sizes.into_iter().flatten() {
        context.say(&format!("{sockets} sockets"));
        let daemon = Daemon::start(&Setting::default())?;
        let _holding = Holding::start(sockets, 0.1, 1_000)?;
        daemon.sweep()?;
        let (fresh, stale) = context.plan.scrapes;
        add(samples, &format!("{sockets} sockets, fresh"), &daemon, fresh, Duration::ZERO)?;
        let wait = daemon.stale_after()?;
        add(samples, &format!("{sockets} sockets, stale"), &daemon, stale, wait)?;
        daemon.stop()?;
    }
    Ok(())
}

fn add(samples: &mut Samples, row: &str, daemon: &Daemon, count: usize, wait: Duration) -> Result<()> {
    let mut took = Vec::new();
    for _ in 0..count {
        pause(wait);
        let begun = Instant::now();
        let text = daemon.metrics()?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        let lines = text.lines().filter(|line| !line.starts_with('#')).count();
        samples.add(format!("{row}/size"), "KiB", text.len() as f64 / 1024.0);
        samples.add(format!("{row}/series"), "", lines as f64);
        Scrape::parse(&text)?;
    }
    took.sort_by(f64::total_cmp);
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
        let rank = (quantile * took.len() as f64).ceil() as usize;
        if let Some(value) = took.get(rank.saturating_sub(1)) {
            samples.add(format!("{row}/{name}"), "ms", *value);
        }
    }
    Ok(())
}
