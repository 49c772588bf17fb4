//! What does an operator read of each network in PromQL? Round trips and losses as the links made them, from native and
//! from classic histograms, and nothing of a network before enough clients were seen in it.
//!
//! A rate is the growth between samples: a series that is to grow is made first, and every server has it before it grows.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tests::kit::{Namespace, get_text, monotonic_ns, take_turn};
use tests::link::{Direction, Kind, Ledger, Link};
use tests::scenario::{Configured, LONG, Prometheus, expect};
use tests::traffic::{Behaviour, Options, Server, ask, connect, connect_from, send_all};

const PORT: u16 = 8080;
/// Four full segments over an MTU of 1500: two 20-byte headers and 12 bytes of timestamps each.
const ANSWER: usize = 4 * 1448;
const QUANTILES: [f64; 2] = [0.5, 0.9];

/// A network and what its path is to be.
struct Network {
    prefix: &'static str,
    link: Link,
    server: Server,
    /// One way, to the server: the same for every question and acknowledgement.
    to_server: Duration,
    /// Round trips, log2 of s. They fill whole classic buckets, half an octave wide: a quantile is interpolated within one,
    /// as if samples were everywhere in it.
    round_trips: RangeInclusive<f64>,
    turns: u16,
    /// Probability of losing a packet to the client.
    loss: f64,
}

impl Network {
    fn near() -> Result<Self> {
        Self::new(0, "192.0.2.0/24", 800, -6.5..=-4.5, 0.005)
    }

    fn far() -> Result<Self> {
        Self::new(1, "198.51.100.0/24", 350, -5.0..=-3.5, 0.02)
    }

    fn new(
        number: u8,
        prefix: &'static str,
        turns: u16,
        round_trips: RangeInclusive<f64>,
        loss: f64,
    ) -> Result<Self> {
        let to_server = Duration::from_secs_f64(round_trips.start().exp2() / 4.0);
        let link =
            Link::builder().network(number.into()).delay(to_server).seed(7 + u64::from(number)).build()?;
        let server = Server::start(
            &link.server,
            link.server_v4(PORT),
            Behaviour::Answer(ANSWER),
            &Options::default(),
        )?;
        Ok(Self { prefix, link, server, to_server, round_trips, turns, loss })
    }

    /// A connection without data, which has the network's series begin at 0.
    fn appear(&self) -> Result<()> {
        drop(connect(&self.link.client, self.server.address, &Options::default())??);
        self.server.served(1, LONG).map(drop)
    }

    /// Round trips of the turns: as many in each octave, in a fixed disorder.
    fn paths(&self) -> Vec<Duration> {
        let (shortest, longest) = (self.round_trips.start(), self.round_trips.end());
        let path =
            |turn| (shortest + (longest - shortest) * f64::from(turn) / f64::from(self.turns - 1)).exp2();
        let mut paths: Vec<Duration> =
            (0..self.turns).map(|turn| Duration::from_secs_f64(path(turn))).collect();
        fastrand::Rng::with_seed(11).shuffle(&mut paths);
        paths
    }

    /// A dialogue, each turn over another path; what the link saw. Only answers get lost: neither handshake nor end.
    fn talk(&self) -> Result<Truth> {
        let mut stream = connect(&self.link.client, self.server.address, &Options::default())??;
        self.link.set_loss(Direction::ToClient, self.loss);
        let mut began_ns = Vec::new();
        for path in self.paths() {
            self.link.set_delay(Direction::ToClient, path - self.to_server);
            began_ns.push(monotonic_ns());
            ask(&mut stream, ANSWER)?;
        }
        self.link.set_loss(Direction::ToClient, 0.0);
        drop(stream);
        self.server.served(2, LONG)?;
        Truth::of(&self.link.settled(LONG)?, &began_ns)
    }
}

/// What the ledger has of a dialogue.
#[derive(Debug)]
struct Truth {
    /// Round trips of the turns in order of length, s.
    paths: Vec<f64>,
    /// Segments with payload to the client: dropped by the link, sent, and sent again.
    lost: u64,
    segments: u64,
    again: u64,
}

impl Truth {
    fn of(ledger: &Ledger, began_ns: &[u64]) -> Result<Self> {
        // Sum, s, and number by direction; the first is of what came before the first turn.
        let mut turns = vec![[(0.0, 0.0); 2]; began_ns.len() + 1];
        for entry in &ledger.entries {
            let Some(left_ns) = entry.left_ns else { continue };
            if entry.direction == Direction::ToServer || entry.payload_len > 0 {
                let turn = began_ns.partition_point(|began_ns| *began_ns <= entry.entered_ns);
                let (sum, number) = &mut turns[turn][entry.direction.index()];
                *sum += (left_ns - entry.entered_ns) as f64 / 1e9;
                *number += 1.0;
            }
        }
        let path = |ways: &[(f64, f64); 2]| ways.iter().map(|(sum, number)| sum / number).sum::<f64>();
        let mut paths: Vec<f64> = turns[1..].iter().map(path).collect();
        ensure!(paths.iter().all(|path| path.is_finite()), "no packet crossed the link in some turn");
        paths.sort_by(f64::total_cmp);
        let halves = || ledger.flows.iter().map(|flow| flow.sent(Direction::ToClient));
        Ok(Self {
            paths,
            lost: halves().map(|half| half.dropped(Kind::Data)).sum(),
            segments: halves().map(|half| half.data_segments).sum(),
            again: halves().map(|half| half.retransmitted.total()).sum(),
        })
    }

    /// By nearest rank.
    fn quantile(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.paths.len() as f64).ceil() as usize;
        self.paths[rank - 1]
    }

    fn ratio(&self) -> f64 {
        self.again as f64 / self.segments as f64
    }
}

/// The values of an expression by `prefix`.
fn by_prefix(server: &Prometheus, expression: &str) -> Result<BTreeMap<String, f64>> {
    let prefix = |labels: &serde_json::Map<String, serde_json::Value>| {
        labels.get("prefix").and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    let answered = server.query(expression)?.into_iter();
    answered
        .map(|answered| Ok((prefix(&answered.labels).context("no label prefix")?, answered.value)))
        .collect::<Result<_>>()
        .with_context(|| format!("the answer to {expression}"))
}

/// Waits until a server has counted so many connections of each network.
fn has_closed(server: &mut Prometheus, networks: &[Network; 2], connections: f64) -> Result<()> {
    for Network { prefix, .. } in networks {
        let closed =
            format!("sum(flowprobe_tcp_connections_closed_total{{role=\"server\",prefix=\"{prefix}\"}})");
        server.wait_for_value(&closed, |value| value == connections)?;
    }
    Ok(())
}

/// A server's figures of each network are the link's: quantiles within 10 %, the ratio within 0.1 percentage points.
fn figures_are_true(server: &Prometheus, native: bool, truths: &[(&str, Truth); 2]) -> Result<()> {
    let grown =
        |name: &str, by: &str| format!("sum by ({by}) (rate(flowprobe_tcp_{name}{{role=\"server\"}}[5m]))");
    let round_trips =
        if native { grown("rtt_seconds", "prefix") } else { grown("rtt_seconds_bucket", "prefix, le") };
    for quantile in QUANTILES {
        let is = by_prefix(server, &format!("histogram_quantile({quantile}, {round_trips})"))?;
        for (prefix, truth) in truths {
            let (is, should) = (is.get(*prefix).context("no round trips")?, truth.quantile(quantile));
            println!("# {prefix} quantile {quantile}: {is:.6} s, the link {should:.6} s");
            ensure!(
                (is / should - 1.0).abs() <= 0.1,
                "{prefix}: {quantile} are {is} s, the link has {should} s"
            );
        }
    }
    let ratios = format!(
        "{} / {}",
        grown("retransmitted_segments_total", "prefix"),
        grown("data_segments_sent_total", "prefix")
    );
    let ratios = by_prefix(server, &ratios)?;
    for (prefix, truth) in truths {
        let (is, should) = (ratios.get(*prefix).context("no ratio")?, truth.ratio());
        let Truth { lost, again, segments, .. } = truth;
        println!("# {prefix} ratio: {is:.6}, the link {should:.6}: {again} of {segments} again, {lost} lost");
        ensure!((is - should).abs() <= 0.001, "{prefix}: the ratio is {is}, the link has {should}");
    }
    Ok(())
}

#[test]
fn quantiles_and_losses_of_each_network_are_the_links() -> Result<()> {
    let _turn = take_turn()?;
    let configured = Configured::new("[networks]\nlabels = ['prefix']\nv4_prefix_len = 24\n")?;
    let daemon = configured.daemon()?;
    let mut native = Prometheus::scraping(daemon.address, true)?;
    let mut classic = Prometheus::scraping(daemon.address, false)?;
    let networks = [Network::near()?, Network::far()?];
    for network in &networks {
        network.appear()?;
    }
    for server in [&mut native, &mut classic] {
        has_closed(server, &networks, 1.0)?;
    }
    let [near, far] = &networks;
    let (near, far) = thread::scope(|scope| {
        let near = scope.spawn(|| near.talk());
        let far = far.talk();
        Ok::<_, anyhow::Error>((near.join().map_err(|_| anyhow!("the near dialogue panicked"))??, far?))
    })?;
    ensure!(near.lost >= 10 && far.lost >= 20, "{} and {} losses tell nothing", near.lost, far.lost);
    ensure!(
        far.ratio() > near.ratio() + 0.005
            && QUANTILES.iter().all(|quantile| far.quantile(*quantile) > 1.5 * near.quantile(*quantile)),
        "the networks differ too little: retransmission ratios {} and {}",
        near.ratio(),
        far.ratio()
    );
    let truths = [(networks[0].prefix, near), (networks[1].prefix, far)];
    for (server, is_native) in [(&mut native, true), (&mut classic, false)] {
        has_closed(server, &networks, 2.0)?;
        let form = if is_native { "native" } else { "classic" };
        figures_are_true(server, is_native, &truths).with_context(|| format!("{form} histograms"))?;
    }
    let foreign = native.query("{__name__=~\"flowprobe_.*_bucket\"}")?;
    ensure!(foreign.is_empty(), "the server with native histograms has classic ones: {foreign:?}");
    native.stop()?;
    classic.stop()?;
    daemon.stop().map(drop)
}

const MIN_CLIENTS: usize = 20;
const SMALL: &str = "127.1.1.0/24";
const LARGE: &str = "127.2.2.0/24";

/// One connection from each of these hosts of 127.`network`.`network`.0/24, one after the other.
fn visit(
    namespace: &Namespace,
    server: &Server,
    network: u8,
    hosts: impl Iterator<Item = u8>,
) -> Result<usize> {
    let mut visits = 0;
    for host in hosts {
        let local = SocketAddr::from((Ipv4Addr::new(127, network, network, host), 0));
        let mut stream = connect_from(namespace, Some(local), server.address, &Options::default())??;
        send_all(&mut stream, 10)?;
        visits += 1;
    }
    Ok(visits)
}

#[test]
fn a_network_is_named_once_enough_clients_were_seen() -> Result<()> {
    let _turn = take_turn()?;
    let configured = Configured::new(&format!(
        "[networks]\nlabels = ['prefix']\nv4_prefix_len = 24\n[privacy]\nmin_clients = {MIN_CLIENTS}\n\
         [[service]]\nname = 'crowd'\nports = [4321]\n"
    ))?;
    let daemon = configured.daemon()?;
    let mut prometheus = Prometheus::scraping(daemon.address, false)?;
    let namespace = Namespace::new()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4321));
    let server = Server::start(&namespace, address, Behaviour::Sink, &Options::default())?;
    let labels = "{role=\"server\",service=\"crowd\"}";
    let mut counted = |visits: usize| {
        let all = |name: &str| format!("sum(flowprobe_tcp_{name}{labels})");
        // Ten bytes, and one for the FIN.
        for (name, each) in
            [("connections_closed_total", 1), ("connections_opened_total", 1), ("received_bytes_total", 11)]
        {
            prometheus.wait_for_value(&all(name), |value| value >= (each * visits) as f64)?;
            expect(name, prometheus.wait_for_value(&all(name), |_| true)?, (each * visits) as f64)?;
        }
        by_prefix(&prometheus, &format!("sum by (prefix) (flowprobe_tcp_connections_opened_total{labels})"))
    };
    let named = |opened: &BTreeMap<String, f64>| opened.keys().cloned().collect::<Vec<_>>();

    // Many connections of a few clients are not many clients.
    let mut small = visit(&namespace, &server, 1, (1..=5).cycle().take(60))?;
    let opened = counted(small)?;
    expect("the networks", named(&opened), vec!["other".to_owned()])?;

    let large = visit(&namespace, &server, 2, 1..=100)?;
    let opened = counted(small + large)?;
    expect("the networks", named(&opened), vec![LARGE.to_owned(), "other".to_owned()])?;
    // Those before the network was named stay where they were counted.
    let own = opened[LARGE];
    ensure!(own < large as f64 && own > (large - 2 * MIN_CLIENTS) as f64, "{own} of {large} are its own");

    small += visit(&namespace, &server, 1, 6..=100)?;
    let opened = counted(small + large)?;
    expect("the networks", named(&opened), vec![SMALL.to_owned(), LARGE.to_owned(), "other".to_owned()])?;
    expect("connections of the large network", opened[LARGE], own)?;

    let text = get_text(daemon.address, "/metrics")?;
    ensure!(text.contains(SMALL) && text.contains(LARGE), "no network is named: {text}");
    for (network, host) in (1..=2).flat_map(|network| (1..=100).map(move |host| (network, host))) {
        let client = Ipv4Addr::new(127, network, network, host).to_string();
        ensure!(!text.contains(&client), "{client} is in the metrics");
    }
    server.served(small + large, LONG)?;
    prometheus.stop()?;
    daemon.stop().map(drop)
}
