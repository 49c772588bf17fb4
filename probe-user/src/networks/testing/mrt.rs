//! MRT RIB dumps (RFC 6396) for tests.

use ipnet::IpNet;

/// An AS_PATH.
#[derive(Clone, Default)]
pub(crate) struct Path(Vec<u8>);

impl Path {
    /// A sequence; none if it is empty.
    pub(crate) fn of(asns: &[u32]) -> Self {
        Self::default().segment(2, asns)
    }

    pub(crate) fn then_set(self, asns: &[u32]) -> Self {
        self.segment(1, asns)
    }

    fn segment(mut self, kind: u8, asns: &[u32]) -> Self {
        if !asns.is_empty() {
            self.0.extend([kind, asns.len() as u8]);
            self.0.extend(asns.iter().flat_map(|asn| asn.to_be_bytes()));
        }
        self
    }
}

/// A dump.
#[derive(Clone)]
pub(crate) struct Dump {
    time: u32,
    bytes: Vec<u8>,
    sequence: u32,
}

impl Dump {
    pub(crate) fn new(time: u32) -> Self {
        Self { time, bytes: Vec::new(), sequence: 0 }
    }

    pub(crate) fn record(mut self, kind: u16, subtype: u16, body: &[u8]) -> Self {
        self.bytes.extend(self.time.to_be_bytes());
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(subtype.to_be_bytes());
        self.bytes.extend((body.len() as u32).to_be_bytes());
        self.bytes.extend(body);
        self
    }

    /// PEER_INDEX_TABLE with IPv4 peers and AS numbers of 4 bytes.
    pub(crate) fn peers(self, count: u16) -> Self {
        let mut body = vec![192, 0, 2, 254, 0, 0];
        body.extend(count.to_be_bytes());
        for peer in 0..count {
            body.extend([2, 10, 0, 0, peer as u8, 10, 0, 0, peer as u8]);
            body.extend((64510 + u32::from(peer)).to_be_bytes());
        }
        self.record(13, 1, &body)
    }

    /// RIB_IPV4_UNICAST or RIB_IPV6_UNICAST.
    pub(crate) fn rib(self, prefix: &str, paths: &[Path]) -> Self {
        self.entries(prefix, paths, false)
    }

    /// The same with path identifiers (RFC 8050).
    pub(crate) fn add_path(self, prefix: &str, paths: &[Path]) -> Self {
        self.entries(prefix, paths, true)
    }

    fn entries(mut self, prefix: &str, paths: &[Path], with_ids: bool) -> Self {
        let prefix: IpNet = prefix.parse().unwrap();
        let (address, subtype) = match prefix {
            IpNet::V4(net) => (net.network().octets().to_vec(), if with_ids { 8 } else { 2 }),
            IpNet::V6(net) => (net.network().octets().to_vec(), if with_ids { 10 } else { 4 }),
        };
        let mut body = self.sequence.to_be_bytes().to_vec();
        self.sequence += 1;
        body.push(prefix.prefix_len());
        body.extend(&address[..usize::from(prefix.prefix_len()).div_ceil(8)]);
        body.extend((paths.len() as u16).to_be_bytes());
        for (peer, path) in paths.iter().enumerate() {
            // ORIGIN IGP, AS_PATH, NEXT_HOP.
            let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, path.0.len() as u8];
            attributes.extend(&path.0);
            attributes.extend([0x40, 3, 4, 192, 0, 2, 254]);
            body.extend((peer as u16).to_be_bytes());
            body.extend(self.time.to_be_bytes());
            if with_ids {
                body.extend(7u32.to_be_bytes());
            }
            body.extend((attributes.len() as u16).to_be_bytes());
            body.extend(attributes);
        }
        self.record(13, subtype, &body)
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}
