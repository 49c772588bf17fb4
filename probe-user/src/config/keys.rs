//! Every key of the configuration file, once: what it takes, what it does, how it is read, and its documentation.

use std::{path::Path, time::Duration};

use super::{
    Config,
    section::Section,
    services::{Service, check_cgroup},
    value::{
        self, Taken, Value, Wrong, array, boolean, integer, label, list_file, parsed, prefix_len, some, text,
        wrong,
    },
};
use crate::{
    kernel::probe::LONGEST_INTERVAL,
    networks::{ListFile, check_name, cidr},
};

/// When a changed value is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Reload,
    Restart,
}

/// What a key's value is put into.
pub(super) struct Draft<'a> {
    pub(super) config: Config,
    /// Where relative paths begin.
    pub(super) folder: &'a Path,
}

/// One key.
pub(super) struct Key {
    pub(super) section: Section,
    pub(super) name: &'static str,
    /// What it takes, in words.
    pub(super) takes: &'static str,
    /// The default in TOML; empty if there is none.
    pub(super) default: &'static str,
    /// A value in TOML for the example, where the default would not tell.
    pub(super) example: &'static str,
    pub(super) effect: Effect,
    /// What it does, in sentences.
    pub(super) help: &'static str,
    pub(super) set: fn(&mut Draft<'_>, &Value<'_>) -> Taken<()>,
}

impl Key {
    /// With its section: `networks.bgp`.
    pub(super) fn full_name(&self) -> String {
        full_name(self.section, self.name)
    }
}

pub(super) fn full_name(section: Section, name: &str) -> String {
    match section {
        Section::Top => name.to_owned(),
        _ => format!("{}.{name}", section.name()),
    }
}

const MINUTE: u64 = 60;
const DAY: u64 = 86_400;

/// All keys, in the order of the reference.
pub(super) const KEYS: &[Key] = &[
    Key {
        section: Section::Top,
        name: "listen",
        takes: "address and port in numbers, or `unix:` and an absolute path",
        default: "\"127.0.0.1:10179\"",
        example: "",
        effect: Effect::Restart,
        help: "Where `/metrics` is served. \"[::]:10179\" is every address of this machine.",
        set: |draft, value| {
            draft.config.listen = parsed(value, "text such as \"127.0.0.1:10179\"", value::listen)?;
            Ok(())
        },
    },
    Key {
        section: Section::Top,
        name: "sweep_period",
        takes: "time, 100ms to 10m",
        default: "\"5s\"",
        example: "",
        effect: Effect::Restart,
        help: "Time between two walks over the live connections, which add to the metrics what happened since.",
        set: |draft, value| {
            let range = Duration::from_millis(100)..=Duration::from_secs(10 * MINUTE);
            draft.config.sweep_period = parsed(value, "a time from 100ms to 10m, such as \"5s\",", |text| {
                value::duration(text, range, "from 100ms to 10m, such as \"5s\",")
            })?;
            Ok(())
        },
    },
    Key {
        section: Section::Top,
        name: "rtt_interval",
        takes: "time, 0s to 1m",
        default: "\"0s\"",
        example: "",
        effect: Effect::Restart,
        help: "Shortest time between two round-trip samples of one connection. 0s takes one of every round trip: then connections that send long, and over short paths, weigh most. With a time, such as \"100ms\", those whose round trips are shorter weigh by how long they send; `flowprobe_rtt_samples_left_out_total` counts the round trips that were left out. The smallest round trip is of all of them. `flowprobe watch` without a daemon takes every one.",
        set: |draft, value| {
            let range = Duration::ZERO..=LONGEST_INTERVAL;
            draft.config.rtt_interval = parsed(value, "a time from 0s to 1m, such as \"100ms\",", |text| {
                value::duration(text, range, "from 0s to 1m, such as \"100ms\",")
            })?;
            Ok(())
        },
    },
    Key {
        section: Section::Top,
        name: "ring_size",
        takes: "bytes, a power of two, 64Ki to 1Gi",
        default: "",
        example: "\"4Mi\"",
        effect: Effect::Restart,
        help: "Memory for records on their way from the kernel, shared out among the CPUs. Without it: 4Mi, or 256Ki for each CPU where that is more. `flowprobe_records_lost_total` grows when it is too small.",
        set: |draft, value| {
            draft.config.ring_bytes = Some(value::ring_size(value)?);
            Ok(())
        },
    },
    Key {
        section: Section::Top,
        name: "log",
        takes: "error, warn, info, debug or trace",
        default: "",
        example: "\"info\"",
        effect: Effect::Restart,
        help: "What is said on standard error. Without it: info, and debug if `kernel_log` is true.",
        set: |draft, value| {
            draft.config.log =
                Some(parsed(value, "one of error, warn, info, debug and trace", value::log_level)?);
            Ok(())
        },
    },
    Key {
        section: Section::Top,
        name: "kernel_log",
        takes: "true or false",
        default: "false",
        example: "",
        effect: Effect::Restart,
        help: "Load the probes with their own log, to standard error. Costs time in the kernel.",
        set: |draft, value| {
            draft.config.kernel_log = boolean(value)?;
            Ok(())
        },
    },
    Key {
        section: Section::Networks,
        name: "labels",
        takes: "array of `prefix`, `bgp_prefix`, `asn`, `country`, `list`",
        default: "[]",
        example: "[\"prefix\"]",
        effect: Effect::Reload,
        help: "Which labels groups carry. `prefix`: the address cut to a fixed length. `bgp_prefix`: the longest announced prefix, from `bgp`. `asn`: the AS that announces it, from `bgp`, or where that tells none, from `mmdb_asn`. `country`: from `mmdb_country`. `list`: the name of the longest prefix in `lists`. Where a source knows nothing the value is `unknown`, of `list` it is `unlisted`. Each label multiplies the groups: see `groups.max`.",
        set: |draft, value| {
            let mut labels = Vec::new();
            for value in array(value, "labels")? {
                let label = label(value)?;
                if labels.contains(&label) {
                    return wrong(value, format!("`{}` stands here twice: take one out", label.as_str()));
                }
                labels.push(label);
            }
            draft.config.networks.labels = labels;
            Ok(())
        },
    },
    Key {
        section: Section::Networks,
        name: "v4_prefix_len",
        takes: "whole number, 0 to 32",
        default: "24",
        example: "",
        effect: Effect::Reload,
        help: "Length of the label `prefix` for IPv4. 0 switches it off: all of IPv4 is one network.",
        set: |draft, value| {
            draft.config.networks.v4_prefix_len = prefix_len(value, 32)?;
            Ok(())
        },
    },
    Key {
        section: Section::Networks,
        name: "v6_prefix_len",
        takes: "whole number, 0 to 128",
        default: "48",
        example: "",
        effect: Effect::Reload,
        help: "The same for IPv6.",
        set: |draft, value| {
            draft.config.networks.v6_prefix_len = prefix_len(value, 128)?;
            Ok(())
        },
    },
    Key {
        section: Section::Networks,
        name: "lists",
        takes: "array of paths, or of `{ name = \"…\", file = \"…\" }`",
        default: "[]",
        example: "[\"networks.txt\", { name = \"partner\", file = \"partner.txt\" }]",
        effect: Effect::Reload,
        help: "Files of prefixes with names for the label `list`. A line is `CIDR name`, or `CIDR` alone in a file that has a name here; `#` and `;` begin comments. The longest prefix is taken, of equal ones that in the earlier file. A relative path begins at the folder of this file, here and below.",
        set: |draft, value| {
            let mut lists: Vec<ListFile> = Vec::new();
            for value in array(value, "paths")? {
                let list = list_file(value, draft.folder)?;
                if lists.iter().any(|known| known.path == list.path) {
                    return wrong(value, format!("{} stands here twice: take one out", list.path.display()));
                }
                lists.push(list);
            }
            draft.config.networks.lists = lists;
            Ok(())
        },
    },
    Key {
        section: Section::Networks,
        name: "mmdb_asn",
        takes: "path",
        default: "",
        example: "\"/var/lib/GeoIP/GeoLite2-ASN.mmdb\"",
        effect: Effect::Reload,
        help: "MMDB file with AS numbers, in the layout of MaxMind or IPinfo.",
        set: |draft, value| {
            draft.config.networks.mmdb_asn = Some(value::path(value, draft.folder)?);
            Ok(())
        },
    },
    Key {
        section: Section::Networks,
        name: "mmdb_country",
        takes: "path",
        default: "",
        example: "\"/var/lib/GeoIP/GeoLite2-Country.mmdb\"",
        effect: Effect::Reload,
        help: "MMDB file with countries, in the layout of MaxMind or IPinfo; may be the same file.",
        set: |draft, value| {
            draft.config.networks.mmdb_country = Some(value::path(value, draft.folder)?);
            Ok(())
        },
    },
    Key {
        section: Section::Networks,
        name: "bgp",
        takes: "path",
        default: "",
        example: "\"/var/lib/flowprobe/rib.gz\"",
        effect: Effect::Reload,
        help: "Routing table: an MRT RIB dump (TABLE_DUMP_V2, of RouteViews, RIPE RIS or a router) or CAIDA's prefix-to-AS text; plain, gzip or bzip2. A prefix that several ASes announce is the one's that most paths lead to.",
        set: |draft, value| {
            draft.config.networks.bgp = Some(value::path(value, draft.folder)?);
            Ok(())
        },
    },
    Key {
        section: Section::Groups,
        name: "max",
        takes: "whole number, 1 to 100000",
        default: "1000",
        example: "",
        effect: Effect::Reload,
        help: "The most groups with a place of their own, where groups have labels of networks. `flowprobe daemon --check-config` says what that costs in series.",
        set: |draft, value| {
            draft.config.groups.max = integer(value, 1..=100_000)?;
            Ok(())
        },
    },
    Key {
        section: Section::Groups,
        name: "idle",
        takes: "time, 1m to 7d",
        default: "\"15m\"",
        example: "",
        effect: Effect::Reload,
        help: "A group in which nothing happened for this time and that has no live connection is dropped, and its sums go to `former`. Longer than several scrapes, or what happened last is not seen.",
        set: |draft, value| {
            let range = Duration::from_secs(MINUTE)..=Duration::from_secs(7 * DAY);
            draft.config.groups.idle = parsed(value, "a time from 1m to 7d, such as \"15m\",", |text| {
                value::duration(text, range, "from 1m to 7d, such as \"15m\",")
            })?;
            Ok(())
        },
    },
    Key {
        section: Section::Groups,
        name: "idle_scrapes",
        takes: "whole number, 1 to 1000",
        default: "3",
        example: "",
        effect: Effect::Reload,
        help: "… but not before this many scrapes have shown it as it is: a Prometheus that was away still gets what happened last. Scrapes of all scrapers count: with two of them make it twice as many.",
        set: |draft, value| {
            draft.config.groups.idle_scrapes = integer(value, 1..=1_000)?;
            Ok(())
        },
    },
    Key {
        section: Section::Privacy,
        name: "min_clients",
        takes: "whole number, 1 to 10000",
        default: "1",
        example: "",
        effect: Effect::Reload,
        help: "A group with labels of networks is part of `other` until it has had this many different clients: IPv4 addresses, or /64 prefixes of IPv6, that completed a handshake. They are counted approximately (HyperLogLog) and not kept: where a reload makes it larger every group begins anew, and what it had is in `former`.",
        set: |draft, value| {
            draft.config.privacy.min_clients = integer(value, 1..=10_000)?;
            Ok(())
        },
    },
    Key {
        section: Section::Privacy,
        name: "record_v4_prefix_len",
        takes: "whole number, 0 to 32",
        default: "32",
        example: "",
        effect: Effect::Reload,
        help: "Peers' IPv4 addresses in records and on the command line are cut to this length, the rest is zeros; filters such as `dst` see them so. The daemon cuts them before it answers `flows` and `watch`; without a daemon these read this file themselves.",
        set: |draft, value| {
            draft.config.privacy.record_v4_prefix_len = prefix_len(value, 32)?;
            Ok(())
        },
    },
    Key {
        section: Section::Privacy,
        name: "record_v6_prefix_len",
        takes: "whole number, 0 to 128",
        default: "128",
        example: "",
        effect: Effect::Reload,
        help: "The same for IPv6.",
        set: |draft, value| {
            draft.config.privacy.record_v6_prefix_len = prefix_len(value, 128)?;
            Ok(())
        },
    },
    Key {
        section: Section::Service,
        name: "name",
        takes: "text, up to 100 bytes",
        default: "",
        example: "\"web\"",
        effect: Effect::Reload,
        help: "The value of the label. It must be there, and no two services have the same.",
        set: |draft, value| {
            let name = text(value, "a name, such as \"web\",")?;
            check_name(name).map_err(|what| Wrong { span: value.span(), what })?;
            let is_taken = draft.config.services.iter().any(|service| &*service.name == name);
            if is_taken {
                return wrong(value, format!("`{name}` is the name of a service above: choose another"));
            }
            service(draft).name = name.into();
            Ok(())
        },
    },
    Key {
        section: Section::Service,
        name: "ports",
        takes: "array of ports and of ranges as text",
        default: "[]",
        example: "[443, \"8000-8099\"]",
        effect: Effect::Reload,
        help: "Local ports.",
        set: |draft, value| {
            service(draft).ports = some(value, "ports")?.map(value::ports).collect::<Taken<_>>()?;
            Ok(())
        },
    },
    Key {
        section: Section::Service,
        name: "addresses",
        takes: "array of addresses and prefixes",
        default: "[]",
        example: "[\"192.0.2.10\", \"2001:db8::/64\"]",
        effect: Effect::Reload,
        help: "Local addresses.",
        set: |draft, value| {
            let one = |value: &Value<'_>| parsed(value, "an address or a prefix as text", cidr);
            service(draft).addresses = some(value, "addresses")?.map(one).collect::<Taken<_>>()?;
            Ok(())
        },
    },
    Key {
        section: Section::Service,
        name: "cgroups",
        takes: "array of patterns with `*` and `?`",
        default: "[]",
        example: "[\"/system.slice/nginx.service*\"]",
        effect: Effect::Reload,
        help: "Paths of cgroups (v2) as in `flowprobe flows --columns cgroup`; `*` also stands for `/`.",
        set: |draft, value| {
            let one = |value: &Value<'_>| {
                parsed(value, "a path, such as \"/system.slice/nginx.service\",", |text| {
                    check_cgroup(text).map(|()| text.to_owned())
                })
            };
            service(draft).cgroups = some(value, "patterns")?.map(one).collect::<Taken<_>>()?;
            Ok(())
        },
    },
];

/// The service whose keys are being read.
fn service<'a>(draft: &'a mut Draft<'_>) -> &'a mut Service {
    if draft.config.services.is_empty() {
        draft.config.services.push(Service::default());
    }
    let last = draft.config.services.len() - 1;
    &mut draft.config.services[last]
}
