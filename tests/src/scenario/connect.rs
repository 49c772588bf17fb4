//! Connects that fail: each has its own close_reason and errno, and its right local port (CASES 3 and 9).

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::{LONG, Probe, causes, expect, local_port};
use crate::kit::{Line, wait_until};
use crate::link::{Direction, Link, Pick, Rule};
use crate::traffic::{Options, connect_from, start_connect};
use crate::truth::{Counters, TcpInfo};

/// Port that the client binds, so that the record's can be known.
const CLIENT_PORT: u16 = 40_001;
/// Port that nobody listens on.
const SERVER_PORT: u16 = 9_999;
/// TCP_SYN_RECV of net/tcp_states.h.
const SYN_RECV: u8 = 3;

fn link() -> Result<Link> {
    Link::builder().delay(Duration::from_millis(5)).build()
}

fn bound() -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, 1), CLIENT_PORT).into()
}

/// Connect from the known port, which has to fail, and return flowprobe's record.
fn fail(probe: &Probe, link: &Link, to: SocketAddr, options: &Options, kind: ErrorKind) -> Result<Line> {
    match connect_from(&link.client, Some(bound()), to, options)? {
        Ok(_) => bail!("a connect that had to fail succeeded"),
        Err(error) => expect("the connect's error", error.kind(), kind)?,
    }
    let line = probe.ended_one(&link.client)?;
    expect("role", line.text("role")?, "client")?;
    expect("family", line.text("family")?, "ipv4")?;
    expect("local_addr", line.text("local_addr")?, "192.0.2.1")?;
    expect("local_port", local_port(&line)?, CLIENT_PORT)?;
    expect("remote_addr", line.text("remote_addr")?, to.ip().to_string())?;
    expect("remote_port", line.u64("remote_port")?, u64::from(to.port()))?;
    expect("adopted", line.flag("adopted")?, false)?;
    expect("bytes_sent", line.u64("bytes_sent")?, 0)?;
    for never in ["srtt_us", "min_rtt_us", "handshake_rtt_us", "rtt_max_us"] {
        expect(never, line.maybe_u64(never)?, None)?;
    }
    ensure!(line.histogram()?.is_empty(), "a connect that failed has round trips");
    Ok(line)
}

fn ends_with(line: &Line, reason: &str, error: &str) -> Result<()> {
    expect("close_reason", line.text("close_reason")?, reason)?;
    expect("error", line.maybe_text("error")?, Some(error))
}

/// Nobody listens.
///
/// # Errors
/// When the record is wrong.
pub fn refused(probe: &Probe) -> Result<()> {
    let link = link()?;
    let line =
        fail(probe, &link, link.server_v4(SERVER_PORT), &Options::default(), ErrorKind::ConnectionRefused)?;
    ends_with(&line, "connect_refused", "ECONNREFUSED")?;
    expect("retrans_segs", causes(&line)?.all, 0)?;
    // The refusing kernel had no socket: it has no flow.
    probe.ended(&link.server, 0)?;
    Ok(())
}

/// Nobody answers; the SYN is repeated once and given up.
///
/// # Errors
/// When the record is wrong.
pub fn timed_out(probe: &Probe) -> Result<()> {
    let link = link()?;
    link.blackout(true);
    let before = Counters::of(&link.client)?;
    let options = Options { syn_retries: Some(1), ..Options::default() };
    let line = fail(probe, &link, link.server_v4(SERVER_PORT), &options, ErrorKind::TimedOut)?;
    ends_with(&line, "connect_timeout", "ETIMEDOUT")?;
    let causes = causes(&line)?;
    expect(
        "retrans_syn",
        causes.syn,
        link.ledger().only_flow()?.sent(Direction::ToServer).retransmitted.syn,
    )?;
    expect("retrans_segs", causes.all, causes.syn)?;
    expect("RetransSegs", Counters::of(&link.client)?.since(&before, "Tcp.RetransSegs")?, causes.all)?;
    ensure!(causes.syn >= 1, "the SYN was not repeated");
    let lasted = line.u64("duration_us")?;
    ensure!(lasted >= 900_000, "a connect that was given up after a second or more lasted {lasted} µs");
    Ok(())
}

/// A router says that there is no way.
///
/// # Errors
/// When the record is wrong.
pub fn unreachable(probe: &Probe) -> Result<()> {
    let link = link()?;
    let nowhere = Ipv4Addr::new(198, 51, 100, 0);
    link.route(Direction::ToServer, nowhere)?;
    link.server.set_sysctl("net/ipv4/ip_forward", "1")?;
    let to = (Ipv4Addr::new(198, 51, 100, 7), SERVER_PORT).into();
    let line = fail(probe, &link, to, &Options::default(), ErrorKind::NetworkUnreachable)?;
    ends_with(&line, "connect_unreachable", "ENETUNREACH")
}

/// Both ends connect to each other at once, and one is reset before the handshake is complete.
///
/// # Errors
/// When the record is wrong.
pub fn reset_while_connecting(probe: &Probe) -> Result<()> {
    // So long a way that both have called connect() before a SYN arrives, on a slow machine too.
    let link = Link::builder().delay(Duration::from_millis(700)).build()?;
    // Neither SYN-ACK arrives: both ends stay where each has the other's SYN.
    for direction in Direction::BOTH {
        link.rule(Rule::drop(direction, Pick::When(Box::new(|seen| seen.kind == crate::link::Kind::SynAck))));
    }
    let far = link.server_v4(SERVER_PORT);
    let ours = start_connect(&link.client, bound(), far)?;
    let theirs = start_connect(&link.server, far, bound())?;
    for (socket, whose) in [(&ours, "our"), (&theirs, "their")] {
        wait_until(LONG, &format!("{whose} end has seen the other's SYN"), || {
            Ok(TcpInfo::of(socket)?.state == SYN_RECV)
        })?;
    }
    SockRef::from(&theirs).set_linger(Some(Duration::ZERO))?;
    drop(theirs);
    let mut fds = [PollFd::new(&ours, PollFlags::OUT)];
    let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
    ensure!(poll(&mut fds, Some(&patience))? == 1, "the reset did not end the connect");
    let error = SockRef::from(&ours).take_error()?.context("the connect has no error")?;
    expect("the connect's error", error.kind(), ErrorKind::ConnectionReset)?;
    ensure!(ours.as_fd().try_clone_to_owned().is_ok(), "the socket is still open");
    let line = probe.ended_one(&link.client)?;
    expect("local_port", local_port(&line)?, CLIENT_PORT)?;
    expect("remote_port", line.u64("remote_port")?, u64::from(SERVER_PORT))?;
    expect("role", line.text("role")?, "client")?;
    ends_with(&line, "connect_reset", "ECONNRESET")
}
