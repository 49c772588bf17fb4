//! The libraries that were compared, behind one face.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ip_network_table_deps_treebitmap::IpLookupTable;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use iptrie::IpRTrieMap;
use prefix_trie::PrefixMap;
use probe_user::networks::{Table, TableBuilder};

use crate::synthetic::Announced;

/// A table of prefixes.
pub(crate) trait Library {
    const NAME: &'static str;
    fn build(table: &[Announced]) -> Self;
    /// AS number and length of the longest prefix, added.
    fn find(&self, address: IpAddr) -> u64;
}

fn sum(asn: u32, len: impl Into<u64>) -> u64 {
    u64::from(asn) + len.into()
}

/// The one that flowprobe uses, as it uses it.
pub(crate) struct IptrieCompressed(Table<std::num::NonZeroU32>);

impl Library for IptrieCompressed {
    const NAME: &'static str = "iptrie LC (ours)";

    fn build(table: &[Announced]) -> Self {
        let mut builder = TableBuilder::default();
        for announced in table {
            if let Some(asn) = std::num::NonZeroU32::new(announced.asn) {
                builder.add(announced.prefix, asn);
            }
        }
        Self(builder.build())
    }

    fn find(&self, address: IpAddr) -> u64 {
        self.0.longest(address).map_or(0, |(prefix, asn)| sum(asn.get(), prefix.prefix_len()))
    }
}

/// The same crate's trie that can be changed.
pub(crate) struct IptrieRadix(IpRTrieMap<u32>);

impl Library for IptrieRadix {
    const NAME: &'static str = "iptrie radix";

    fn build(table: &[Announced]) -> Self {
        let mut map = IpRTrieMap::with_roots(0, 0);
        for announced in table {
            map.insert(announced.prefix, announced.asn);
        }
        Self(map)
    }

    fn find(&self, address: IpAddr) -> u64 {
        let (prefix, asn) = self.0.lookup(&address.into());
        sum(*asn, prefix.prefix_len())
    }
}

/// A tree bitmap that also does set operations.
pub(crate) struct PrefixTrie(PrefixMap<Ipv4Net, u32>, PrefixMap<Ipv6Net, u32>);

impl Library for PrefixTrie {
    const NAME: &'static str = "prefix-trie";

    fn build(table: &[Announced]) -> Self {
        let mut maps = Self(PrefixMap::new(), PrefixMap::new());
        for announced in table {
            match announced.prefix {
                IpNet::V4(net) => maps.0.insert(net, announced.asn),
                IpNet::V6(net) => maps.1.insert(net, announced.asn),
            };
        }
        maps
    }

    fn find(&self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(address) => {
                self.0.get_lpm(&address.into()).map_or(0, |(prefix, asn)| sum(*asn, prefix.prefix_len()))
            }
            IpAddr::V6(address) => {
                self.1.get_lpm(&address.into()).map_or(0, |(prefix, asn)| sum(*asn, prefix.prefix_len()))
            }
        }
    }
}

/// The tree bitmap below ip_network_table.
pub(crate) struct TreeBitmap(IpLookupTable<Ipv4Addr, u32>, IpLookupTable<Ipv6Addr, u32>);

impl Library for TreeBitmap {
    const NAME: &'static str = "treebitmap";

    fn build(table: &[Announced]) -> Self {
        let mut tables = Self(IpLookupTable::new(), IpLookupTable::new());
        for announced in table {
            let len = announced.prefix.prefix_len().into();
            match announced.prefix {
                IpNet::V4(net) => tables.0.insert(net.addr(), len, announced.asn),
                IpNet::V6(net) => tables.1.insert(net.addr(), len, announced.asn),
            };
        }
        tables
    }

    fn find(&self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(address) => self.0.longest_match(address).map_or(0, |(_, len, asn)| sum(*asn, len)),
            IpAddr::V6(address) => self.1.longest_match(address).map_or(0, |(_, len, asn)| sum(*asn, len)),
        }
    }
}
