//! Does Prometheus get what took place? Families and labels against a golden list, `promtool check metrics`, the sums of
//! the metrics against the records of the same traffic, and a real Prometheus server that scrapes and answers.
//!
//! All traffic is IPv6: the scrapes themselves are IPv4 connections and would count.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::kit::{
    Line, Process, Scrape, Stream, free_port, get, get_text, post, take_turn, wait_for, wait_until,
};
use tests::link::{Direction, Link, Pick, Rule};
use tests::scenario::{Daemon, LONG, Probe, expect};
use tests::traffic::{Behaviour, Options, Server, connect, receive_all};

const CONNECTIONS: usize = 7;
const BYTES: usize = 50_000;
const REFUSED: usize = 3;
/// Labels that a configuration may add to every TCP series.
const GROUP_LABELS: [&str; 6] = ["asn", "bgp_prefix", "country", "list", "prefix", "service"];

/// Seven downloads of 50 kB with one lost segment each over 10 ms each way, then three refused connects; the records of
/// the downloads.
fn traffic(probe: &Probe) -> Result<Vec<Line>> {
    let link = Link::builder().delay(Duration::from_millis(10)).build()?;
    link.rule(Rule::drop(Direction::ToClient, Pick::Data(12)));
    let server =
        Server::start(&link.server, link.server_v6(8080), Behaviour::Send(BYTES), &Options::default())?;
    for _ in 0..CONNECTIONS {
        let mut stream = connect(&link.client, server.address, &Options::default())??;
        expect("the bytes that arrived", receive_all(&mut stream)?, BYTES)?;
    }
    server.served(CONNECTIONS, LONG)?;
    let mut lines = probe.ended(&link.client, CONNECTIONS)?;
    lines.extend(probe.ended(&link.server, CONNECTIONS)?);
    let other = Link::builder().delay(Duration::from_millis(10)).build()?;
    for _ in 0..REFUSED {
        let refused = connect(&other.client, other.server_v6(9), &Options::default())?;
        ensure!(refused.is_err(), "nobody listens there");
    }
    probe.ended(&other.client, REFUSED)?;
    Ok(lines)
}

#[test]
fn families_types_and_labels_are_the_golden_ones() -> Result<()> {
    let _turn = take_turn()?;
    let probe = Probe::start()?;
    traffic(&probe)?;
    let scrape = probe.scrape()?;
    let mut known = BTreeSet::new();
    for line in include_str!("golden/metrics.txt").lines().filter(|line| !line.starts_with('#')) {
        let [name, kinds, labels] = line.split(' ').collect::<Vec<_>>()[..] else {
            anyhow::bail!("not `name type labels`: {line}")
        };
        let (optional, name) = name.strip_prefix('?').map_or((false, name), |name| (true, name));
        known.insert(name);
        let Some(family) = scrape.families.get(name) else {
            ensure!(optional, "{name} is missing");
            continue;
        };
        ensure!(
            kinds.split('|').any(|kind| kind == family.kind),
            "{name} is a {}, not a {kinds}",
            family.kind
        );
        ensure!(family.help.len() > 10, "{name} has no help: `{}`", family.help);
        if labels != "*" {
            let should: BTreeSet<String> = labels.split(',').map(str::to_owned).collect();
            let mut is = family.labels.clone();
            if name.starts_with("flowprobe_tcp_") {
                is.retain(|label| !GROUP_LABELS.contains(&label.as_str()));
            }
            expect(&format!("{name}'s labels"), is, should)?;
        }
    }
    let unknown: Vec<_> = scrape
        .families
        .keys()
        .filter(|name| !known.contains(name.as_str()) && !name.starts_with("process_"))
        .collect();
    ensure!(unknown.is_empty(), "{unknown:?} are not in golden/metrics.txt: add them");
    // The addresses and ports of clients never get into a label.
    let text = get_text(probe.daemon()?.address, "/metrics")?;
    for secret in ["2001:db8::1\"", "2001:db8::2\"", "192.0.2.1\""] {
        ensure!(!text.contains(secret), "{secret} is in a label");
    }
    probe.stop()
}

#[test]
fn promtool_has_nothing_to_say() -> Result<()> {
    let _turn = take_turn()?;
    let probe = Probe::start()?;
    traffic(&probe)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("scrape");
    fs::write(&file, get_text(probe.daemon()?.address, "/metrics")?)?;
    let said = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(File::open(&file)?)
        .output()
        .context("cannot run promtool: install Debian's package `prometheus`")?;
    let words = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    expect("promtool's words", words.trim(), "")?;
    expect("promtool's exit code", said.status.code(), Some(0))?;
    probe.stop()
}

#[test]
fn metrics_are_the_sums_of_the_records() -> Result<()> {
    let _turn = take_turn()?;
    let probe = Probe::start()?;
    let lines = traffic(&probe)?;
    let scrape = wait_for(LONG, "the refused connects are counted", || {
        let scrape = probe.scrape()?;
        let labels = [("family", "ipv6"), ("reason", "connect_refused")];
        let refused = scrape.sum("flowprobe_tcp_connect_failures_total", &labels);
        Ok((refused >= REFUSED as f64).then_some(scrape))
    })?;
    for role in ["client", "server"] {
        sums_agree(role, &lines, &scrape).with_context(|| format!("role {role}"))?;
    }
    let refused = scrape.sum("flowprobe_tcp_connect_failures_total", &[("family", "ipv6")]);
    expect("failed connects", refused, REFUSED as f64)?;
    probe.stop()
}

fn sums_agree(role: &str, lines: &[Line], scrape: &Scrape) -> Result<()> {
    let lines: Vec<&Line> =
        lines.iter().filter(|line| line.text("role").is_ok_and(|is| is == role)).collect();
    expect("the number of records", lines.len(), CONNECTIONS)?;
    let family = [("family", "ipv6"), ("role", role)];
    let metric = |name: &str, more: &[(&str, &str)]| {
        let labels: Vec<_> = family.iter().chain(more).copied().collect();
        scrape.sum(&format!("flowprobe_tcp_{name}"), &labels)
    };
    let sum = |field: &str| -> Result<f64> {
        let values = lines.iter().map(|line| Ok(line.maybe_u64(field)?.unwrap_or(0)));
        Ok(values.sum::<Result<u64>>()? as f64)
    };
    for name in ["connections_opened_total", "connections_closed_total"] {
        expect(name, metric(name, &[]), CONNECTIONS as f64)?;
    }
    expect("connections", metric("connections", &[]), 0.0)?;
    // The refused connects add their SYNs to the client's segments, and nothing else.
    let syns = if role == "client" { REFUSED as f64 } else { 0.0 };
    expect("segments sent", metric("segments_sent_total", &[]), sum("segs_out")? + syns)?;
    for (name, field) in [
        ("data_segments_sent_total", "data_segs_out"),
        ("retransmitted_segments_total", "retrans_segs"),
        ("spurious_retransmitted_segments_total", "spurious_segs"),
        ("retransmitted_bytes_total", "retrans_bytes"),
        ("rtos_total", "rto_count"),
        ("sent_bytes_total", "bytes_sent"),
        ("acked_bytes_total", "bytes_acked"),
        ("received_bytes_total", "bytes_received"),
        ("ce_delivered_segments_total", "ce_delivered_segs"),
        ("rtt_seconds_count", "rtt_samples"),
    ] {
        expect(name, metric(name, &[]), sum(field)?)?;
    }
    for cause in ["fast", "rto", "tlp", "syn", "synack", "other", "unattributed"] {
        let is = metric("retransmitted_segments_total", &[("cause", cause)]);
        expect(cause, is, sum(&format!("retrans_{cause}"))?)?;
    }
    for (name, field) in [("busy_seconds_total", "busy_us"), ("rtt_seconds_sum", "rtt_sum_us")] {
        let (is, should) = (metric(name, &[]), sum(field)? / 1e6);
        ensure!(
            (is - should).abs() < 1e-6 + should / 1000.0,
            "{name} is {is}, the records sum up to {should}"
        );
    }
    for (name, field) in [("min_rtt_seconds", "min_rtt_us"), ("handshake_rtt_seconds", "handshake_rtt_us")] {
        let mut with_sample = 0.0;
        for line in &lines {
            with_sample += f64::from(u8::from(line.maybe_u64(field)?.is_some()));
        }
        expect(name, metric(&format!("{name}_count"), &[]), with_sample)?;
        let all = metric(&format!("{name}_bucket"), &[("le", "+Inf")]);
        expect(&format!("{name}'s last bucket"), all, with_sample)?;
    }
    let seen = metric("received_bytes_total", &[]) + metric("sent_bytes_total", &[]);
    ensure!(seen >= (CONNECTIONS * BYTES) as f64, "only {seen} bytes are counted");
    if role == "server" {
        let again = metric("retransmitted_segments_total", &[("cause", "fast")]);
        ensure!(again >= CONNECTIONS as f64, "{CONNECTIONS} lost segments, {again} fast retransmissions");
    }
    Ok(())
}

#[test]
fn the_http_side_is_small() -> Result<()> {
    let _turn = take_turn()?;
    let daemon = Daemon::start()?;
    let at = daemon.address;
    expect("/-/healthy", get(at, "/-/healthy")?.status, 200)?;
    expect("/-/ready", get(at, "/-/ready")?.status, 200)?;
    let page = get(at, "/")?;
    expect("/", page.status, 200)?;
    ensure!(
        page.body.contains("flowprobe") && page.body.contains("/metrics"),
        "the page says: {}",
        page.body
    );
    expect("a page that is not there", get(at, "/nothing")?.status, 404)?;
    expect("POST", post(at, "/metrics", "a=b")?.status, 405)?;
    let metrics = get(at, "/metrics")?;
    let kind = metrics.head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-type:"));
    ensure!(kind.is_some_and(|kind| kind.contains("text/plain")), "the type of /metrics is {kind:?}");
    daemon.stop().map(drop)
}

#[test]
fn a_prometheus_server_answers_for_the_traffic() -> Result<()> {
    let _turn = take_turn()?;
    let probe = Probe::start()?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("prometheus.yml");
    fs::write(
        &config,
        format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: flowprobe\n    \
             static_configs:\n      - targets: ['{}']\n",
            probe.daemon()?.address
        ),
    )?;
    let server = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={server}"));
    let mut prometheus = Process::start(command, None).context("install Debian's package `prometheus`")?;
    wait_until(LONG, "Prometheus has scraped the daemon", || {
        prometheus.expect_running()?;
        Ok(query(server, "up{job=\"flowprobe\"}").is_ok_and(|value| value == Some(1.0)))
    })
    .with_context(|| prometheus.output(Stream::Err))?;
    traffic(&probe)?;
    let all = CONNECTIONS as f64;
    for (what, wanted) in [
        ("sum(flowprobe_tcp_connections_closed_total{family=\"ipv6\",role=\"server\"})", all..=all),
        ("sum(flowprobe_tcp_connections_opened_total{family=\"ipv6\",role=\"client\"})", all..=all),
        ("sum(flowprobe_tcp_connect_failures_total{family=\"ipv6\",reason=\"connect_refused\"})", 3.0..=3.0),
        ("sum(flowprobe_tcp_retransmitted_segments_total{family=\"ipv6\",cause=\"fast\"})", all..=2.0 * all),
        ("sum(flowprobe_tcp_received_bytes_total{family=\"ipv6\",role=\"client\"})", 350_000.0..=350_007.0),
        (
            "histogram_quantile(0.5, sum by (le) (flowprobe_tcp_rtt_seconds_bucket{family=\"ipv6\",role=\"server\"}))",
            0.0168..=0.0295,
        ),
        (
            "histogram_quantile(0.9, sum by (le) (flowprobe_tcp_min_rtt_seconds_bucket{family=\"ipv6\"}))",
            0.0168..=0.0295,
        ),
        ("min(flowprobe_hook_up)", 0.0..=1.0),
        ("sum(flowprobe_records_lost_total)", 0.0..=0.0),
    ] {
        let mut last = None;
        wait_until(Duration::from_secs(30), &format!("{what} is {wanted:?}"), || {
            last = query(server, what)?;
            Ok(last.is_some_and(|value| wanted.contains(&value)))
        })
        .with_context(|| format!("it is {last:?}"))?;
    }
    prometheus.stop(LONG)?;
    probe.stop()
}

/// The value of a PromQL expression that gives one; `None` when it gives none.
fn query(server: SocketAddr, expression: &str) -> Result<Option<f64>> {
    let mut form = String::from("query=");
    for byte in expression.bytes() {
        form.push_str(&format!("%{byte:02x}"));
    }
    let answer = post(server, "/api/v1/query", &form)?;
    ensure!(answer.status == 200, "Prometheus refuses {expression}: {}", answer.body);
    let body: Value = serde_json::from_str(&answer.body)?;
    let results = body["data"]["result"].as_array().context("no result")?;
    ensure!(results.len() <= 1, "{expression} gives several values: {results:?}");
    let Some(result) = results.first() else { return Ok(None) };
    Ok(Some(result["value"][1].as_str().context("no value")?.parse()?))
}
