//! Is the link emulator right? Its ledger against TCP_INFO and the namespace's counters, for each fault it can make.
//!
//! Nothing of flowprobe takes part: what these tests hold is the ruler that the others measure with.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::kit::{pause, take_turn, wait_until};
use tests::link::{Action, Direction, DropReason, Gso, Kind, Ledger, Link, Pick, Rule};
use tests::traffic::{Behaviour, Conversation, Options, Server, connect, echo, receive_all, send_all};
use tests::truth::{Counters, TcpInfo};

const PORT: u16 = 8080;
const LONG: Duration = Duration::from_secs(60);

/// One download: the server sends `bytes`, the client reads them all.
struct Download {
    ledger: Ledger,
    server: Conversation,
    /// What RetransSegs of the server's namespace grew by.
    retrans_segs: u64,
    counters: [Counters; 2],
}

fn download(link: &Link, bytes: usize, v6: bool) -> Result<Download> {
    let address = if v6 { link.server_v6(PORT) } else { link.server_v4(PORT) };
    let before = Counters::of(&link.server)?;
    let server = Server::start(&link.server, address, Behaviour::Send(bytes), &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    assert_eq!(receive_all(&mut stream)?, bytes);
    drop(stream);
    let served = server.served(1, LONG)?;
    let ledger = link.settled(LONG)?;
    let after = Counters::of(&link.server)?;
    let retrans_segs = after.since(&before, "Tcp.RetransSegs")?;
    Ok(Download { ledger, server: served[0], retrans_segs, counters: [before, after] })
}

/// The ledger, the socket and the namespace agree on what was sent again.
fn assert_agreement(run: &Download) -> Result<u64> {
    let sent = run.ledger.only_flow()?.sent(Direction::ToClient);
    let again = sent.retransmitted;
    // The FIN goes after TCP_INFO was read.
    assert_eq!(
        again.total() - again.fin,
        u64::from(run.server.info.total_retrans),
        "ledger against TCP_INFO"
    );
    assert_eq!(again.total(), run.retrans_segs, "ledger against RetransSegs");
    assert_eq!(sent.retransmitted_bytes, run.server.info.bytes_retrans);
    Ok(again.total())
}

fn both_gso(test: impl Fn(Gso) -> Result<()>) -> Result<()> {
    let _turn = take_turn()?;
    test(Gso::Off)?;
    test(Gso::On)
}

#[test]
fn ten_milliseconds_each_way_are_a_round_trip_of_twenty() -> Result<()> {
    let _turn = take_turn()?;
    let link = Link::builder().delay(Duration::from_millis(10)).build()?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, 20, 100)?;
    let info = TcpInfo::of(&stream)?;
    assert!((19_000..21_000).contains(&info.rtt), "srtt is {} µs", info.rtt);
    assert!((20_000..21_000).contains(&info.min_rtt), "min_rtt is {} µs", info.min_rtt);
    let ledger = link.ledger();
    let late = ledger
        .entries
        .iter()
        .filter(|entry| entry.left_ns.is_some_and(|left| left - entry.entered_ns > 10_400_000));
    let (late, all) = (late.count(), ledger.entries.len());
    assert!(late * 10 <= all, "{late} of {all} packets left more than 0.4 ms late");
    assert!(
        ledger
            .entries
            .iter()
            .all(|entry| entry.left_ns.is_none_or(|left| left - entry.entered_ns >= 10_000_000))
    );
    // Twenty rounds and the handshake; the first answer may share the handshake's round.
    let rounds = ledger.only_flow()?.sent(Direction::ToServer).round_trips;
    assert!((20..=21).contains(&rounds), "{rounds} round trips");
    Ok(())
}

#[test]
fn one_dropped_segment_is_sent_again_once() -> Result<()> {
    both_gso(|gso| {
        let link = Link::builder().delay(Duration::from_millis(5)).gso(gso).build()?;
        link.rule(Rule::drop(Direction::ToClient, Pick::Data(5)));
        let run = download(&link, 100_000, false)?;
        assert_eq!(assert_agreement(&run)?, 1, "{gso:?}");
        let flow = run.ledger.only_flow()?;
        assert_eq!(flow.sent(Direction::ToClient).dropped(Kind::Data), 1);
        assert_eq!(flow.sent(Direction::ToClient).duplicates_arrived, 0);
        let dropped: Vec<_> = run.ledger.entries.iter().filter(|entry| entry.dropped.is_some()).collect();
        assert_eq!(dropped.len(), 1);
        assert_eq!(dropped[0].dropped, Some(DropReason::Rule));
        assert_eq!(dropped[0].payload_len, 1448);
        Ok(())
    })
}

#[test]
fn random_loss_is_counted_alike_by_all() -> Result<()> {
    both_gso(|gso| {
        let link = Link::builder()
            .delay(Duration::from_millis(10))
            .loss(Direction::ToClient, 0.01)
            .seed(7)
            .gso(gso)
            .build()?;
        let run = download(&link, 3_000_000, false)?;
        let again = assert_agreement(&run)?;
        assert!(again >= 10, "3 MB at 1 % lose some twenty segments, not {again} ({gso:?})");
        Ok(())
    })
}

#[test]
fn ipv6_is_the_same() -> Result<()> {
    both_gso(|gso| {
        let link = Link::builder().delay(Duration::from_millis(5)).gso(gso).build()?;
        link.rule(Rule::drop(Direction::ToClient, Pick::Data(7)));
        let run = download(&link, 100_000, true)?;
        assert_eq!(assert_agreement(&run)?, 1);
        assert!(run.ledger.packets_of(0).all(|entry| entry.ip_version == 6));
        Ok(())
    })
}

#[test]
fn a_dropped_syn_and_a_dropped_synack_are_told_apart() -> Result<()> {
    let _turn = take_turn()?;
    let link = Link::builder().delay(Duration::from_millis(2)).build()?;
    link.rule(Rule::drop(Direction::ToServer, Pick::Syn(1)));
    let before = Counters::of(&link.client)?;
    let run = download(&link, 1000, false)?;
    let flow = run.ledger.only_flow()?;
    assert_eq!(flow.sent(Direction::ToServer).retransmitted.syn, 1);
    assert_eq!(flow.sent(Direction::ToServer).dropped(Kind::Syn), 1);
    assert_eq!(flow.retransmissions(), 1);
    assert_eq!(Counters::of(&link.client)?.since(&before, "Tcp.RetransSegs")?, 1);

    let link = Link::builder().delay(Duration::from_millis(2)).build()?;
    link.rule(Rule::drop(Direction::ToClient, Pick::SynAck(1)));
    let run = download(&link, 1000, false)?;
    let flow = run.ledger.only_flow()?;
    let (up, down) = (flow.sent(Direction::ToServer), flow.sent(Direction::ToClient));
    assert_eq!(down.dropped(Kind::SynAck), 1);
    assert!(down.retransmitted.synack >= 1);
    assert_eq!(run.retrans_segs, down.retransmitted.total(), "server's RetransSegs");
    // The client's own timer may send the SYN again at the same time.
    assert!(up.retransmitted.syn <= 1);
    assert_eq!(up.retransmitted.data + down.retransmitted.data, 0);
    Ok(())
}

#[test]
fn a_blackout_ends_in_a_timeout() -> Result<()> {
    let _turn = take_turn()?;
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    let before = Counters::of(&link.client)?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Sink, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    send_all(&mut stream, 10_000)?;
    link.settled(LONG)?;
    link.blackout(true);
    send_all(&mut stream, 10_000)?;
    pause(Duration::from_secs(2));
    link.blackout(false);
    wait_until(LONG, "the data arrives after all", || Ok(TcpInfo::of(&stream)?.unacked == 0))?;
    let info = TcpInfo::of(&stream)?;
    drop(stream);
    let ledger = link.settled(LONG)?;
    let sent = ledger.only_flow()?.sent(Direction::ToServer);
    assert_eq!(sent.retransmitted.data, u64::from(info.total_retrans));
    let after = Counters::of(&link.client)?;
    assert!(after.since(&before, "TcpExt.TCPTimeouts")? >= 1);
    assert_eq!(after.since(&before, "Tcp.RetransSegs")?, sent.retransmitted.total());
    assert!(ledger.entries.iter().any(|entry| entry.dropped == Some(DropReason::Blackout)));
    Ok(())
}

#[test]
fn reordering_alone_causes_needless_retransmissions_only() -> Result<()> {
    let _turn = take_turn()?;
    let link = Link::builder().delay(Duration::from_millis(10)).build()?;
    link.rule(Rule::new(Direction::ToClient, Pick::Data(15), Action::Hold(Duration::from_millis(30))));
    let run = download(&link, 300_000, false)?;
    let again = assert_agreement(&run)?;
    let sent = run.ledger.only_flow()?.sent(Direction::ToClient);
    assert!(again >= 1, "a segment 30 ms late is taken for lost");
    assert_eq!(sent.duplicates_arrived, again, "each retransmission was needless");
    assert_eq!(sent.dropped_recoverable(), 0);
    let [before, after] = &run.counters;
    assert!(after.since(before, "TcpExt.TCPDSACKRecv")? >= 1);
    Ok(())
}

#[test]
fn chosen_segments_can_be_dropped_by_place_and_transmission() -> Result<()> {
    let _turn = take_turn()?;
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    link.rule(Rule::drop(Direction::ToClient, Pick::Byte { offset: 20_000, transmission: 1 }));
    link.rule(Rule::drop(Direction::ToClient, Pick::Byte { offset: 20_000, transmission: 2 }));
    link.rule(Rule::drop(Direction::ToClient, Pick::Byte { offset: 99_999, transmission: 1 }));
    let run = download(&link, 100_000, false)?;
    let again = assert_agreement(&run)?;
    let flow = run.ledger.only_flow()?;
    assert_eq!(flow.sent(Direction::ToClient).dropped(Kind::Data), 3);
    assert!(again >= 3, "{again} retransmissions for three drops");
    Ok(())
}

#[test]
fn a_rate_limit_spaces_packets_and_drops_what_does_not_fit() -> Result<()> {
    let _turn = take_turn()?;
    // 8 Mbit/s: 1500 bytes take 1.5 ms.
    let link = Link::builder().delay(Duration::from_millis(5)).rate(8_000_000, 12).build()?;
    let run = download(&link, 300_000, false)?;
    assert_agreement(&run)?;
    let dropped = run.ledger.entries.iter().filter(|entry| entry.dropped == Some(DropReason::Queue)).count();
    assert!(dropped > 0, "slow start overruns a queue of twelve packets");
    let full = run.ledger.entries.iter().filter(|e| e.direction == Direction::ToClient && e.length == 1500);
    let mut leaving: Vec<(u64, u64)> = full.filter_map(|e| Some((e.left_ns?, e.entered_ns))).collect();
    leaving.sort_unstable();
    let (_, first_entered) = *leaving.first().context("no full packet left")?;
    // The engine may be late with one and then quick with the next, but no packet is early.
    for (nth, (left, _)) in (1..).zip(&leaving) {
        let earliest = first_entered + 5_000_000 + nth * 1_500_000;
        ensure!(*left >= earliest, "packet {nth} of {} left {} ns too early", leaving.len(), earliest - left);
    }
    Ok(())
}

#[test]
fn a_change_of_delay_moves_the_round_trip() -> Result<()> {
    let _turn = take_turn()?;
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, 5, 100)?;
    link.set_delay(Direction::ToServer, Duration::from_millis(45));
    echo(&mut stream, 40, 100)?;
    let info = TcpInfo::of(&stream)?;
    assert!((47_500..52_500).contains(&info.rtt), "srtt is {} µs", info.rtt);
    assert!((10_000..11_500).contains(&info.min_rtt), "min_rtt is {} µs", info.min_rtt);
    Ok(())
}

#[test]
fn an_unplugged_cable_is_counted_by_the_kernel_and_seen_by_nobody() -> Result<()> {
    let _turn = take_turn()?;
    let link = Link::builder().delay(Duration::from_millis(2)).build()?;
    let before = Counters::of(&link.client)?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Sink, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    link.settled(LONG)?;
    let entered = link.ledger().only_flow()?.sent(Direction::ToServer).packets;
    link.set_carrier(Direction::ToServer, false)?;
    send_all(&mut stream, 1000)?;
    wait_until(LONG, "the kernel has tried again", || Ok(TcpInfo::of(&stream)?.total_retrans >= 1))?;
    assert_eq!(link.ledger().only_flow()?.sent(Direction::ToServer).packets, entered);
    link.set_carrier(Direction::ToServer, true)?;
    wait_until(LONG, "the data arrives after all", || Ok(TcpInfo::of(&stream)?.unacked == 0))?;
    let after = Counters::of(&link.client)?;
    assert_eq!(after.since(&before, "Tcp.RetransSegs")?, u64::from(TcpInfo::of(&stream)?.total_retrans));
    Ok(())
}
