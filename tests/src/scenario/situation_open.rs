//! How connections begin in less usual ways: with data in the SYN (Fast Open, RFC 7413), after several lost answers, and by
//! two SYNs that cross (RFC 9293, 3.5). Each is one connection with one record an end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::download::PORT;
use super::retransmit::only;
use super::situation::{Seen, Stage, sane_handshake};
use super::{Download, LONG, Probe, causes, expect, expect_received, is_min_rtt};
use crate::kit::{Line, wait_until};
use crate::link::{Direction, Entry, Flow, Kind, Link, Pick, Rule};
use crate::traffic::{
    Options, connect_with_data, drained, finish, listen, receive_all, send_all, start_connect,
};
use crate::truth::TcpInfo;

/// Bytes in the SYN, and of the answer.
const REQUEST: usize = 500;
const ANSWER: usize = 1000;
/// TCP_ESTABLISHED and TCP_SYN_RECV of net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const SYN_RECV: u8 = 3;
/// TCPI_OPT_SYN_DATA of linux/tcp.h: the data in our SYN was acknowledged with it.
const OPT_SYN_DATA: u8 = 32;

/// Two namespaces that agree on Fast Open, a listener that takes it, and a client that has its cookie.
struct FastOpen {
    stage: Stage,
    listener: TcpListener,
}

/// The connection with data in its SYN.
struct Opened {
    client_port: u16,
    /// The client's socket before its close.
    info: TcpInfo,
    /// The server's state when it had answered.
    answered_in: u8,
}

impl FastOpen {
    /// The client asks for a cookie with its first connection, and that one ends.
    fn prepare(one_way: Duration) -> Result<Self> {
        let link = Link::builder().delay(one_way).build()?;
        for end in [&link.client, &link.server] {
            end.set_sysctl("net/ipv4/tcp_fastopen", "3")?;
        }
        let options = Options { fast_open: true, ..Options::default() };
        let listener = listen(&link.server, link.server_v4(PORT), &options)?;
        let stage = Stage::new(link)?;
        let client = &stage.link.client;
        let mut stream = connect_with_data(client, listener.local_addr()?, &Options::default(), &[0])??;
        let (mut accepted, _) = listener.accept()?;
        accepted.read_exact(&mut [0])?;
        stream.shutdown(std::net::Shutdown::Write)?;
        expect("bytes after the first request", receive_all(&mut accepted)?, 0)?;
        drop(accepted);
        expect("bytes of an answer", receive_all(&mut stream)?, 0)?;
        drop(stream);
        expect("cookies given", stage.grew(Direction::ToClient, "TcpExt.TCPFastOpenCookieReqd")?, 1)?;
        stage.link.settled(LONG)?;
        Ok(Self { stage, listener })
    }

    /// One connection with its request in the SYN. The server answers as soon as it has the request, and closes at once, or
    /// leaves it to the client to close first.
    fn open(&self, server_closes: bool) -> Result<Opened> {
        let address = self.listener.local_addr()?;
        thread::scope(|scope| {
            let server = scope.spawn(|| -> Result<u8> {
                let (mut accepted, _) = self.listener.accept()?;
                accepted.set_read_timeout(Some(LONG))?;
                let mut request = vec![0; REQUEST];
                accepted.read_exact(&mut request)?;
                send_all(&mut accepted, ANSWER)?;
                let state = TcpInfo::of(&accepted)?.state;
                if !server_closes {
                    expect("bytes after the request", receive_all(&mut accepted)?, 0)?;
                }
                Ok(state)
            });
            let client = &self.stage.link.client;
            let mut stream = connect_with_data(client, address, &Options::default(), &[1; REQUEST])??;
            let client_port = stream.local_addr()?.port();
            if server_closes {
                expect("bytes of the answer", receive_all(&mut stream)?, ANSWER)?;
            } else {
                stream.read_exact(&mut [0; ANSWER])?;
                drained(&stream, LONG)?;
            }
            let info = TcpInfo::of(&stream)?;
            drop(stream);
            let answered_in = server.join().map_err(|_| anyhow!("the server panicked"))??;
            Ok(Opened { client_port, info, answered_in })
        })
    }

    /// Both records of the connection, and what holds for every Fast Open whose data got through.
    fn judge<'a>(&self, seen: &'a Seen, opened: &Opened, path_us: u64) -> Result<[&'a Line; 2]> {
        let syn = first(seen, opened.client_port, Kind::Syn)?;
        expect("payload of the SYN", syn.payload_len as usize, REQUEST)?;
        let client = seen.line(Direction::ToServer, opened.client_port)?;
        let server = seen.line(Direction::ToClient, opened.client_port)?;
        expect("the client's role", client.text("role")?, "client")?;
        expect("the server's role", server.text("role")?, "server")?;
        let sent = client.u64("bytes_sent")? - client.u64("retrans_bytes")?;
        expect("the client's bytes_sent, without repetitions", sent, REQUEST as u64)?;
        let sent = server.u64("bytes_sent")? - server.u64("retrans_bytes")?;
        expect("the server's bytes_sent, without repetitions", sent, ANSWER as u64)?;
        expect_received(server, REQUEST as u64).context("the server")?;
        expect_received(client, ANSWER as u64).context("the client")?;
        for line in [client, server] {
            expect("adopted", line.flag("adopted")?, false)?;
            expect("error", line.maybe_text("error")?, None)?;
            sane_handshake(line, path_us)?;
            ensure!(
                line.maybe_u64("min_rtt_us")?.is_none_or(|us| us + 1000 >= path_us),
                "min_rtt_us is {:?} on a path of {path_us} µs",
                line.maybe_u64("min_rtt_us")?
            );
        }
        let flow = seen.ledger.flow_from(opened.client_port)?;
        data_segments(client, flow, Direction::ToServer)?;
        data_segments(server, flow, Direction::ToClient)?;
        Ok([client, server])
    }
}

fn data_segments(line: &Line, flow: &Flow, sender: Direction) -> Result<()> {
    expect(
        "data_segs_out, a SYN with data counted",
        line.u64("data_segs_out")?,
        flow.sent(sender).data_segments,
    )
}

/// The first packet of a kind in the last connection from a port.
fn first(seen: &Seen, client_port: u16, kind: Kind) -> Result<&Entry> {
    let flows = &seen.ledger.flows;
    let flow =
        flows.iter().rposition(|flow| flow.client.port() == client_port).context("no such connection")?;
    let entry = seen.ledger.packets_of(flow).find(|entry| entry.kind == kind);
    entry.with_context(|| format!("the connection has no {kind:?}"))
}

/// Data in the SYN, an answer before the handshake is done: one connection, nothing sent again.
///
/// # Errors
/// When a record is wrong.
pub fn fast_open(probe: &Probe) -> Result<()> {
    let play = FastOpen::prepare(Duration::from_millis(300))?;
    let opened = play.open(false)?;
    let seen = play.stage.judge(probe, 2)?;
    let [client, server] = play.judge(&seen, &opened, 600_000)?;
    ensure!(opened.info.options & OPT_SYN_DATA != 0, "the SYN's data was not taken: no Fast Open");
    expect("the server's state when it answered", opened.answered_in, SYN_RECV)?;
    for line in [client, server] {
        expect("retrans_segs", causes(line)?.all, 0)?;
        ensure!(line.maybe_u64("handshake_rtt_us")?.is_some(), "the {} has no handshake", line.text("role")?);
    }
    expect("the client's close_reason", client.text("close_reason")?, "fin_local")?;
    expect("the server's close_reason", server.text("close_reason")?, "fin_remote")
}

/// The answer to a SYN with data is lost: the server repeats it, and the data is there once.
///
/// # Errors
/// When a record is wrong.
pub fn fast_open_synack_lost(probe: &Probe) -> Result<()> {
    let play = FastOpen::prepare(Duration::from_millis(10))?;
    play.stage.link.rule(Rule::drop(Direction::ToClient, Pick::SynAck(1)));
    let opened = play.open(false)?;
    let seen = play.stage.judge(probe, 2)?;
    let [client, server] = play.judge(&seen, &opened, 20_000)?;
    let flow = seen.ledger.flow_from(opened.client_port)?;
    let (up, down) =
        (flow.sent(Direction::ToServer).retransmitted, flow.sent(Direction::ToClient).retransmitted);
    ensure!(down.synack >= 1, "the SYN-ACK was not repeated");
    expect("retrans_synack", causes(server)?.synack, down.synack)?;
    only("syn", causes(client)?, up.total())?;
    expect("retransmitted SYNs", up.syn, up.total())
}

/// The server answers and closes before the handshake's last packet: still an ordinary end on both sides.
///
/// # Errors
/// When a record is wrong.
pub fn fast_open_child_closes_early(probe: &Probe) -> Result<()> {
    let play = FastOpen::prepare(Duration::from_millis(300))?;
    let opened = play.open(true)?;
    expect("the server's state when it closed", opened.answered_in, SYN_RECV)?;
    let seen = play.stage.judge(probe, 2)?;
    let [client, server] = play.judge(&seen, &opened, 600_000)?;
    expect("the server's close_reason", server.text("close_reason")?, "fin_local")?;
    expect("the client's close_reason", client.text("close_reason")?, "fin_remote")?;
    expect("the server's retrans_segs", causes(server)?.all, 0)?;
    expect("the client's retrans_segs", causes(client)?.all, 0)
}

/// A SYN with data is lost: it is repeated without, and what was in it is sent again after the handshake.
///
/// # Errors
/// When a record is wrong.
pub fn fast_open_syn_lost(probe: &Probe) -> Result<()> {
    let play = FastOpen::prepare(Duration::from_millis(10))?;
    play.stage.link.rule(Rule::drop(Direction::ToServer, Pick::Syn(1)));
    let opened = play.open(false)?;
    let seen = play.stage.judge(probe, 2)?;
    let [client, server] = play.judge(&seen, &opened, 20_000)?;
    let up = seen.ledger.flow_from(opened.client_port)?.sent(Direction::ToServer).retransmitted;
    expect("retransmitted SYNs", up.syn, 1)?;
    expect("retransmitted data segments", up.data, 1)?;
    expect("retrans_syn", causes(client)?.syn, 1)?;
    expect("the server's retrans_segs", causes(server)?.all, 0)?;
    // A SYN's timeout is one, whatever follows.
    expect("rto_count", client.u64("rto_count")?, 1)
}

/// The server has stopped to take data in SYNs: what was in it is sent again, without timeout and without loss.
///
/// # Errors
/// When a record is wrong.
pub fn fast_open_refused(probe: &Probe) -> Result<()> {
    let play = FastOpen::prepare(Duration::from_millis(10))?;
    play.stage.link.server.set_sysctl("net/ipv4/tcp_fastopen", "0")?;
    let opened = play.open(false)?;
    let seen = play.stage.judge(probe, 2)?;
    let [client, server] = play.judge(&seen, &opened, 20_000)?;
    expect("the client's TCPI_OPT_SYN_DATA", opened.info.options & OPT_SYN_DATA, 0)?;
    only("other", causes(client)?, 1)?;
    only("no cause", causes(server)?, 0)?;
    expect("rto_count", client.u64("rto_count")?, 0)
}

/// One, two and four answers to a SYN are lost: each repetition is the server's, and each needless SYN the client's.
///
/// # Errors
/// When a count differs.
pub fn synacks_lost(probe: &Probe) -> Result<()> {
    for lost in [1, 2, 4] {
        let link = Link::builder().delay(Duration::from_millis(10)).build()?;
        for nth in 1..=lost {
            link.rule(Rule::drop(Direction::ToClient, Pick::SynAck(nth)));
        }
        let run = Download::of(10_000).run(probe, &link)?;
        run.retransmissions_agree()?;
        let (up, down) = (run.up()?, run.down()?);
        expect("SYN-ACKs that were lost", down.dropped(Kind::SynAck), lost)?;
        ensure!(
            down.retransmitted.synack >= lost,
            "the SYN-ACK was repeated {} times",
            down.retransmitted.synack
        );
        only("synack", causes(&run.server)?, down.retransmitted.synack)?;
        only("syn", causes(&run.client)?, up.retransmitted.syn)?;
        sane_handshake(&run.server, 20_000)?;
        sane_handshake(&run.client, 20_000)?;
    }
    Ok(())
}

/// Two SYNs cross, so that both ends have connected: one record each, of a client, opened once each. On the longer path the
/// timer of each is up before the other's answer comes.
///
/// # Errors
/// When a record is wrong.
pub fn simultaneous_open(probe: &Probe) -> Result<()> {
    // So long a way that both have called connect() before a SYN arrives, on a slow machine too.
    for (one_way_ms, repeats) in [(400, false), (700, true)] {
        let link = Link::builder().delay(Duration::from_millis(one_way_ms)).build()?;
        let stage = Stage::new(link)?;
        // IPv6 alone, so that the metrics hold nobody else's connections.
        let theirs_at = stage.link.server_v6(PORT);
        let ours_at = SocketAddr::new("2001:db8::1".parse()?, 40_003);
        let opened = |role| -> Result<f64> {
            let labels = [("family", "ipv6"), ("role", role)];
            Ok(probe.scrape()?.sum("flowprobe_tcp_connections_opened_total", &labels))
        };
        let before = [opened("client")?, opened("server")?];
        let mut ours = start_connect(&stage.link.client, ours_at, theirs_at)?;
        let mut theirs = start_connect(&stage.link.server, theirs_at, ours_at)?;
        for (socket, whose) in [(&ours, "our"), (&theirs, "their")] {
            wait_until(LONG, &format!("{whose} end is established"), || {
                Ok(TcpInfo::of(socket)?.state == ESTABLISHED)
            })?;
            socket.set_nonblocking(false)?;
            socket.set_read_timeout(Some(LONG))?;
        }
        exchange(&mut ours, &mut theirs)?;
        let infos = [TcpInfo::of(&ours)?, TcpInfo::of(&theirs)?];
        drop((ours, theirs));
        let seen = stage.judge(probe, 1)?;
        for (sender, bytes) in [(Direction::ToServer, 100), (Direction::ToClient, 200)] {
            let line = seen.only_line(sender)?;
            let sent = seen.ledger.only_flow()?.sent(sender).retransmitted;
            expect("role", line.text("role")?, "client")?;
            expect("adopted", line.flag("adopted")?, false)?;
            expect("bytes_sent", line.u64("bytes_sent")?, bytes)?;
            expect_received(line, 300 - bytes)?;
            ensure!(sent.total() > 0 || !repeats, "no timer was up: the scenario proves nothing");
            only("syn", causes(line)?, sent.total())?;
            // The kernel's first sample here is one way: from its SYN-ACK to the other's, which answers its SYN. The record's
            // may be smaller by a later sample.
            let kernel = infos[sender.index()].min_rtt_us().map(u64::from);
            let is = line.maybe_u64("min_rtt_us")?;
            ensure!(
                is.is_some() && (is <= kernel || is_min_rtt(is, kernel)),
                "min_rtt_us is {is:?}, TCP_INFO said {kernel:?}"
            );
        }
        wait_until(LONG, "both ends are counted as opened", || Ok(opened("client")? - before[0] >= 2.0))?;
        expect("connections opened as client", opened("client")? - before[0], 2.0)?;
        expect("connections opened as server", opened("server")? - before[1], 0.0)?;
    }
    Ok(())
}

/// 100 bytes one way, 200 back; the first sender closes first.
fn exchange(ours: &mut TcpStream, theirs: &mut TcpStream) -> Result<()> {
    ours.write_all(&[1; 100])?;
    theirs.read_exact(&mut [0; 100])?;
    send_all(theirs, 200)?;
    ours.read_exact(&mut [0; 200])?;
    ours.shutdown(std::net::Shutdown::Write)?;
    expect("bytes at the end", receive_all(theirs)?, 0)?;
    expect("bytes at the other end", finish(theirs)?, 0)
}
