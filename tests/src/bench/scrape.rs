//! How long a scrape takes and how long it is: while many connections are open and a tenth of them is active each second, and
//! of many groups; and what memory the daemon has when there is much of both.
//!
//! Fresh: one scrape after the other, from sums that are there. Stale: each finds its sums old and waits for a sweep.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::child::resident_kib;
use super::daemon::{Daemon, Setting};
use super::driver::Holding;
use super::library;
use super::parts::Context;
use super::sheet::Samples;
use crate::kit::{Namespace, PROTOBUF, Scrape, wait_until};
use crate::traffic::{Behaviour, Options, Server, connect_from, echo};

const GROUPS: u16 = 1_000;
/// How long stale scrapes are made at one size, if two of them take no longer.
const STALE: Duration = Duration::from_secs(120);
/// For the records to be counted.
const COUNTED: Duration = Duration::from_secs(30);

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let mut sizes =
        [context.plan.sizes.first(), context.plan.sizes.last()].map(Option::<&u64>::copied).to_vec();
    sizes.dedup();
    for sockets in sizes.into_iter().flatten() {
        context.say(&format!("{sockets} sockets"));
        // Of many sockets a sweep would else be due by itself as soon as their sums are stale.
        let daemon = Daemon::start(&Setting::sweeping_when_asked())?;
        let _holding = Holding::start(sockets, 0.1, 1_000)?;
        daemon.sweep()?;
        let (fresh, stale) = context.plan.scrapes;
        let row = format!("{sockets} sockets, fresh");
        add(samples, &row, fresh, || daemon.metrics().map(|text| text.len()))?;
        shape(samples, &row, &daemon)?;
        let mut scrapes = Vec::new();
        let begun = Instant::now();
        while scrapes.len() < stale && (scrapes.len() < 2 || begun.elapsed() < STALE) {
            let sweep = daemon.sweep()?;
            scrapes.push((sweep.scrape, sweep.scrape_len));
        }
        figures(samples, &format!("{sockets} sockets, stale"), scrapes);
        daemon.stop()?;
    }
    groups(context, samples)?;
    library::bench("exposition", context, samples)
}

/// As many groups as there are by default, each of a client network of its own.
fn groups(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    context.say(&format!("{GROUPS} groups"));
    let text = format!("[networks]\nlabels = ['prefix']\n[groups]\nmax = {GROUPS}\n");
    let daemon = Daemon::start(&Setting { configuration: Some(text), ..Setting::default() })?;
    crowd()?;
    wait_until(COUNTED, "all groups are there", || {
        Ok(daemon.scrape()?.value("flowprobe_groups", &[]) == Some(f64::from(GROUPS)))
    })?;
    let (fresh, _) = context.plan.scrapes;
    add(samples, "1,000 groups, text", fresh, || daemon.metrics().map(|text| text.len()))?;
    shape(samples, "1,000 groups, text", &daemon)?;
    samples.add("1,000 groups, text/resident", "MiB", resident_kib(daemon.id())? as f64 / 1024.0);
    for (row, accept, coding) in [
        ("1,000 groups, text, gzip", "text/plain", "gzip"),
        ("1,000 groups, protobuf", PROTOBUF, "identity"),
        ("1,000 groups, protobuf, gzip", PROTOBUF, "gzip"),
    ] {
        add(samples, row, fresh, || daemon.metrics_as(accept, coding))?;
    }
    let holding = Holding::start(context.plan.memory_sockets, 0.1, 1_000)?;
    // The first may have begun before all were open.
    daemon.sweep()?;
    let sweep = daemon.sweep()?;
    ensure!(
        sweep.sockets >= holding.sockets as f64,
        "the sweep saw {} sockets of {}",
        sweep.sockets,
        holding.sockets
    );
    let row = format!("{} sockets, 1,000 groups/resident", holding.sockets);
    samples.add(row, "MiB", resident_kib(daemon.id())? as f64 / 1024.0);
    daemon.stop()
}

/// A connection from each of so many networks, one after the other.
fn crowd() -> Result<()> {
    let namespace = Namespace::new()?;
    let options = Options::default();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4321));
    let server = Server::start(&namespace, address, Behaviour::Echo, &options)?;
    for network in 0..GROUPS {
        let [high, low] = network.to_be_bytes();
        let local = SocketAddr::from((Ipv4Addr::new(127, high + 1, low, 9), 0));
        echo(&mut connect_from(&namespace, Some(local), address, &options)??, 1, 100)?;
    }
    server.served(GROUPS.into(), COUNTED).map(drop)
}

/// Scrapes one after the other; `scrape` gives the length, bytes.
fn add(samples: &mut Samples, row: &str, count: usize, scrape: impl Fn() -> Result<usize>) -> Result<()> {
    let timed = || -> Result<_> {
        let begun = Instant::now();
        let length = scrape()?;
        Ok((begun.elapsed(), length))
    };
    figures(samples, row, (0..count).map(|_| timed()).collect::<Result<_>>()?);
    Ok(())
}

/// Of scrapes, by time on the wall and length in bytes.
fn figures(samples: &mut Samples, row: &str, mut scrapes: Vec<(Duration, usize)>) {
    scrapes.sort_unstable();
    for (_, length) in &scrapes {
        samples.add(format!("{row}/size"), "KiB", *length as f64 / 1024.0);
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
        let rank = (quantile * scrapes.len() as f64).ceil() as usize;
        if let Some((took, _)) = scrapes.get(rank.saturating_sub(1)) {
            samples.add(format!("{row}/{name}"), "ms", took.as_secs_f64() * 1e3);
        }
    }
}

/// How many series it has; that it can be read, too.
fn shape(samples: &mut Samples, row: &str, daemon: &Daemon) -> Result<()> {
    let text = daemon.metrics()?;
    Scrape::parse(&text)?;
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    samples.add(format!("{row}/series"), "", lines as f64);
    Ok(())
}
