//! Are groups of services and networks true, bounded and exact in sum, and does the configuration come and go as it should?

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};
use tests::kit::{Namespace, Scrape, Stream, take_turn, wait_for, wait_until};
use tests::link::{Direction, Ledger, Link};
use tests::scenario::{Configured, Daemon, LONG, Probe, expect, flows};
use tests::traffic::{Behaviour, Options, Server, connect, echo, receive_all};

const WEB: u16 = 8080;
const API: u16 = 9090;

const SERVICES: &str = "\
[[service]]
name = 'web'
ports = [8080]

[[service]]
name = 'api'
ports = ['9090-9099']
";

/// One link's traffic: downloads from `web`, a dialogue with `api`; what the link saw.
fn traffic(link: &Link) -> Result<Ledger> {
    let web =
        Server::start(&link.server, link.server_v4(WEB), Behaviour::Send(1_500_000), &Options::default())?;
    for _ in 0..2 {
        let mut stream = connect(&link.client, web.address, &Options::default())??;
        expect("the bytes that arrived", receive_all(&mut stream)?, 1_500_000)?;
    }
    let api = Server::start(&link.server, link.server_v4(API), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, api.address, &Options::default())??;
    echo(&mut stream, 40, 200)?;
    drop(stream);
    web.served(2, LONG)?;
    api.served(1, LONG)?;
    link.settled(LONG)
}

/// Mean round trip of the path, s: what packets took to one side and to the other.
fn path(ledger: &Ledger) -> f64 {
    let mean = |direction| {
        let took = |entry: &tests::link::Entry| Some((entry.left_ns? - entry.entered_ns) as f64 / 1e9);
        let took: Vec<f64> =
            ledger.entries.iter().filter(|entry| entry.direction == direction).filter_map(took).collect();
        took.iter().sum::<f64>() / took.len() as f64
    };
    Direction::BOTH.into_iter().map(mean).sum()
}

/// The group's figures are those that its link's ledger has of the service's connections.
fn group_is_true(scrape: &Scrape, ledger: &Ledger, service: &str, port: u16, prefix: &str) -> Result<()> {
    let labels = [("role", "server"), ("family", "ipv4"), ("service", service), ("prefix", prefix)];
    let metric = |name: &str| scrape.sum(&format!("flowprobe_tcp_{name}"), &labels);
    let halves = || {
        ledger
            .flows
            .iter()
            .filter(|flow| flow.server.port() == port)
            .map(|flow| flow.sent(Direction::ToClient))
    };
    let again: u64 = halves().map(|half| half.retransmitted.total()).sum();
    let segments: u64 = halves().map(|half| half.data_segments).sum();
    expect("segments with data", metric("data_segments_sent_total"), segments as f64)?;
    expect("segments sent again", metric("retransmitted_segments_total"), again as f64)?;
    let ratio = metric("retransmitted_segments_total") / metric("data_segments_sent_total");
    let should = again as f64 / segments as f64;
    ensure!((ratio - should).abs() < 0.001, "the retransmission ratio is {ratio}, the link saw {should}");
    expect("connections opened", metric("connections_opened_total"), halves().count() as f64)?;
    let mean = metric("rtt_seconds_sum") / metric("rtt_seconds_count");
    let should = path(ledger);
    ensure!((mean / should - 1.0).abs() < 0.1, "the mean round trip is {mean} s, the path has {should} s");
    Ok(())
}

#[test]
fn each_network_and_service_has_its_own_figures() -> Result<()> {
    let _turn = take_turn()?;
    let text = format!("[networks]\nlabels = ['prefix']\nv4_prefix_len = 24\nv6_prefix_len = 48\n{SERVICES}");
    let configured = Configured::new(&text)?;
    let daemon = configured.daemon()?;
    let near = Link::builder().delay(Duration::from_millis(10)).loss(Direction::ToClient, 0.005).seed(3);
    let far =
        Link::builder().delay(Duration::from_millis(40)).loss(Direction::ToClient, 0.03).seed(5).network(1);
    let links = [(near.build()?, "192.0.2.0/24"), (far.build()?, "198.51.100.0/24")];
    let mut ledgers = Vec::new();
    for (link, prefix) in &links {
        ledgers.push((traffic(link)?, *prefix));
    }
    let scrape = wait_for(LONG, "all connections are counted", || {
        let scrape = daemon.scrape()?;
        let closed = |(_, prefix): &(Link, &str)| {
            let labels = [("role", "server"), ("prefix", *prefix)];
            scrape.sum("flowprobe_tcp_connections_closed_total", &labels) >= 3.0
        };
        Ok(links.iter().all(closed).then_some(scrape))
    })?;
    for (ledger, prefix) in &ledgers {
        for (service, port) in [("web", WEB), ("api", API)] {
            group_is_true(&scrape, ledger, service, port, prefix)
                .with_context(|| format!("{service} {prefix}"))?;
        }
    }
    let again = |index: usize| ledgers[index].0.retransmitted(Direction::ToClient).data;
    ensure!(again(0) > 3 && again(1) > 3 * again(0), "{} and {} losses tell nothing", again(0), again(1));
    daemon.stop().map(drop)
}

/// Connections from so many networks to one port, one after the other.
fn crowd(namespace: &Namespace, networks: std::ops::Range<u32>, server: SocketAddr) -> Result<()> {
    namespace.run(|| -> Result<()> {
        let listener = TcpListener::bind(server)?;
        for network in networks {
            let [_, _, high, low] = network.to_be_bytes();
            let client = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            client.bind(&SocketAddr::from((Ipv4Addr::new(127, high, low, 9), 0)).into())?;
            client.connect(&server.into())?;
            let mut client = TcpStream::from(client);
            let (mut accepted, _) = listener.accept()?;
            client.write_all(b"0123456789")?;
            drop(client);
            let mut bytes = Vec::new();
            accepted.read_to_end(&mut bytes)?;
            expect("the bytes that arrived", bytes.len(), 10)?;
        }
        Ok(())
    })?
}

#[test]
fn twenty_thousand_networks_are_bounded_and_add_up() -> Result<()> {
    const CAP: usize = 100;
    const NETWORKS: u32 = 20_000;
    let _turn = take_turn()?;
    let configured = Configured::new(&format!(
        "[networks]\nlabels = ['prefix']\n[groups]\nmax = {CAP}\n[[service]]\nname = 'crowd'\nports = [4321]\n"
    ))?;
    let daemon = configured.daemon()?;
    let namespace = Namespace::new()?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 4321));
    let labels = [("role", "server"), ("service", "crowd")];
    let counted = |networks: u32| {
        wait_for(LONG, "all connections are counted", || {
            let scrape = daemon.scrape()?;
            let closed = scrape.sum("flowprobe_tcp_connections_closed_total", &labels);
            Ok((closed >= f64::from(networks)).then_some(scrape))
        })
    };
    crowd(&namespace, 0..2_000, server)?;
    let first = counted(2_000)?;
    crowd(&namespace, 2_000..NETWORKS, server)?;
    let scrape = counted(NETWORKS)?;
    let all = f64::from(NETWORKS);
    let sum = |name: &str| scrape.sum(&format!("flowprobe_tcp_{name}"), &labels);
    for name in ["connections_opened_total", "connections_closed_total", "connection_duration_seconds_count"]
    {
        expect(name, sum(name), all)?;
    }
    expect("connections", sum("connections"), 0.0)?;
    // Ten bytes, and one for the FIN.
    expect("bytes", sum("received_bytes_total"), 11.0 * all)?;
    expect("records lost", scrape.sum("flowprobe_records_lost_total", &[]), 0.0)?;
    let prefixes = scrape.label_values("flowprobe_tcp_connections_opened_total", "prefix");
    ensure!(prefixes.len() <= CAP + 2 && prefixes.contains("other"), "{} prefixes", prefixes.len());
    expect("groups", scrape.value("flowprobe_groups", &[]), Some(CAP as f64))?;
    ensure!(scrape.sum("flowprobe_label_overflow_total", &[]) >= all - 2.0 * CAP as f64, "no overflow");
    // One more for each role, family and service in `other` and in `former`.
    let series = scrape.count("flowprobe_tcp_connections_opened_total", &[]);
    ensure!(series <= CAP + 2 * 9 * 2, "{series} series");
    let memory = |scrape: &Scrape| scrape.sum("process_resident_memory_bytes", &[]);
    let grown = memory(&scrape) - memory(&first);
    ensure!(grown < 16e6, "{grown} bytes more for ten times the networks");
    daemon.stop().map(drop)
}

/// Waits until a metric has a value; what the daemon said if it never has.
fn reaches(daemon: &mut Daemon, name: &str, value: f64) -> Result<Scrape> {
    let found = wait_for(LONG, &format!("{name} is {value}"), || {
        let scrape = daemon.scrape()?;
        Ok((scrape.value(name, &[]) == Some(value)).then_some(scrape))
    });
    found.with_context(|| daemon.process().output(Stream::Err))
}

const LAST_RELOAD: &str = "flowprobe_config_last_reload_successful";

#[test]
fn a_reload_uses_a_good_file_and_leaves_a_bad_one() -> Result<()> {
    let _turn = take_turn()?;
    let configured = Configured::new("sweep_period = '1s'\n")?;
    let mut daemon = configured.daemon()?;
    let namespace = Namespace::new()?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, WEB));
    crowd(&namespace, 0..10, server)?;
    let first = reaches(&mut daemon, LAST_RELOAD, 1.0)?;
    ensure!(!first.families["flowprobe_tcp_connections_opened_total"].labels.contains("prefix"), "a prefix");

    configured.put(
        "flowprobe.toml",
        &format!("sweep_period = '9s'\n[networks]\nlabels = ['prefix']\n{SERVICES}"),
    )?;
    daemon.process().signal(Signal::HUP)?;
    let stamp = "flowprobe_config_last_reload_success_timestamp_seconds";
    wait_until(LONG, "the configuration was read again", || {
        Ok(daemon.scrape()?.value(stamp, &[]) > first.value(stamp, &[]))
    })?;
    let said = daemon.process().output(Stream::Err);
    ensure!(said.contains("sweep_period has changed") && said.contains("restart"), "it says: {said}");
    crowd(&namespace, 0..10, server)?;
    let labels = [("service", "web"), ("prefix", "127.0.3.0/24")];
    wait_until(LONG, "groups have the new labels", || {
        Ok(daemon.scrape()?.sum("flowprobe_tcp_connections_closed_total", &labels) >= 1.0)
    })?;
    let before = daemon.scrape()?;
    let former = [("service", "former"), ("prefix", "former"), ("role", "server")];
    ensure!(before.sum("flowprobe_tcp_connections_closed_total", &former) >= 10.0, "the past is gone");

    let file = configured.put("flowprobe.toml", "[networks]\nlabels = ['prefix']\n[groups]\nmaxx = 5\n")?;
    daemon.process().signal(Signal::HUP)?;
    let bad = reaches(&mut daemon, LAST_RELOAD, 0.0)?;
    expect("the time of the last good one", bad.value(stamp, &[]), before.value(stamp, &[]))?;
    ensure!(
        bad.sum("flowprobe_tcp_connections_closed_total", &labels) >= 1.0,
        "the old configuration is gone"
    );
    let said = daemon.process().output(Stream::Err);
    let sentence = format!("{}:4: groups.maxx: unknown key: did you mean `max`?", file.display());
    expect("lines that name the fault", said.lines().filter(|line| line.contains(&sentence)).count(), 1)?;

    configured.put("flowprobe.toml", "")?;
    daemon.process().signal(Signal::HUP)?;
    reaches(&mut daemon, LAST_RELOAD, 1.0)?;
    wait_until(LONG, "the labels are gone", || {
        let families = daemon.scrape()?.families;
        Ok(!families["flowprobe_tcp_connections_opened_total"].labels.contains("prefix"))
    })?;
    let opened = daemon.scrape()?.sum("flowprobe_tcp_connections_opened_total", &[("role", "server")]);
    ensure!(opened >= 20.0, "{opened} of 20 connections are left");
    daemon.stop().map(drop)
}

#[test]
fn a_list_is_read_again_when_it_changes_and_a_broken_one_is_not_used() -> Result<()> {
    let _turn = take_turn()?;
    let configured = Configured::new("[networks]\nlabels = ['list']\nlists = ['list.txt']\n")?;
    configured.put("list.txt", "127.0.0.0/8 loop\n")?;
    let mut daemon = configured.daemon()?;
    let namespace = Namespace::new()?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, WEB));
    let prefixes = "flowprobe_network_source_prefixes";
    let closed_in = |daemon: &mut Daemon, list: &str| {
        crowd(&namespace, 512..513, server)?;
        let labels = [("list", list), ("role", "server")];
        wait_until(LONG, &format!("a connection is counted in {list}"), || {
            Ok(daemon.scrape()?.sum("flowprobe_tcp_connections_closed_total", &labels) >= 1.0)
        })
    };
    reaches(&mut daemon, prefixes, 1.0)?;
    closed_in(&mut daemon, "loop")?;
    configured.put("list.txt", "127.0.0.0/8 loop\n127.2.0.0/16 two\n")?;
    reaches(&mut daemon, prefixes, 2.0)?;
    closed_in(&mut daemon, "two")?;
    let good = "flowprobe_network_source_last_reload_successful";
    let path = configured.put("list.txt", "127.0.0.0/8 loop\n127.2.0.0/99 two\n")?;
    let scrape = reaches(&mut daemon, good, 0.0)?;
    expect("prefixes in use", scrape.value(prefixes, &[]), Some(2.0))?;
    let said = daemon.process().output(Stream::Err);
    let place = format!("{}:2: ", path.display());
    expect("lines that name the fault", said.lines().filter(|line| line.contains(&place)).count(), 1)?;
    configured.put("list.txt", "127.2.0.0/16 three\n")?;
    reaches(&mut daemon, good, 1.0)?;
    closed_in(&mut daemon, "three")?;
    daemon.stop().map(drop)
}

#[test]
fn check_config_says_what_is_wrong_or_what_it_costs() -> Result<()> {
    let good =
        Configured::new(&format!("[networks]\nlabels = ['prefix', 'list']\nlists = ['l.txt']\n{SERVICES}"))?;
    good.put("l.txt", "192.0.2.0/24 lab\n")?;
    let done = good.run(&["daemon", "--check-config"])?;
    expect("the exit code", done.code, Some(0))?;
    for part in [
        "is good",
        "labels    role, family, service, prefix, list",
        "series    at most ",
        "l.txt, 1 prefixes",
    ] {
        ensure!(done.out.contains(part), "`{part}` is not in: {}", done.out);
    }
    good.put("l.txt", "192.0.2.0/24 lab\nnonsense\n")?;
    let done = good.run(&["daemon", "--check-config"])?;
    expect("the exit code", done.code, Some(1))?;
    ensure!(done.err.contains("l.txt:2: "), "it says: {}", done.err);

    // The options beside it are heeded as at a start.
    good.put("l.txt", "192.0.2.0/24 lab\n")?;
    let done = good.run(&["daemon", "--check-config", "--listen", "127.0.0.1:9"])?;
    ensure!(done.code == Some(0) && done.out.contains("listen    127.0.0.1:9\n"), "{done:?}");
    let web = good.put("web.yml", "nonsense: 1\n")?;
    let done = good.run(&["daemon", "--check-config", "--web.config.file", &web.to_string_lossy()])?;
    expect("the exit code", done.code, Some(1))?;
    ensure!(done.err.contains("web.yml"), "it says: {}", done.err);

    let bad = Configured::new("sweep_period = '5'\n\n[networks]\nlabels = ['prefx']\n")?;
    let done = bad.run(&["daemon", "--check-config"])?;
    expect("the exit code", done.code, Some(1))?;
    let file = bad.file().display();
    let lines: Vec<&str> = done.err.lines().collect();
    expect("the number of faults", lines.len(), 2)?;
    ensure!(lines[0].starts_with(&format!("flowprobe: {file}:1: sweep_period: ")), "it says: {}", lines[0]);
    ensure!(
        lines[1].starts_with(&format!("flowprobe: {file}:4: networks.labels: ")),
        "it says: {}",
        lines[1]
    );
    let done = bad.run(&["daemon"])?;
    ensure!(done.code == Some(1) && done.err.contains(&format!("{file}:1: sweep_period: ")), "{done:?}");
    let done = bad.run(&["daemon", "--check-config", "nonsense"])?;
    expect("the exit code of what is not understood", done.code, Some(2))
}

#[test]
fn an_address_is_looked_up_and_a_file_is_described() -> Result<()> {
    let configured = Configured::new("[networks]\nlabels = ['prefix', 'list']\nlists = ['l.txt']\n")?;
    let list = configured.put("l.txt", "192.0.2.0/24 lab\n192.0.2.128/25 upper\n")?;
    let done = configured.run(&["networks", "lookup", "192.0.2.200", "2001:db8::1"])?;
    expect("the exit code", done.code, Some(0))?;
    let lines: Vec<Vec<&str>> = done.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |words: &[&str]| lines.iter().any(|line| line.starts_with(words));
    ensure!(
        has(&["prefix", "192.0.2.0/24"]) && has(&["list", "upper", "longest", "prefix", "is"]),
        "{}",
        done.out
    );
    ensure!(has(&["prefix", "2001:db8::/48"]) && has(&["list", "unlisted"]), "{}", done.out);
    let done = configured.run(&["networks", "stats", &list.to_string_lossy()])?;
    ensure!(done.code == Some(0) && done.out.contains("2 IPv4, 0 IPv6"), "{done:?}");
    expect("nonsense", configured.run(&["networks", "lookup", "nonsense"])?.code, Some(2))
}

#[test]
fn peers_are_shown_as_far_as_is_allowed() -> Result<()> {
    let _turn = take_turn()?;
    let configured = Configured::new("[privacy]\nrecord_v4_prefix_len = 24\nrecord_v6_prefix_len = 32\n")?;
    let probe = Probe::on(configured.daemon()?)?;
    let link = Link::builder().build()?;
    let v4 = Server::start(&link.server, link.server_v4(WEB), Behaviour::Echo, &Options::default())?;
    let v6 = Server::start(&link.server, link.server_v6(API), Behaviour::Echo, &Options::default())?;
    let mut streams = Vec::new();
    for server in [&v4, &v6] {
        let mut stream = connect(&link.client, server.address, &Options::default())??;
        echo(&mut stream, 3, 100)?;
        streams.push(stream);
    }
    let netns = link.server.inode().to_string();
    let mut peers: Vec<String> = flows(probe.daemon()?.run_dir(), &["netns", &netns])?
        .iter()
        .map(|line| line.text("remote_addr").map(str::to_owned))
        .collect::<Result<_>>()?;
    peers.sort();
    expect("the peers", peers, vec!["192.0.2.0", "2001:db8::"])?;
    drop(streams);
    for line in probe.ended(&link.server, 2)? {
        let peer = line.text("remote_addr")?;
        ensure!(["192.0.2.0", "2001:db8::"].contains(&peer), "the record says {peer}");
    }
    probe.stop()
}

#[test]
fn without_a_daemon_peers_are_cut_too() -> Result<()> {
    let _turn = take_turn()?;
    let configured = Configured::new("[privacy]\nrecord_v4_prefix_len = 24\n")?;
    let link = Link::builder().build()?;
    let server = Server::start(&link.server, link.server_v4(WEB), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, 3, 100)?;
    let netns = link.server.inode().to_string();
    let done = configured.run(&["flows", "netns", &netns, "-o", "csv", "--columns", "remote_addr"])?;
    expect("what is shown", done.out.as_str(), "remote_addr\n192.0.2.0\n")?;
    configured.put("flowprobe.toml", "[privacy]\nrecord_v4_prefix_len = 99\n")?;
    let done = configured.run(&["flows", "netns", &netns])?;
    ensure!(done.code == Some(1) && done.err.contains(":2: privacy.record_v4_prefix_len: "), "{done:?}");
    Ok(())
}
