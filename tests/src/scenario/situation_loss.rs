//! How losses, and what looks like them, are repaired: the probe of a tail with and without new data, a recovery that is
//! taken back, timeouts that back off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::download::PORT;
use super::retransmit::only;
use super::situation::Stage;
use super::{Download, LONG, Probe, Run, causes, expect};
use crate::kit::wait_until;
use crate::link::{Action, Direction, Kind, Link, Pick, Rule};
use crate::traffic::{Behaviour, Options, Server, connect, drained, echo, send_all};
use crate::truth::{Counters, TcpInfo};

/// Segments of a first flight (RFC 6928).
const FLIGHT: u64 = 10;
const SEGMENT: u64 = 1448;
/// Seven segments, and whole turns of the pattern that the receiver checks.
const FLIGHT_LEN: usize = 40 * 251;

fn link() -> Result<Link> {
    Link::builder().delay(Duration::from_millis(10)).build()
}

/// A download that everyone agrees on, and how many tail loss probes its server sent.
fn download(probe: &Probe, link: &Link, bytes: usize) -> Result<(Run, u64)> {
    let before = Counters::of(&link.server)?;
    let run = Download::of(bytes).run(probe, link)?;
    run.retransmissions_agree()?;
    let probes = Counters::of(&link.server)?.since(&before, "TcpExt.TCPLossProbes")?;
    Ok((run, probes))
}

/// Tells the rules that a probe has come: the first data segment after the first flight, or one of it again.
fn watch_for_probe(link: &Link) -> Arc<AtomicBool> {
    let probed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&probed);
    link.rule(Rule::drop(
        Direction::ToClient,
        Pick::When(Box::new(move |seen| {
            if seen.kind == Kind::Data && (seen.nth_data > FLIGHT || seen.transmission > 1) {
                flag.store(true, Ordering::Relaxed);
            }
            false
        })),
    ));
    probed
}

/// The acknowledgements of a flight are lost, and there is more to send: the probe is a new segment, and nothing is sent
/// again.
///
/// # Errors
/// When something is.
pub fn probe_with_new_data(probe: &Probe) -> Result<()> {
    let link = link()?;
    let probed = watch_for_probe(&link);
    link.rule(Rule::drop(
        Direction::ToServer,
        // The first one ends the handshake.
        Pick::When(Box::new(move |seen| {
            seen.kind == Kind::Ack && seen.nth_of_kind > 1 && !probed.load(Ordering::Relaxed)
        })),
    ));
    let (run, probes) = download(probe, &link, 30 * SEGMENT as usize)?;
    ensure!(run.up()?.dropped(Kind::Ack) >= 1, "no acknowledgement was lost");
    expect("TCPLossProbes", probes, 1)?;
    expect("the ledger's retransmissions", run.down()?.retransmitted.total(), 0)?;
    only("no cause", causes(&run.server)?, 0)?;
    for field in ["rto_count", "loss_episodes", "spurious_segs", "needless_segs", "lost_segs_estimate"] {
        expect(field, run.server.u64(field)?, 0)?;
    }
    Ok(())
}

/// A whole flight is lost, and there is more to send: the probe is a new segment, its answer tells the loss, and all of the
/// flight is repaired fast.
///
/// # Errors
/// When a cause is wrong.
pub fn probe_with_new_data_finds_a_loss(probe: &Probe) -> Result<()> {
    let link = link()?;
    for nth in 1..=FLIGHT {
        link.rule(Rule::drop(Direction::ToClient, Pick::Data(nth)));
    }
    let (run, probes) = download(probe, &link, 30 * SEGMENT as usize)?;
    let down = run.down()?;
    expect("the link's drops", down.dropped(Kind::Data), FLIGHT)?;
    expect("the ledger's retransmissions", down.retransmitted.total(), FLIGHT)?;
    ensure!(probes >= 1, "no probe was sent");
    only("fast", causes(&run.server)?, FLIGHT)?;
    expect("rto_count", run.server.u64("rto_count")?, 0)?;
    expect("loss_episodes", run.server.u64("loss_episodes")?, 1)?;
    expect("lost_segs_estimate", run.server.u64("lost_segs_estimate")?, FLIGHT)
}

/// The last segments are lost and nothing is left to send: the probe is the last segment again.
///
/// # Errors
/// When a cause is wrong.
pub fn probe_without_new_data(probe: &Probe) -> Result<()> {
    // The last segment alone: its probe repairs all.
    let link = link()?;
    let last = 20 * SEGMENT - 1;
    link.rule(Rule::drop(Direction::ToClient, Pick::Byte { offset: last, transmission: 1 }));
    let (run, probes) = download(probe, &link, 20 * SEGMENT as usize)?;
    expect("TCPLossProbes", probes, 1)?;
    only("tlp", causes(&run.server)?, 1)?;
    expect("lost_segs_estimate", run.server.u64("lost_segs_estimate")?, 1)?;
    expect("rto_count", run.server.u64("rto_count")?, 0)?;

    // The last three: the probe's answer tells the loss of the two before it.
    let link = self::link()?;
    for segment in 18..=20 {
        let byte = Pick::Byte { offset: segment * SEGMENT - 1, transmission: 1 };
        link.rule(Rule::drop(Direction::ToClient, byte));
    }
    // RACK puts no trust in an answer that comes sooner than any before: it may be the first transmission's
    // (tcp_rack_advance).
    let again = Pick::Byte { offset: last, transmission: 2 };
    link.rule(Rule::new(Direction::ToClient, again, Action::Hold(Duration::from_millis(5))));
    let (run, probes) = download(probe, &link, 20 * SEGMENT as usize)?;
    expect("the link's drops", run.down()?.dropped(Kind::Data), 3)?;
    expect("TCPLossProbes", probes, 1)?;
    let causes = causes(&run.server)?;
    expect("retrans_tlp", causes.tlp, 1)?;
    expect("retrans_fast", causes.fast, 2)?;
    expect("retrans_segs", causes.all, 3)?;
    expect("loss_episodes", run.server.u64("loss_episodes")?, 1)?;
    expect("lost_segs_estimate", run.server.u64("lost_segs_estimate")?, 3)?;

    // A request of one segment.
    let stage = Stage::new(self::link()?)?;
    let link = &stage.link;
    link.rule(Rule::drop(Direction::ToServer, Pick::Data(3)));
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, 5, 100)?;
    drop(stream);
    let seen = stage.judge(probe, 1)?;
    let line = seen.only_line(Direction::ToServer)?;
    only("tlp", self::causes(line)?, 1)?;
    expect("loss_episodes", line.u64("loss_episodes")?, 0)
}

/// Late, not lost, with and without timestamps to tell by: every retransmission is found needless, one episode that is taken
/// back.
///
/// # Errors
/// When a loss is claimed.
pub fn late_segment_is_undone(probe: &Probe) -> Result<()> {
    for timestamps in ["1", "0"] {
        let link = link()?;
        for end in [&link.client, &link.server] {
            end.set_sysctl("net/ipv4/tcp_timestamps", timestamps)?;
        }
        // Later than the reordering that RACK waits for (a quarter of the round trip), sooner than the timeout.
        let late = Action::Hold(Duration::from_millis(30));
        link.rule(Rule::new(Direction::ToClient, Pick::Data(15), late));
        let (run, _) = download(probe, &link, 300_000)?;
        let down = run.down()?;
        ensure!(down.retransmitted.data >= 1, "nothing was sent again: the scenario proves nothing");
        expect("the link's drops", down.dropped_recoverable(), 0)?;
        expect("duplicates at the receiver", down.duplicates_arrived, down.retransmitted.data)?;
        only("fast", causes(&run.server)?, down.retransmitted.data)?;
        expect("loss_episodes", run.server.u64("loss_episodes")?, 1)?;
        expect("spurious_segs", run.server.u64("spurious_segs")?, down.duplicates_arrived)?;
        expect("needless_segs", run.server.u64("needless_segs")?, down.duplicates_arrived)?;
        expect("lost_segs_estimate", run.server.u64("lost_segs_estimate")?, 0)?;
    }
    Ok(())
}

/// A whole flight comes later than the timeout: what the timer and the probe sent again was needless.
///
/// # Errors
/// When a loss is claimed.
pub fn late_flight_is_undone(probe: &Probe) -> Result<()> {
    let stage = Stage::new(link()?)?;
    let link = &stage.link;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Sink, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    send_all(&mut stream, FLIGHT_LEN)?;
    drained(&stream, LONG)?;
    // Later than the first timeout after a probe (2 round trips and a timeout), sooner than the second, which takes twice the
    // time. What is sent again comes later too, behind the first transmissions.
    let info = TcpInfo::of(&stream)?;
    let late = Action::Hold(Duration::from_micros(2 * (u64::from(info.rtt) + u64::from(info.rto))));
    let data = Pick::When(Box::new(|seen| seen.kind == Kind::Data));
    link.rule(Rule::new(Direction::ToServer, data, late));
    send_all(&mut stream, FLIGHT_LEN)?;
    drained(&stream, LONG)?;
    // Until the last duplicate is reported.
    link.settled(LONG)?;
    drop(stream);
    server.served(1, LONG)?;
    let seen = stage.judge(probe, 1)?;
    let line = seen.only_line(Direction::ToServer)?;
    let sent = seen.ledger.only_flow()?.sent(Direction::ToServer);
    expect("the link's drops", sent.dropped_recoverable(), 0)?;
    expect("duplicates at the receiver", sent.duplicates_arrived, sent.retransmitted.data)?;
    let causes = causes(line)?;
    expect("retrans_tlp", causes.tlp, stage.grew(Direction::ToServer, "TcpExt.TCPLossProbes")?)?;
    ensure!(causes.rto >= 1, "no retransmission is put down to the timeout: {causes:?}");
    expect("retransmissions by timeout and probe", causes.rto + causes.tlp, causes.all)?;
    ensure!(line.u64("rto_count")? >= 1, "rto_count is 0");
    expect("loss_episodes", line.u64("loss_episodes")?, 1)?;
    expect("needless_segs", line.u64("needless_segs")?, sent.duplicates_arrived)?;
    expect("lost_segs_estimate", line.u64("lost_segs_estimate")?, 0)
}

/// The line is dead for two timeouts, and the third gets through, each after twice the time of the one before: three
/// timeouts, one episode, and all that was lost is sent again because of them.
///
/// # Errors
/// When a count differs.
pub fn timeouts_back_off(probe: &Probe) -> Result<()> {
    let stage = Stage::new(link()?)?;
    let link = &stage.link;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Sink, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    send_all(&mut stream, FLIGHT_LEN)?;
    drained(&stream, LONG)?;
    link.blackout(true);
    send_all(&mut stream, FLIGHT_LEN)?;
    // The timer fires before its segment reaches the link, where the dead line has to take that too.
    wait_until(LONG, "two timeouts, and what they sent was lost", || {
        let probes = stage.grew(Direction::ToServer, "TcpExt.TCPLossProbes")?;
        let again = link.ledger().only_flow()?.sent(Direction::ToServer).retransmitted.data;
        Ok(TcpInfo::of(&stream)?.retransmits >= 2 && again >= probes + 2)
    })?;
    link.blackout(false);
    drained(&stream, LONG)?;
    let info = TcpInfo::of(&stream)?;
    let probes = stage.grew(Direction::ToServer, "TcpExt.TCPLossProbes")?;
    drop(stream);
    server.served(1, LONG)?;
    let seen = stage.judge(probe, 1)?;
    let line = seen.only_line(Direction::ToServer)?;
    let sent = seen.ledger.only_flow()?.sent(Direction::ToServer);
    expect("rto_count", line.u64("rto_count")?, 3)?;
    if let Some(kernel) = info.total_rto() {
        expect("TCP_INFO's total_rto", kernel, 3)?;
    }
    let causes = causes(line)?;
    expect("retrans_tlp", causes.tlp, probes)?;
    expect("retrans_rto", causes.rto, sent.retransmitted.total() - probes)?;
    expect("retrans_segs", causes.all, causes.rto + causes.tlp)?;
    expect("loss_episodes", line.u64("loss_episodes")?, 1)?;
    expect("lost_segs_estimate", line.u64("lost_segs_estimate")?, sent.dropped_recoverable())
}
