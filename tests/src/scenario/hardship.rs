//! What is kept and what is said when the machine gives less than is needed, or somebody wants more than is sane: a ring that nobody
//! empties (CASE 23), sockets that get no storage (CASE 24), SYNs from everywhere (CASE 27).

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use super::start::{CLOSED, LIVE, LOST, OPENED};
use super::{Daemon, LONG, Probe, expect, expect_received};
use crate::kit::{Namespace, Scrape, wait_until};
use crate::link::{Direction, Kind, Link};
use crate::traffic::{Churn, Options, churn, connect, flood, listen};
use crate::truth::{Counters, Objects};

/// The traffic here is all of the machine's IPv6.
const FAMILY: (&str, &str) = ("family", "ipv6");
const SENT: &str = "flowprobe_tcp_sent_bytes_total";

/// How much a family of metrics grew over all IPv6.
fn grown(before: &Scrape, after: &Scrape, name: &str) -> f64 {
    after.sum(name, &[FAMILY]) - before.sum(name, &[FAMILY])
}

fn lost(before: &Scrape, after: &Scrape, reason: &str) -> f64 {
    let [then, now] = [before, after].map(|scrape| scrape.sum(LOST, &[("reason", reason)]));
    now - then
}

/// A daemon that stands still while connections end: the ring runs over. Every end is either in the metrics or counted as lost,
/// what is in them is right, and afterwards nothing is lost any more.
///
/// # Errors
/// When an end is in neither or in both.
pub fn full_ring() -> Result<()> {
    let mut daemon = Daemon::start_with(|command| {
        command.args(["--ring-size", "64Ki"]);
    })?;
    let namespace = Namespace::new()?;
    let before = daemon.scrape()?;
    daemon.process().signal(Signal::STOP)?;
    let ends = churn(&namespace, Churn { connections: 2_000, workers: 2, resets: false })?;
    daemon.process().signal(Signal::CONT)?;
    let made = (ends.connected + ends.accepted) as f64;

    let mut after = daemon.scrape()?;
    let told = |after: &Scrape| [grown(&before, after, CLOSED), lost(&before, after, "ring_full_closed")];
    wait_until(LONG, "every end is counted or said to be lost", || {
        after = daemon.scrape()?;
        Ok(told(&after).iter().sum::<f64>() >= made)
    })
    .with_context(|| format!("{:?} of {made} are", told(&after)))?;
    let [closed, missing] = told(&after);
    expect("the ends counted and lost", closed + missing, made)?;
    ensure!(closed > 0.0 && missing > 0.0, "{closed} counted and {missing} lost: nothing is proved");

    // Each server sent one byte, and no client any.
    let servers = [FAMILY, ("role", "server")];
    let [closed_servers, sent] =
        [CLOSED, SENT].map(|name| after.sum(name, &servers) - before.sum(name, &servers));
    expect("bytes that counted servers sent", sent, closed_servers)?;
    expect("bytes that anybody sent", grown(&before, &after, SENT), sent)?;
    expect("opened connections", grown(&before, &after, OPENED), closed)?;
    expect("live connections", after.sum(LIVE, &[FAMILY]), 0.0)?;

    let ends = churn(&namespace, Churn { connections: 100, workers: 2, resets: false })?;
    let made = (ends.connected + ends.accepted) as f64;
    let mut later = after.clone();
    wait_until(LONG, "every end is counted", || {
        later = daemon.scrape()?;
        Ok(grown(&after, &later, CLOSED) >= made)
    })?;
    expect("ends counted afterwards", grown(&after, &later, CLOSED), made)?;
    expect("ends lost afterwards", lost(&after, &later, "ring_full_closed"), 0.0)?;
    daemon.stop().map(drop)
}

/// Whether each network namespace has its own limit of socket memory (since Linux 6.8).
fn has_optmem_max(namespace: &Namespace) -> Result<bool> {
    namespace.run(|| Path::new("/proc/sys/net/core/optmem_max").exists())
}

/// Sockets whose namespace allows no memory for options, and so no storage: every connection that is not followed is counted once,
/// and one that lives on is taken over as soon as there is memory.
///
/// # Errors
/// When one is not counted, or counted twice, or never taken over.
pub fn refused_state(probe: &Probe) -> Result<()> {
    let namespace = Namespace::new()?;
    if !has_optmem_max(&namespace)? {
        println!("# not asked: this kernel has one optmem_max for all namespaces");
        return Ok(());
    }
    let before = probe.scrape()?;
    namespace.set_sysctl("net/core/optmem_max", "0")?;
    let ends = churn(&namespace, Churn { connections: 100, workers: 2, resets: true })?;
    let listener = listen(&namespace, (Ipv6Addr::LOCALHOST, 0).into(), &Options::default())?;
    let mut client = connect(&namespace, listener.local_addr()?, &Options::default())??;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"refused")?;
    server.read_exact(&mut [0; 7])?;
    let made = (ends.connected + ends.accepted + 2) as f64;
    let refused = probe.scrape()?;
    expect("connections without state", lost(&before, &refused, "state_refused"), made)?;
    expect("ends counted", grown(&before, &refused, CLOSED), 0.0)?;
    expect("live connections counted", refused.sum(LIVE, &[FAMILY]), 0.0)?;
    // What the socket itself knows is shown all the same.
    let shown = probe.live(&namespace)?;
    expect("connections shown", shown.len(), 2)?;
    for line in &shown {
        expect("adopted", line.flag("adopted")?, true)?;
    }

    namespace.set_sysctl("net/core/optmem_max", "131072")?;
    wait_until(
        LONG,
        "the live connection is taken over",
        || Ok(probe.scrape()?.sum(LIVE, &[FAMILY]) >= 2.0),
    )?;
    client.write_all(b"taken over")?;
    server.read_exact(&mut [0; 10])?;
    drop(client);
    drop(server);
    for line in probe.ended(&namespace, 2)? {
        expect("adopted", line.flag("adopted")?, true)?;
    }
    let after = probe.scrape()?;
    // What it did before it was taken over is nobody's increment.
    expect("bytes sent since", grown(&refused, &after, SENT), 10.0)?;
    expect("ends counted since", grown(&refused, &after, CLOSED), 2.0)?;
    expect("connections without state since", lost(&refused, &after, "state_refused"), 0.0)
}

/// SYNs of a flood.
const SYNS: u32 = 20_000;
/// At once, which a device's queue holds.
const PIECE: u32 = 400;
/// Nobody's addresses (RFC 5737, TEST-NET-2).
const SPOOFED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 0);

/// SYNs from addresses that nobody has: no state for them, no record, no series; and a client that means it is served and recorded.
///
/// # Errors
/// When a SYN left something, or the client's connection has no record.
pub fn spoofed_syns() -> Result<()> {
    let objects = Objects::now()?;
    let probe = Probe::start()?;
    let objects = Objects::now()?.added_since(&objects);
    let link = Link::builder().build()?;
    link.route(Direction::ToClient, SPOOFED)?;
    let listener = listen(&link.server, link.server_v4(80), &Options::default())?;
    let SocketAddr::V4(to) = listener.local_addr()? else { bail!("the listener is not of IPv4") };
    let counted = Counters::of(&link.server)?;
    let before = probe.scrape()?;
    let stored = objects.stored()?;
    for piece in 0..SYNS / PIECE {
        flood(&link.client, SPOOFED, to, piece * PIECE..(piece + 1) * PIECE)?;
        link.settled(LONG)?;
    }
    let ledger = link.settled(LONG)?;
    let syns =
        ledger.entries.iter().filter(|entry| entry.kind == Kind::Syn && entry.left_ns.is_some()).count();
    expect("SYNs over the link", syns, SYNS as usize)?;
    let arrived = Counters::of(&link.server)?.since(&counted, "Tcp.InSegs")?;
    expect("SYNs that the server's kernel counts", arrived, u64::from(SYNS))?;

    let stored_after = objects.stored()?;
    // Some are of the machine's other connections, which come and go.
    ensure!(
        stored_after < stored + u64::from(SYNS) / 100,
        "{stored_after} elements of storage, {stored} before"
    );
    expect("connections shown", probe.live(&link.server)?.len(), 0)?;
    let after = probe.scrape()?;
    let series = |scrape: &Scrape| scrape.label_values(OPENED, "family");
    expect("series", series(&after), series(&before))?;

    let mut client = connect(&link.client, to.into(), &Options::default())??;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"meant")?;
    server.read_exact(&mut [0; 5])?;
    ensure!(objects.stored()? >= 2, "a live connection has no storage: nothing is proved");
    drop(client);
    drop(server);
    let lines = probe.ended(&link.server, 1)?;
    expect_received(&lines[0], 5)?;
    probe.stop()
}
