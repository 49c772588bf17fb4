//! Do native histograms say what the classic buckets say? Two real Prometheus servers scrape the same daemon: one with
//! native histograms, which asks for protobuf and keeps only these, and one without, which asks for text.
//!
//! The traffic is IPv6: the scrapes themselves are IPv4 connections and would count.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::kit::{PROTOBUF, Process, take_turn};
use tests::link::Link;
use tests::scenario::{Daemon, LONG, Prometheus, expect};
use tests::traffic::{Behaviour, Options, Server, connect, receive_all};

const BYTES: usize = 200_000;
const DOWNLOADS: usize = 6;
/// Bounds of the native and of the classic bucket that hold round trips of 20 ms, seconds: 2^-5.75 and 2^-6 to 2^-5.5.
const NATIVE: std::ops::RangeInclusive<f64> = 0.018_58..=0.022_1;
const CLASSIC: std::ops::RangeInclusive<f64> = 0.015_62..=0.022_1;

/// Downloads over 10 ms each way, one after the other.
fn traffic() -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(10)).build()?;
    let server =
        Server::start(&link.server, link.server_v6(8080), Behaviour::Send(BYTES), &Options::default())?;
    for _ in 0..DOWNLOADS {
        let mut stream = connect(&link.client, server.address, &Options::default())??;
        expect("the bytes that arrived", receive_all(&mut stream)?, BYTES)?;
    }
    server.served(DOWNLOADS, LONG).map(drop)
}

#[test]
fn quantiles_from_native_and_classic_histograms_agree() -> Result<()> {
    let _turn = take_turn()?;
    let daemon = Daemon::start()?;
    let mut native = Prometheus::scraping(daemon.address, true)?;
    let mut classic = Prometheus::scraping(daemon.address, false)?;
    traffic()?;
    let closed = "sum(flowprobe_tcp_connections_closed_total{family=\"ipv6\",role=\"server\"})";
    for server in [&mut native, &mut classic] {
        server.wait_for_value(closed, |value| value == DOWNLOADS as f64)?;
    }

    for (name, bounds) in
        [("rtt", true), ("min_rtt", true), ("handshake_rtt", true), ("connection_duration", false)]
    {
        let family = format!("flowprobe_tcp_{name}_seconds");
        let labels = "{family=\"ipv6\",role=\"server\"}";
        let kept = classic.query(&format!("sum({family}_bucket{labels})"))?;
        ensure!(kept.first().is_some_and(|sum| sum.value > 0.0), "no classic {family}: {kept:?}");
        let count = classic.wait_for_value(&format!("sum({family}_count{labels})"), |value| value > 0.0)?;
        let is = native
            .wait_for_value(&format!("sum(histogram_count({family}{labels}))"), |value| value == count)?;
        expect(&format!("{family}'s count"), is, count)?;
        let sum = classic.wait_for_value(&format!("sum({family}_sum{labels})"), |_| true)?;
        native.wait_for_value(&format!("sum(histogram_sum({family}{labels}))"), |value| {
            (value - sum).abs() <= 1e-9 * sum
        })?;
        for quantile in [0.5, 0.9] {
            // Of all that was counted: the two servers' windows of a rate begin at different moments.
            let of_native = format!("histogram_quantile({quantile}, sum({family}{labels}))");
            let of_classic = format!("histogram_quantile({quantile}, sum by (le) ({family}_bucket{labels}))");
            let n = native.wait_for_value(&of_native, |value| value > 0.0)?;
            let c = classic.wait_for_value(&of_classic, |value| value > 0.0)?;
            // Both lie in the classic bucket, which is √2 wide, or 2 where durations are concerned.
            let width = if bounds { 2f64.sqrt() } else { 2.0 };
            ensure!((1.0 / width..=width).contains(&(n / c)), "{family}'s quantile {quantile}: {n} and {c}");
            // A tenth of six handshakes is one, which a busy machine may delay.
            if bounds && quantile == 0.5 {
                ensure!(NATIVE.contains(&n), "{family}'s native quantile {quantile} is {n}");
                ensure!(CLASSIC.contains(&c), "{family}'s classic quantile {quantile} is {c}");
            }
        }
    }
    // Each server got the form that it asked for.
    let foreign = native.query("{__name__=~\"flowprobe_.*_bucket\"}")?;
    ensure!(foreign.is_empty(), "the server with native histograms has classic ones: {foreign:?}");
    for server in [native, classic] {
        ensure!(!server.log().contains("level=error"), "Prometheus: {}", server.log());
        server.stop()?;
    }
    daemon.stop().map(drop)
}

#[test]
fn a_scraper_gets_the_form_and_the_coding_it_asks_for() -> Result<()> {
    let _turn = take_turn()?;
    let daemon = Daemon::start()?;
    let ask = |accept: &str, coding: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-S", "-o", "/dev/null", "-D", "-"])
            .args(["-H", &format!("Accept: {accept}"), "-H", &format!("Accept-Encoding: {coding}")])
            .arg(format!("http://{}/metrics", daemon.address));
        let done = Process::run(curl, LONG).context("install Debian's package `curl`")?;
        expect("curl's exit code", done.code, Some(0))?;
        Ok::<_, anyhow::Error>(done.out.to_ascii_lowercase())
    };
    for (accept, coding, kind, gzip) in [
        ("*/*", "identity", "text/plain; version=0.0.4", false),
        ("application/openmetrics-text", "gzip", "text/plain; version=0.0.4", true),
        (PROTOBUF, "", "application/vnd.google.protobuf; proto=io.prometheus.client.metricfamily", false),
        (&format!("{PROTOBUF};q=0.2,*/*;q=0.3"), "gzip;q=0", "text/plain; version=0.0.4", false),
    ] {
        let head = ask(accept, coding)?;
        ensure!(head.contains(&format!("\r\ncontent-type: {kind}")), "{accept}: {head}");
        expect(coding, head.contains("\r\ncontent-encoding: gzip\r\n"), gzip)?;
        ensure!(head.contains("\r\nvary: accept, accept-encoding\r\n"), "{head}");
    }
    daemon.stop().map(drop)
}
