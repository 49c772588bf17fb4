//! Groups of networks: bounded, and exact in sum, also what is live, whatever comes and however groups are made.

use std::{collections::HashMap, fs, net::Ipv4Addr, path::Path};

use super::*;
use crate::{config::Config, networks::Sources};

fn grouping(text: &str) -> Grouping {
    let config = Config::parse(text, Path::new("/nonexistent/f.toml")).unwrap();
    let networks = Sources::open(&config.networks).unwrap().networks();
    Grouping::new(&config, networks, None)
}

fn aggregator(text: &str) -> Aggregator {
    Aggregator::grouped(true, grouping(text))
}

const PREFIXES: &str = "[networks]\nlabels = ['prefix']\n";

/// A server's connection with a client, at a time in s; port 443 or 80.
fn of(mut record: FlowRecord, client: [u8; 4], port: u16, opened_s: u64, now_s: u64) -> FlowRecord {
    record.role = SERVER;
    record.local_port_be = port.to_be();
    record.remote_addr[..4].copy_from_slice(&client);
    (record.opened_ns, record.now_ns) = (opened_s * 1_000_000_000, now_s * 1_000_000_000);
    record
}

fn opening(client: [u8; 4], at: u64) -> FlowRecord {
    of(opening_with_losses(), client, 443, at, at)
}

fn ending(client: [u8; 4], opened: u64, at: u64) -> FlowRecord {
    in_order(of(record(CLOSED, SERVER, ESTABLISHED | ACCOUNTED), client, 443, opened, at))
}

/// One series in Prometheus' words: the values of its labels, and what is live in it.
fn live(aggregator: &Aggregator) -> Vec<(String, i64)> {
    let snapshot = aggregator.snapshot();
    let name = |group: &Group| {
        snapshot.labels.of(group).skip(2).map(|(_, value)| value.into_owned()).collect::<Vec<_>>().join(" ")
    };
    snapshot.groups.iter().map(|(group, series)| (name(group), series.live())).collect()
}

fn live_of(aggregator: &Aggregator, name: &str) -> i64 {
    live(aggregator).iter().filter(|(is, _)| is == name).map(|(_, live)| live).sum()
}

#[test]
fn who_completes_no_handshake_takes_half_of_the_places_at_most() {
    let mut aggregator = aggregator(&format!("{PREFIXES}[groups]\nmax = 10\n"));
    for network in 0..200 {
        let mut again = synack();
        again.remote_addr[..4].copy_from_slice(&[10, 0, network, 1]);
        (0..100).for_each(|_| aggregator.add_synack(&again));
        let failed = record(CLOSED, CLIENT, 0);
        aggregator.add(&of(failed, [10, 1, network, 1], 443, 1, 2));
    }
    aggregator.settle();
    assert_eq!(aggregator.snapshot().held, 5);
    for network in 0..5 {
        aggregator.add(&opening([192, 0, network, 1], 3));
    }
    assert_eq!(aggregator.snapshot().held, 10);
    assert_eq!((0..5).map(|network| live_of(&aggregator, &format!("192.0.{network}.0/24"))).sum::<i64>(), 5);
    let sent_again: u64 =
        aggregator.snapshot().groups.values().map(|series| series.retransmitted(Cause::Synack)).sum();
    assert_eq!(sent_again, 20_000);
}

#[test]
fn records_are_put_under_service_and_network() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    fs::write(&list, "192.0.2.0/25 lab\n").unwrap();
    let text = format!(
        "[networks]\nlabels = ['list', 'prefix']\nv4_prefix_len = 20\nlists = ['{}']\n\
         [[service]]\nname = 'web'\nports = [443]\n[[service]]\nname = 'unit'\ncgroups = ['/unit*']\n",
        list.display()
    );
    let config = Config::parse(&text, Path::new("/nonexistent/f.toml")).unwrap();
    let networks = Sources::open(&config.networks).unwrap().networks();
    let path_of = |id| (id == 7).then(|| "/unit/x".into());
    let mut aggregator = Aggregator::grouped(true, Grouping::new(&config, networks, Some(Box::new(path_of))));
    aggregator.add(&opening([192, 0, 2, 7], 1));
    aggregator.add(&opening([192, 0, 2, 200], 1));
    let mut unit = of(opening_with_losses(), [192, 0, 2, 7], 80, 1, 1);
    unit.cgroup_id = 7;
    aggregator.add(&unit);
    let mut again = synack();
    again.remote_addr[..4].copy_from_slice(&[198, 51, 100, 1]);
    again.local_port_be = 80_u16.to_be();
    aggregator.add_synack(&again);
    assert_eq!(
        live(&aggregator),
        [
            ("other 198.51.96.0/20 unlisted".to_owned(), 0),
            ("unit 192.0.0.0/20 lab".to_owned(), 1),
            ("web 192.0.0.0/20 unlisted".to_owned(), 1),
            ("web 192.0.0.0/20 lab".to_owned(), 1),
        ]
    );
}

#[test]
fn a_million_networks_are_bounded_and_add_up() {
    const NETWORKS: u32 = 1_000_000;
    let mut aggregator = aggregator(PREFIXES);
    let mut flat = 0;
    for n in 0..NETWORKS {
        let client = Ipv4Addr::from(0x0100_0000 + (n << 8) + 1).octets();
        let now = u64::from(n / 1_000);
        let mut end = in_order(of(opening_with_losses(), client, 443, now, now));
        (end.kind, end.flags) = (CLOSED, ESTABLISHED | FIN_LOCAL);
        aggregator.add(&end);
        if n % 100_000 == 99_999 {
            aggregator.settle();
            let shown = aggregator.show();
            assert!(shown.groups.len() <= 1_000 + 2 && shown.held == 1_000, "{}", shown.groups.len());
            flat = flat.max(shown.groups.len());
        }
    }
    let sum = |read: fn(&Series) -> u64| total(&aggregator, read);
    let each = u64::from(NETWORKS);
    assert_eq!((sum(|s| s.opened), sum(|s| s.closed.total())), (each, each));
    assert_eq!((sum(|s| s.segs_out), sum(|s| s.bytes_sent)), (110 * each, 150_000 * each));
    assert_eq!((sum(|s| s.rtt.count()), sum(|s| s.rtt.sum_us)), (3 * each, 81_500 * each));
    assert_eq!(live(&aggregator).iter().map(|(_, live)| live).sum::<i64>(), 0);
    let snapshot = aggregator.snapshot();
    assert_eq!((snapshot.groups.len(), snapshot.label_overflow), (flat, each - 1_000));
}

#[test]
fn a_connection_ends_where_it_is_counted() {
    let mut aggregator = aggregator("[networks]\nlabels = ['prefix']\n[groups]\nmax = 1\n");
    let (first, second) = ([192, 0, 2, 1], [198, 51, 100, 1]);
    aggregator.add(&opening(first, 1));
    aggregator.add(&opening(second, 2));
    aggregator.add(&opening(second, 3));
    assert_eq!((live_of(&aggregator, "192.0.2.0/24"), live_of(&aggregator, "other")), (1, 2));
    // The second is heavier by far and takes the place over; what lives of both is in `other`.
    (0..9).for_each(|_| aggregator.add(&of(opening_with_losses(), second, 443, 4, 4)));
    aggregator.settle();
    assert_eq!((live_of(&aggregator, "198.51.100.0/24"), live_of(&aggregator, "other")), (0, 12));
    aggregator.add(&opening(second, 5));
    assert_eq!((live_of(&aggregator, "198.51.100.0/24"), live_of(&aggregator, "other")), (1, 12));
    for (client, opened) in [(first, 1), (second, 2), (second, 3)] {
        aggregator.add(&ending(client, opened, 6));
    }
    assert_eq!((live_of(&aggregator, "198.51.100.0/24"), live_of(&aggregator, "other")), (1, 9));
    aggregator.add(&ending(second, 5, 7));
    assert_eq!((live_of(&aggregator, "198.51.100.0/24"), live_of(&aggregator, "other")), (0, 9));
    assert_eq!(live_of(&aggregator, "former"), 0);
    assert_eq!(total(&aggregator, |s| s.opened), 13);
    assert_eq!(total(&aggregator, |s| s.closed.total()), 4);
}

#[test]
fn a_group_with_a_live_connection_is_not_idle() {
    let mut aggregator = aggregator(PREFIXES);
    let (quiet, other) = ([192, 0, 2, 1], [198, 51, 100, 1]);
    aggregator.add(&opening(quiet, 1));
    for _ in 0..3 {
        let _ = aggregator.show();
    }
    aggregator.add(&opening(other, 5_000));
    aggregator.settle();
    assert_eq!(live_of(&aggregator, "192.0.2.0/24"), 1);
    aggregator.add(&ending(quiet, 1, 5_001));
    for _ in 0..3 {
        let _ = aggregator.show();
    }
    aggregator.add(&opening(other, 9_000));
    aggregator.settle();
    let names: Vec<_> = live(&aggregator).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["198.51.100.0/24", "former"]);
    assert_eq!((aggregator.snapshot().left, total(&aggregator, |s| s.opened)), (1, 3));
}

#[test]
fn small_groups_are_not_told_apart() {
    let mut aggregator = aggregator("[networks]\nlabels = ['prefix']\n[privacy]\nmin_clients = 3\n");
    for client in [1, 1, 2, 2, 1, 2] {
        aggregator.add(&opening([192, 0, 2, client], 1));
    }
    // Who never completed a handshake may be anyone.
    for client in 10..20 {
        aggregator.add(&of(record(CLOSED, SERVER, 0), [192, 0, 2, client], 443, 1, 1));
    }
    assert_eq!(live(&aggregator), [("other".to_owned(), 6)]);
    aggregator.add(&opening([192, 0, 2, 3], 2));
    aggregator.add(&opening([192, 0, 2, 1], 3));
    assert_eq!(live(&aggregator), [("192.0.2.0/24".to_owned(), 1), ("other".to_owned(), 7)]);
    assert_eq!((aggregator.snapshot().label_overflow, total(&aggregator, |s| s.opened)), (0, 8));
}

#[test]
fn another_configuration_loses_nothing() {
    let mut aggregator = aggregator(PREFIXES);
    let clients = [[192, 0, 2, 1], [198, 51, 100, 1]];
    clients.iter().for_each(|client| aggregator.add(&opening(*client, 1)));
    let sums = |aggregator: &Aggregator| {
        (total(aggregator, |s| s.opened), live(aggregator).iter().map(|(_, live)| live).sum::<i64>())
    };
    // The same labels: groups stay, and so do their connections.
    aggregator.regroup(grouping("[networks]\nlabels = ['prefix']\n[groups]\nmax = 50\n"));
    assert_eq!(live_of(&aggregator, "192.0.2.0/24"), 1);
    // Another length: groups stay until they are idle, their connections are `other`.
    aggregator.regroup(grouping("[networks]\nlabels = ['prefix']\nv4_prefix_len = 16\n"));
    assert_eq!((live_of(&aggregator, "192.0.2.0/24"), live_of(&aggregator, "other")), (0, 2));
    aggregator.add(&ending(clients[0], 1, 2));
    assert_eq!((live_of(&aggregator, "192.0.0.0/16"), live_of(&aggregator, "other")), (0, 1));
    // Other labels.
    let services = "[[service]]\nname = 'web'\nports = [443]\n";
    aggregator.regroup(grouping(&format!("{PREFIXES}{services}")));
    assert_eq!(live(&aggregator), [("former former".to_owned(), 0), ("other other".to_owned(), 1)]);
    aggregator.add(&opening(clients[1], 3));
    assert_eq!(live_of(&aggregator, "web 198.51.100.0/24"), 1);
    assert_eq!(sums(&aggregator), (3, 2));
    // None at all.
    aggregator.regroup(Grouping::default());
    assert_eq!(live(&aggregator), [(String::new(), 2)]);
    aggregator.add(&ending(clients[1], 3, 4));
    aggregator.add(&ending(clients[1], 1, 4));
    assert_eq!(live(&aggregator), [(String::new(), 0)]);
    assert_eq!((sums(&aggregator), total(&aggregator, |s| s.closed.total())), ((3, 0), 3));
    // Services alone.
    aggregator.regroup(grouping(services));
    aggregator.add(&opening(clients[1], 5));
    assert_eq!(live(&aggregator), [("former".to_owned(), 0), ("web".to_owned(), 1)]);
}

#[test]
fn a_recount_puts_connections_where_they_end() {
    let mut aggregator = aggregator("[networks]\nlabels = ['prefix']\n[groups]\nmax = 1\n");
    let clients = [[192, 0, 2, 1], [198, 51, 100, 1]];
    for client in clients {
        aggregator.add(&opening(client, 1));
        // Its end was lost.
        aggregator.add(&opening(client, 2));
    }
    let counts: Vec<_> =
        clients.iter().map(|client| (aggregator.live_group(&opening(*client, 1)), 1)).collect();
    aggregator.resync_live(&counts);
    assert_eq!((live_of(&aggregator, "192.0.2.0/24"), live_of(&aggregator, "other")), (1, 1));
    clients.iter().for_each(|client| aggregator.add(&ending(*client, 1, 3)));
    assert!(live(&aggregator).iter().all(|(_, live)| *live == 0));
}

const CONFIGURATIONS: [&str; 6] = [
    "",
    PREFIXES,
    "[networks]\nlabels = ['prefix']\n[groups]\nmax = 2\nidle = '1m'\nidle_scrapes = 1\n",
    "[networks]\nlabels = ['prefix']\nv4_prefix_len = 30\n[groups]\nmax = 3\n[privacy]\nmin_clients = 3\n",
    "[networks]\nlabels = ['prefix']\n[groups]\nmax = 2\n[[service]]\nname = 'a'\nports = [443]\n",
    "[[service]]\nname = 'b'\nports = [80]\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// Connections open and end, places change hands and configurations come and go: sums are exact, no gauge is negative.
    #[test]
    fn what_is_live_is_exact_whatever_happens(
        steps in proptest::collection::vec((0u8..16, 0u8..12, 0u8..4, any::<bool>()), 0..300), first in 0usize..6
    ) {
        let mut aggregator = aggregator(CONFIGURATIONS[first]);
        let mut alive: HashMap<u64, FlowRecord> = HashMap::new();
        let (mut now, mut opened, mut closed) = (1, 0, 0);
        for (step, network, host, is_web) in steps {
            let client = [10, 0, network, host];
            let port = if is_web { 443 } else { 80 };
            match step {
                0 => aggregator.settle(),
                1 => _ = aggregator.show(),
                2 => aggregator.regroup(grouping(CONFIGURATIONS[usize::from(network) % CONFIGURATIONS.len()])),
                3 => now += 100,
                4..=7 => {
                    if let Some(key) = alive.keys().nth(usize::from(network)).copied() {
                        let mut end = in_order(alive.remove(&key).unwrap());
                        (end.kind, end.flags, end.now_ns) = (CLOSED, ESTABLISHED | ACCOUNTED | FIN_LOCAL, now * 1_000_000_000);
                        aggregator.add(&end);
                        closed += 1;
                    }
                }
                8 => {
                    // Records of two sources may come late.
                    let record = of(opening_with_losses(), client, port, now.saturating_sub(3), now.saturating_sub(2));
                    aggregator.add(&record);
                    opened += 1;
                    alive.insert(opened, record);
                }
                _ => {
                    let record = of(opening_with_losses(), client, port, now, now);
                    aggregator.add(&record);
                    opened += 1;
                    alive.insert(opened, record);
                }
            }
            now += 1;
            prop_assert_eq!(total(&aggregator, |s| s.opened), opened);
            prop_assert_eq!(total(&aggregator, |s| s.closed.total()), closed);
            prop_assert_eq!(total(&aggregator, |s| s.segs_out), 110 * opened);
            let live = live(&aggregator);
            prop_assert!(live.iter().all(|(_, live)| *live >= 0), "{live:?}");
            prop_assert_eq!(live.iter().map(|(_, live)| *live).sum::<i64>(), alive.len() as i64);
        }
        for record in alive.values() {
            let mut end = in_order(*record);
            (end.kind, end.flags) = (CLOSED, ESTABLISHED | ACCOUNTED | FIN_LOCAL);
            aggregator.add(&end);
        }
        prop_assert!(live(&aggregator).iter().all(|(_, live)| *live == 0));
    }
}
