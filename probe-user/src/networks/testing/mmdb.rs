//! MMDB files (MaxMind DB format 2.0) for tests: records of 32 bits, an IPv6 tree with IPv4 below ::/96.

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
    let mut nodes: Vec<[u64; 2]> = vec![[EMPTY; 2]];
    let mut data = Vec::new();
    for (network, value) in records {
        let offset = data.len() as u64;
        value.write(&mut data);
        let network: IpNet = network.parse().unwrap();
        let (bits, len) = match network.addr() {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 96 + network.prefix_len()),
            IpAddr::V6(address) => (u128::from(address), network.prefix_len()),
        };
        let mut node = 0;
        for depth in 0..len {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == len {
                nodes[node][side] = DATA + offset;
            } else {
                if nodes[node][side] == EMPTY {
                    nodes.push([EMPTY; 2]);
                    nodes[node][side] = nodes.len() as u64 - 1;
                }
                node = nodes[node][side] as usize;
            }
        }
    }
    write(kind, build_epoch, &nodes, &data)
}

const EMPTY: u64 = u64::MAX;
const DATA: u64 = 1 << 40;

/// A file in which every address of ::/96 has a record, and to which each of 2^96 ways leads.
pub(crate) fn maze() -> Vec<u8> {
    let mut nodes: Vec<[u64; 2]> = (1..97).map(|below| [below; 2]).collect();
    nodes.push([DATA; 2]);
    let mut data = Vec::new();
    maxmind_asn(64500).write(&mut data);
    write("maze", 1, &nodes, &data)
}

fn write(kind: &'static str, build_epoch: u32, nodes: &[[u64; 2]], data: &[u8]) -> Vec<u8> {
    let count = nodes.len() as u64;
    let mut out = Vec::new();
    for record in nodes.iter().flatten() {
        let number = match *record {
            EMPTY => count,
            offset if offset >= DATA => count + 16 + (offset - DATA),
            node => node,
        };
        out.extend((number as u32).to_be_bytes());
    }
    out.extend([0; 16]);
    out.extend(data);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    map(&[
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Long(build_epoch.into())),
        ("database_type", Value::Text(kind)),
        ("description", map(&[("en", Value::Text("for tests"))])),
        ("ip_version", Value::Short(6)),
        ("languages", Value::List(vec![Value::Text("en")])),
        ("node_count", Value::Number(count as u32)),
        ("record_size", Value::Short(32)),
    ])
    .write(&mut out);
    out
}
