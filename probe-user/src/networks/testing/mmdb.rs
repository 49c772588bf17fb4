//! MMDB files (MaxMind DB format 2.0) for tests: an IPv6 tree with IPv4 below ::/96, or one of IPv4.

use std::net::IpAddr;

use ipnet::IpNet;

/// A value in the data section.
#[derive(Clone)]
pub(crate) enum Value {
    Text(&'static str),
    Number(u32),
    Short(u16),
    Long(u64),
    Map(Vec<(&'static str, Value)>),
    List(Vec<Value>),
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                control(out, 2, text.len());
                out.extend(text.as_bytes());
            }
            Self::Number(number) => {
                control(out, 6, 4);
                out.extend(number.to_be_bytes());
            }
            Self::Short(number) => {
                control(out, 5, 2);
                out.extend(number.to_be_bytes());
            }
            Self::Long(number) => {
                control(out, 9, 8);
                out.extend(number.to_be_bytes());
            }
            Self::Map(fields) => {
                control(out, 7, fields.len());
                for (name, value) in fields {
                    Self::Text(name).write(out);
                    value.write(out);
                }
            }
            Self::List(values) => {
                control(out, 11, values.len());
                values.iter().for_each(|value| value.write(out));
            }
        }
    }
}

fn control(out: &mut Vec<u8>, kind: u8, size: usize) {
    assert!(size < 285);
    let small = size.min(29) as u8;
    if kind < 8 {
        out.push(kind << 5 | small);
    } else {
        out.extend([small, kind - 7]);
    }
    if size >= 29 {
        out.push((size - 29) as u8);
    }
}

pub(crate) fn map(fields: &[(&'static str, Value)]) -> Value {
    Value::Map(fields.to_vec())
}

/// The layout of GeoLite2-ASN.
pub(crate) fn maxmind_asn(asn: u32) -> Value {
    map(&[
        ("autonomous_system_number", Value::Number(asn)),
        ("autonomous_system_organization", Value::Text("Example")),
    ])
}

/// The layout of GeoLite2-Country.
pub(crate) fn maxmind_country(code: &'static str) -> Value {
    let names = map(&[("en", Value::Text("Example")), ("de", Value::Text("Beispiel"))]);
    map(&[
        ("continent", map(&[("code", Value::Text("EU")), ("geoname_id", Value::Number(6255148))])),
        (
            "country",
            map(&[("geoname_id", Value::Number(1)), ("iso_code", Value::Text(code)), ("names", names)]),
        ),
    ])
}

/// The layout of IPinfo Lite.
pub(crate) fn ipinfo_lite(asn: &'static str, code: &'static str) -> Value {
    map(&[
        ("as_domain", Value::Text("example.com")),
        ("as_name", Value::Text("Example")),
        ("asn", Value::Text(asn)),
        ("continent", Value::Text("Europe")),
        ("continent_code", Value::Text("EU")),
        ("country", Value::Text("Example Land")),
        ("country_code", Value::Text(code)),
    ])
}

/// A file; the networks must not overlap.
pub(crate) fn file(kind: &'static str, build_epoch: u32, records: &[(&str, Value)]) -> Vec<u8> {
    let mut tree = Tree::default();
    records.iter().for_each(|(network, value)| tree.add(network, value));
    tree.write(kind, build_epoch, 32, 6)
}

/// A file of records of so many bits as MaxMind makes them: the addresses of IPv4 are found in IPv6's ranges for them too.
pub(crate) fn with_aliases(bits: u16, records: &[(&str, Value)]) -> Vec<u8> {
    let mut tree = Tree::default();
    records.iter().for_each(|(network, value)| tree.add(network, value));
    let v4 = (0..96).fold(0, |node, _| tree.nodes[node as usize][0]);
    for alias in ["::ffff:0:0/96", "2002::/16"] {
        tree.put(alias, v4);
    }
    tree.write("aliases", 1, bits, 6)
}

/// A file of IPv4 alone; the networks must not overlap.
pub(crate) fn of_v4(bits: u16, records: &[(&str, Value)]) -> Vec<u8> {
    let mut tree = Tree { is_v4: true, ..Tree::default() };
    records.iter().for_each(|(network, value)| tree.add(network, value));
    tree.write("v4", 1, bits, 4)
}

/// A file in which every address of ::/96 has a record, and to which each of 2^96 ways leads.
pub(crate) fn maze() -> Vec<u8> {
    let mut tree = Tree { nodes: (1..97).map(|below| [below; 2]).collect(), ..Tree::default() };
    tree.nodes.push([DATA; 2]);
    maxmind_asn(64500).write(&mut tree.data);
    tree.write("maze", 1, 32, 6)
}

const EMPTY: u64 = u64::MAX;
const DATA: u64 = 1 << 40;

/// The search tree and what its leaves are.
struct Tree {
    nodes: Vec<[u64; 2]>,
    data: Vec<u8>,
    is_v4: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![[EMPTY; 2]], data: Vec::new(), is_v4: false }
    }
}

impl Tree {
    fn add(&mut self, network: &str, value: &Value) {
        let offset = self.data.len() as u64;
        value.write(&mut self.data);
        self.put(network, DATA + offset);
    }

    fn put(&mut self, network: &str, what: u64) {
        let network: IpNet = network.parse().unwrap();
        let above = if self.is_v4 { 0 } else { 96 };
        let (bits, len) = match network.addr() {
            IpAddr::V4(address) => {
                (u128::from(u32::from(address)) << (96 - above), above + network.prefix_len())
            }
            IpAddr::V6(address) => (u128::from(address), network.prefix_len()),
        };
        let mut node = 0;
        for depth in 0..len {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == len {
                self.nodes[node][side] = what;
            } else {
                if self.nodes[node][side] == EMPTY {
                    self.nodes.push([EMPTY; 2]);
                    self.nodes[node][side] = self.nodes.len() as u64 - 1;
                }
                node = self.nodes[node][side] as usize;
            }
        }
    }

    fn write(&self, kind: &'static str, build_epoch: u32, bits: u16, ip_version: u16) -> Vec<u8> {
        let count = self.nodes.len() as u64;
        let number = |record: u64| match record {
            EMPTY => count,
            offset if offset >= DATA => count + 16 + (offset - DATA),
            node => node,
        } as u32;
        let mut out = Vec::new();
        for [left, right] in self.nodes.iter().map(|node| node.map(number)) {
            match bits {
                24 => [left, right].iter().for_each(|number| out.extend(&number.to_be_bytes()[1..])),
                28 => {
                    out.extend(&left.to_be_bytes()[1..]);
                    out.push(((left >> 24) << 4 | right >> 24) as u8);
                    out.extend(&right.to_be_bytes()[1..]);
                }
                _ => [left, right].iter().for_each(|number| out.extend(number.to_be_bytes())),
            }
        }
        out.extend([0; 16]);
        out.extend(&self.data);
        out.extend(b"\xab\xcd\xefMaxMind.com");
        map(&[
            ("binary_format_major_version", Value::Short(2)),
            ("binary_format_minor_version", Value::Short(0)),
            ("build_epoch", Value::Long(build_epoch.into())),
            ("database_type", Value::Text(kind)),
            ("description", map(&[("en", Value::Text("for tests"))])),
            ("ip_version", Value::Short(ip_version)),
            ("languages", Value::List(vec![Value::Text("en")])),
            ("node_count", Value::Number(count as u32)),
            ("record_size", Value::Short(bits)),
        ])
        .write(&mut out);
        out
    }
}
