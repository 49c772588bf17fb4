//! What a full routing table costs: time to load, memory, and nanoseconds for a look-up, in four libraries; and what the
//! files cost to read.
//!
//! `cargo bench -p probe-user --bench networks`. Prints a figure a line: name, unit and value, apart by tabs; processor time,
//! the best of some runs, and what the allocator was asked for. Checks nothing but that all libraries find the same. Takes
//! about a minute and 1 GB; `-- --quick` a small table and a second.

#[path = "../figure/mod.rs"]
mod figure;
mod libraries;
mod synthetic;

use std::{
    hint::black_box,
    io::{Cursor, Write as _},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use figure::{cpu_time, figure, is_quick};
use flate2::{Compression, write::GzEncoder};
use ipnet::IpNet;
use peak_alloc::PeakAlloc;
use probe_user::networks::{Bgp, Label, ListFile, Networks, Settings, Sources};

use self::{
    libraries::{IptrieCompressed, IptrieRadix, Library, PrefixTrie, TreeBitmap},
    synthetic::Announced,
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const LOOKUPS: usize = 2_000_000;
/// Paths a prefix in the synthetic dump; real collectors have tens.
const PATHS: usize = 4;

/// Prefixes of a try.
const FEW: usize = 50_000;

fn main() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut table = synthetic::full_table(&mut random);
    if is_quick() {
        table.truncate(FEW);
    }
    let addresses = Addresses::new(&mut random, &table);
    let shuffled = table.clone();
    table.sort_unstable_by_key(|announced| announced.prefix);
    let sums = [
        library::<IptrieCompressed>(&shuffled, &table, &addresses),
        library::<IptrieRadix>(&shuffled, &table, &addresses),
        library::<PrefixTrie>(&shuffled, &table, &addresses),
        library::<TreeBitmap>(&shuffled, &table, &addresses),
    ];
    assert!(sums.iter().all(|sum| *sum == sums[0]), "the libraries do not agree: {sums:?}");
    drop(shuffled);
    files(&table);
    classify(&table, &addresses);
}

struct Addresses {
    /// Each in a random prefix: nothing is in the processor's caches.
    v4_any: Vec<IpAddr>,
    /// Of 10,000 prefixes, some much more often than others, as clients are.
    v4_few: Vec<IpAddr>,
    v6_any: Vec<IpAddr>,
}

impl Addresses {
    fn new(random: &mut fastrand::Rng, table: &[Announced]) -> Self {
        let of = |wanted: fn(&IpNet) -> bool| -> Vec<IpNet> {
            table.iter().map(|announced| announced.prefix).filter(wanted).collect()
        };
        let v4 = of(|prefix| matches!(prefix, IpNet::V4(_)));
        let v6 = of(|prefix| matches!(prefix, IpNet::V6(_)));
        let mut any = |prefixes: &[IpNet]| -> Vec<IpAddr> {
            let mut one = || {
                let prefix = prefixes[random.usize(..prefixes.len())];
                synthetic::inside(random, prefix)
            };
            (0..LOOKUPS).map(|_| one()).collect()
        };
        let (v4_any, v6_any) = (any(&v4), any(&v6));
        let v4_few = (0..LOOKUPS).map(|_| v4_any[(1e4 * random.f64() * random.f64()) as usize]).collect();
        Self { v4_any, v4_few, v6_any }
    }
}

/// Says what it costs; the sum of what was found.
fn library<L: Library>(shuffled: &[Announced], sorted: &[Announced], addresses: &Addresses) -> u64 {
    let build = |table: &[Announced]| {
        let (before, begun) = (MEMORY.current_usage(), cpu_time());
        MEMORY.reset_peak_usage();
        let built = L::build(table);
        let seconds = (cpu_time() - begun).as_secs_f64();
        (built, seconds, MEMORY.current_usage() - before, MEMORY.peak_usage() - before)
    };
    let best = |a: f64, b: f64| a.min(b);
    let of = sorted.len();
    let shuffled = (0..3).map(|_| build(shuffled).1).fold(f64::INFINITY, best);
    let sorted_first = build(sorted).1;
    let (built, sorted, memory, peak) = build(sorted);
    let sorted = best(sorted_first, sorted);
    let mut sum = 0u64;
    let mut time = |addresses: &[IpAddr]| {
        // The best of three: the others are the machine's.
        let runs = (0..3).map(|_| {
            let begun = cpu_time();
            let found = addresses.iter().fold(0u64, |sum, address| sum.wrapping_add(built.find(*address)));
            sum = sum.wrapping_add(black_box(found));
            (cpu_time() - begun).as_nanos() as f64 / addresses.len() as f64
        });
        runs.fold(f64::INFINITY, f64::min)
    };
    let [any, few, v6] = [&addresses.v4_any, &addresses.v4_few, &addresses.v6_any].map(|a| time(a));
    let row = format!("library, {of} prefixes/{}", L::NAME);
    for (column, unit, value) in [
        ("load, shuffled", "s", shuffled),
        ("load, sorted", "s", sorted),
        ("memory", "MB", memory as f64 / 1e6),
        ("peak", "MB", peak as f64 / 1e6),
        ("IPv4, any", "ns", any),
        ("IPv4, few", "ns", few),
        ("IPv6, any", "ns", v6),
    ] {
        figure(&row, column, unit, value);
    }
    sum
}

fn files(table: &[Announced]) {
    let text = synthetic::prefix_to_as(table);
    let dump = synthetic::mrt(table, PATHS);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory cannot fail.
    let packed = encoder.write_all(&dump).and_then(|()| encoder.finish()).unwrap_or_default();
    for (name, bytes) in
        [("prefix-to-AS text", text), ("MRT, 4 paths a prefix", dump), ("the same, gzip", packed)]
    {
        let mut bytes = bytes;
        bytes.shrink_to_fit();
        let size = bytes.len();
        let (before, begun) = (MEMORY.current_usage(), cpu_time());
        MEMORY.reset_peak_usage();
        let bgp = Bgp::read(Path::new(name), Cursor::new(bytes)).unwrap_or_else(|fault| panic!("{fault}"));
        let seconds = (cpu_time() - begun).as_secs_f64();
        // The bytes of the file were counted before and are gone.
        let memory = (MEMORY.current_usage() + size).saturating_sub(before);
        let peak = MEMORY.peak_usage().saturating_sub(before);
        let (v4, v6) = bgp.lengths().totals();
        assert_eq!((v4 + v6) as usize, table.len());
        let row = format!("file, {} prefixes/{name}", table.len());
        for (column, unit, value) in [
            ("file", "MB", size as f64 / 1e6),
            ("load", "s", seconds),
            ("memory", "MB", memory as f64 / 1e6),
            ("peak", "MB", peak as f64 / 1e6),
        ] {
            figure(&row, column, unit, value);
        }
    }
}

/// The whole answer: three labels of an address.
fn classify(table: &[Announced], addresses: &Addresses) {
    let folder = std::env::temp_dir().join(format!("flowprobe-bench-{}", std::process::id()));
    let networks = networks(&folder, table);
    std::fs::remove_dir_all(&folder).ok();
    let networks = networks.unwrap_or_else(|fault| panic!("{fault}"));
    let row = format!("answer, {} prefixes/prefix, bgp_prefix, asn and list", table.len());
    for (name, addresses) in
        [("IPv4, any", &addresses.v4_any), ("IPv4, few", &addresses.v4_few), ("IPv6, any", &addresses.v6_any)]
    {
        let mut each = f64::INFINITY;
        for _ in 0..3 {
            let begun = cpu_time();
            let found = addresses.iter().filter(|address| networks.classify(**address).asn.is_some()).count();
            assert!(found > 0, "no address has an AS");
            each = each.min((cpu_time() - begun).as_nanos() as f64 / addresses.len() as f64);
        }
        figure(&row, name, "ns", each);
    }
}

fn networks(folder: &Path, table: &[Announced]) -> Result<Arc<Networks>, String> {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, bytes))
            .map_err(|e| e.to_string())?;
        Ok::<_, String>(path)
    };
    let settings = Settings {
        labels: vec![Label::Prefix, Label::BgpPrefix, Label::Asn, Label::List],
        bgp: Some(write("pfx2as", &synthetic::prefix_to_as(table))?),
        lists: vec![ListFile {
            name: None,
            path: write("list", b"10.0.0.0/8 office\n192.168.0.0/16 lab\n")?,
        }],
        ..Settings::default()
    };
    let sources = Sources::open(&settings).map_err(|faults| format!("{faults:?}"))?;
    Ok(sources.networks())
}
