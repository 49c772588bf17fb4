//! Broken files of every kind: no panic, no endless loop, and an error that names the file.
//!
//! The mangler is seeded: a failure comes again. `FLOWPROBE_FUZZ_ROUNDS` makes it run for longer than the default.

use std::{fs, path::Path};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use super::{
    testing::{
        Mangler,
        mmdb::{file, ipinfo_lite, maxmind_asn, maxmind_country},
        mrt::{Dump, Path as AsPath},
    },
    *,
};

fn rounds() -> u64 {
    std::env::var("FLOWPROBE_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

const ADDRESSES: [&str; 5] = ["192.0.2.1", "198.51.100.200", "2001:db8::1", "::", "255.255.255.255"];

/// Reads mangled copies; how many were read all the same, and how many not.
fn fuzz<T>(
    seed: u64,
    whole: &[u8],
    read: impl Fn(&Path, Vec<u8>) -> Result<T, Fault>,
    ask: impl Fn(&T, IpAddr),
) -> (u64, u64) {
    let path = Path::new("some/file");
    let mut mangler = Mangler::new(seed);
    let (mut good, mut bad) = (0, 0);
    assert!(read(path, whole.to_vec()).is_ok());
    for _ in 0..rounds() {
        match read(path, mangler.mangle(whole)) {
            Ok(data) => {
                good += 1;
                ADDRESSES.iter().for_each(|address| ask(&data, address.parse().unwrap()));
            }
            Err(fault) => {
                bad += 1;
                let text = fault.to_string();
                assert!(text.starts_with("some/file:") && text.lines().count() == 1, "{text:?}");
            }
        }
    }
    (good, bad)
}

fn rib() -> Dump {
    Dump::new(1_700_000_000)
        .peers(3)
        .rib("192.0.2.0/24", &[AsPath::of(&[64510, 64500]), AsPath::of(&[64511, 64501])])
        .rib("198.51.0.0/16", &[AsPath::of(&[64510]).then_set(&[64500, 64501])])
        .rib("2001:db8::/32", &[AsPath::of(&[64503])])
        .add_path("2001:db8:1::/48", &[AsPath::of(&[64504])])
}

#[test]
fn broken_mmdb() {
    let records = [
        ("192.0.2.0/24", maxmind_asn(64500)),
        ("198.51.100.0/25", maxmind_country("DE")),
        ("2001:db8::/32", ipinfo_lite("AS64501", "NL")),
    ];
    let whole = file("Fuzz", 1, &records);
    let ask = |mmdb: &Mmdb, address| _ = (mmdb.find(address), mmdb.find_network(address));
    let (good, bad) = fuzz(1, &whole, |path, bytes| Mmdb::read(path, &bytes[..]), ask);
    assert!(good > 0 && bad > 0, "{good} {bad}");
}

#[test]
fn broken_mrt() {
    let read = |path: &Path, bytes| Bgp::read(path, std::io::Cursor::new(bytes));
    let (good, bad) = fuzz(2, &rib().bytes(), read, |bgp, address| _ = bgp.route(address));
    assert!(good > 0 && bad > 0, "{good} {bad}");
}

#[test]
fn broken_gzip_of_mrt() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, &rib().bytes()).unwrap();
    let read = |path: &Path, bytes| Bgp::read(path, std::io::Cursor::new(bytes));
    let (_, bad) = fuzz(3, &encoder.finish().unwrap(), read, |bgp, address| _ = bgp.route(address));
    assert!(bad > 0);
}

#[test]
fn broken_prefix_to_as() {
    let text = "# x\n192.0.2.0\t24\t64500\n198.51.100.0\t24\t64502_64501\n203.0.113.0\t24\t64503,64504\n2001:db8:: 32 1\n";
    let read = |path: &Path, bytes| Bgp::read(path, std::io::Cursor::new(bytes));
    let (good, bad) = fuzz(4, text.as_bytes(), read, |bgp, address| _ = bgp.route(address));
    assert!(good > 0 && bad > 0, "{good} {bad}");
}

#[test]
fn broken_lists() {
    let text = "# ours\n192.0.2.0/24 office # x\n198.51.100.7 one\n2001:db8::/32 v6 é\n";
    let read = |path: &Path, bytes: Vec<u8>| List::read(path, &bytes[..], None);
    let (good, bad) = fuzz(5, text.as_bytes(), read, |list, address| _ = list.find(address));
    assert!(good > 0 && bad > 0, "{good} {bad}");
}

#[test]
fn old_data_stays_whatever_comes() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rib");
    let whole = rib().bytes();
    fs::write(&path, &whole).unwrap();
    let settings = Settings { labels: vec![Label::Asn], bgp: Some(path.clone()), ..Settings::default() };
    let mut sources = Sources::open(&settings).unwrap();
    let mut mangler = Mangler::new(6);
    let (mut reloaded, mut faults) = (0, 0);
    for _ in 0..200 {
        let before = sources.networks();
        let new = folder.path().join("new");
        fs::write(&new, mangler.mangle(&whole)).unwrap();
        fs::rename(&new, &path).unwrap();
        sources.poll();
        let poll = sources.poll();
        reloaded += poll.reloaded.len();
        faults += poll.faults.len();
        // Either new data, or the very same and an error that stays to be seen.
        let is_same = Arc::ptr_eq(&before, &sources.networks());
        assert_eq!(is_same, poll.reloaded.is_empty());
        assert_eq!(sources.status()[0].fault.as_ref(), poll.faults.first());
        assert_eq!(poll.reloaded.len() + poll.faults.len(), 1);
    }
    assert!(reloaded > 0 && faults > 0, "{reloaded} {faults}");
}
