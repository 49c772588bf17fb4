//! What a program may do to a socket: dissolve and connect it again while its times count on in the kernel, and reset a
//! connection that is older than the probe.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use socket2::SockRef;

use super::download::PORT;
use super::situation::Stage;
use super::start::LOST;
use super::{Daemon, LONG, Probe, expect, expect_received};
use crate::kit::wait_until;
use crate::link::{Direction, Link};
use crate::traffic::{Behaviour, Options, Server, connect, drained, echo, listen, reconnect, send_all};
use crate::truth::TcpInfo;

/// TCP_CLOSE of net/tcp_states.h.
const CLOSE: u8 = 7;
/// The kernel keeps its times in ticks.
const TICK_US: u64 = 10_000;

/// A socket is busy for long, dissolved, and connected again for a short time: each connection has its own busy time, though
/// the kernel's goes on (tcp_disconnect leaves chrono_stat alone).
///
/// # Errors
/// When a time is wrong.
pub fn busy_time_is_of_one_connection(probe: &Probe) -> Result<()> {
    let stage = Stage::new(Link::builder().delay(Duration::from_millis(300)).build()?)?;
    let link = &stage.link;
    // IPv6 alone, so that the metrics hold nobody else's connections.
    let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Echo, &Options::default())?;
    let busy = || -> Result<f64> {
        let labels = [("family", "ipv6"), ("role", "client")];
        Ok(probe.scrape()?.sum("flowprobe_tcp_busy_seconds_total", &labels))
    };
    let before = busy()?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, 3, 1000)?;
    let first_port = stream.local_addr()?.port();
    let kernel = TcpInfo::of(&stream)?.busy_time;
    // A sweep between, so that the first connection's increments are accounted for before its end.
    busy()?;
    for direction in Direction::BOTH {
        link.set_delay(direction, Duration::from_millis(2));
    }
    reconnect(&link.client, &stream, server.address)?;
    let second_port = stream.local_addr()?.port();
    echo(&mut stream, 2, 1000)?;
    busy()?;
    echo(&mut stream, 2, 1000)?;
    let both = TcpInfo::of(&stream)?.busy_time;
    drop(stream);
    let seen = stage.judge(probe, 2)?;
    let first = seen.line(Direction::ToServer, first_port)?;
    let second = seen.line(Direction::ToServer, second_port)?;
    let [first_us, second_us] = [first.u64("busy_us")?, second.u64("busy_us")?];
    ensure!(first_us.abs_diff(kernel) <= TICK_US, "busy_us is {first_us}, TCP_INFO said {kernel}");
    ensure!(
        first_us >= 1_800_000,
        "three round trips of 600 ms kept the first connection busy for {first_us} µs"
    );
    ensure!(both > kernel, "the kernel's time began anew: the scenario proves nothing");
    ensure!(
        (second_us + kernel).abs_diff(both) <= 2 * TICK_US,
        "the second's busy_us is {second_us}, TCP_INFO said {both} for both and {kernel} for the first"
    );
    for line in [first, second] {
        let lasted = line.u64("duration_us")?;
        for field in ["busy_us", "rwnd_limited_us", "sndbuf_limited_us"] {
            let is = line.u64(field)?;
            ensure!(is <= lasted + TICK_US, "{field} is {is} in a connection of {lasted} µs");
        }
    }
    let counted = busy()? - before;
    let should = (first_us + second_us) as f64 / 1e6;
    ensure!((counted - should).abs() < 0.05, "the metric grew by {counted} s, the records have {should} s");
    Ok(())
}

/// A connection that is older than the daemon, reset by its client (SO_LINGER 0): once on each side, by the right side, and
/// with counts only where they are known.
///
/// # Errors
/// When a record is wrong.
pub fn adopted_is_reset() -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    let listener = listen(&link.server, link.server_v6(PORT), &Options::default())?;
    let mut stream = connect(&link.client, listener.local_addr()?, &Options::default())??;
    let (mut accepted, _) = listener.accept()?;
    send_all(&mut stream, 700)?;
    accepted.read_exact(&mut [0; 700])?;
    drained(&stream, LONG)?;

    let probe = Probe::on(Daemon::start()?)?;
    // Both ends, whatever role is put down for them.
    let labels = [("family", "ipv6")];
    wait_until(LONG, "the old connection's ends are counted as live", || {
        Ok(probe.scrape()?.sum("flowprobe_tcp_connections", &labels) >= 2.0)
    })?;
    expect("the number of live flows", probe.live(&link.client)?.len(), 1)?;
    send_all(&mut stream, 300)?;
    accepted.read_exact(&mut [0; 300])?;
    drained(&stream, LONG)?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    wait_until(LONG, "the reset has arrived", || Ok(TcpInfo::of(&accepted)?.state == CLOSE))?;
    drop(accepted);

    let client = probe.ended_one(&link.client)?;
    let server = probe.ended_one(&link.server)?;
    for line in [&client, &server] {
        expect("adopted", line.flag("adopted")?, true)?;
    }
    expect("the client's close_reason", client.text("close_reason")?, "reset_sent")?;
    expect("the client's error", client.maybe_text("error")?, None)?;
    expect("the server's close_reason", server.text("close_reason")?, "reset_received")?;
    expect("the server's error", server.maybe_text("error")?, Some("ECONNRESET"))?;
    // What is in the record is the connection's whole life, or nothing: where callbacks could not be switched on, the
    // socket had forgotten it when its end was seen.
    let forgotten = client.text("rtt_source")? == "sweep";
    expect("bytes_sent", client.maybe_u64("bytes_sent")?, (!forgotten).then_some(1000))?;
    expect_received(&server, 1000)?;
    let scrape = probe.scrape()?;
    let wiped = scrape.sum(LOST, &[("reason", "counters_wiped")]);
    expect("ends that had forgotten their counters", wiped, f64::from(u8::from(forgotten)))?;
    let new = scrape.sum("flowprobe_tcp_sent_bytes_total", &labels);
    ensure!(new == 300.0 || forgotten && new == 0.0, "{new} bytes are new, should be 300");
    let closed = |reason| -> Result<f64> {
        let labels = [("family", "ipv6"), ("reason", reason)];
        Ok(probe.scrape()?.sum("flowprobe_tcp_connections_closed_total", &labels))
    };
    expect("connections closed by a reset of ours", closed("reset_sent")?, 1.0)?;
    expect("connections closed by a reset of the peer", closed("reset_received")?, 1.0)?;
    expect("connections live", probe.scrape()?.sum("flowprobe_tcp_connections", &labels), 0.0)?;
    probe.stop()
}

/// A connection that is older than the daemon, dissolved by its client, whose socket then connects again: the second one's record
/// is its own, and the first one's end is recorded, or counted as not seen where no callback could be switched on for it.
///
/// # Errors
/// When an end is missing and not counted, or a connection counts as live for good.
pub fn adopted_is_connected_again() -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, 1, 700)?;

    let probe = Probe::on(Daemon::start()?)?;
    let labels = [("family", "ipv6")];
    let live = || -> Result<f64> { Ok(probe.scrape()?.sum("flowprobe_tcp_connections", &labels)) };
    wait_until(LONG, "the old connection's ends are counted as live", || Ok(live()? >= 2.0))?;
    echo(&mut stream, 1, 300)?;
    let shown = probe.live(&link.client)?;
    expect("the number of live flows", shown.len(), 1)?;
    let blind = shown[0].text("rtt_source")? == "sweep";
    reconnect(&link.client, &stream, server.address)?;
    echo(&mut stream, 1, 50)?;
    drop(stream);

    let ended = probe.ended(&link.client, if blind { 1 } else { 2 })?;
    for line in &ended {
        let second = !line.flag("adopted")?;
        expect("bytes_sent", line.u64("bytes_sent")?, if second { 50 } else { 1000 })?;
    }
    expect(
        "records of the second",
        ended.iter().filter(|line| line.flag("adopted").ok() == Some(false)).count(),
        1,
    )?;
    let unseen = probe.scrape()?.sum(LOST, &[("reason", "end_unseen")]);
    expect("ends that were not seen", unseen, f64::from(u8::from(blind)))?;
    wait_until(LONG, "no connection counts as live any more", || Ok(live()? == 0.0))?;
    probe.stop()
}
