//! What a connection leaves behind: who closed first, with which error, and what the application wrote that the peer never
//! acknowledged, in the record and in the metrics.
//!
//! The truth is the application's own count of what it wrote and TCP_INFO's of what was acknowledged. The connections use
//! IPv6 alone, whose metrics are theirs alone then.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use socket2::SockRef;

use super::start::of_role;
use super::{LONG, Probe, expect};
use crate::kit::{Line, Scrape, wait_until};
use crate::link::{Direction, Kind, Link, Pick, Rule};
use crate::traffic::{Pair, drained, pairs, send_all};
use crate::truth::TcpInfo;

const PORT: u16 = 8_080;
/// States of net/tcp_states.h.
const FIN_WAIT1: u8 = 4;
const CLOSE: u8 = 7;
/// Nothing that is acknowledged is on its way any more when the number has stood still for so long on these links.
const STILL: Duration = Duration::from_millis(300);

const FAILURES: &str = "flowprobe_tcp_connect_failures_total";
const BY_REASON: [&str; 4] = [
    "flowprobe_tcp_connections_closed_total",
    "flowprobe_tcp_connections_closed_incomplete_total",
    "flowprobe_tcp_closed_unsent_bytes_total",
    "flowprobe_tcp_closed_unacked_bytes_total",
];

/// How an end ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ending {
    reason: &'static str,
    error: Option<&'static str>,
    first_fin: Option<&'static str>,
    unsent: u64,
    unacked: u64,
}

impl Ending {
    fn is_of(self, line: &Line) -> Result<()> {
        let compare = || -> Result<()> {
            expect("close_reason", line.text("close_reason")?, self.reason)?;
            expect("error", line.maybe_text("error")?, self.error)?;
            expect("first_fin", line.maybe_text("first_fin")?, self.first_fin)?;
            expect("unsent_bytes", line.u64("unsent_bytes")?, self.unsent)?;
            expect("unacked_bytes", line.u64("unacked_bytes")?, self.unacked)
        };
        compare().with_context(|| format!("{self:?}, {line:?}"))
    }

    /// One more in each of [`BY_REASON`], with its bytes.
    fn grown(self) -> [f64; 4] {
        let incomplete = self.unsent + self.unacked > 0;
        [1.0, f64::from(u8::from(incomplete)), self.unsent as f64, self.unacked as f64]
    }
}

/// A connection over a link of 2 ms each way, and the metrics before it.
struct Case<'a> {
    probe: &'a Probe,
    link: Link,
    before: Scrape,
}

impl<'a> Case<'a> {
    fn new(probe: &'a Probe) -> Result<(Self, Pair)> {
        let before = probe.scrape()?;
        let link = Link::builder().delay(Duration::from_millis(2)).build()?;
        let pair = pairs(&link, PORT, 1)?.pop().context("no connection")?;
        Ok((Self { probe, link, before }, pair))
    }

    fn of_reason(scrape: &Scrape, role: &str, reason: &str) -> [f64; 4] {
        BY_REASON.map(|name| scrape.sum(name, &[("family", "ipv6"), ("role", role), ("reason", reason)]))
    }

    /// This end's ending is in the metrics of its reason, and of no other.
    fn counted(&self, role: &str, ending: Ending) -> Result<()> {
        let (mut scrape, mut is) = (Scrape::default(), [0.0; 4]);
        let difference = |after: [f64; 4], before: [f64; 4]| std::array::from_fn(|i| after[i] - before[i]);
        let before = Self::of_reason(&self.before, role, ending.reason);
        wait_until(LONG, "the end is counted", || {
            scrape = self.probe.scrape()?;
            is = difference(Self::of_reason(&scrape, role, ending.reason), before);
            Ok(is == ending.grown())
        })
        .with_context(|| format!("{role}: {BY_REASON:?} grew by {is:?}, {ending:?}"))?;
        let all = |scrape: &Scrape| BY_REASON.map(|name| of_role(scrape, name, role));
        let grown: [f64; 4] = difference(all(&scrape), all(&self.before));
        expect(&format!("the growth of {BY_REASON:?} for all reasons"), grown, ending.grown())?;
        let failures = |scrape: &Scrape| scrape.sum(FAILURES, &[("family", "ipv6")]);
        expect("the connect failures", failures(&scrape), failures(&self.before))
    }

    fn server_ends(&self, ending: Ending) -> Result<()> {
        ending.is_of(&self.probe.ended_one(&self.link.server)?)?;
        self.counted("server", ending)
    }

    fn client_ends(&self, ending: Ending) -> Result<()> {
        ending.is_of(&self.probe.ended_one(&self.link.client)?)?;
        self.counted("client", ending)
    }
}

/// Write until the socket takes no more; how much it took.
fn fill(stream: &mut TcpStream) -> Result<u64> {
    SockRef::from(&*stream).set_send_buffer_size(200_000)?;
    stream.set_nonblocking(true)?;
    let mut written = 0;
    loop {
        match stream.write(&[b'x'; 10_000]) {
            Ok(more) => written += more as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).context("cannot write"),
        }
    }
    stream.set_nonblocking(false)?;
    Ok(written)
}

/// Wait until the acknowledged bytes stand still, and return what the kernel says then.
fn still(stream: &TcpStream) -> Result<TcpInfo> {
    let mut info = TcpInfo::of(stream)?;
    let mut since = Instant::now();
    wait_until(LONG, "nothing more is acknowledged", || {
        let now = TcpInfo::of(stream)?;
        if now.bytes_acked != info.bytes_acked {
            since = Instant::now();
        }
        info = now;
        Ok(since.elapsed() > STILL)
    })?;
    Ok(info)
}

fn closed(stream: &TcpStream) -> Result<TcpInfo> {
    wait_until(LONG, "the kernel has closed the socket", || Ok(TcpInfo::of(stream)?.state == CLOSE))?;
    TcpInfo::of(stream)
}

/// What the application wrote and was not acknowledged, by the kernel's last word about the socket, as unsent and unacked.
fn left(written: u64, last: &TcpInfo) -> (u64, u64) {
    let unsent = u64::from(last.notsent_bytes);
    (unsent, written - last.bytes_acked - unsent)
}

/// The server closes first, in order, with the client's answer after its FIN; then the client does: never a failure, and nothing is left.
///
/// # Errors
/// When a record or a metric is wrong.
pub fn orderly_ends(probe: &Probe) -> Result<()> {
    for server_first in [true, false] {
        let (case, mut pair) = Case::new(probe)?;
        let (first, second) = if server_first {
            (&mut pair.server, &mut pair.client)
        } else {
            (&mut pair.client, &mut pair.server)
        };
        send_all(first, 50_000)?;
        first.shutdown(Shutdown::Write)?;
        let mut received = Vec::new();
        second.read_to_end(&mut received)?;
        expect("the bytes that arrived", received.len(), 50_000)?;
        send_all(second, 20_000)?;
        second.shutdown(Shutdown::Write)?;
        received.clear();
        first.read_to_end(&mut received)?;
        expect("the bytes that came back", received.len(), 20_000)?;
        closed(first)?;
        closed(second)?;
        let ending = |reason, first_fin| Ending { reason, first_fin: Some(first_fin), ..Ending::default() };
        let (local, remote) = (ending("fin_local", "local"), ending("fin_remote", "remote"));
        case.server_ends(if server_first { local } else { remote })?;
        case.client_ends(if server_first { remote } else { local })?;
    }
    Ok(())
}

/// The client reads nothing and leaves with a reset: the server's record says what it had not sent, at least 40 % of all.
///
/// # Errors
/// When a record or a metric is wrong.
pub fn client_leaves_unsent(probe: &Probe) -> Result<()> {
    let (case, mut pair) = Case::new(probe)?;
    let written = fill(&mut pair.server)?;
    still(&pair.server)?;
    let (unsent, unacked) = client_resets(&case, pair, written)?;
    ensure!(unsent * 10 >= written * 4, "only {unsent} of {written} bytes are unsent");
    expect("the bytes that are not acknowledged", unacked, 0)
}

/// The same with segments under way that never arrive: sent and not acknowledged is told apart from not sent.
///
/// # Errors
/// When a record or a metric is wrong.
pub fn client_leaves_unacked(probe: &Probe) -> Result<()> {
    let (case, mut pair) = Case::new(probe)?;
    send_all(&mut pair.server, 20_000)?;
    drained(&pair.server, LONG)?;
    let data = Pick::When(Box::new(|seen| seen.kind == Kind::Data));
    case.link.rule(Rule::drop(Direction::ToClient, data));
    let written = 20_000 + fill(&mut pair.server)?;
    still(&pair.server)?;
    let (unsent, unacked) = client_resets(&case, pair, written)?;
    ensure!(unsent > 0 && unacked > 0, "of {written} bytes {unsent} are unsent and {unacked} unacknowledged");
    expect("all that the client did not get", unsent + unacked, written - 20_000)
}

/// The server has closed as well, behind data that waits: its FIN is no byte.
///
/// # Errors
/// When a record or a metric is wrong.
pub fn client_leaves_a_server_that_closed(probe: &Probe) -> Result<()> {
    let (case, mut pair) = Case::new(probe)?;
    let written = fill(&mut pair.server)?;
    let before = still(&pair.server)?;
    pair.server.shutdown(Shutdown::Write)?;
    expect("the server's state", TcpInfo::of(&pair.server)?.state, FIN_WAIT1)?;
    SockRef::from(&pair.client).set_linger(Some(Duration::ZERO))?;
    drop(pair.client);
    let last = closed(&pair.server)?;
    expect("the FIN among what is unsent", last.notsent_bytes, before.notsent_bytes + 1)?;
    let (unsent, unacked) = (u64::from(before.notsent_bytes), 0);
    expect("what was written", written, before.bytes_acked + unsent)?;
    let reset = Ending { reason: "reset_received", error: Some("ECONNRESET"), ..Ending::default() };
    case.server_ends(Ending { first_fin: Some("local"), unsent, unacked, ..reset })?;
    case.client_ends(Ending { reason: "reset_sent", ..Ending::default() })
}

/// The client ends by a reset; what was left, by its server's socket.
fn client_resets(case: &Case<'_>, pair: Pair, written: u64) -> Result<(u64, u64)> {
    let before = TcpInfo::of(&pair.server)?;
    SockRef::from(&pair.client).set_linger(Some(Duration::ZERO))?;
    drop(pair.client);
    let last = closed(&pair.server)?;
    expect("bytes acknowledged", last.bytes_acked, before.bytes_acked)?;
    let (unsent, unacked) = left(written, &last);
    let reset = Ending { reason: "reset_received", error: Some("ECONNRESET"), ..Ending::default() };
    case.server_ends(Ending { unsent, unacked, ..reset })?;
    // It wrote nothing.
    case.client_ends(Ending { reason: "reset_sent", ..Ending::default() })?;
    Ok((unsent, unacked))
}

/// The client vanishes, and the server's kernel gives up after TCP_USER_TIMEOUT.
///
/// # Errors
/// When a record or a metric is wrong.
pub fn client_vanishes(probe: &Probe) -> Result<()> {
    let (case, mut pair) = Case::new(probe)?;
    send_all(&mut pair.server, 30_000)?;
    drained(&pair.server, LONG)?;
    SockRef::from(&pair.server).set_tcp_user_timeout(Some(Duration::from_millis(800)))?;
    case.link.blackout(true);
    let written = 30_000 + fill(&mut pair.server)?;
    let last = closed(&pair.server)?;
    let (unsent, unacked) = left(written, &last);
    ensure!(unsent > 0 && unacked > 0, "of {written} bytes {unsent} are unsent and {unacked} unacknowledged");
    expect("all that the client did not get", unsent + unacked, written - 30_000)?;
    let ending = Ending { reason: "timeout", error: Some("ETIMEDOUT"), ..Ending::default() };
    case.server_ends(Ending { unsent, unacked, ..ending })?;
    // The client learns of it by the answer to what it sends, and has left nothing either way.
    case.link.blackout(false);
    pair.client.write_all(b"x")?;
    closed(&pair.client)?;
    let reset = Ending { reason: "reset_received", error: Some("ECONNRESET"), ..Ending::default() };
    case.client_ends(Ending { unacked: 1, ..reset })
}

/// The server closes with unread data: its kernel resets, whatever it had yet to send.
///
/// # Errors
/// When a record or a metric is wrong.
pub fn server_leaves_data_unread(probe: &Probe) -> Result<()> {
    let (case, mut pair) = Case::new(probe)?;
    send_all(&mut pair.client, 100)?;
    drained(&pair.client, LONG)?;
    let written = fill(&mut pair.server)?;
    let before = still(&pair.server)?;
    let (unsent, unacked) = left(written, &before);
    ensure!(unsent > 0, "all of {written} bytes was sent: nothing is proved");
    drop(pair.server);
    closed(&pair.client)?;
    case.server_ends(Ending { reason: "reset_sent", unsent, unacked, ..Ending::default() })?;
    let reset = Ending { reason: "reset_received", error: Some("ECONNRESET"), ..Ending::default() };
    case.client_ends(reset)
}
