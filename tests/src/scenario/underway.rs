//! Connects that are under way when the daemon starts: however they end, they have one record, as clients, and the SYNs of
//! before are not counted as new (CASE 7).

use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};
use socket2::SockRef;

use super::start::{CLOSED, LIVE, OPENED, cookie_of, of_role, start_daemon};
use super::{LONG, Probe, causes, expect};
use crate::kit::{Line, wait_until};
use crate::link::{Direction, Kind, Link, Pick, Rule};
use crate::traffic::{Behaviour, Options, Pair, Server, drained, echo, pairs, start_connect};
use crate::truth::TcpInfo;

const PORT: u16 = 8_080;
const NOBODY: u16 = 9_999;
/// States of net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const FAILURES: &str = "flowprobe_tcp_connect_failures_total";
const RETRANSMITTED: &str = "flowprobe_tcp_retransmitted_segments_total";

/// A connect whose SYNs are dropped, and a daemon that was started after the first repetition.
struct UnderWay {
    link: Link,
    probe: Probe,
    cookie: u64,
    /// Repeated SYNs before the daemon's start, and when it was ready.
    repeated: [u32; 2],
}

impl UnderWay {
    fn new(port: u16, retries: &str) -> Result<(Self, TcpStream)> {
        let link = Link::builder().build()?;
        link.client.set_sysctl("net/ipv4/tcp_syn_retries", retries)?;
        // Back off from the first repetition on; before Linux 6.5 there is nothing else.
        let _ = link.client.set_sysctl("net/ipv4/tcp_syn_linear_timeouts", "0");
        let syns = Pick::When(Box::new(|seen| seen.kind == Kind::Syn));
        link.rule(Rule::drop(Direction::ToServer, syns));
        let local = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 40_010));
        let stream = start_connect(&link.client, local, link.server_v6(port))?;
        let cookie = SockRef::from(&stream).cookie()?;
        let repeated = || -> Result<u32> { Ok(TcpInfo::of(&stream)?.total_retrans) };
        wait_until(LONG, "the SYN was repeated", || Ok(repeated()? >= 1))?;
        let before = repeated()?;
        let daemon = start_daemon()?;
        let repeated = [before, repeated()?];
        Ok((Self { probe: Probe::on(daemon)?, link, cookie, repeated }, stream))
    }

    /// Let SYNs pass after at least one that the daemon must have seen repeated.
    fn let_pass(&self, stream: &TcpStream) -> Result<()> {
        wait_until(LONG, "the SYN was repeated again", || {
            Ok(TcpInfo::of(stream)?.total_retrans > self.repeated[1])
        })?;
        self.link.clear_rules();
        Ok(())
    }

    /// Wait for the end of a sweep that began after now: a live connection is first counted by a sweep, and a second one by a
    /// later sweep. The caller keeps them.
    fn two_sweeps(&self) -> Result<Vec<Pair>> {
        self.link.clear_rules();
        let mut made = Vec::new();
        for live in [1.0, 2.0] {
            made.extend(pairs(&self.link, PORT, 1)?);
            wait_until(LONG, "a sweep has found a new connection", || {
                Ok(of_role(&self.probe.scrape()?, LIVE, "client") == live)
            })?;
        }
        Ok(made)
    }

    /// The record's SYNs: all that the kernel counted, those of before the daemon without a cause. How many are new, at least
    /// and at most.
    fn syns_are_right(&self, line: &Line, all: u32) -> Result<[f64; 2]> {
        expect("the cookie", cookie_of(line)?, self.cookie)?;
        expect("role", line.text("role")?, "client")?;
        expect("local_port", line.u64("local_port")?, 40_010)?;
        let causes = causes(line)?;
        let [least, most] = self.repeated.map(u64::from);
        expect("retrans_segs", causes.all, u64::from(all))?;
        expect("retrans_syn and retrans_unattributed", causes.syn + causes.unattributed, causes.all)?;
        ensure!(causes.all > most, "no SYN was repeated after the start: nothing is proved");
        if line.text("rtt_source")? == "sweep" {
            // Callbacks could not be switched on for a socket that is connecting (before Linux 6.12): no cause was seen.
            expect("retrans_unattributed", causes.unattributed, causes.all)?;
            return Ok([causes.all - most, causes.all - least].map(|new| new as f64));
        }
        ensure!(
            (least..=most).contains(&causes.unattributed),
            "retrans_unattributed is {}, should be {least} to {most}: {line:?}",
            causes.unattributed
        );
        Ok([causes.syn as f64; 2])
    }

    /// What the metrics say at the end of a connect that was established and `closed`, or `failed` with a reason.
    fn counted(&self, syns: [f64; 2], closed: f64, failed: Option<&str>) -> Result<()> {
        let all = [("family", "ipv6")];
        let failures = f64::from(u8::from(failed.is_some()));
        let mut last = [0.0; 4];
        let counted = wait_until(LONG, "the end is counted", || {
            let scrape = self.probe.scrape()?;
            let of_reason = |reason| scrape.sum(FAILURES, &[("family", "ipv6"), ("reason", reason)]);
            last = [
                of_role(&scrape, OPENED, "client"),
                of_role(&scrape, CLOSED, "client"),
                failed.map_or(0.0, of_reason),
                of_role(&scrape, LIVE, "client"),
            ];
            Ok(last == [0.0, closed, failures, 0.0])
        });
        counted.with_context(|| format!("opened, closed, failed, live: {last:?}"))?;
        let scrape = self.probe.scrape()?;
        expect("all connect failures", scrape.sum(FAILURES, &all), failures)?;
        expect("live connections of unknown role", of_role(&scrape, LIVE, "unknown"), 0.0)?;
        expect("closed connections of unknown role", of_role(&scrape, CLOSED, "unknown"), 0.0)?;
        let repeated = scrape.sum(RETRANSMITTED, &all);
        ensure!((syns[0]..=syns[1]).contains(&repeated), "{repeated} SYNs are counted, should be {syns:?}");
        Ok(())
    }
}

fn reaches(stream: &TcpStream, state: u8) -> Result<()> {
    wait_until(LONG, &format!("the socket is in state {state}"), || Ok(TcpInfo::of(stream)?.state == state))
}

/// It is established at last: one record, of a client, and its repeated SYNs since the start are counted.
///
/// # Errors
/// When it is lost, doubled, or its role is not known.
pub fn connect_succeeds_later() -> Result<()> {
    let (under_way, mut stream) = UnderWay::new(PORT, "6")?;
    let link = &under_way.link;
    let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Echo, &Options::default())?;
    under_way.let_pass(&stream)?;
    reaches(&stream, ESTABLISHED)?;
    stream.set_nonblocking(false)?;
    echo(&mut stream, 3, 1_000)?;
    drained(&stream, LONG)?;
    stream.shutdown(Shutdown::Write)?;
    server.served(1, LONG)?;
    reaches(&stream, CLOSE)?;
    let repeated = TcpInfo::of(&stream)?.total_retrans;
    drop(stream);
    let line = under_way.probe.ended_one(&link.client)?;
    let syns = under_way.syns_are_right(&line, repeated)?;
    expect("bytes_sent", line.u64("bytes_sent")?, 3_000)?;
    expect("handshake_rtt_us", line.maybe_u64("handshake_rtt_us")?, None)?;
    expect("close_reason", line.text("close_reason")?, "fin_local")?;
    // The handshake's callback comes on every kernel, and callbacks can be switched on in it.
    ensure!(line.u64("rtt_samples")? > 0, "its round trips were not sampled: {line:?}");
    let accepted = under_way.probe.ended_one(&link.server)?;
    expect("the server's role", accepted.text("role")?, "server")?;
    expect("the server's adopted", accepted.flag("adopted")?, false)?;
    under_way.counted(syns, 1.0, None)?;
    under_way.probe.stop()
}

/// It is refused at last: one failed connect.
///
/// # Errors
/// When it is lost, doubled or misnamed.
pub fn connect_is_refused_later() -> Result<()> {
    let (under_way, stream) = UnderWay::new(NOBODY, "6")?;
    under_way.let_pass(&stream)?;
    fails(&under_way, stream, "connect_refused", "ECONNREFUSED")?;
    under_way.probe.stop()
}

/// Nobody answers, and the kernel gives up: one failed connect.
///
/// # Errors
/// When it is lost, doubled or misnamed.
pub fn connect_times_out_later() -> Result<()> {
    let (under_way, stream) = UnderWay::new(NOBODY, "3")?;
    fails(&under_way, stream, "connect_timeout", "ETIMEDOUT")?;
    under_way.probe.stop()
}

fn fails(under_way: &UnderWay, stream: TcpStream, reason: &str, error: &str) -> Result<()> {
    reaches(&stream, CLOSE)?;
    let repeated = TcpInfo::of(&stream)?.total_retrans;
    // The error is not fetched, so that kernels that show the end only when the socket is destroyed show it too.
    drop(stream);
    let line = under_way.probe.ended_one(&under_way.link.client)?;
    let syns = under_way.syns_are_right(&line, repeated)?;
    expect("close_reason", line.text("close_reason")?, reason)?;
    expect("error", line.maybe_text("error")?, Some(error))?;
    expect("bytes_sent", line.u64("bytes_sent")?, 0)?;
    under_way.counted(syns, 0.0, Some(reason))?;
    // The kernel counted the connect before the daemon came.
    let _swept = under_way.two_sweeps()?;
    let opens = [("counter", "ActiveOpens")];
    // What connects during a sweep, such as a scrape, is off by one until the next.
    let mut ratio = None;
    wait_until(LONG, "the ratio to the kernel's ActiveOpens is 1", || {
        ratio = under_way.probe.scrape()?.value("flowprobe_reconciliation_ratio", &opens);
        Ok(ratio == Some(1.0))
    })
    .with_context(|| format!("it is {ratio:?}"))
}
