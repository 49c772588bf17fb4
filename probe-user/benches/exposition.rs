//! What a scrape of many groups costs the daemon: time, bytes, and what the allocator was asked for, in text and in protobuf.
//!
//! `cargo bench -p probe-user --bench exposition`. A thousand networks, of each a server's connection with forty different
//! round trips, some losses and an end, so that every family has a value in every group. Prints a figure a line: name, unit
//! and value, apart by tabs; processor time of this thread, the best of some runs.

mod figure;

use std::{alloc::System, hint::black_box, io::Write as _, path::Path};

use bytemuck::Zeroable as _;
use figure::{cpu_time, figure, is_quick};
use flate2::{Compression, write::GzEncoder};
use probe_common::{
    ABI_VERSION,
    histogram::bucket_of,
    record::{FlowHead, FlowRecord, flag, kind, role},
};
use probe_user::{
    aggregate::{Aggregator, Grouping, Snapshot},
    config::Config,
    export::{negotiation::Format, prometheus::Exposition, stats::SelfStats},
    networks::Sources,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const GROUPS: u32 = 1_000;

fn main() {
    let snapshot = snapshot();
    let own = SelfStats { version: "0".to_owned(), jiffies_per_second: Some(250), ..SelfStats::default() };
    let exposition = Exposition::default();
    let runs = if is_quick() { 3 } else { 50 };
    for (name, format) in [("text", Format::Text), ("protobuf", Format::Protobuf)] {
        // Each piece is dropped before the next is made, as a server does.
        let pieces = || exposition.pieces(format, snapshot.clone(), own.clone());
        let pieces = || pieces().map(|piece| piece.unwrap_or_else(|error| panic!("{error}")));
        let render = || pieces().for_each(|piece| drop(black_box(piece)));
        let bytes = pieces().flatten().collect::<Vec<u8>>();
        let region = Region::new(MEMORY);
        render();
        let asked = region.change();
        let row = format!("rendering/{GROUPS} groups, {name}");
        figure(&row, "time", "ms", best(runs, render));
        figure(&row, "size", "KiB", bytes.len() as f64 / 1024.0);
        figure(&row, "allocations", "", (asked.allocations + asked.reallocations) as f64);
        figure(&row, "allocated", "KiB", asked.bytes_allocated as f64 / 1024.0);
        let row = format!("{row}, gzip alone");
        figure(&row, "time", "ms", best(runs, || drop(black_box(packed(&bytes)))));
        figure(&row, "size", "KiB", packed(&bytes).len() as f64 / 1024.0);
    }
}

/// Milliseconds of the fastest run: the others are the machine's.
fn best(runs: usize, mut run: impl FnMut()) -> f64 {
    let times = (0..runs).map(|_| {
        let begun = cpu_time();
        run();
        (cpu_time() - begun).as_secs_f64() * 1e3
    });
    times.fold(f64::INFINITY, f64::min)
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory cannot fail.
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

fn snapshot() -> Snapshot {
    let text = format!("[networks]\nlabels = ['prefix']\n[groups]\nmax = {GROUPS}\n");
    let config = Config::parse(&text, Path::new("/bench.toml")).unwrap_or_else(|faults| panic!("{faults:?}"));
    let networks = Sources::open(&config.networks).unwrap_or_else(|faults| panic!("{faults:?}")).networks();
    let mut aggregator = Aggregator::grouped(true, Grouping::new(&config, networks, None));
    for network in 0..GROUPS {
        aggregator.add(&connection(network, kind::INCREMENT, flag::ESTABLISHED | flag::OPENED));
        aggregator.add(&connection(network, kind::CLOSED, flag::ESTABLISHED | flag::ACCOUNTED));
    }
    aggregator.settle();
    let snapshot = aggregator.snapshot();
    assert!(snapshot.groups.len() >= GROUPS as usize, "{} groups", snapshot.groups.len());
    snapshot
}

/// A connection of 10.`network`.1.
fn connection(network: u32, kind: u8, flags: u32) -> FlowRecord {
    let head = FlowHead {
        abi: ABI_VERSION,
        kind,
        role: role::SERVER,
        flags,
        family: 2,
        opened_ns: 1,
        now_ns: 90_000_000_001,
        min_rtt_us: 9_000,
        own_min_rtt_us: 9_000,
        handshake_rtt_us: 9_100,
        ..FlowHead::zeroed()
    };
    let mut record = FlowRecord { head, ..FlowRecord::zeroed() };
    record.remote_addr[..4].copy_from_slice(&(10 << 24 | network << 8 | 1).to_be_bytes());
    for us in (0..40).map(|sample| 9_000 + 1_700 * sample) {
        record.rtt_histogram[bucket_of(us)] += 1;
        record.counters.rtt_samples += 1;
        record.counters.rtt_sum_us += u64::from(us);
    }
    let counters = &mut record.counters;
    (counters.segs_out, counters.data_segs_out, counters.segs_in) = (1_100, 1_070, 600);
    (counters.bytes_sent, counters.bytes_acked, counters.bytes_received) = (1_500_000, 1_491_312, 512);
    (counters.retrans_segs, counters.retrans_fast, counters.bytes_retrans) = (7, 7, 8_688);
    record
}
