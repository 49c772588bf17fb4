//! Round trips: right values, one sample each, null without one (CASES 11 to 15).

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::download::PORT;
use super::probe::again;
use super::{Download, LONG, Probe, expect, median_bound};
use crate::kit::{Line, wait_until};
use crate::link::{Direction, Gso, Link, Pick, Rule};
use crate::traffic::{Behaviour, Options, Server, connect, drained, echo, listen, send_all};
use crate::truth::TcpInfo;

/// TCP_CLOSE of net/tcp_states.h.
const CLOSE: u8 = 7;

fn within(what: &str, is_us: u64, should_us: u64, tolerance_us: u64) -> Result<()> {
    ensure!(is_us.abs_diff(should_us) <= tolerance_us, "{what} is {is_us} µs on a path of {should_us} µs");
    Ok(())
}

/// A dialogue over a path of this round trip: every figure agrees with it, on both sides, within 2 % and 0.5 ms.
///
/// # Errors
/// When one does not.
pub fn known_path(probe: &Probe, round_trip: Duration, rounds: usize) -> Result<()> {
    again(|| known_path_once(probe, round_trip, rounds))
}

fn known_path_once(probe: &Probe, round_trip: Duration, rounds: usize) -> Result<()> {
    let link = Link::builder().delay(round_trip / 2).build()?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, rounds, 100)?;
    let kernel = TcpInfo::of(&stream)?;
    drop(stream);
    let should: u64 = round_trip.as_micros().try_into()?;
    let tolerance = should / 50 + 500;
    for end in [&link.client, &link.server] {
        let line = probe.ended_one(end)?;
        let role = line.text("role")?;
        for field in ["srtt_us", "min_rtt_us", "handshake_rtt_us"] {
            within(&format!("the {role}'s {field}"), line.u64(field)?, should, tolerance)?;
        }
        let samples = line.u64("rtt_samples")?;
        ensure!(samples + 2 >= rounds as u64, "{rounds} rounds gave {samples} samples");
        within(&format!("the {role}'s mean"), line.u64("rtt_sum_us")? / samples, should, tolerance)?;
        let (below, bound) = median_bound(&line)?;
        let median = should as f64;
        ensure!(
            below <= median + tolerance as f64 && median <= bound,
            "the median is between {below} and {bound} µs on a path of {median} µs"
        );
        ensure!(
            line.u64("rtt_max_us")? >= line.u64("min_rtt_us")?,
            "the {role}'s maximum is below its minimum"
        );
        expect("rtt_source", line.text("rtt_source")?, "round_trip")?;
    }
    within("the kernel's own srtt", u64::from(kernel.rtt), should, tolerance)
}

/// The path gets longer during the dialogue: both round trips are in the histogram.
///
/// # Errors
/// When one is not, or min_rtt is not the short one.
pub fn path_change_shows_both(probe: &Probe) -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, 20, 100)?;
    link.set_delay(Direction::ToServer, Duration::from_millis(45));
    echo(&mut stream, 20, 100)?;
    drop(stream);
    let line = probe.ended_one(&link.client)?;
    let histogram = line.histogram()?;
    let between = |from: f64, to: f64| -> u64 {
        histogram.iter().filter(|(bound, _)| (from..to).contains(bound)).map(|(_, count)| count).sum()
    };
    // A bucket's upper bound is up to 19 % above its samples.
    let (short, long) = (between(10_000.0, 13_500.0), between(50_000.0, 65_000.0));
    ensure!(short >= 18 && long >= 18, "of 20 and 20 rounds, {short} and {long} are in {histogram:?}");
    within("min_rtt_us", line.u64("min_rtt_us")?, 10_000, 700)
}

/// As many samples as the link saw round trips, ±1, with and without super-packets, on both sides.
///
/// # Errors
/// When they differ by more.
pub fn samples_are_the_round_trips(probe: &Probe) -> Result<()> {
    again(|| samples_are_once(probe))
}

fn samples_are_once(probe: &Probe) -> Result<()> {
    for gso in [Gso::Off, Gso::On] {
        let link = Link::builder().delay(Duration::from_millis(10)).gso(gso).build()?;
        let run = Download::of(400_000).run(probe, &link)?;
        samples_agree("server", &run.server, run.down()?.round_trips)?;
        samples_agree("client", &run.client, run.up()?.round_trips)?;
    }
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, 50, 300)?;
    drop(stream);
    let lines = [probe.ended_one(&link.client)?, probe.ended_one(&link.server)?];
    let ledger = link.settled(LONG)?;
    let flow = ledger.only_flow()?;
    samples_agree("client", &lines[0], flow.sent(Direction::ToServer).round_trips)?;
    samples_agree("server", &lines[1], flow.sent(Direction::ToClient).round_trips)
}

fn samples_agree(side: &str, line: &Line, seen: u64) -> Result<()> {
    let samples = line.u64("rtt_samples")?;
    ensure!(samples.abs_diff(seen) <= 1, "the {side} has {samples} samples, the link saw {seen} round trips");
    let counted: u64 = line.histogram()?.iter().map(|(_, count)| count).sum();
    expect(&format!("the {side}'s histogram"), counted, samples)
}

/// The server writes and closes at once: the round trips of the data that the kernel still delivers are there.
///
/// # Errors
/// When they are not.
pub fn draining_data_is_measured(probe: &Probe) -> Result<()> {
    again(|| draining_data_once(probe))
}

fn draining_data_once(probe: &Probe) -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(10)).build()?;
    let download = Download { behaviour: Behaviour::SendAndLeave(400_000), v6: false };
    let run = download.run(probe, &link)?;
    let seen = run.down()?.round_trips;
    ensure!(seen >= 4, "400 kB took only {seen} round trips: the scenario proves nothing");
    samples_agree("server", &run.server, seen)?;
    expect("bytes_sent", run.server.u64("bytes_sent")?, 400_000)?;
    let lasted = run.server.u64("duration_us")?;
    ensure!(lasted >= 80_000, "400 kB over 20 ms lasted {lasted} µs");
    Ok(())
}

/// The SYN-ACK was repeated, so the handshake says nothing; a server that sends nothing has no round trip at all.
///
/// # Errors
/// When a figure is there.
pub fn no_sample_is_null(probe: &Probe) -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    link.rule(Rule::drop(Direction::ToClient, Pick::SynAck(1)));
    silent_server(probe, &link)
}

/// With syncookies the kernel keeps no time of the SYN-ACK.
///
/// # Errors
/// When a figure is there.
pub fn no_sample_is_null_with_syncookies(probe: &Probe) -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    link.server.set_sysctl("net/ipv4/tcp_syncookies", "2")?;
    silent_server(probe, &link)
}

fn silent_server(probe: &Probe, link: &Link) -> Result<()> {
    // With timestamps the kernel takes a sample from the echoed one, in whole milliseconds.
    for end in [&link.client, &link.server] {
        end.set_sysctl("net/ipv4/tcp_timestamps", "0")?;
    }
    let listener = listen(&link.server, link.server_v4(PORT), &Options::default())?;
    let options = Options { reset_on_close: true, ..Options::default() };
    let mut stream = connect(&link.client, listener.local_addr()?, &options)??;
    let (mut accepted, _) = listener.accept()?;
    send_all(&mut stream, 1000)?;
    accepted.read_exact(&mut [0; 1000])?;
    drained(&stream, LONG)?;
    let kernel = TcpInfo::of(&accepted)?;
    expect("the kernel's own min_rtt", kernel.min_rtt_us(), None)?;
    let live = probe.live(&link.server)?;
    let live = live.first().context("the connection is not among the live flows")?;
    without_round_trips(live).context("while it lives")?;
    drop(stream);
    wait_until(LONG, "the reset has arrived", || Ok(TcpInfo::of(&accepted)?.state == CLOSE))?;
    drop(accepted);
    without_round_trips(&probe.ended_one(&link.server)?).context("at its end")
}

fn without_round_trips(line: &Line) -> Result<()> {
    for field in ["handshake_rtt_us", "srtt_us", "rttvar_us", "min_rtt_us", "rtt_max_us"] {
        expect(field, line.maybe_u64(field)?, None)?;
    }
    let samples = line.maybe_u64("rtt_samples")?.unwrap_or(0);
    expect("rtt_samples", samples, 0)?;
    expect("the histogram's buckets", line.histogram()?.len(), 0)
}
