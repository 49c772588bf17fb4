//! Stalls of single losses and late answers: what repaired them decides their cause.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::download::PORT;
use super::situation::Stage;
use super::stall::{SLACK_US, Stalls, agrees, link, long_pauses, near, reads_on, upload};
use super::{LONG, Probe, expect};
use crate::link::{Action, Direction, Kind, Link, Pause, Pick, Rule};
use crate::traffic::{Behaviour, Options, Server, connect, drained, echo, send_all};

/// A request of one segment is lost, and its probe too: the timer is the cause, though the probe of a lone segment waits
/// longer than the threshold (tcp_schedule_loss_probe). One that the probe repairs is a stall without a timeout.
///
/// # Errors
/// When a cause is wrong.
pub fn lone_segment(probe: &Probe) -> Result<()> {
    for lost in [1, 2] {
        let stage = Stage::new(link()?)?;
        let link = &stage.link;
        for transmission in 1..=lost {
            let request = Pick::Byte { offset: 500, transmission };
            link.rule(Rule::drop(Direction::ToServer, request));
        }
        let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Echo, &Options::default())?;
        let mut stream = connect(&link.client, server.address, &Options::default())??;
        echo(&mut stream, 10, 100)?;
        drop(stream);
        let seen = stage.judge(probe, 1)?;
        let line = seen.only_line(Direction::ToServer)?;
        let timeouts = line.u64("rto_count")?;
        ensure!(
            (timeouts > 0) == (lost == 2),
            "{timeouts} timeouts, {lost} lost: the scenario proves nothing"
        );
        ensure!(!long_pauses(&seen, Direction::ToServer).is_empty(), "the link saw no pause");
        let stalls = Stalls::of(line)?;
        agrees(&stalls, &seen.ledger.pauses(0, Direction::ToServer))?;
        let of_cause = if lost == 2 { stalls.rto } else { stalls.other };
        ensure!(stalls.all() == of_cause, "{lost} transmissions were lost, {timeouts} timeouts: {stalls:?}");
    }
    Ok(())
}

/// One segment is lost ten times over, each loss found after a round trip of 40 ms, while everything behind it arrives: nothing is
/// acknowledged in order, though something is delivered all the time.
///
/// # Errors
/// When a count or a time is wrong.
pub fn hole_is_a_stall(probe: &Probe) -> Result<()> {
    let stage = Stage::new(link()?)?;
    for transmission in 1..=10 {
        let hole = Pick::Byte { offset: 200_000, transmission };
        stage.link.rule(Rule::drop(Direction::ToServer, hole));
    }
    upload(&stage, &Options::default(), 3_000_000, reads_on, |_| Ok(()))?;
    let seen = stage.judge(probe, 1)?;
    let line = seen.only_line(Direction::ToServer)?;
    ensure!(!long_pauses(&seen, Direction::ToServer).is_empty(), "the link saw no pause");
    let stalls = Stalls::of(line)?;
    agrees(&stalls, &seen.ledger.pauses(0, Direction::ToServer))?;
    expect("stalls_zero_window", stalls.zero_window, 0)?;
    ensure!(
        (line.u64("rto_count")? > 0) == (stalls.rto > 0),
        "{} timeouts, {stalls:?}",
        line.u64("rto_count")?
    );
    Ok(())
}

/// Acknowledgements come late once, later than the threshold and sooner than the timeout that a probe has put off: a stall of
/// neither other cause.
///
/// # Errors
/// When it has another cause.
pub fn late_answer_is_other(probe: &Probe) -> Result<()> {
    // A round trip of 100 ms: the threshold is at 300 ms, the probe's timeout at 200 + 300 ms.
    let stage = Stage::new(Link::builder().delay(Duration::from_millis(50)).build()?)?;
    let link = &stage.link;
    let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Sink, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    for _ in 0..5 {
        send_all(&mut stream, 251 * 12)?;
        drained(&stream, LONG)?;
    }
    let acks = Pick::When(Box::new(|seen| seen.kind == Kind::Ack));
    link.rule(Rule::new(Direction::ToClient, acks, Action::Hold(Duration::from_millis(300))));
    send_all(&mut stream, 251 * 12)?;
    drained(&stream, LONG)?;
    link.clear_rules();
    send_all(&mut stream, 251 * 12)?;
    drained(&stream, LONG)?;
    drop(stream);
    let seen = stage.judge(probe, 1)?;
    let line = seen.only_line(Direction::ToServer)?;
    expect("rto_count", line.u64("rto_count")?, 0)?;
    let longest = seen.ledger.pauses(0, Direction::ToServer).iter().map(Pause::us).max().unwrap_or(0);
    ensure!(
        (370_000..430_000).contains(&longest),
        "the longest pause was {longest} µs: the scenario proves nothing"
    );
    let stalls = Stalls::of(line)?;
    expect("stalls_other", stalls.other, 1)?;
    expect("all stalls", stalls.all(), 1)?;
    near("stall_other_us", stalls.other_us, longest, SLACK_US)
}
