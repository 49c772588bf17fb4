//! A routing table like the Internet's of 2025: 1,000,000 IPv4 and 220,000 IPv6 prefixes with its distribution of lengths.

use std::{
    collections::HashSet,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use fastrand::Rng;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Number of prefixes of each length; rounded from public reports of the table.
const V4: [(u8, u32); 17] = [
    (8, 16),
    (9, 13),
    (10, 40),
    (11, 100),
    (12, 300),
    (13, 600),
    (14, 1_200),
    (15, 2_000),
    (16, 13_500),
    (17, 8_300),
    (18, 13_800),
    (19, 25_000),
    (20, 44_000),
    (21, 52_000),
    (22, 112_000),
    (23, 102_000),
    (24, 625_131),
];
const V6: [(u8, u32); 23] = [
    (20, 20),
    (24, 60),
    (28, 200),
    (29, 5_300),
    (30, 700),
    (31, 300),
    (32, 26_000),
    (33, 3_500),
    (34, 3_200),
    (35, 1_800),
    (36, 10_500),
    (37, 900),
    (38, 2_500),
    (39, 1_100),
    (40, 21_000),
    (41, 700),
    (42, 2_500),
    (43, 800),
    (44, 22_500),
    (45, 1_600),
    (46, 7_500),
    (47, 6_200),
    (48, 101_120),
];

/// A prefix and its origin.
#[derive(Clone, Copy)]
pub(crate) struct Announced {
    pub(crate) prefix: IpNet,
    pub(crate) asn: u32,
}

/// In no order. More-specifics crowd in some allocations, as real ones do.
pub(crate) fn full_table(random: &mut Rng) -> Vec<Announced> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    let v4: Vec<u32> = (0..60_000).map(|_| random.u32(0x0100_0000..0xE000_0000)).collect();
    for (len, count) in V4 {
        add(random, &mut seen, &mut out, count, |random, full| {
            let allocation = 12 + random.u32(0..9);
            let address = if u32::from(len) <= allocation || full {
                random.u32(0x0100_0000..0xE000_0000)
            } else {
                crowded(random, &v4) & !(u32::MAX >> allocation) | random.u32(..) >> allocation
            };
            Ipv4Net::new(address.into(), len).ok().map(IpNet::V4)
        });
    }
    let v6: Vec<u32> = (0..70_000).map(|_| random.u32(0x2001_0000..0x2C10_0000)).collect();
    for (len, count) in V6 {
        add(random, &mut seen, &mut out, count, |random, full| {
            let allocation =
                if len < 32 || full { random.u32(0x2001_0000..0x2C10_0000) } else { crowded(random, &v6) };
            let address = u128::from(allocation) << 96 | random.u128(..) >> 32;
            Ipv6Net::new(address.into(), len).ok().map(IpNet::V6)
        });
    }
    random.shuffle(&mut out);
    out
}

fn crowded(random: &mut Rng, allocations: &[u32]) -> u32 {
    allocations[(allocations.len() as f64 * random.f64() * random.f64()) as usize]
}

/// Adds as many new prefixes; where the crowded places are full, others are taken.
fn add(
    random: &mut Rng,
    seen: &mut HashSet<IpNet>,
    out: &mut Vec<Announced>,
    count: u32,
    prefix: impl Fn(&mut Rng, bool) -> Option<IpNet>,
) {
    let mut missing = count;
    let mut is_full = false;
    while missing > 0 {
        let Some(prefix) = prefix(random, is_full).map(|prefix| prefix.trunc()) else { break };
        is_full = !seen.insert(prefix);
        if !is_full {
            out.push(Announced { prefix, asn: random.u32(1..80_000) });
            missing -= 1;
        }
    }
}

/// A random address of a prefix.
pub(crate) fn inside(random: &mut Rng, prefix: IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(net) => {
            Ipv4Addr::from(u32::from(net.addr()) | random.u32(..) & u32::from(net.hostmask())).into()
        }
        IpNet::V6(net) => {
            Ipv6Addr::from(u128::from(net.addr()) | random.u128(..) & u128::from(net.hostmask())).into()
        }
    }
}

/// CAIDA's text.
pub(crate) fn prefix_to_as(table: &[Announced]) -> Vec<u8> {
    let mut out = String::new();
    for Announced { prefix, asn } in table {
        let _ = writeln!(out, "{}\t{}\t{asn}", prefix.addr(), prefix.prefix_len());
    }
    out.into_bytes()
}

/// An MRT RIB dump (RFC 6396) with paths of five ASes.
pub(crate) fn mrt(table: &[Announced], paths: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (sequence, announced) in table.iter().enumerate() {
        let prefix = announced.prefix;
        let (subtype, address) = match prefix {
            IpNet::V4(net) => (2u16, net.addr().octets().to_vec()),
            IpNet::V6(net) => (4, net.addr().octets().to_vec()),
        };
        let mut body = (sequence as u32).to_be_bytes().to_vec();
        body.push(prefix.prefix_len());
        body.extend(&address[..usize::from(prefix.prefix_len()).div_ceil(8)]);
        body.extend((paths as u16).to_be_bytes());
        for peer in 0..paths {
            let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 22, 2, 5];
            let hops = [3356, 1299, 174, 6939].map(|asn: u32| asn + peer as u32);
            attributes.extend(hops.iter().chain([&announced.asn]).flat_map(|asn| asn.to_be_bytes()));
            attributes.extend([0x40, 3, 4, 192, 0, 2, 1, 0x80, 4, 4, 0, 0, 0, 100]);
            // Three communities.
            attributes.extend([0xC0, 8, 12, 13, 28, 0, 1, 13, 28, 0, 2, 13, 28, 0, 3]);
            body.extend((peer as u16).to_be_bytes());
            body.extend(1_700_000_000u32.to_be_bytes());
            body.extend((attributes.len() as u16).to_be_bytes());
            body.extend(attributes);
        }
        out.extend(1_700_000_000u32.to_be_bytes());
        out.extend(13u16.to_be_bytes());
        out.extend(subtype.to_be_bytes());
        out.extend((body.len() as u32).to_be_bytes());
        out.extend(body);
    }
    out
}
