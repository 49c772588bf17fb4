//! Retransmissions: as many as the ledger and the kernel count, each with its one cause (CASES 16 to 21).

use std::time::Duration;

use anyhow::{Result, ensure};

use super::download::PORT;
use super::{Causes, Download, LONG, Probe, causes, expect, median_bound};
use crate::kit::{pause, wait_until};
use crate::link::{Action, Direction, Gso, Kind, Link, Pick, Rule};
use crate::traffic::{Behaviour, Options, Server, connect, drained, receive_all, send_all};
use crate::truth::{Counters, TcpInfo};

const SEGMENT: u64 = 1448;

pub(super) fn only(cause: &str, is: Causes, count: u64) -> Result<()> {
    let by_name = [
        ("fast", is.fast),
        ("rto", is.rto),
        ("tlp", is.tlp),
        ("syn", is.syn),
        ("synack", is.synack),
        ("other", is.other),
        ("unattributed", is.unattributed),
    ];
    for (name, segments) in by_name {
        expect(
            &format!("retrans_{name} (only {cause} may be)"),
            segments,
            if name == cause { count } else { 0 },
        )?;
    }
    Ok(())
}

fn link(gso: Gso) -> Result<Link> {
    Link::builder().delay(Duration::from_millis(10)).gso(gso).build()
}

/// Chosen data segments are lost once each: so many retransmissions, with super-packets and without.
///
/// # Errors
/// When a count differs.
pub fn chosen_drops(probe: &Probe) -> Result<()> {
    for gso in [Gso::Off, Gso::On] {
        for chosen in [&[5][..], &[12, 13], &[20, 25, 30, 35], &[40, 41, 42, 43, 44, 45, 60]] {
            let link = link(gso)?;
            for segment in chosen {
                link.rule(Rule::drop(Direction::ToClient, Pick::Data(*segment)));
            }
            let run = Download::of(200_000).run(probe, &link)?;
            let down = run.down()?;
            expect("the link's drops", down.dropped(Kind::Data), chosen.len() as u64)?;
            run.retransmissions_agree()?;
            expect(
                "TCP_INFO's total_retrans",
                u64::from(run.served.info.total_retrans),
                down.retransmitted.data,
            )?;
            expect("spurious_segs", run.server.u64("spurious_segs")?, down.duplicates_arrived)?;
            expect("lost_segs_estimate", run.server.u64("lost_segs_estimate")?, chosen.len() as u64)?;
        }
    }
    Ok(())
}

/// A drop in the middle of a window is repaired fast.
///
/// # Errors
/// When a cause is wrong.
pub fn one_drop_is_fast(probe: &Probe) -> Result<()> {
    let link = link(Gso::Off)?;
    link.rule(Rule::drop(Direction::ToClient, Pick::Data(12)));
    let run = Download::of(100_000).run(probe, &link)?;
    run.retransmissions_agree()?;
    only("fast", causes(&run.server)?, 1)?;
    only("no cause", causes(&run.client)?, 0)?;
    expect("rto_count", run.server.u64("rto_count")?, 0)?;
    expect("loss_episodes", run.server.u64("loss_episodes")?, 1)?;
    // The repair takes a round trip of 20 ms from the first sign of the loss.
    let episode = run.server.u64("loss_episode_us")?;
    ensure!((10_000..2_000_000).contains(&episode), "the episode took {episode} µs");
    expect("loss_episode_max_us", run.server.u64("loss_episode_max_us")?, episode)?;
    expect("lost_segs_estimate", run.server.u64("lost_segs_estimate")?, 1)
}

/// A drop of the last segment is repaired by a tail loss probe.
///
/// # Errors
/// When a cause is wrong.
pub fn tail_drop_is_tlp(probe: &Probe) -> Result<()> {
    let link = link(Gso::Off)?;
    let last = Pick::Byte { offset: 20 * SEGMENT - 1, transmission: 1 };
    link.rule(Rule::drop(Direction::ToClient, last));
    let run = Download::of(20 * SEGMENT as usize).run(probe, &link)?;
    run.retransmissions_agree()?;
    only("tlp", causes(&run.server)?, 1)?;
    expect("rto_count", run.server.u64("rto_count")?, 0)
}

/// Two seconds of silence end in timeouts.
///
/// # Errors
/// When a cause is wrong.
pub fn blackout_is_rto(probe: &Probe) -> Result<()> {
    let link = link(Gso::Off)?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Sink, &Options::default())?;
    let before = Counters::of(&link.client)?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    // Each a whole number of patterns, so that the server can check both as one stream.
    send_all(&mut stream, 10_040)?;
    drained(&stream, LONG)?;
    link.blackout(true);
    send_all(&mut stream, 10_040)?;
    pause(Duration::from_secs(2));
    link.blackout(false);
    drained(&stream, LONG)?;
    let info = TcpInfo::of(&stream)?;
    drop(stream);
    expect("bytes that arrived", server.served(1, LONG)?[0].received, 20_080)?;
    let line = probe.ended_one(&link.client)?;
    let ledger = link.settled(LONG)?;
    let sent = ledger.only_flow()?.sent(Direction::ToServer);
    let causes = causes(&line)?;
    expect("retrans_segs", causes.all, sent.retransmitted.total())?;
    expect("RetransSegs", Counters::of(&link.client)?.since(&before, "Tcp.RetransSegs")?, causes.all)?;
    ensure!(causes.rto >= 1, "no retransmission is put down to the timeout: {causes:?}");
    // The kernel probes the tail once before it times out.
    ensure!(causes.tlp <= 1, "one flight was probed {} times", causes.tlp);
    expect("retransmissions by timeout and probe", causes.rto + causes.tlp, causes.all)?;
    expect("loss_episodes", line.u64("loss_episodes")?, 1)?;
    let timeouts = line.u64("rto_count")?;
    ensure!(timeouts >= 1, "rto_count is {timeouts}");
    if let Some(kernel) = info.total_rto() {
        expect("rto_count", timeouts, u64::from(kernel))?;
    }
    Ok(())
}

/// A lost SYN is repeated by the client.
///
/// # Errors
/// When a cause is wrong.
pub fn dropped_syn_is_syn(probe: &Probe) -> Result<()> {
    let link = link(Gso::Off)?;
    link.rule(Rule::drop(Direction::ToServer, Pick::Syn(1)));
    let run = Download::of(10_000).run(probe, &link)?;
    run.retransmissions_agree()?;
    only("syn", causes(&run.client)?, 1)?;
    only("no cause", causes(&run.server)?, 0)
}

/// A lost SYN-ACK is repeated by the server, and counted on the connection that comes of it.
///
/// # Errors
/// When a cause is wrong.
pub fn dropped_synack_is_synack(probe: &Probe) -> Result<()> {
    let link = link(Gso::Off)?;
    link.rule(Rule::drop(Direction::ToClient, Pick::SynAck(1)));
    let run = Download::of(10_000).run(probe, &link)?;
    run.retransmissions_agree()?;
    let repeated = run.down()?.retransmitted.synack;
    ensure!(repeated >= 1, "the SYN-ACK was not repeated");
    only("synack", causes(&run.server)?, repeated)?;
    // The client may repeat its SYN at the same moment.
    only("syn", causes(&run.client)?, run.up()?.retransmitted.syn)
}

/// All faults in one connection: no segment in two causes, none in none.
///
/// # Errors
/// When a count differs.
pub fn mixed_faults(probe: &Probe) -> Result<()> {
    for gso in [Gso::Off, Gso::On] {
        let link = Link::builder()
            .delay(Duration::from_millis(10))
            .loss(Direction::ToClient, 0.03)
            .loss(Direction::ToServer, 0.01)
            .seed(3)
            .gso(gso)
            .build()?;
        link.rule(Rule::drop(Direction::ToServer, Pick::Syn(1)));
        link.rule(Rule::drop(Direction::ToClient, Pick::SynAck(1)));
        link.rule(Rule::drop(Direction::ToClient, Pick::Data(12)));
        link.rule(Rule::drop(Direction::ToClient, Pick::Byte { offset: 299_999, transmission: 1 }));
        link.rule(Rule::drop(Direction::ToClient, Pick::Byte { offset: 299_999, transmission: 2 }));
        link.rule(Rule::new(Direction::ToClient, Pick::Data(60), Action::Hold(Duration::from_millis(40))));
        let run = Download::of(300_000).run(probe, &link)?;
        run.retransmissions_agree()?;
        let causes = causes(&run.server)?;
        ensure!(causes.fast >= 1 && causes.synack >= 1, "a fault left no trace: {causes:?}");
        ensure!(causes.tlp + causes.rto >= 1, "the twice lost tail left no trace: {causes:?}");
        expect("retrans_other", causes.other, 0)?;
    }
    Ok(())
}

/// Reordering loses nothing: what is sent again is spurious.
///
/// # Errors
/// When a loss is claimed.
pub fn reordering_is_spurious(probe: &Probe) -> Result<()> {
    let link = link(Gso::Off)?;
    link.rule(Rule::new(Direction::ToClient, Pick::Data(15), Action::Hold(Duration::from_millis(30))));
    let run = Download::of(300_000).run(probe, &link)?;
    run.retransmissions_agree()?;
    let down = run.down()?;
    ensure!(down.retransmitted.data >= 1, "nothing was sent again: the scenario proves nothing");
    expect("the duplicates at the receiver", down.duplicates_arrived, down.retransmitted.data)?;
    expect("spurious_segs", run.server.u64("spurious_segs")?, down.duplicates_arrived)?;
    expect("needless_segs", run.server.u64("needless_segs")?, down.duplicates_arrived)?;
    expect("lost_segs_estimate", run.server.u64("lost_segs_estimate")?, 0)
}

/// What the network brings twice was not sent twice: the peer reports it, and nothing of it is taken for needless.
///
/// # Errors
/// When a retransmission is claimed, or more reports count than segments were sent again.
pub fn copies_of_the_network_are_not_spurious(probe: &Probe) -> Result<()> {
    let link = link(Gso::Off)?;
    for segment in [15, 40, 41, 90] {
        link.rule(Rule::new(Direction::ToClient, Pick::Data(segment), Action::Copy));
    }
    let run = Download::of(300_000).run(probe, &link)?;
    run.retransmissions_agree()?;
    ensure!(run.served.info.dsack_dups >= 1, "the peer reported nothing: the scenario proves nothing");
    let sent_again = run.down()?.retransmitted.total();
    for field in ["spurious_segs", "needless_segs"] {
        let segs = run.server.u64(field)?;
        ensure!(segs <= sent_again, "{field} is {segs}, and {sent_again} were sent again");
    }
    Ok(())
}

/// 10 ms each way, 1 % loss, 3 MB: every retransmission counted with a cause, the estimate equal to the drops, the
/// median in the bucket of 20 ms.
///
/// # Errors
/// When a figure differs.
pub fn three_megabytes_with_one_percent(probe: &Probe) -> Result<()> {
    for gso in [Gso::Off, Gso::On] {
        let link = Link::builder()
            .delay(Duration::from_millis(10))
            .loss(Direction::ToClient, 0.01)
            .seed(42)
            .gso(gso)
            .build()?;
        let run = Download::of(3_000_000).run(probe, &link)?;
        run.retransmissions_agree()?;
        let down = run.down()?;
        ensure!(down.dropped(Kind::Data) >= 10, "only {} drops", down.dropped(Kind::Data));
        let causes = causes(&run.server)?;
        expect("retrans_other", causes.other, 0)?;
        // TCP_INFO was read before the FIN was sent.
        let kernel = u64::from(run.served.info.total_retrans) + down.retransmitted.fin;
        expect("retrans_segs against total_retrans", causes.all, kernel)?;
        expect("lost_segs_estimate", run.server.u64("lost_segs_estimate")?, down.dropped_recoverable())?;
        let (below, bound) = median_bound(&run.server)?;
        ensure!(
            below <= 20_500.0 && 20_000.0 <= bound,
            "the median is between {below} and {bound} µs, not 20 ms"
        );
    }
    Ok(())
}

/// The estimate of losses is within 5 % of the ledger once a hundred segments were lost.
///
/// # Errors
/// When it is not.
pub fn estimate_under_random_loss(probe: &Probe) -> Result<()> {
    for (loss, bytes) in [(0.01, 20_000_000), (0.05, 4_000_000)] {
        let link = Link::builder()
            .delay(Duration::from_millis(2))
            .loss(Direction::ToClient, loss)
            .seed(11)
            .build()?;
        let run = Download::of(bytes).run(probe, &link)?;
        run.retransmissions_agree()?;
        let drops = run.down()?.dropped_recoverable();
        ensure!(drops >= 100, "{bytes} bytes at {loss} lost only {drops} segments");
        let estimate = run.server.u64("lost_segs_estimate")?;
        ensure!(
            estimate.abs_diff(drops) * 20 <= drops,
            "the estimate is {estimate}, the link dropped {drops}"
        );
    }
    Ok(())
}

/// Thirty connections over a bad link: the flows' retransmissions are the namespaces' RetransSegs, without remainder.
///
/// # Errors
/// When there is a remainder.
pub fn conservation(probe: &Probe) -> Result<()> {
    const CONNECTIONS: usize = 30;
    let link = Link::builder()
        .delay(Duration::from_millis(5))
        .loss(Direction::ToClient, 0.03)
        .loss(Direction::ToServer, 0.03)
        .seed(20)
        .build()?;
    let ends = [&link.client, &link.server];
    let before = [Counters::of(ends[0])?, Counters::of(ends[1])?];
    let server =
        Server::start(&link.server, link.server_v4(PORT), Behaviour::Send(60_000), &Options::default())?;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(connect(&link.client, server.address, &Options::default())??);
    }
    for stream in &mut streams {
        expect("bytes that arrived", receive_all(stream)?, 60_000)?;
    }
    drop(streams);
    server.served(CONNECTIONS, LONG)?;
    for (end, before) in ends.into_iter().zip(&before) {
        let lines = probe.ended(end, CONNECTIONS)?;
        link.settled(LONG)?;
        let mut flows = 0;
        for line in &lines {
            flows += causes(line)?.all;
        }
        let counted = Counters::of(end)?.since(before, "Tcp.RetransSegs")?;
        ensure!(counted > 0, "nothing was sent again: the scenario proves nothing");
        expect("the sum of retrans_segs", flows, counted)?;
    }
    let ledger = link.ledger();
    let down = ledger.retransmitted(Direction::ToClient).total();
    expect(
        "the ledger against RetransSegs",
        Counters::of(&link.server)?.since(&before[1], "Tcp.RetransSegs")?,
        down,
    )
}

/// The cable is out for a while: what the kernel counts is counted, although nothing left the machine.
///
/// # Errors
/// When a count differs.
pub fn unplugged_cable(probe: &Probe) -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(2)).build()?;
    let before = Counters::of(&link.client)?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Sink, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    drained(&stream, LONG)?;
    link.set_carrier(Direction::ToServer, false)?;
    send_all(&mut stream, 1000)?;
    wait_until(LONG, "the kernel has tried twice more", || Ok(TcpInfo::of(&stream)?.total_retrans >= 2))?;
    link.set_carrier(Direction::ToServer, true)?;
    drained(&stream, LONG)?;
    let info = TcpInfo::of(&stream)?;
    drop(stream);
    let line = probe.ended_one(&link.client)?;
    let causes = causes(&line)?;
    expect("retrans_segs", causes.all, u64::from(info.total_retrans))?;
    expect("RetransSegs", Counters::of(&link.client)?.since(&before, "Tcp.RetransSegs")?, causes.all)?;
    // Not `settled`: the device drops what it is given while the cable is out.
    let left = link.ledger().only_flow()?.sent(Direction::ToServer).retransmitted.total();
    ensure!(left < causes.all, "all {left} retransmissions reached the link: the cable was in");
    Ok(())
}
