//! How long a scrape takes and how long it is: while many connections are open and a tenth of them is active each second, and
//! of many groups.
//!
//! Fresh: one scrape after the other, from sums that are there. Stale: each finds its sums old and waits for a sweep.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::child::resident_kib;
use super::daemon::{Daemon, PROTOBUF, Setting};
use super::driver::Holding;
use super::library;
use super::parts::Context;
use super::sheet::Samples;
use crate::kit::{Namespace, Scrape, pause, wait_until};

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
        let daemon = Daemon::start(&Setting::default())?;
        let _holding = Holding::start(sockets, 0.1, 1_000)?;
        daemon.sweep()?;
        let (fresh, stale) = context.plan.scrapes;
        let text = || daemon.metrics().map(|text| text.len());
        let row = format!("{sockets} sockets, fresh");
        add(samples, &row, fresh, Duration::ZERO, text)?;
        shape(samples, &row, &daemon)?;
        let wait = daemon.stale_after()?;
        let few = (STALE.as_secs_f64() / wait.as_secs_f64()) as usize;
        add(samples, &format!("{sockets} sockets, stale"), stale.min(few.max(2)), wait, text)?;
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
    add(samples, "1,000 groups, text", fresh, Duration::ZERO, || daemon.metrics().map(|text| text.len()))?;
    shape(samples, "1,000 groups, text", &daemon)?;
    samples.add("1,000 groups, text/resident", "MiB", resident_kib(daemon.id())? as f64 / 1024.0);
    for (row, accept, coding) in [
        ("1,000 groups, text, gzip", "text/plain", "gzip"),
        ("1,000 groups, protobuf", PROTOBUF, "identity"),
        ("1,000 groups, protobuf, gzip", PROTOBUF, "gzip"),
    ] {
        add(samples, row, fresh, Duration::ZERO, || daemon.metrics_as(accept, coding))?;
    }
    daemon.stop()
}

/// A connection from each of so many networks, one after the other.
fn crowd() -> Result<()> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 4321));
    Namespace::new()?.run(|| -> Result<()> {
        let listener = TcpListener::bind(server)?;
        for network in 0..GROUPS {
            let [high, low] = network.to_be_bytes();
            let client = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            client.bind(&SocketAddr::from((Ipv4Addr::new(127, high + 1, low, 9), 0)).into())?;
            client.connect(&server.into())?;
            let mut client = TcpStream::from(client);
            let (mut accepted, _) = listener.accept()?;
            for end in [&client, &accepted] {
                end.set_read_timeout(Some(COUNTED))?;
            }
            let mut bytes = [0; 100];
            client.write_all(&bytes)?;
            accepted.read_exact(&mut bytes)?;
            accepted.write_all(&bytes)?;
            client.read_exact(&mut bytes)?;
            drop(client);
            ensure!(accepted.read(&mut bytes)? == 0, "the client said more");
        }
        Ok(())
    })?
}

/// Scrapes one after the other, with a pause before each; `scrape` gives the length.
fn add(
    samples: &mut Samples,
    row: &str,
    count: usize,
    wait: Duration,
    scrape: impl Fn() -> Result<usize>,
) -> Result<()> {
    let mut took = Vec::new();
    for _ in 0..count {
        pause(wait);
        let begun = Instant::now();
        let length = scrape()?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        samples.add(format!("{row}/size"), "KiB", length as f64 / 1024.0);
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

/// How many series it has; that it can be read, too.
fn shape(samples: &mut Samples, row: &str, daemon: &Daemon) -> Result<()> {
    let text = daemon.metrics()?;
    Scrape::parse(&text)?;
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    samples.add(format!("{row}/series"), "", lines as f64);
    Ok(())
}
