//! How connections begin and end: one record each, with the right reason (CASES 2, 4, 5 and 9).

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use socket2::SockRef;

use super::download::PORT;
use super::{LONG, Probe, expect, expect_received, local_port};
use crate::kit::{Line, pause, wait_until};
use crate::link::{Direction, Kind, Link, Pick, Rule};
use crate::traffic::{
    Behaviour, Options, Server, connect, connect_from, drained, echo, finish, listen, receive_all, reconnect,
    send_all,
};
use crate::truth::TcpInfo;

/// TCP_CLOSE and TCP_CLOSE_WAIT of net/tcp_states.h.
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;

fn link() -> Result<Link> {
    Link::builder().delay(Duration::from_millis(2)).build()
}

fn distinct_ids(lines: &[Line]) -> Result<()> {
    let ids = lines.iter().map(|line| line.text("flow_id")).collect::<Result<BTreeSet<_>>>()?;
    expect("the number of distinct flow_ids", ids.len(), lines.len())
}

fn ends_with(line: &Line, reason: &str, error: Option<&str>) -> Result<()> {
    let role = line.text("role")?;
    expect(&format!("the {role}'s close_reason"), line.text("close_reason")?, reason)?;
    expect(&format!("the {role}'s error"), line.maybe_text("error")?, error)
}

/// Accepting changes no listener: it has no record, each child has its own.
///
/// # Errors
/// When a record is wrong.
pub fn listener_is_untouched(probe: &Probe) -> Result<()> {
    let link = link()?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&link.client, server.address, &Options::default())??;
        echo(&mut stream, 1, 100)?;
        streams.push(stream);
    }
    let live = probe.live(&link.server)?;
    expect("the number of live flows of the server", live.len(), 5)?;
    let ports: BTreeSet<u64> =
        streams.iter().map(|stream| Ok(u64::from(stream.local_addr()?.port()))).collect::<Result<_>>()?;
    let remote =
        |lines: &[Line]| lines.iter().map(|line| line.u64("remote_port")).collect::<Result<BTreeSet<_>>>();
    expect("the live flows' remote ports", &remote(&live)?, &ports)?;
    distinct_ids(&live)?;
    drop(streams);
    server.served(5, LONG)?;
    drop(server);
    let ended = probe.ended(&link.server, 5)?;
    expect("the ended flows' remote ports", &remote(&ended)?, &ports)?;
    distinct_ids(&ended)?;
    for line in &ended {
        expect("role", line.text("role")?, "server")?;
        expect("local_port", local_port(line)?, PORT)?;
        expect("remote_addr", line.text("remote_addr")?, "192.0.2.1")?;
        expect_received(line, 100)?;
        ends_with(line, "fin_remote", None)?;
    }
    let of = |lines: &[Line]| {
        lines.iter().map(|line| Ok(line.text("flow_id")?.to_owned())).collect::<Result<BTreeSet<String>>>()
    };
    expect("the identities of the ended flows", of(&ended)?, of(&live)?)
}

/// A server that closes first ends normally, on both sides.
///
/// # Errors
/// When a record is wrong.
pub fn server_that_closes_first_is_no_failure(probe: &Probe) -> Result<()> {
    let link = link()?;
    let server =
        Server::start(&link.server, link.server_v4(PORT), Behaviour::CloseAfter(10), &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    send_all(&mut stream, 10)?;
    expect("the client's read", stream.read(&mut [0])?, 0)?;
    drop(stream);
    ends_with(&probe.ended_one(&link.server)?, "fin_local", None)?;
    ends_with(&probe.ended_one(&link.client)?, "fin_remote", None)
}

/// A reset is named on the side that sent it and on the side that got it, whatever its cause.
///
/// # Errors
/// When a record is wrong.
pub fn resets_name_their_side(probe: &Probe) -> Result<()> {
    // The client resets on close.
    let link = link()?;
    let listener = listen(&link.server, link.server_v4(PORT), &Options::default())?;
    let options = Options { reset_on_close: true, ..Options::default() };
    let mut stream = connect(&link.client, listener.local_addr()?, &options)??;
    let (mut accepted, _) = listener.accept()?;
    send_all(&mut stream, 10)?;
    drained(&stream, LONG)?;
    accepted.read_exact(&mut [0; 10])?;
    drop(stream);
    wait_until(LONG, "the reset has arrived", || Ok(TcpInfo::of(&accepted)?.state == CLOSE))?;
    drop(accepted);
    ends_with(&probe.ended_one(&link.client)?, "reset_sent", None)?;
    ends_with(&probe.ended_one(&link.server)?, "reset_received", Some("ECONNRESET"))?;

    // The server leaves data unread.
    let link = self::link()?;
    let server =
        Server::start(&link.server, link.server_v4(PORT), Behaviour::LeaveUnread, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    send_all(&mut stream, 10)?;
    wait_until(LONG, "the reset has arrived", || Ok(TcpInfo::of(&stream)?.state == CLOSE))?;
    drop(stream);
    ends_with(&probe.ended_one(&link.server)?, "reset_sent", None)?;
    ends_with(&probe.ended_one(&link.client)?, "reset_received", Some("ECONNRESET"))?;

    // The server has closed in order and more data is on its way: its kernel answers with a reset, and sets the error that
    // a peer's reset sets. The way is so long that the server closes between the two pieces.
    let link = Link::builder().delay(Duration::from_millis(500)).build()?;
    let server =
        Server::start(&link.server, link.server_v4(PORT), Behaviour::CloseAfter(10), &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    send_all(&mut stream, 10)?;
    pause(Duration::from_millis(250));
    send_all(&mut stream, 10)?;
    wait_until(LONG, "the reset has arrived", || Ok(TcpInfo::of(&stream)?.state == CLOSE))?;
    drop(stream);
    ends_with(&probe.ended_one(&link.server)?, "reset_sent", Some("ECONNRESET"))?;
    ends_with(&probe.ended_one(&link.client)?, "reset_received", Some("EPIPE"))
}

/// Data that is sent again after the server has closed resets nothing; new data does, also where it comes with the
/// acknowledgement of the server's FIN, for which the kernel sets no error.
///
/// # Errors
/// When a record is wrong.
pub fn only_new_data_after_close_resets(probe: &Probe) -> Result<()> {
    // Nothing comes back from the server until the client has sent its data again.
    let link = link()?;
    let server =
        Server::start(&link.server, link.server_v4(PORT), Behaviour::CloseAfter(10), &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    let again = Arc::new(AtomicBool::new(false));
    let seen_again = Arc::clone(&again);
    let note = Pick::When(Box::new(move |seen| {
        seen_again.fetch_or(seen.kind == Kind::Data && seen.transmission > 1, Ordering::Relaxed);
        false
    }));
    link.rule(Rule::drop(Direction::ToServer, note));
    let not_yet = Pick::When(Box::new(move |_| !again.load(Ordering::Relaxed)));
    link.rule(Rule::drop(Direction::ToClient, not_yet));
    send_all(&mut stream, 10)?;
    expect("the client's read", stream.read(&mut [0])?, 0)?;
    drop(stream);
    ends_with(&probe.ended_one(&link.client)?, "fin_remote", None)?;
    let ended = probe.ended_one(&link.server)?;
    expect(
        "the server's segments with data, the second one sent again",
        ended.u64("data_segs_in")? > 1,
        true,
    )?;
    ends_with(&ended, "fin_local", None)?;

    // The client's acknowledgements are lost until it has written more.
    let link = self::link()?;
    let server =
        Server::start(&link.server, link.server_v4(PORT), Behaviour::CloseAfter(10), &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    link.rule(Rule::drop(Direction::ToServer, Pick::When(Box::new(|seen| seen.kind == Kind::Ack))));
    send_all(&mut stream, 10)?;
    expect("the client's read", stream.read(&mut [0])?, 0)?;
    send_all(&mut stream, 10)?;
    wait_until(LONG, "the reset has arrived", || Ok(TcpInfo::of(&stream)?.state == CLOSE))?;
    drop(stream);
    ends_with(&probe.ended_one(&link.server)?, "reset_sent", None)?;
    ends_with(&probe.ended_one(&link.client)?, "reset_received", Some("EPIPE"))
}

/// Connections that are reset before they are accepted end once, also when their listener goes.
///
/// # Errors
/// When a record is wrong.
pub fn reset_before_accept(probe: &Probe) -> Result<()> {
    let link = link()?;
    let listener = listen(&link.server, link.server_v4(PORT), &Options::default())?;
    let options = Options { reset_on_close: true, ..Options::default() };
    for _ in 0..8 {
        drop(connect(&link.client, listener.local_addr()?, &options)??);
    }
    probe.ended(&link.client, 8)?;
    link.settled(LONG)?;
    drop(listener);
    let ended = probe.ended(&link.server, 8)?;
    distinct_ids(&ended)?;
    ended.iter().try_for_each(|line| expect("close_reason", line.text("close_reason")?, "reset_received"))
}

/// The same four-tuple, again and again without a pause: one flow each time, with its own numbers.
///
/// # Errors
/// When a record is wrong.
pub fn tuple_reused_at_once(probe: &Probe) -> Result<()> {
    const TIMES: usize = 20;
    let link = link()?;
    let listener = listen(&link.server, link.server_v4(PORT), &Options::default())?;
    let options = Options { reset_on_close: true, ..Options::default() };
    let local = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 40_002));
    for index in 0..TIMES {
        let mut stream = connect_from(&link.client, Some(local), listener.local_addr()?, &options)??;
        let (mut accepted, _) = listener.accept()?;
        send_all(&mut stream, 100 + index)?;
        accepted.read_exact(&mut vec![0; 100 + index])?;
        drained(&stream, LONG)?;
        drop(stream);
        wait_until(LONG, "the reset has arrived", || Ok(TcpInfo::of(&accepted)?.state == CLOSE))?;
    }
    let should: BTreeSet<u64> = (100..100 + TIMES as u64).collect();
    for (end, field) in [(&link.client, "bytes_sent"), (&link.server, "bytes_received")] {
        let ended = probe.ended(end, TIMES)?;
        distinct_ids(&ended)?;
        let bytes = ended.iter().map(|line| line.u64(field)).collect::<Result<BTreeSet<_>>>()?;
        expect(field, &bytes, &should)?;
    }
    Ok(())
}

/// One socket, dissolved and connected again: two flows, and the second inherits nothing.
///
/// # Errors
/// When a record is wrong.
pub fn disconnect_and_reconnect(probe: &Probe) -> Result<()> {
    let link = link()?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    let first_port = stream.local_addr()?.port();
    echo(&mut stream, 3, 1000)?;
    // Second life on a slow path: a min_rtt of the first would show.
    for direction in Direction::BOTH {
        link.set_delay(direction, Duration::from_millis(40));
    }
    reconnect(&link.client, &stream, server.address)?;
    let second_port = stream.local_addr()?.port();
    echo(&mut stream, 2, 10)?;
    drop(stream);
    let ended = probe.ended(&link.client, 2)?;
    distinct_ids(&ended)?;
    let [first, second] = ended.as_slice() else { return Ok(()) };
    expect("the first life's port", local_port(first)?, first_port)?;
    expect("the second life's port", local_port(second)?, second_port)?;
    expect("the first life's bytes_sent", first.u64("bytes_sent")?, 3000)?;
    expect("the second life's bytes_sent", second.u64("bytes_sent")?, 20)?;
    expect_received(second, 20)?;
    let (fast, slow) = (first.u64("min_rtt_us")?, second.u64("handshake_rtt_us")?);
    ensure!(slow >= 80_000, "the second life's handshake took {slow} µs on a path of 80 ms");
    ensure!(fast < slow, "the first life's min_rtt is {fast} µs");
    let inherited = second.maybe_u64("min_rtt_us")?;
    ensure!(inherited.is_none_or(|value| value >= 80_000), "the second life's min_rtt is {inherited:?} µs");
    Ok(())
}

/// One socket, connected twice, with round trips far apart in both lives: each record has its own, all of them and no more.
///
/// # Errors
/// When a histogram has another number of round trips than the connection.
pub fn lives_keep_their_round_trips(probe: &Probe) -> Result<()> {
    let link = link()?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    for life in 1..=2 {
        // Four octaves and more lie between them.
        for one_way in [2, 60] {
            for direction in Direction::BOTH {
                link.set_delay(direction, Duration::from_millis(one_way));
            }
            echo(&mut stream, 4, 100)?;
        }
        // Swept while it lives: what was accounted of the first life is nothing to the second.
        probe.scrape()?;
        if life == 1 {
            reconnect(&link.client, &stream, server.address)?;
        }
    }
    drop(stream);
    for (line, life) in probe.ended(&link.client, 2)?.iter().zip(1..) {
        let counted: u64 = line.histogram()?.iter().map(|(_, count)| count).sum();
        expect(&format!("round trips of life {life} by bucket"), counted, line.u64("rtt_samples")?)?;
        ensure!(counted >= 8, "{counted} round trips of 8");
    }
    Ok(())
}

/// An established connection whose peer vanishes.
///
/// # Errors
/// When the record is wrong.
pub fn established_timeout(probe: &Probe) -> Result<()> {
    let link = link()?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Sink, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    send_all(&mut stream, 100)?;
    drained(&stream, LONG)?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(Duration::from_millis(800)))?;
    link.blackout(true);
    stream.write_all(&[0; 500])?;
    wait_until(LONG, "the kernel gives up", || Ok(TcpInfo::of(&stream)?.state == CLOSE))?;
    let info = TcpInfo::of(&stream)?;
    drop(stream);
    let line = probe.ended_one(&link.client)?;
    ends_with(&line, "timeout", Some("ETIMEDOUT"))?;
    expect("bytes_sent", line.u64("bytes_sent")? - line.u64("retrans_bytes")?, 600)?;
    expect("retrans_segs", line.u64("retrans_segs")?, u64::from(info.total_retrans))?;
    // The server's end hears nothing; its socket goes with the scenario.
    link.blackout(false);
    Ok(())
}

/// Sixty-four listeners share a port; each connection has one flow on each side.
///
/// # Errors
/// When a record is wrong.
pub fn many_listeners_on_one_port(probe: &Probe) -> Result<()> {
    const CONNECTIONS: usize = 200;
    let link = link()?;
    let address = link.server_v4(PORT);
    let options = Options { reuse_port: true, ..Options::default() };
    let servers = (0..64)
        .map(|_| Server::start(&link.server, address, Behaviour::Echo, &options))
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..CONNECTIONS {
        let mut stream = connect(&link.client, address, &Options::default())??;
        echo(&mut stream, 1, 10)?;
        expect("bytes after the end", finish(&mut stream)?, 0)?;
    }
    drop(servers);
    for end in [&link.client, &link.server] {
        let ended = probe.ended(end, CONNECTIONS)?;
        distinct_ids(&ended)?;
        for line in &ended {
            expect_received(line, 10)?;
        }
    }
    Ok(())
}

/// The client closes first and waits in FIN_WAIT2 and TIME_WAIT: one normal flow, reported when it ends.
///
/// # Errors
/// When a record is wrong.
pub fn half_close_is_one_flow(probe: &Probe) -> Result<()> {
    let link = link()?;
    let listener = listen(&link.server, link.server_v4(PORT), &Options::default())?;
    let mut stream = connect(&link.client, listener.local_addr()?, &Options::default())??;
    let (mut accepted, _) = listener.accept()?;
    send_all(&mut stream, 1000)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    expect("bytes of the first half", receive_all(&mut accepted)?, 1000)?;
    expect("the server's state", TcpInfo::of(&accepted)?.state, CLOSE_WAIT)?;
    let live = probe.live(&link.client)?;
    expect("the number of live flows of the client", live.len(), 1)?;
    expect("its closed_at", live[0].maybe_text("closed_at")?, None)?;
    send_all(&mut accepted, 2000)?;
    drop(accepted);
    expect("bytes of the second half", receive_all(&mut stream)?, 2000)?;
    drop(stream);
    let line = probe.ended_one(&link.client)?;
    ends_with(&line, "fin_local", None)?;
    expect("bytes_sent", line.u64("bytes_sent")?, 1000)?;
    expect_received(&line, 2000)?;
    let line = probe.ended_one(&link.server).context("the server's end")?;
    ends_with(&line, "fin_remote", None)
}
