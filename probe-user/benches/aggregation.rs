//! What it costs to find the service of a connection, and to add a record to the sums of its group.
//!
//! `cargo bench -p probe-user --bench aggregation`. Prints a figure a line: name, unit and value, apart by tabs; nanoseconds
//! of processor time of this thread, the best of some runs. Takes some seconds; `-- --quick` less than one.

mod figure;

use std::{hint::black_box, net::IpAddr, ops::RangeInclusive, path::Path};

use bytemuck::Zeroable as _;
use figure::{cpu_time, figure, is_quick};
use ipnet::IpNet;
use probe_common::{
    ABI_VERSION,
    histogram::bucket_of,
    record::{FlowHead, FlowRecord, flag, kind, role},
};
use probe_user::{
    aggregate::{Aggregator, Grouping},
    config::{Config, Service, Services},
    networks::Sources,
};

/// Odd, so that its multiples go through all 32-bit numbers, far from each other.
const SPREAD: u32 = 2_654_435_761;

fn main() {
    let rounds = if is_quick() { 50_000 } else { 1_000_000 };
    services(2 * rounds);
    records(rounds);
}

/// Nanoseconds of one round of the fastest of three runs: the others are the machine's. Each run has what `make` makes for
/// it, outside its time.
fn best<T>(rounds: u32, make: impl Fn() -> T, mut round: impl FnMut(&mut T, u32)) -> f64 {
    let runs = (0..3).map(|_| {
        let mut made = make();
        let begun = cpu_time();
        (0..rounds).for_each(|number| round(&mut made, number));
        (cpu_time() - begun).as_nanos() as f64 / f64::from(rounds)
    });
    runs.fold(f64::INFINITY, f64::min)
}

fn service(name: String, ports: &[RangeInclusive<u16>], addresses: &[&str], cgroups: &[&str]) -> Service {
    let net = |text: &&str| text.parse::<IpNet>().unwrap_or_else(|error| panic!("{error}"));
    Service {
        name: name.into(),
        ports: ports.to_vec(),
        addresses: addresses.iter().map(net).collect(),
        cgroups: cgroups.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// Any port, and the addresses of a /24.
fn services(rounds: u32) {
    let few = [
        service("edge".to_owned(), &[443..=443], &["192.0.2.1/32", "2001:db8::/64"], &[]),
        service("web".to_owned(), &[80..=80, 443..=443, 8000..=8099], &[], &[]),
        service("lab".to_owned(), &[], &["192.0.2.0/24"], &["/system.slice/*"]),
        service("top".to_owned(), &[65535..=65535], &[], &[]),
    ];
    let mut many: Vec<_> =
        (0..60).map(|n| service(format!("s{n}"), &[n * 100..=n * 100 + 9], &["192.0.2.0/24"], &[])).collect();
    let with_addresses = Services::new(&many);
    many.push(service("unit".to_owned(), &[], &[], &["/system.slice/nginx.service"]));
    for (what, services, cgroup) in [
        ("4 services", Services::new(&few), None),
        ("60 services", with_addresses, None),
        ("60 services and one by cgroup", Services::new(&many), Some("/system.slice/other.service")),
    ] {
        let each = best(
            rounds,
            || (),
            |(), round| {
                let port = (round.wrapping_mul(40_503) >> 8) as u16;
                let address = IpAddr::from([192, 0, 2, round as u8]);
                black_box(services.find(black_box(port), black_box(address), cgroup));
            },
        );
        figure(&format!("finding the service/{what}"), "a look-up", "ns", each);
    }
}

/// Openings of so many networks, in no order.
fn records(rounds: u32) {
    const PREFIXES: &str = "[networks]\nlabels = ['prefix']\n";
    let services: String =
        (0..20).map(|n| format!("[[service]]\nname = 's{n}'\nports = [{}]\n", 440 + n)).collect();
    let opening = opening();
    for (what, text, networks) in [
        ("nothing configured", String::new(), 500),
        ("20 services", services.clone(), 500),
        ("20 services and prefix, 500 networks", format!("{PREFIXES}{services}"), 500),
        ("20 services and prefix, 1,000,000 networks", format!("{PREFIXES}{services}"), 1_000_000),
        (
            "20 services and prefix, 1,000,000 networks, min_clients = 5",
            format!("{PREFIXES}[privacy]\nmin_clients = 5\n{services}"),
            1_000_000,
        ),
    ] {
        let each = best(
            rounds,
            || aggregator(&text),
            |aggregator, round| {
                let network = round.wrapping_mul(SPREAD) % networks;
                let mut record = opening;
                record.remote_addr[..4].copy_from_slice(&((network << 8) + (round & 0xff)).to_be_bytes());
                aggregator.add(&record);
            },
        );
        figure(&format!("adding a record/{what}"), "a record", "ns", each);
    }
}

fn aggregator(text: &str) -> Aggregator {
    let config = Config::parse(text, Path::new("/bench.toml")).unwrap_or_else(|faults| panic!("{faults:?}"));
    let networks = Sources::open(&config.networks).unwrap_or_else(|faults| panic!("{faults:?}")).networks();
    Aggregator::grouped(true, Grouping::new(&config, networks, None))
}

/// Of a server's connection on port 443 that sent segments and lost some.
fn opening() -> FlowRecord {
    let head = FlowHead {
        abi: ABI_VERSION,
        kind: kind::INCREMENT,
        role: role::SERVER,
        flags: flag::ESTABLISHED | flag::OPENED,
        family: 2,
        local_port_be: 443_u16.to_be(),
        opened_ns: 1_000_000_000,
        now_ns: 1_000_000_000,
        min_rtt_us: u32::MAX,
        own_min_rtt_us: 20_000,
        handshake_rtt_us: 20_100,
        ..FlowHead::zeroed()
    };
    let mut record = FlowRecord { head, ..FlowRecord::zeroed() };
    for us in [20_000, 20_500, 41_000] {
        record.rtt_histogram[bucket_of(us)] += 1;
        record.counters.rtt_samples += 1;
        record.counters.rtt_sum_us += u64::from(us);
    }
    let counters = &mut record.counters;
    (counters.segs_out, counters.data_segs_out, counters.segs_in) = (110, 107, 60);
    (counters.bytes_sent, counters.bytes_acked, counters.bytes_received) = (150_000, 140_001, 512);
    (counters.retrans_segs, counters.retrans_fast, counters.retrans_tlp) = (7, 6, 1);
    counters.bytes_retrans = 8_688;
    record
}
