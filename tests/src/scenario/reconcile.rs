//! Do flowprobe's sums equal the kernel's own counters, to the unit, by the daemon's ratio and by `check --reconcile`?

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::check::inode_of;
use super::download::PORT;
use super::{LONG, Probe, command, expect};
use crate::kit::{Namespace, Process, Stream, wait_until};
use crate::link::{Direction, Kind, Link, Pick, Rule};
use crate::traffic::{
    Behaviour, Options, Server, connect, drained, echo, receive_all, send_all, start_connect,
};
use crate::truth::{Counters, TcpInfo};

/// Counters that our records determine, each with its name in [`Counters`].
const EXACT: [(&str, &str); 7] = [
    ("ActiveOpens", "Tcp.ActiveOpens"),
    ("PassiveOpens", "Tcp.PassiveOpens"),
    ("EstabResets", "Tcp.EstabResets"),
    ("RetransSegs", "Tcp.RetransSegs"),
    ("TCPFastRetrans", "TcpExt.TCPFastRetrans"),
    ("TCPSynRetrans", "TcpExt.TCPSynRetrans"),
    ("TCPRetransFail", "TcpExt.TCPRetransFail"),
];
/// The one of these that the traffic here does not raise.
const IDLE: &str = "TCPRetransFail";

/// TCP_CLOSE of net/tcp_states.h.
const CLOSE: u8 = 7;
/// Ports of the server beside [`PORT`].
const RESETTING: u16 = 9_001;
const SILENT: u16 = 9_002;
const DEAF: u16 = 9_003;
const NOBODY: u16 = 9_999;

/// A running `flowprobe check --reconcile -o json`.
struct Check(Process);

impl Check {
    fn start(probe: &Probe) -> Result<Self> {
        let mut command = command(probe.daemon()?.run_dir())?;
        command.args(["check", "--reconcile", "10m", "-o", "json"]);
        let mut process = Process::start(command, None)?;
        wait_until(LONG, "the comparison has begun", || {
            process.expect_running()?;
            Ok(process.output(Stream::Err).contains("counting for"))
        })?;
        Ok(Self(process))
    }

    /// End it, and what it printed.
    fn conclude(self) -> Result<Value> {
        self.0.signal(Signal::INT)?;
        let done = self.0.finish(LONG)?;
        let report: Value = serde_json::from_str(&done.out)
            .with_context(|| format!("`check` printed no JSON: {} {}", done.out, done.err))?;
        ensure!(done.code == Some(0), "`check` ended with {:?}: {report:#}", done.code);
        expect("agrees", &report["agrees"], true)?;
        Ok(report)
    }
}

/// One counter's row for a namespace; `None` when nothing happened there.
fn row<'a>(report: &'a Value, namespace: &Namespace, counter: &str) -> Result<Option<&'a Value>> {
    for entry in report["namespaces"].as_array().context("no namespaces")? {
        if inode_of(&entry["netns"])? == namespace.inode() {
            let rows = entry["counters"].as_array().context("no counters")?;
            return Ok(rows.iter().find(|row| row["counter"] == counter));
        }
    }
    Ok(None)
}

/// The link's two namespaces before the traffic.
struct Before([Counters; 2]);

impl Before {
    fn of(link: &Link) -> Result<Self> {
        Ok(Self([Counters::of(&link.client)?, Counters::of(&link.server)?]))
    }

    /// Each exact counter has its row, with our own reading of the kernel's counter on both sides and no difference.
    fn no_difference(&self, link: &Link, report: &Value) -> Result<()> {
        for (counter, file) in EXACT {
            let mut raised = 0;
            for (namespace, before) in [&link.client, &link.server].into_iter().zip(&self.0) {
                let grown = Counters::of(namespace)?.since(before, file)?;
                let row = row(report, namespace, counter)?.with_context(|| format!("no row of {counter}"))?;
                let said =
                    |key: &str| row[key].as_i64().with_context(|| format!("{counter}: no {key}: {row}"));
                ensure!(row["exact"] == true, "{counter} is not exact: {row}");
                expect(&format!("{counter}: kernel"), said("kernel")?, grown.cast_signed())?;
                expect(&format!("{counter}: difference"), said("difference")?, 0)?;
                expect(&format!("{counter}: flowprobe"), said("flowprobe")?, grown.cast_signed())?;
                raised += grown;
            }
            ensure!(raised > 0 || counter == IDLE, "{counter} was not raised: the scenario proves nothing");
        }
        Ok(())
    }
}

/// Losses, repeated SYNs and SYN-ACKs, a request that never completes, resets, a refused connect, and one that is still
/// under way when the comparison ends: no counter that is exact differs.
///
/// # Errors
/// When one does.
pub fn counters_agree(probe: &Probe) -> Result<()> {
    let link = Link::builder()
        .delay(Duration::from_millis(5))
        .loss(Direction::ToClient, 0.03)
        .loss(Direction::ToServer, 0.01)
        .seed(20)
        .build()?;
    link.server.set_sysctl("net/ipv4/tcp_synack_retries", "1")?;
    let check = Check::start(probe)?;
    let before = Before::of(&link)?;
    downloads_with_losses(&link)?;
    link.set_loss(Direction::ToClient, 0.0);
    link.set_loss(Direction::ToServer, 0.0);
    resets(&link)?;
    refused(&link)?;
    never_completed(&link)?;
    let under_way = connect_under_way(&link)?;
    link.settled(LONG)?;
    let report = check.conclude()?;
    before.no_difference(&link, &report)?;
    drop(under_way);
    ratios_are_one(probe)
}

fn downloads_with_losses(link: &Link) -> Result<()> {
    const CONNECTIONS: usize = 10;
    let options = Options::default();
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Send(200_000), &options)?;
    link.rule(Rule::drop(Direction::ToServer, Pick::Syn(1)));
    link.rule(Rule::drop(Direction::ToClient, Pick::SynAck(1)));
    link.rule(Rule::drop(Direction::ToClient, Pick::Data(20)));
    let mut streams = vec![connect(&link.client, server.address, &options)??];
    link.clear_rules();
    for _ in 1..CONNECTIONS {
        streams.push(connect(&link.client, server.address, &options)??);
    }
    for stream in &mut streams {
        expect("bytes that arrived", receive_all(stream)?, 200_000)?;
    }
    drop(streams);
    server.served(CONNECTIONS, LONG)?;
    Ok(())
}

/// One reset by each side.
fn resets(link: &Link) -> Result<()> {
    let options = Options::default();
    let server = Server::start(&link.server, link.server_v4(RESETTING), Behaviour::LeaveUnread, &options)?;
    let mut stream = connect(&link.client, server.address, &options)??;
    send_all(&mut stream, 10)?;
    wait_until(LONG, "the server's reset has arrived", || Ok(TcpInfo::of(&stream)?.state == CLOSE))?;
    drop(stream);
    drop(server);
    let server = Server::start(&link.server, link.server_v4(RESETTING), Behaviour::Sink, &options)?;
    let mut stream = connect(&link.client, server.address, &Options { reset_on_close: true, ..options })??;
    send_all(&mut stream, 10)?;
    drained(&stream, LONG)
}

fn refused(link: &Link) -> Result<()> {
    match connect(&link.client, link.server_v4(NOBODY), &Options::default())? {
        Ok(_) => bail!("a connect to nobody succeeded"),
        Err(error) => expect("the connect's error", error.kind(), ErrorKind::ConnectionRefused),
    }
}

/// No SYN-ACK arrives: both sides give up.
fn never_completed(link: &Link) -> Result<()> {
    let synacks = Pick::When(Box::new(|seen| seen.kind == Kind::SynAck));
    link.rule(Rule::drop(Direction::ToClient, synacks).to_port(SILENT));
    let options = Options { syn_retries: Some(1), ..Options::default() };
    let before = Counters::of(&link.server)?;
    let server = Server::start(&link.server, link.server_v4(SILENT), Behaviour::Sink, &options)?;
    match connect(&link.client, server.address, &options)? {
        Ok(_) => bail!("a connect without answer succeeded"),
        Err(error) => expect("the connect's error", error.kind(), ErrorKind::TimedOut)?,
    }
    wait_until(LONG, "the server has repeated its SYN-ACK", || {
        Ok(Counters::of(&link.server)?.since(&before, "Tcp.RetransSegs")? >= 1)
    })
}

/// A connect without answer that has repeated its SYN and goes on.
fn connect_under_way(link: &Link) -> Result<std::net::TcpStream> {
    let syns = Pick::When(Box::new(|seen| seen.kind == Kind::Syn));
    link.rule(Rule::drop(Direction::ToServer, syns).to_port(DEAF));
    let local = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 40_003));
    let stream = start_connect(&link.client, local, link.server_v4(DEAF))?;
    wait_until(LONG, "the SYN was repeated", || Ok(TcpInfo::of(&stream)?.total_retrans >= 1))?;
    Ok(stream)
}

/// The daemon's ratios, once all connections have ended.
fn ratios_are_one(probe: &Probe) -> Result<()> {
    const RATIO: &str = "flowprobe_reconciliation_ratio";
    let mut last = Vec::new();
    let agreed = wait_until(LONG, "all ratios are 1", || {
        let scrape = probe.scrape()?;
        last = EXACT.map(|(name, _)| (name, scrape.value(RATIO, &[("counter", name)]))).to_vec();
        for inexact in ["TCPTimeouts", "TCPLossProbes", "AttemptFails"] {
            expect(inexact, scrape.value(RATIO, &[("counter", inexact)]), None)?;
        }
        #[expect(clippy::float_cmp, reason = "equal counts have the quotient 1")]
        Ok(last.iter().all(|(name, ratio)| ratio.map_or(*name == IDLE, |ratio| ratio == 1.0)))
    });
    agreed.with_context(|| format!("the ratios: {last:?}"))
}

/// Connections that are older than the comparison: from its start on they are counted, or it is said why not.
///
/// # Errors
/// When there is a difference that is not explained.
pub fn older_connections_agree(probe: &Probe) -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(5)).seed(21).build()?;
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
    let options = Options { reset_on_close: true, ..Options::default() };
    let mut stream = connect(&link.client, server.address, &options)??;
    link.set_loss(Direction::ToServer, 0.1);
    echo(&mut stream, 20, 5000)?;
    let check = Check::start(probe)?;
    let before = Counters::of(&link.client)?;
    echo(&mut stream, 30, 5000)?;
    drained(&stream, LONG)?;
    drop(stream);
    link.settled(LONG)?;
    let report = check.conclude()?;
    let grown = Counters::of(&link.client)?.since(&before, "Tcp.RetransSegs")?;
    ensure!(grown > 0, "nothing was sent again: the scenario proves nothing");
    let client =
        |counter| row(&report, &link.client, counter)?.with_context(|| format!("no row of {counter}"));
    let retrans = client("RetransSegs")?;
    expect("RetransSegs: kernel", &retrans["kernel"], grown)?;
    expect("RetransSegs: difference", &retrans["difference"], 0)?;
    let resets = client("EstabResets")?;
    expect("EstabResets: kernel", &resets["kernel"], 1)?;
    // Kernels before 6.12 do not let the probe see how an older connection ends.
    let said = resets["why"].to_string().contains("older than the probe");
    expect("EstabResets: why", said, resets["difference"] != 0)
}
