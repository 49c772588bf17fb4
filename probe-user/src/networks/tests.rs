//! Networks as a whole: from files to labels, and what happens when the files change.

use std::{fs, io::Write as _, net::IpAddr, path::PathBuf};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use super::{
    testing::{
        mmdb::{Value, file, ipinfo_lite, map, maxmind_asn, maxmind_country, maze, of_v4, with_aliases},
        mrt::{Dump, Path as AsPath},
    },
    *,
};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A folder of files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Puts a file in place as a whole, as one should.
    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let (path, new) = (self.0.path().join(name), self.0.path().join("new"));
        fs::write(&new, bytes).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }
}

fn list(path: PathBuf) -> ListFile {
    ListFile { name: None, path }
}

fn rib() -> Vec<u8> {
    Dump::new(1_700_000_000)
        .peers(2)
        .rib("192.0.2.0/24", &[AsPath::of(&[64500])])
        .rib("192.0.2.128/25", &[AsPath::of(&[64510]).then_set(&[64501, 64502])])
        .rib("2001:db8::/32", &[AsPath::of(&[64503]), AsPath::of(&[64504])])
        .bytes()
}

fn everything(files: &Files) -> Settings {
    let records = [("192.0.2.0/24", maxmind_asn(64555)), ("198.51.100.0/24", maxmind_asn(64556))];
    Settings {
        labels: Label::ALL.to_vec(),
        lists: vec![
            list(files.put("a.txt", "192.0.2.0/24 office\n2001:db8::/48 lab\n")),
            list(files.put("b.txt", "192.0.2.0/24 later\n192.0.2.64/26 desks\n")),
        ],
        mmdb_asn: Some(files.put("asn.mmdb", file("GeoLite2-ASN", 1_600_000_000, &records))),
        mmdb_country: Some(
            files.put("country", file("GeoLite2-Country", 1, &[("2001:db8::/33", maxmind_country("NL"))])),
        ),
        bgp: Some(files.put("rib", rib())),
        ..Settings::default()
    }
}

fn values(networks: &Networks, text: &str) -> String {
    let labels = networks.classify(address(text));
    Label::ALL.map(|label| labels.value(label).into_owned()).join(" ")
}

#[test]
fn each_label_comes_from_its_source() {
    let files = Files::new();
    let networks = Sources::open(&everything(&files)).unwrap().networks();
    assert_eq!(values(&networks, "192.0.2.1"), "192.0.2.0/24 192.0.2.0/24 AS64500 unknown office");
    assert_eq!(values(&networks, "::ffff:192.0.2.65"), "192.0.2.0/24 192.0.2.0/24 AS64500 unknown desks");
    // The announcement names a set: then the MMDB file is asked.
    assert_eq!(values(&networks, "192.0.2.200"), "192.0.2.0/24 192.0.2.128/25 AS64555 unknown office");
    assert_eq!(values(&networks, "198.51.100.1"), "198.51.100.0/24 unknown AS64556 unknown unlisted");
    assert_eq!(values(&networks, "2001:db8::1"), "2001:db8::/48 2001:db8::/32 AS64503 NL lab");
    assert_eq!(
        values(&networks, "2001:db8:8000::1"),
        "2001:db8:8000::/48 2001:db8::/32 AS64503 unknown unlisted"
    );
    assert_eq!(values(&networks, "10.1.2.3"), "10.1.2.0/24 unknown unknown unknown unlisted");
}

#[test]
fn only_configured_labels_are_filled() {
    let files = Files::new();
    let settings = Settings { labels: vec![Label::Country], ..everything(&files) };
    let networks = Sources::open(&settings).unwrap().networks();
    let labels = networks.classify(address("2001:db8::1"));
    assert_eq!(labels, Labels { country: Country::new("NL"), ..Labels::default() });
    assert_eq!(Networks::default().classify(address("192.0.2.1")), Labels::default());
}

#[test]
fn every_layout_of_mmdb_is_understood() {
    for (record, asn, country) in [
        (maxmind_asn(64500), Some(64500), None),
        (maxmind_country("DE"), None, Some("DE")),
        (ipinfo_lite("AS64500", "NL"), Some(64500), Some("NL")),
        // IPinfo's older files: the code under `country`, the number as text or number.
        (map(&[("country", Value::Text("us")), ("asn", Value::Number(7))]), Some(7), Some("US")),
        (map(&[("registered_country", map(&[("iso_code", Value::Text("FR"))]))]), None, Some("FR")),
        (
            map(&[("country", Value::Text("France")), ("asn", Value::Text("")), ("x", Value::Number(1))]),
            None,
            None,
        ),
        (
            map(&[("country", map(&[("names", map(&[]))])), ("autonomous_system_number", Value::Number(0))]),
            None,
            None,
        ),
    ] {
        let bytes = file("X", 5, &[("192.0.2.0/24", record.clone()), ("2001:db8::/32", record)]);
        let mmdb = Mmdb::read(std::path::Path::new("x"), &bytes[..]).unwrap();
        for text in ["192.0.2.9", "2001:db8::9"] {
            let facts = mmdb.find(address(text)).unwrap();
            assert_eq!(facts, Facts { asn: asn.map(Asn), country: country.and_then(Country::new) }, "{text}");
        }
        assert_eq!(mmdb.find(address("192.0.3.1")), None);
        let network = |text| mmdb.find_network(address(text)).unwrap().0.to_string();
        assert_eq!(
            (network("192.0.2.9"), network("2001:db8::9")),
            ("192.0.2.0/24".into(), "2001:db8::/32".into())
        );
        assert_eq!((mmdb.lengths().v4[24], mmdb.lengths().v6[32]), (1, 1));
        assert_eq!(mmdb.built_at().unwrap().as_second(), 5);
    }
}

#[test]
fn mmdb_files_of_every_record_size_are_read_with_their_aliases() {
    let records = [("192.0.2.0/24", maxmind_asn(64500)), ("198.51.100.0/25", maxmind_asn(64501))];
    for bits in [24, 28, 32] {
        for (what, bytes) in [("aliases", with_aliases(bits, &records)), ("v4", of_v4(bits, &records))] {
            let mmdb = Mmdb::read(std::path::Path::new("x"), &bytes[..])
                .unwrap_or_else(|fault| panic!("{what}, {bits}: {fault}"));
            let asn = |text| mmdb.find(address(text)).and_then(|facts| facts.asn).map(|asn| asn.0);
            assert_eq!(asn("192.0.2.7"), Some(64500), "{what}, {bits}");
            assert_eq!(asn("198.51.100.1"), Some(64501), "{what}, {bits}");
            assert_eq!(asn("198.51.100.129"), None, "{what}, {bits}");
            if what == "aliases" {
                assert_eq!(asn("2002:c000:207::1"), Some(64500), "{bits}");
            }
        }
    }
}

#[test]
fn an_mmdb_file_of_more_ways_than_there_is_time_for_is_refused() {
    let refused = Mmdb::read(std::path::Path::new("x"), &maze()[..]).unwrap_err().to_string();
    assert!(refused.contains("is no sound MMDB file: its search tree is none; fetch it again"), "{refused}");
}

#[test]
fn one_mmdb_file_can_serve_both_labels() {
    let files = Files::new();
    let path = files.put("lite.mmdb", file("ipinfo", 9, &[("192.0.2.0/24", ipinfo_lite("AS64500", "NL"))]));
    let settings = Settings {
        labels: vec![Label::Asn, Label::Country],
        mmdb_asn: Some(path.clone()),
        mmdb_country: Some(path),
        ..Settings::default()
    };
    let sources = Sources::open(&settings).unwrap();
    assert_eq!(sources.status().len(), 1);
    assert_eq!(values(&sources.networks(), "192.0.2.1"), "unknown unknown AS64500 NL unlisted");
}

#[test]
fn files_of_the_wrong_kind_are_refused() {
    let files = Files::new();
    let good = everything(&files);
    let settings =
        Settings { mmdb_asn: good.mmdb_country.clone(), mmdb_country: good.mmdb_asn.clone(), ..good };
    let faults = Sources::open(&settings).unwrap_err();
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(texts[0].contains("country: holds no AS numbers (it is a `GeoLite2-Country` file)"), "{texts:?}");
    assert!(texts[1].contains("asn.mmdb: holds no countries"), "{texts:?}");
    let settings = Settings {
        lists: vec![list(files.0.path().to_owned()), list(files.0.path().join("absent"))],
        bgp: Some(files.put("bad", "x\n")),
        ..Settings::default()
    };
    let texts: Vec<String> = Sources::open(&settings).unwrap_err().iter().map(ToString::to_string).collect();
    assert!(texts[0].ends_with("is no file: give the path of a regular file"), "{texts:?}");
    assert!(texts[1].contains("absent: cannot be read: No such file"), "{texts:?}");
    assert!(texts[2].contains("bad:1: `x` is no prefix-to-AS entry"), "{texts:?}");
}

#[test]
fn a_changed_file_is_read_when_it_has_settled() {
    let files = Files::new();
    let mut sources = Sources::open(&everything(&files)).unwrap();
    let before = sources.networks();
    assert!(sources.poll().reloaded.is_empty());
    let path = files.put("a.txt", "192.0.2.0/24 kitchen\n");
    assert!(sources.poll().reloaded.is_empty(), "may still be changing");
    assert_eq!(sources.poll().reloaded, [path]);
    assert!(sources.poll().reloaded.is_empty());
    assert!(values(&sources.networks(), "192.0.2.1").ends_with("kitchen"));
    assert!(values(&before, "192.0.2.1").ends_with("office"), "a snapshot does not change");
    assert_eq!(sources.status()[0].prefixes, 1);
}

#[test]
fn a_broken_file_leaves_the_old_data_and_is_told_once() {
    let files = Files::new();
    let mut sources = Sources::open(&everything(&files)).unwrap();
    let before = values(&sources.networks(), "192.0.2.200");
    let mut cut = rib();
    cut.truncate(cut.len() - 4);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(b"192.0.2.0 24 1\n").unwrap();
    let mut packed = packed.finish().unwrap();
    packed.truncate(packed.len() - 4);
    for (name, bytes, says) in [
        ("rib", packed, "rib: is broken: "),
        ("a.txt", b"192.0.2.0/24 x\n192.0.2.0/99 y".to_vec(), "a.txt:2: "),
        ("asn.mmdb", b"nonsense".to_vec(), "asn.mmdb: is no sound MMDB file"),
        ("rib", cut, "rib: record 4 at byte "),
    ] {
        files.put(name, bytes);
        assert!(sources.poll().faults.is_empty());
        let poll = sources.poll();
        let [fault] = &poll.faults[..] else { panic!("{name}: {poll:?}") };
        assert!(fault.to_string().contains(says), "{fault}");
        let poll = sources.poll();
        assert!(poll.faults.is_empty() && poll.reloaded.is_empty());
        assert_eq!(sources.status().iter().filter(|status| status.fault.as_ref() == Some(fault)).count(), 1);
        assert_eq!(values(&sources.networks(), "192.0.2.200"), before);
    }
    // A file that is gone is a fault too, told once, and one that is good again ends it.
    fs::remove_file(files.0.path().join("a.txt")).unwrap();
    sources.poll();
    assert!(
        sources.status()[0].fault.as_ref().unwrap().to_string().contains("a.txt:2: "),
        "still the last known"
    );
    assert!(sources.poll().faults[0].to_string().contains("a.txt: cannot be read"));
    assert!(sources.poll().faults.is_empty());
    assert!(sources.status()[0].fault.is_some());
    files.put("a.txt", "192.0.2.0/24 garden\n");
    sources.poll();
    assert_eq!(sources.poll().reloaded.len(), 1);
    assert_eq!(sources.status()[0].fault, None);
    assert!(values(&sources.networks(), "192.0.2.200").ends_with("garden"));
}

#[test]
fn status_has_the_date_of_the_data() {
    let files = Files::new();
    let sources = Sources::open(&everything(&files)).unwrap();
    let status = sources.status();
    let names: Vec<_> = status.iter().map(|s| (s.source, s.prefixes)).collect();
    assert_eq!(names, [("list", 2), ("list", 2), ("mmdb", 2), ("mmdb", 1), ("bgp", 3)]);
    let modified = fs::metadata(&status[0].path).unwrap().modified().unwrap();
    assert_eq!(status[0].date, modified.try_into().ok());
    assert_eq!(status[2].date.unwrap().as_second(), 1_600_000_000);
    assert_eq!(status[4].date.unwrap().as_second(), 1_700_000_000);
}

#[test]
fn new_settings_keep_what_did_not_change() {
    let files = Files::new();
    let settings = everything(&files);
    let first = Sources::open(&settings).unwrap();
    files.put("a.txt", "192.0.2.0/24 kitchen\n");
    let narrower = Settings { labels: vec![Label::List, Label::Asn], v4_prefix_len: 16, ..settings };
    let second = Sources::open_after(&narrower, Some(&first)).unwrap();
    let (a, b) = (first.networks(), second.networks());
    assert!(Arc::ptr_eq(a.bgp.as_ref().unwrap(), b.bgp.as_ref().unwrap()));
    assert!(Arc::ptr_eq(&a.lists[1], &b.lists[1]));
    assert!(!Arc::ptr_eq(&a.lists[0], &b.lists[0]));
    assert_eq!(values(&b, "192.0.2.1"), "unknown unknown AS64500 unknown kitchen");
}

#[test]
fn the_reasons_name_files_and_prefixes() {
    let files = Files::new();
    let settings = Settings { labels: vec![Label::Prefix, Label::Asn], ..everything(&files) };
    let networks = Sources::open(&settings).unwrap().networks();
    let reasons = |text: &str| -> Vec<String> {
        let lines = networks.lookup(address(text));
        lines
            .iter()
            .map(|reason| reason.to_string().replace(&*files.0.path().to_string_lossy(), "D"))
            .collect()
    };
    let unused = " (not in groups: not among networks.labels)";
    assert_eq!(
        reasons("2001:db8::1"),
        [
            "prefix     2001:db8::/48        networks.v6_prefix_len is 48".to_owned(),
            format!("bgp_prefix 2001:db8::/32        longest announced prefix in D/rib{unused}"),
            "asn        AS64503              origin of 2001:db8::/32 in D/rib (2 origins: AS64503 in 1 path, AS64504 in 1 path)".to_owned(),
            format!("country    NL                   D/country says it of 2001:db8::/33{unused}"),
            format!("list       lab                  longest prefix is 2001:db8::/48 in D/a.txt{unused}"),
        ]
    );
    let asn = |text: &str| reasons(text).remove(2);
    assert_eq!(
        asn("192.0.2.200"),
        "asn        AS64555              D/rib has no single origin of 192.0.2.128/25 (0 origins; 1 path ends in a set of ASes or nowhere); D/asn.mmdb says it of 192.0.2.0/24"
    );
    assert_eq!(
        asn("10.0.0.1"),
        "asn        unknown              no announced prefix in D/rib holds it; D/asn.mmdb has nothing on it"
    );
    // Without a source a label is told only if groups carry it.
    let bare = Networks {
        settings: Settings { labels: vec![Label::Asn], ..Settings::default() },
        ..Networks::default()
    };
    let labels: Vec<_> = bare.lookup(address("10.0.0.1")).into_iter().map(|r| (r.label, r.why)).collect();
    assert_eq!(labels[0].0, Label::Prefix);
    assert_eq!(labels[1..], [(Label::Asn, "no source is configured for it".to_owned())]);
}

#[test]
fn prefixes_are_cut_to_any_length() {
    let cut = |text: &str, v4, v6| truncate(address(text), v4, v6).to_string();
    assert_eq!(cut("192.0.2.129", 24, 0), "192.0.2.0/24");
    assert_eq!(cut("192.0.2.129", 0, 0), "0.0.0.0/0");
    assert_eq!(cut("192.0.2.129", 32, 0), "192.0.2.129/32");
    assert_eq!(cut("::ffff:192.0.2.129", 25, 48), "192.0.2.128/25");
    assert_eq!(cut("2001:db8:1:2::3", 24, 48), "2001:db8:1::/48");
    assert_eq!(cut("2001:db8:1:2::3", 24, 0), "::/0");
    assert_eq!(cut("2001:db8:1:2::3", 24, 128), "2001:db8:1:2::3/128");
    assert_eq!(cut("192.0.2.129", 255, 255), "192.0.2.129/32");
}

#[test]
fn stats_tell_the_kind_of_file() {
    let files = Files::new();
    let settings = everything(&files);
    let kind = |path: &std::path::Path| file_stats(path, || Some(7)).map(|stats| stats.kind);
    assert_eq!(kind(&settings.lists[0].path).unwrap(), "CIDR list");
    assert_eq!(kind(&files.put("bare", "192.0.2.0/24\n")).unwrap(), "CIDR list");
    assert_eq!(kind(settings.mmdb_asn.as_deref().unwrap()).unwrap(), "MMDB (GeoLite2-ASN)");
    assert_eq!(kind(settings.mmdb_country.as_deref().unwrap()).unwrap(), "MMDB (GeoLite2-Country)");
    assert_eq!(kind(&files.put("pfx", "192.0.2.0 24 1\n")).unwrap(), "prefix-to-AS text");
    let fault = kind(&files.put("pfx2", "192.0.2.0 24 1\n192.0.3.0 24\n")).unwrap_err().to_string();
    assert!(fault.contains("pfx2:2: `192.0.3.0 24` is no prefix-to-AS entry"), "{fault}");
    let fault = kind(&files.put("list2", "192.0.2.0/24 a\n192.0.2.0/24 b\n")).unwrap_err().to_string();
    assert!(fault.contains("list2:2: 192.0.2.0/24 is `b` here"), "{fault}");
    let stats = file_stats(settings.bgp.as_deref().unwrap(), || Some(7)).unwrap();
    let text = stats.to_string();
    assert!(
        text.starts_with("kind      MRT RIB dump\ndate      2023-11-14T22:13:20Z\nfile      0.0 MB\n"),
        "{text}"
    );
    assert!(text.contains("memory    0.0 MB resident\nprefixes  2 IPv4, 1 IPv6\n"), "{text}");
    assert!(text.ends_with("        1 IPv4 /24\n        1 IPv4 /25\n        1 IPv6 /32\n"), "{text}");
}
