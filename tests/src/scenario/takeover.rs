//! A daemon that starts in the middle of things: what began after it is recorded once, what is older is taken over with a
//! baseline and counted from there on to the byte, and a second daemon counts nothing twice (CASE 7).
//!
//! The baseline is taken by the daemon's first sweep, between its start and its `/-/ready`. Connections that are quiet
//! in that time have the same totals before and after, so that the baseline is known exactly; for busy ones the totals
//! before and after are bounds. The baselined ones use IPv6 alone, whose metrics are theirs alone then: the daemon's
//! own scrapes are IPv4.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::refusal::nothing_is_left;
use super::start::{
    CLOSED, CONNECTING, LIVE, OPENED, ROLES, Start, cookie_of, of_role, start_daemon, sweep_often,
};
use super::{Daemon, LONG, Probe, causes, expect};
use crate::kit::{Line, Namespace, wait_until};
use crate::link::{Direction, Link};
use crate::traffic::{Infos, Logbook, Pair, end_all, exchange_all, exchange_until, infos_of, pairs, quiet};
use crate::truth::{Objects, TcpInfo, connected_v6};

/// Starts of all three kinds together when FLOWPROBE_STARTS says nothing.
const STARTS: usize = 10;
/// Long connections of one start.
const LONG_ONES: usize = 50;
/// Port of the long connections' server.
const PORT: u16 = 8_080;
/// Threads that make short connections.
const WORKERS: usize = CONNECTING as usize;

/// What both the kernel and flowprobe count of a connection: the metric, the record's field, and TCP_INFO's.
type Total = (&'static str, &'static str, fn(&TcpInfo) -> u64);
const TOTALS: [Total; 8] = [
    ("flowprobe_tcp_sent_bytes_total", "bytes_sent", |info| info.bytes_sent),
    ("flowprobe_tcp_acked_bytes_total", "bytes_acked", |info| info.bytes_acked),
    ("flowprobe_tcp_received_bytes_total", "bytes_received", |info| info.bytes_received),
    ("flowprobe_tcp_retransmitted_bytes_total", "retrans_bytes", |info| info.bytes_retrans),
    ("flowprobe_tcp_segments_sent_total", "segs_out", |info| info.segs_out.into()),
    ("flowprobe_tcp_data_segments_sent_total", "data_segs_out", |info| info.data_segs_out.into()),
    ("flowprobe_tcp_segments_received_total", "segs_in", |info| info.segs_in.into()),
    ("flowprobe_tcp_retransmitted_segments_total", "retrans_segs", |info| info.total_retrans.into()),
];

/// `share` of ten of the starts.
fn starts(share: usize) -> Result<usize> {
    let all = match std::env::var("FLOWPROBE_STARTS") {
        Ok(text) => text.parse().with_context(|| format!("FLOWPROBE_STARTS is {text}, not a number"))?,
        Err(_) => STARTS,
    };
    Ok((all * share / 10).max(1))
}

/// Short connections, of which every tenth is held, come and go while daemons are started: each end that is there after the start
/// is recorded once, by its cookie; counters and gauges have each end once; the gauges are what the kernel lists.
///
/// # Errors
/// When an end is lost, doubled or misnamed.
pub fn churn_is_recorded_once() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.spread_loopback()?;
    for start in 0..starts(4)? {
        churn_once(&namespace).with_context(|| format!("start {start}"))?;
    }
    Ok(())
}

fn start_churn(namespace: &Namespace, address: IpAddr) -> Result<Logbook> {
    let book = Logbook::start(namespace, address, WORKERS)?;
    more(&book, 300)?;
    Ok(book)
}

fn more(book: &Logbook, connections: u64) -> Result<()> {
    let before = book.made();
    wait_until(LONG, "the churn goes on", || {
        book.expect_running()?;
        Ok(book.made() >= before + connections)
    })
}

fn churn_once(namespace: &Namespace) -> Result<()> {
    let book = start_churn(namespace, Ipv6Addr::LOCALHOST.into())?;
    let start = Start::new(|| Ok(()))?;
    more(&book, 300)?;
    book.pause()?;
    gauges_are_right(&start.probe, namespace)?;
    book.let_go();
    more(&book, 300)?;
    let entries = book.close()?;
    start.records_are_right(namespace, &entries)?;
    start.counters_are_right(&entries)?;
    start.nothing_was_lost()?;
    start.probe.stop()
}

/// A daemon is killed while connections come and go, and another takes its place: the kernel frees all that the first had loaded,
/// and the second counts from nothing, as after any other start (CASE 8).
///
/// # Errors
/// When something is left, or an end is lost, doubled or counted twice.
pub fn killed_amid_churn() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.spread_loopback()?;
    let before = Objects::now()?;
    let book = start_churn(&namespace, Ipv6Addr::LOCALHOST.into())?;
    let first = start_daemon()?;
    wait_until(LONG, "the first daemon counts", || {
        book.expect_running()?;
        Ok(of_role(&first.scrape()?, CLOSED, "client") >= 300.0)
    })?;
    let place = first.kill()?;
    nothing_is_left(&before)?;
    let start = Start::by(|| Daemon::start_in(place, sweep_often), || Ok(()))?;
    more(&book, 300)?;
    book.let_go();
    more(&book, 300)?;
    let entries = book.close()?;
    start.records_are_right(&namespace, &entries)?;
    start.counters_are_right(&entries)?;
    start.nothing_was_lost()?;
    start.probe.stop()?;
    nothing_is_left(&before)
}

/// While the churn rests: what was opened or taken over and did not end is what the kernel lists.
fn gauges_are_right(probe: &Probe, namespace: &Namespace) -> Result<()> {
    let (mut live, mut listed) = (0.0, 0);
    wait_until(LONG, "the gauges are what the kernel lists", || {
        let scrape = probe.scrape()?;
        live = ROLES.iter().map(|role| of_role(&scrape, LIVE, role)).sum();
        listed = connected_v6(namespace)?;
        Ok(live == listed as f64)
    })
    .with_context(|| format!("{live} are live, the kernel lists {listed}"))?;
    ensure!(listed > 0, "nothing is live: nothing is proved");
    let scrape = probe.scrape()?;
    for (role, connecting) in [("client", CONNECTING), ("server", 0.0)] {
        let open = of_role(&scrape, OPENED, role) - of_role(&scrape, CLOSED, role);
        let older = of_role(&scrape, LIVE, role) - open;
        ensure!(
            (0.0..=connecting).contains(&older),
            "{open} {role}s are opened and not closed, {older} more live"
        );
    }
    ensure!(of_role(&scrape, LIVE, "unknown") > 0.0, "nothing was taken over: nothing is proved");
    Ok(())
}

/// Fifty long connections over a link with losses, and a short one after another beside them.
struct Scene {
    link: Link,
    loopback: Namespace,
}

impl Scene {
    fn new(seed: u64) -> Result<Self> {
        let link = Link::builder().delay(Duration::from_millis(2)).seed(seed).build()?;
        let loopback = Namespace::new()?;
        loopback.spread_loopback()?;
        Ok(Self { link, loopback })
    }

    fn pairs(&self, count: usize) -> Result<Vec<Pair>> {
        self.set_loss(0.0);
        let made = pairs(&self.link, PORT, count)?;
        self.set_loss(0.02);
        Ok(made)
    }

    fn set_loss(&self, probability: f64) {
        for direction in Direction::BOTH {
            self.link.set_loss(direction, probability);
        }
    }

    /// A little more of the churn beside the start, and the judgement of its records.
    fn end_churn(&self, book: Logbook, start: &Start) -> Result<()> {
        more(&book, 100)?;
        book.let_go();
        more(&book, 100)?;
        start.records_are_right(&self.loopback, &book.close()?)
    }

    /// Close the descriptors of ended connections and return their records: each end once, taken over, with the kernel's last
    /// totals. Kernels before 6.12 show the end of one that was taken over only when its socket is destroyed.
    fn records_of(&self, probe: &Probe, pairs: Vec<Pair>, last: &[Infos]) -> Result<Vec<[Line; 2]>> {
        let cookies: Vec<_> = pairs.into_iter().map(Pair::close).collect();
        let by_cookie = |end| -> Result<HashMap<u64, Line>> {
            let lines = probe.ended(end, cookies.len())?;
            lines.into_iter().map(|line| Ok((cookie_of(&line)?, line))).collect()
        };
        let by_end = [by_cookie(&self.link.client)?, by_cookie(&self.link.server)?];
        let record = |end: usize, cookie: u64, info: &TcpInfo| -> Result<Line> {
            let line = by_end[end].get(&cookie).context("an end has no record")?;
            for (_, field, of) in TOTALS {
                expect(field, line.u64(field)?, of(info)).with_context(|| format!("{line:?}"))?;
            }
            expect("adopted", line.flag("adopted")?, true)?;
            Ok(line.clone())
        };
        let both = |(of_pair, infos): (&[u64; 2], &Infos)| -> Result<[Line; 2]> {
            Ok([record(0, of_pair[0], &infos[0])?, record(1, of_pair[1], &infos[1])?])
        };
        cookies.iter().zip(last).map(both).collect()
    }
}

/// The sum over all ends of each of [`TOTALS`].
fn sums(infos: &[Infos]) -> [u64; TOTALS.len()] {
    TOTALS.map(|(_, _, of)| infos.iter().flatten().map(of).sum())
}

/// Traffic on all, scraped all the while: increments are handed out again and again.
fn exchange_scraped(pairs: &mut [Pair], rounds: usize, probe: &Probe) -> Result<()> {
    thread::scope(|scope| {
        let traffic = scope.spawn(|| exchange_all(pairs, rounds));
        while !traffic.is_finished() {
            probe.scrape()?;
        }
        traffic.join().unwrap_or_else(|_| anyhow::bail!("a thread of an exchange panicked"))
    })
}

/// Wait until the metrics of a role in IPv6 are exactly these, one for each of [`TOTALS`].
fn exactly(probe: &Probe, role: &str, should: [u64; TOTALS.len()]) -> Result<()> {
    let mut is = [0.0; TOTALS.len()];
    let counted = wait_until(Duration::from_secs(20), "everything is counted", || {
        let scrape = probe.scrape()?;
        is = TOTALS.map(|(metric, ..)| of_role(&scrape, metric, role));
        Ok(is == should.map(|sum| sum as f64))
    });
    counted.with_context(|| {
        let differences = TOTALS.iter().zip(is).zip(should).filter(|((_, is), should)| *is != *should as f64);
        let named =
            differences.map(|(((metric, ..), is), should)| format!("{metric} is {is}, should be {should}"));
        format!("role {role}: {}", named.collect::<Vec<_>>().join("; "))
    })
}

fn less(more: [u64; TOTALS.len()], less: [u64; TOTALS.len()]) -> [u64; TOTALS.len()] {
    std::array::from_fn(|index| more[index] - less[index])
}

/// Long connections that are quiet while the daemon starts: what it counts of them is, to the byte and segment, the kernel's
/// last totals less those at the start. The churn beside them is recorded as ever.
///
/// # Errors
/// When a sum differs, or a record is lost or doubled.
pub fn quiet_connections_are_exact() -> Result<()> {
    for start in 0..starts(3)? {
        quiet_once(start as u64).with_context(|| format!("start {start}"))?;
    }
    Ok(())
}

fn quiet_once(seed: u64) -> Result<()> {
    let scene = Scene::new(seed)?;
    let mut long = scene.pairs(LONG_ONES)?;
    exchange_all(&mut long, 5)?;
    let base = quiet(&long, LONG)?;
    ensure!(sums(&base)[7] > 0, "nothing was sent again before the start: nothing is proved");
    let book = start_churn(&scene.loopback, Ipv4Addr::LOCALHOST.into())?;
    let mut moved = false;
    let start = Start::new(|| {
        moved = sums(&infos_of(&long)?) != sums(&base);
        Ok(())
    })?;
    ensure!(!moved, "the connections were not quiet while the daemon started: the baseline is not known");
    scene.end_churn(book, &start)?;
    exchange_scraped(&mut long, 5, &start.probe)?;
    let last = end_all(&mut long, LONG)?;
    let grown = less(sums(&last), sums(&base));
    ensure!(grown.iter().all(|sum| *sum > 0), "something did not grow: {grown:?}");
    scene.records_of(&start.probe, long, &last)?;
    exactly(&start.probe, "unknown", grown)?;
    let scrape = start.probe.scrape()?;
    expect("ends closed", of_role(&scrape, CLOSED, "unknown"), 2.0 * LONG_ONES as f64)?;
    expect("ends opened", scrape.sum(OPENED, &[("family", "ipv6")]), 0.0)?;
    expect("ends live", scrape.sum(LIVE, &[("family", "ipv6")]), 0.0)?;
    start.nothing_was_lost()?;
    start.probe.stop()
}

/// Long connections that are busy while the daemon starts: what it counts of them lies between what they grew by since it was
/// ready and since its process was made.
///
/// # Errors
/// When a sum is outside, or a record is lost or doubled.
pub fn busy_connections_are_bounded() -> Result<()> {
    for start in 0..starts(3)? {
        busy_once(100 + start as u64).with_context(|| format!("start {start}"))?;
    }
    Ok(())
}

fn busy_once(seed: u64) -> Result<()> {
    let scene = Scene::new(seed)?;
    let mut long = scene.pairs(LONG_ONES)?;
    let sockets = long.iter().map(Pair::try_clone).collect::<Result<Vec<_>>>()?;
    let infos = || infos_of(&sockets);
    let book = start_churn(&scene.loopback, Ipv4Addr::LOCALHOST.into())?;
    let stop = AtomicBool::new(false);
    let (start, before, ready) = thread::scope(|scope| -> Result<(Start, Vec<Infos>, Vec<Infos>)> {
        let traffic = scope.spawn(|| exchange_until(&mut long, &stop));
        let started = (|| {
            wait_until(LONG, "all long connections are busy", || {
                Ok(infos()?.iter().flatten().all(|info| info.bytes_acked > 20_000))
            })?;
            let before = infos()?;
            let mut ready = Vec::new();
            let start = Start::new(|| {
                ready = infos()?;
                Ok(())
            })?;
            Ok((start, before, ready))
        })();
        stop.store(true, Ordering::Relaxed);
        traffic.join().unwrap_or_else(|_| anyhow::bail!("a thread of an exchange panicked"))?;
        started
    })?;
    drop(sockets);
    scene.end_churn(book, &start)?;
    exchange_scraped(&mut long, 3, &start.probe)?;
    let last = end_all(&mut long, LONG)?;
    scene.records_of(&start.probe, long, &last)?;
    let least = less(sums(&last), sums(&ready));
    let most = less(sums(&last), sums(&before));
    let scrape = start.probe.scrape()?;
    for (index, (metric, ..)) in TOTALS.iter().enumerate() {
        let is = of_role(&scrape, metric, "unknown");
        ensure!(
            least[index] as f64 <= is && is <= most[index] as f64,
            "{metric} is {is}, should be {} to {}",
            least[index],
            most[index]
        );
    }
    expect("ends closed", of_role(&scrape, CLOSED, "unknown"), 2.0 * LONG_ONES as f64)?;
    expect("ends opened", scrape.sum(OPENED, &[("family", "ipv6")]), 0.0)?;
    start.nothing_was_lost()?;
    start.probe.stop()
}

/// A daemon is followed by another: what the first counted, the second does not, nor what happened between the two; on
/// connections that began under the first, the second sees every round trip and every cause.
///
/// # Errors
/// When something is counted twice, or not at all.
pub fn second_daemon_counts_nothing_twice() -> Result<()> {
    const EACH: usize = 15;
    let scene = Scene::new(7)?;
    let mut long = scene.pairs(EACH)?;
    exchange_all(&mut long, 5)?;
    let base = quiet(&long, LONG)?;
    let first = Probe::on(start_daemon()?)?;
    // These are younger than the first daemon.
    long.extend(scene.pairs(EACH)?);
    exchange_scraped(&mut long, 5, &first)?;
    let handed_over = quiet(&long, LONG)?;
    let (older, younger) = handed_over.split_at(EACH);
    exactly(&first, "unknown", less(sums(older), sums(&base)))?;
    for (role, index) in [("client", 0), ("server", 1)] {
        let of_end: Vec<_> = younger.iter().map(|infos| infos[index]).collect();
        exactly(&first, role, TOTALS.map(|(_, _, of)| of_end.iter().map(of).sum()))?;
    }
    let sampled = callbacks(&first, &scene.link)?;
    first.stop()?;
    // Nobody counts this.
    exchange_all(&mut long, 3)?;
    let base = quiet(&long, LONG)?;
    let second = Start::new(|| Ok(()))?;
    expect("the connections with callbacks", callbacks(&second.probe, &scene.link)?, sampled)?;
    exchange_scraped(&mut long, 10, &second.probe)?;
    let last = end_all(&mut long, LONG)?;
    let records = scene.records_of(&second.probe, long, &last)?;
    exactly(&second.probe, "unknown", less(sums(&last), sums(&base)))?;
    let mut seen_again = 0;
    for (number, (lines, past)) in records.iter().zip(&base).enumerate() {
        for (line, past) in lines.iter().zip(past) {
            let causes = causes(line)?;
            let sampled = line.text("rtt_source")? == "round_trip";
            ensure!(
                sampled || number < EACH,
                "a connection that began under a daemon has no callbacks: {line:?}"
            );
            if sampled {
                expect("retrans_unattributed", causes.unattributed, u64::from(past.total_retrans))?;
                ensure!(
                    line.u64("rtt_samples")? > 0,
                    "a connection with callbacks has no round trips: {line:?}"
                );
                seen_again += causes.all - causes.unattributed;
            }
        }
    }
    ensure!(seen_again > 0, "nothing was sent again under the second daemon: nothing is proved");
    second.nothing_was_lost()?;
    second.probe.stop()
}

/// The identities of live connections whose round trips are sampled.
fn callbacks(probe: &Probe, link: &Link) -> Result<BTreeSet<u64>> {
    let mut sampled = BTreeSet::new();
    for end in [&link.client, &link.server] {
        for line in probe.live(end)? {
            if line.text("rtt_source")? == "round_trip" {
                sampled.insert(cookie_of(&line)?);
            }
        }
    }
    Ok(sampled)
}
