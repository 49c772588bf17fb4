//! The configuration as a whole: what is read, what is refused and how, and that the documents say the same.

use std::path::PathBuf;

use proptest::prelude::*;

use super::{
    keys::{Effect, KEYS},
    section::Section,
    *,
};
use crate::networks::{Label, ListFile, testing::Mangler};

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(text, Path::new("/etc/flowprobe/f.toml"))
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

const FULL: &str = r#"
listen = "[::]:9"
sweep_period = "2s 500ms"
rtt_interval = "20ms"
ring_size = "1Mi"
log = "WARN"
kernel_log = true

[networks]
labels = ["asn", "bgp_prefix", "list", "country", "prefix"]
v4_prefix_len = 0
v6_prefix_len = 0x20
lists = ["a.txt", { name = "part ner", file = "/b.txt" }]
mmdb_asn = "asn.mmdb"
mmdb_country = "/c.mmdb"
bgp = "../rib.bz2"

[groups]
max = 10_000
idle = "1h"
idle_scrapes = 9

[privacy]
min_clients = 5
record_v4_prefix_len = 24
record_v6_prefix_len = 48

[[service]]
name = "web"
ports = [443, "8000-8099", "80"]
addresses = ["192.0.2.1", "2001:db8::/64"]

[[service]]
name = "db"
cgroups = ["/system.slice/postgres*"]
"#;

#[test]
fn every_key_is_read() {
    let path = PathBuf::from;
    let config = Config {
        listen: Listen::Tcp("[::]:9".parse().unwrap()),
        sweep_period: Duration::from_millis(2_500),
        rtt_interval: Duration::from_millis(20),
        ring_bytes: Some(1 << 20),
        log: Some(LevelFilter::WARN),
        kernel_log: true,
        networks: networks::Settings {
            labels: vec![Label::Asn, Label::BgpPrefix, Label::List, Label::Country, Label::Prefix],
            v4_prefix_len: 0,
            v6_prefix_len: 32,
            lists: vec![
                ListFile { name: None, path: path("/etc/flowprobe/a.txt") },
                ListFile { name: Some("part ner".into()), path: path("/b.txt") },
            ],
            mmdb_asn: Some(path("/etc/flowprobe/asn.mmdb")),
            mmdb_country: Some(path("/c.mmdb")),
            bgp: Some(path("/etc/flowprobe/../rib.bz2")),
        },
        groups: Groups { max: 10_000, idle: Duration::from_secs(3_600), idle_scrapes: 9 },
        privacy: Privacy { min_clients: 5, record_v4_prefix_len: 24, record_v6_prefix_len: 48 },
        services: vec![
            Service {
                name: "web".into(),
                ports: vec![443..=443, 8000..=8099, 80..=80],
                addresses: vec!["192.0.2.1/32".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
                cgroups: Vec::new(),
            },
            Service {
                name: "db".into(),
                cgroups: vec!["/system.slice/postgres*".to_owned()],
                ..Service::default()
            },
        ],
    };
    assert_eq!(parse(FULL).unwrap(), config);
    // The test above leaves no key out.
    for key in KEYS {
        assert!(FULL.lines().any(|line| line.starts_with(&format!("{} = ", key.name))), "{}", key.name);
    }
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse("ring_size = 65536").unwrap().ring_bytes, Some(65_536));
    let unix = parse("listen = 'unix:/run/f.sock'").unwrap().listen;
    assert_eq!((unix.to_string().as_str(), unix), ("unix:/run/f.sock", Listen::Unix("/run/f.sock".into())));
}

#[test]
fn the_defaults_that_are_documented_are_those_that_hold() {
    for key in KEYS.iter().filter(|key| !key.default.is_empty() && key.section != Section::Service) {
        let text = format!("{}\n{} = {}\n", key.section.header(), key.name, key.default);
        assert_eq!(parse(&text).unwrap(), Config::default(), "{text}");
    }
}

#[test]
fn faults_say_line_key_and_remedy() {
    for (text, says) in [
        ("\n\nsweep_period = '5'", ":3: sweep_period: a time from 100ms to 10m, such as \"5s\", is wanted"),
        (
            "sweep_period = 5",
            ":1: sweep_period: a time from 100ms to 10m, such as \"5s\", is wanted, not a whole number",
        ),
        ("listen = 5", ":1: listen: text such as \"127.0.0.1:10179\" is wanted, not a whole number"),
        ("listen = 'localhost:80'", ":1: listen: an address and a port in numbers"),
        ("listen = 'unix:x'", ":1: listen: an address and a port in numbers, or `unix:`"),
        ("rtt_interval = '2m'", ":1: rtt_interval: a time from 0s to 1m"),
        ("ring_size = '16M'", ":1: ring_size: a power of two from 64Ki to 1Gi is wanted"),
        ("ring_size = 3.5", ":1: ring_size: a power of two"),
        ("log = 'loud'", ":1: log: one of error, warn"),
        ("kernel_log = 1", ":1: kernel_log: true or false is wanted, not a whole number"),
        ("sweep_perod = '5s'", ":1: sweep_perod: unknown key: did you mean `sweep_period`?"),
        ("max = 5", ":1: max: unknown key here: it belongs in [groups]"),
        (
            "[groups]\nlisten = 'x'",
            ":2: groups.listen: unknown key here: it belongs before the first section",
        ),
        ("[group]\nmax = 1", ":1: group: unknown section: did you mean [groups]?"),
        ("[groups]\nfoo = 1", ":2: groups.foo: unknown key: [groups] has max, idle, idle_scrapes"),
        ("bar = 1", ":1: bar: unknown key: there are listen, sweep_period"),
        ("groups = 5", ":1: groups: this is a section: write [groups]"),
        ("service = 5", ":1: service: write [[service]] with two brackets"),
        ("[service]\nname = 'x'", ":1: service: write [[service]] with two brackets"),
        ("service = [5]", ":1: service: a table is wanted"),
        ("[groups]\nmax = 0", ":2: groups.max: a whole number from 1 to 100000 is wanted"),
        ("[groups]\nmax = -1", ":2: groups.max: a whole number"),
        ("[groups]\nmax = 99999999999999999999999", ":2: "),
        ("[groups]\nidle = '30s'", ":2: groups.idle: a time from 1m to 7d"),
        (
            "[networks]\nv4_prefix_len = 33",
            ":2: networks.v4_prefix_len: a whole number from 0 to 32 is wanted",
        ),
        ("[networks]\nlabels = 'asn'", ":2: networks.labels: an array of labels is wanted, not text"),
        (
            "[networks]\nlabels = [\n'prefix',\n'asm']",
            ":4: networks.labels: there is no label of this name: did you mean `asn`?",
        ),
        (
            "[networks]\nlabels = ['city of']",
            ":2: networks.labels: there is no label of this name: there are prefix",
        ),
        ("[networks]\nlabels = ['prefix', 'prefix']", ":2: networks.labels: `prefix` stands here twice"),
        (
            "[networks]\n\nlabels = ['country']",
            ":3: networks.labels: `country` has no source: set networks.mmdb_country",
        ),
        (
            "[networks]\nlabels = ['asn']",
            ":2: networks.labels: `asn` has no source: set networks.mmdb_asn or networks.bgp",
        ),
        ("[networks]\nlabels = ['list']", ":2: networks.labels: `list` has no source"),
        ("[networks]\nbgp = ''", ":2: networks.bgp: a path is wanted"),
        (
            "[networks]\nlists = [5]",
            ":2: networks.lists: a path, or { name = \"…\", file = \"…\" }, is wanted, not",
        ),
        ("[networks]\nlists = [{ name = 'x' }]", ":2: networks.lists: the file is missing"),
        ("[networks]\nlists = [{ file = 'x', nam = 'y' }]", ":2: networks.lists: unknown key `nam`"),
        (
            "[networks]\nlists = [{ file = 'x', name = 'other' }]",
            ":2: networks.lists: `other` is what groups",
        ),
        ("[networks]\nlists = ['x', 'x']", ":2: networks.lists: /etc/flowprobe/x stands here twice"),
        ("[[service]]\nports = [1]", ":1: service: this service has no name"),
        ("[[service]]\nname = 'a'", ":1: service: this service says nothing of what belongs to it"),
        ("[[service]]\nname = 'other'\nports = [1]", ":2: service.name: `other` is what groups"),
        ("[[service]]\nname = 'a'\nports = [0]", ":3: service.ports: a port or a range is wanted"),
        ("[[service]]\nname = 'a'\nports = ['9-3']", ":3: service.ports: a port or a range is wanted"),
        ("[[service]]\nname = 'a'\nports = []", ":3: service.ports: at least one of the ports"),
        (
            "[[service]]\nname = 'a'\nports = 443",
            ":3: service.ports: an array of ports is wanted, not a whole number",
        ),
        (
            "[[service]]\nname = 'a'\naddresses = ['192.0.2.1/24']",
            ":3: service.addresses: 192.0.2.1/24 has bits beyond",
        ),
        ("[[service]]\nname = 'a'\ncgroups = ['x']", ":3: service.cgroups: a path of a cgroup begins with /"),
        (
            "[[service]]\nname = 'a'\nports = [1]\n\n[[service]]\nname = 'a'\nports = [2]",
            ":6: service.name: `a` is the name",
        ),
        ("[[service]]\nname = 'a'\nport = [1]", ":3: service.port: unknown key: did you mean `ports`?"),
        ("listen", ":1: "),
        ("listen = '127.0.0.1:1'\nlisten = '127.0.0.1:2'", ":2: "),
    ] {
        let faults = parse(text).expect_err(text);
        let says = format!("/etc/flowprobe/f.toml{says}");
        assert!(faults.iter().any(|fault| fault.starts_with(&says)), "{text:?}: {faults:#?}");
        assert!(faults.iter().all(|fault| fault.lines().count() == 1), "{faults:#?}");
    }
}

#[test]
fn all_faults_are_told_in_the_order_of_the_lines() {
    let faults = parse("[privacy]\nmin_clients = 0\n[groups]\nmax = 0\nidel = '1m'\n[nets]\n").unwrap_err();
    let lines: Vec<_> = faults.iter().map(|fault| fault.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["2", "4", "5", "6"], "{faults:#?}");
}

#[test]
fn there_are_as_many_services_as_bits() {
    let one = |n: usize| format!("[[service]]\nname = 's{n}'\nports = [{}]\n", n + 1);
    let text = |count| (0..count).map(one).collect::<String>();
    assert_eq!(parse(&text(64)).unwrap().services.len(), 64);
    let faults = parse(&text(66)).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].contains(":193: service: there are more than 64 services"), "{faults:#?}");
}

#[test]
fn a_missing_file_is_named() {
    let faults = Config::read(Path::new("/nonexistent/flowprobe.toml")).unwrap_err();
    let text = faults[0].to_string();
    assert!(
        text.starts_with("/nonexistent/flowprobe.toml: the configuration file cannot be read: No such"),
        "{text}"
    );
}

#[test]
fn the_example_is_the_default_until_the_signs_are_taken_away() {
    let example = example();
    assert_eq!(parse(&example).unwrap(), Config::default());
    let is_key = |line: &&str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
    };
    let set: String = example
        .lines()
        .map(|line| if is_key(&line) { &line[1..] } else { line })
        .flat_map(|l| [l, "\n"])
        .collect();
    let config = parse(&set).unwrap();
    assert_eq!(config.services.len(), 1);
    assert_eq!(config.networks.lists.len(), 2);
    assert!(config.networks.bgp.is_some() && config.networks.mmdb_asn.is_some());
    assert_eq!(example.lines().filter(is_key).count(), KEYS.len() + 1);
    assert!(example.lines().all(|line| line.chars().count() <= 110), "{example}");
}

#[test]
fn the_reference_has_each_key_in_full_sentences() {
    let text = reference();
    for key in KEYS {
        assert_eq!(text.matches(&format!("\n### `{}`\n", key.full_name())).count(), 1);
        assert!(key.help.ends_with('.') && !key.takes.ends_with('.'), "{}", key.name);
        assert!(!key.default.is_empty() || !key.example.is_empty(), "{}", key.name);
        // What is opened once at the start is not changed by a reload.
        assert_eq!(key.effect == Effect::Restart, key.section == Section::Top, "{}", key.name);
    }
}

#[test]
fn what_only_a_restart_changes_is_one_list() {
    let (now, read) = (Config::default(), parse(FULL).unwrap());
    let at_restart: Vec<_> =
        KEYS.iter().filter(|key| key.effect == Effect::Restart).map(|key| key.name).collect();
    assert_eq!(now.restart_keys(&read), at_restart);
    let in_use = now.until_restart(read.clone());
    assert_eq!(in_use.restart_keys(&now), [""; 0]);
    assert_eq!((in_use.groups, in_use.services), (read.groups, read.services));
}

#[test]
fn the_summary_tells_the_cost() {
    let cost = SeriesCost { families: 3, classic: 100, native: 10 };
    let summary = Summary::new(&parse(FULL).unwrap(), cost);
    assert_eq!((summary.groups, summary.remainders), (10_000, 54));
    assert_eq!((summary.series(), summary.native_series()), (1_005_400, 100_540));
    assert_eq!(
        summary.to_string(),
        "listen    [::]:9\n\
         services  web, db, and other\n\
         labels    role, family, service, prefix, bgp_prefix, asn, country, list\n\
         groups    at most 10,000, and at most 54 for what has no place of its own\n\
         series    at most 1,005,400 in text (100 a group, 3 families), 100,540 with native histograms (10 a group)\n"
    );
    let plain = Summary::new(&Config::default(), cost);
    assert_eq!((plain.groups, plain.remainders, plain.notes.len()), (9, 0, 0));
    let tight = Config { groups: Groups { max: 4, ..Groups::default() }, ..Config::default() };
    assert_eq!(Summary::new(&tight, cost).groups, 9, "these are few by themselves");
    assert!(Config::default().check().series() > 0);
}

#[test]
fn what_is_perhaps_not_meant_is_noted() {
    for (text, says) in [
        ("[networks]\nbgp = 'x'", "networks.bgp is read but no label needs it: add `bgp_prefix` or `asn`"),
        ("[networks]\nlists = ['x']", "networks.lists is read"),
        ("[networks]\nmmdb_asn = 'x'", "networks.mmdb_asn is read"),
        ("[networks]\nmmdb_country = 'x'", "networks.mmdb_country is read"),
        ("[networks]\nv4_prefix_len = 20", "a length of prefixes"),
        ("[groups]\nmax = 7", "[groups] and privacy.min_clients bound"),
        ("[privacy]\nmin_clients = 7", "[groups] and privacy.min_clients bound"),
        ("[networks]\nlabels = ['prefix']\nv4_prefix_len = 32", "a prefix of full length"),
        ("[networks]\nlabels = ['prefix']", "a group by `prefix` may be of one client"),
        ("sweep_period = '1m'\n[groups]\nidle = '2m'", "groups.idle is shorter"),
    ] {
        let summary = parse(text).unwrap().check();
        assert!(summary.notes.iter().any(|note| note.starts_with(says)), "{text}: {summary}");
    }
}

#[test]
fn mangled_files_are_read_or_refused() {
    let mut mangler = Mangler::new(11);
    let (mut good, mut bad) = (0, 0);
    let example = example();
    for round in 0..4_000 {
        let whole = if round % 2 == 0 { FULL } else { &example };
        let text = String::from_utf8_lossy(&mangler.mangle(whole.as_bytes())).into_owned();
        match parse(&text) {
            Ok(config) => {
                good += 1;
                let _ = (config.check().to_string(), Services::new(&config.services));
            }
            Err(faults) => {
                bad += 1;
                for fault in faults {
                    assert!(
                        fault.starts_with("/etc/flowprobe/f.toml:") && fault.lines().count() == 1,
                        "{fault:?}"
                    );
                }
            }
        }
    }
    assert!(good > 0 && bad > 0, "{good} {bad}");
}

proptest! {
    #[test]
    fn arbitrary_files_never_panic(
        text in "(listen|ring_size|networks|service|labels|lists|name|ports|groups|max|\\[|\\]|\\{|\\}|=|,|'|\"|\n|é|5|-|[\\x00-\\x7f]){0,40}"
    ) {
        let _ = parse(&text);
    }
}
