//! What looks like a stall and is none: a slow reader, losses that are repaired in time, idle time, a handshake.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::download::PORT;
use super::situation::Stage;
use super::stall::{Stalls, THRESHOLD_US, agrees, link, made, reads_on, upload};
use super::{Download, Probe, expect};
use crate::kit::pause;
use crate::link::{Action, Direction, Link, Pick, Rule};
use crate::traffic::{Behaviour, Options, Server, connect, echo};

/// A slow reader's window limits the sender all the time, but something is acknowledged every few round trips: no stall.
///
/// # Errors
/// When one is counted.
pub fn slow_reader_is_no_stall(probe: &Probe) -> Result<()> {
    let stage = Stage::new(link()?)?;
    let small = Options { receive_buffer: Some(16_384), ..Options::default() };
    let read = |stream: &mut TcpStream| -> Result<()> {
        for _ in 0..60 {
            stream.read_exact(&mut [0; 6000])?;
            pause(Duration::from_millis(25));
        }
        Ok(())
    };
    upload(&stage, &small, 400_000, read, |_| Ok(()))?;
    let seen = stage.judge(probe, 1)?;
    let line = seen.only_line(Direction::ToServer)?;
    let limited = line.u64("rwnd_limited_us")?;
    ensure!(limited > 2 * THRESHOLD_US, "the window limited the sender for {limited} µs only");
    let stalls = Stalls::of(line)?;
    let pauses = seen.ledger.pauses(0, Direction::ToServer);
    agrees(&stalls, &pauses)?;
    expect("stalls_rto", stalls.rto, 0)
}

/// Loss and reordering, with what stalls there are: as many as the link saw, none because of a window, none of the timeouts'
/// without a timeout.
///
/// # Errors
/// When a count is wrong.
pub fn loss_and_reordering(probe: &Probe) -> Result<()> {
    for reordering in [false, true] {
        let builder = Link::builder().delay(Duration::from_millis(20)).seed(8);
        let link = builder.loss(Direction::ToServer, if reordering { 0.0 } else { 0.01 }).build()?;
        let stage = Stage::new(link)?;
        if reordering {
            let some = Pick::When(Box::new(|seen| seen.transmission == 1 && seen.nth_data % 50 == 49));
            stage.link.rule(Rule::new(Direction::ToServer, some, Action::Hold(Duration::from_millis(35))));
        }
        upload(&stage, &Options::default(), 2_000_000, reads_on, |_| Ok(()))?;
        let seen = stage.judge(probe, 1)?;
        let line = seen.only_line(Direction::ToServer)?;
        ensure!(line.u64("retrans_segs")? >= 1, "nothing was sent again: the scenario proves nothing");
        let stalls = Stalls::of(line)?;
        agrees(&stalls, &seen.ledger.pauses(0, Direction::ToServer))?;
        expect("stalls_zero_window", stalls.zero_window, 0)?;
        let timeouts = line.u64("rto_count")?;
        ensure!(stalls.rto <= timeouts, "{timeouts} timeouts, {stalls:?}");
    }
    Ok(())
}

/// A tail that a probe repaired, two idle seconds, a request: neither is a stall, whenever the daemon looks.
///
/// # Errors
/// When one is counted.
pub fn idle_time_is_no_stall(probe: &Probe) -> Result<()> {
    let stage = Stage::new(link()?)?;
    let link = &stage.link;
    // The last segment of three requests.
    for nth in [5, 10, 15] {
        link.rule(Rule::drop(Direction::ToServer, Pick::Data(nth)));
    }
    let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    for round in 0..4 {
        // Four segments and a bit; looked at while they are on their way, and when they are answered.
        stream.write_all(&[round; 6000])?;
        probe.scrape()?;
        stream.read_exact(&mut [0; 6000])?;
        probe.scrape()?;
        pause(Duration::from_secs(2));
        // Answers the request before the next look, so that this one's round trip is the first since.
        echo(&mut stream, 1, 10)?;
    }
    drop(stream);
    let seen = stage.judge(probe, 1)?;
    for sender in Direction::BOTH {
        let line = seen.only_line(sender)?;
        let stalls = Stalls::of(line)?;
        made(&stalls, 0, &seen.ledger.pauses(0, sender))?;
        expect("stalls_zero_window", stalls.zero_window, 0)?;
    }
    let sent = seen.ledger.only_flow()?.sent(Direction::ToServer);
    ensure!(sent.retransmitted.data >= 1, "nothing was sent again: the scenario proves nothing");
    Ok(())
}

/// The first SYNs of a connection are lost: it waits for seconds, but not with data.
///
/// # Errors
/// When a stall is counted.
pub fn handshake_is_no_stall(probe: &Probe) -> Result<()> {
    let link = link()?;
    for nth in [1, 2] {
        link.rule(Rule::drop(Direction::ToServer, Pick::Syn(nth)));
    }
    link.rule(Rule::drop(Direction::ToClient, Pick::SynAck(1)));
    let run = Download::of(10_000).run(probe, &link)?;
    run.retransmissions_agree()?;
    ensure!(run.up()?.retransmitted.syn >= 2, "the SYN was not repeated");
    for (line, sender) in [(&run.client, Direction::ToServer), (&run.server, Direction::ToClient)] {
        // Without the handshake.
        let mut pauses = run.ledger.pauses(0, sender);
        pauses.remove(0);
        made(&Stalls::of(line)?, 0, &pauses)?;
    }
    Ok(())
}
