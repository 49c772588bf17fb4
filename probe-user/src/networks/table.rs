//! Prefixes with values, searched for the longest that holds an address.
//!
//! A level-compressed trie (crate iptrie), made once and never changed. docs/decisions/networks.md compares it.

use std::{fmt, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use iptrie::map::{LCTrieMap, RTrieMap};

/// Number of prefixes by length, IPv4 and IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Index is the length.
    pub v4: [u64; 33],
    /// Index is the length.
    pub v6: [u64; 129],
}

impl Default for Lengths {
    fn default() -> Self {
        Self { v4: [0; 33], v6: [0; 129] }
    }
}

impl Lengths {
    pub(super) fn add(&mut self, prefix: IpNet) {
        let len = usize::from(prefix.prefix_len());
        match prefix {
            IpNet::V4(_) => self.v4[len] += 1,
            IpNet::V6(_) => self.v6[len] += 1,
        }
    }

    /// All of one family: IPv4, IPv6.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.v4.iter().sum(), self.v6.iter().sum())
    }
}

/// Takes prefixes in any order; in ascending order it is several times as fast.
pub struct TableBuilder<V> {
    v4: RTrieMap<Ipv4Net, Option<V>>,
    v6: RTrieMap<Ipv6Net, Option<V>>,
    lengths: Lengths,
}

impl<V> Default for TableBuilder<V> {
    fn default() -> Self {
        Self { v4: RTrieMap::with_root(None), v6: RTrieMap::with_root(None), lengths: Lengths::default() }
    }
}

impl<V> TableBuilder<V> {
    /// Adds a prefix; one that is there keeps its value, and `false` says so. Bits beyond the length are ignored.
    pub fn add(&mut self, prefix: IpNet, value: V) -> bool {
        let is_new = self.get(prefix).is_none();
        if is_new {
            match prefix.trunc() {
                IpNet::V4(prefix) => _ = self.v4.insert(prefix, Some(value)),
                IpNet::V6(prefix) => _ = self.v6.insert(prefix, Some(value)),
            }
            self.lengths.add(prefix);
        }
        is_new
    }

    /// The value of exactly this prefix.
    #[must_use]
    pub fn get(&self, prefix: IpNet) -> Option<&V> {
        match prefix.trunc() {
            IpNet::V4(prefix) => self.v4.get(&prefix)?.as_ref(),
            IpNet::V6(prefix) => self.v6.get(&prefix)?.as_ref(),
        }
    }

    /// How many it has.
    #[must_use]
    pub fn len(&self) -> u64 {
        let (v4, v6) = self.lengths.totals();
        v4 + v6
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table; for a moment there are both in memory.
    #[must_use]
    pub fn build(self) -> Table<V> {
        Table { v4: self.v4.compress(), v6: self.v6.compress(), lengths: self.lengths }
    }
}

/// Prefixes with values.
pub struct Table<V> {
    // The tries always have a root; it is `None` unless 0.0.0.0/0 or ::/0 was added.
    v4: LCTrieMap<Ipv4Net, Option<V>>,
    v6: LCTrieMap<Ipv6Net, Option<V>>,
    lengths: Lengths,
}

impl<V> Table<V> {
    /// The longest prefix that holds the address, and its value.
    #[must_use]
    pub fn longest(&self, address: IpAddr) -> Option<(IpNet, &V)> {
        match address {
            IpAddr::V4(address) => {
                let (prefix, value) = self.v4.lookup(&Ipv4Net::from(address));
                Some((IpNet::V4(*prefix), value.as_ref()?))
            }
            IpAddr::V6(address) => {
                let (prefix, value) = self.v6.lookup(&Ipv6Net::from(address));
                Some((IpNet::V6(*prefix), value.as_ref()?))
            }
        }
    }

    /// All prefixes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &V)> {
        let v4 = self.v4.iter().map(|(prefix, value)| (IpNet::V4(*prefix), value));
        let v6 = self.v6.iter().map(|(prefix, value)| (IpNet::V6(*prefix), value));
        v4.chain(v6).filter_map(|(prefix, value)| Some((prefix, value.as_ref()?)))
    }

    /// Prefixes by length.
    #[must_use]
    pub const fn lengths(&self) -> &Lengths {
        &self.lengths
    }
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        TableBuilder::default().build()
    }
}

impl<V> fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (v4, v6) = self.lengths.totals();
        write!(f, "Table({v4} IPv4, {v6} IPv6)")
    }
}

impl<V> fmt::Debug for TableBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableBuilder({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn table(prefixes: &[&str]) -> Table<usize> {
        let mut builder = TableBuilder::default();
        for (index, prefix) in prefixes.iter().enumerate() {
            assert!(builder.add(prefix.parse().unwrap(), index));
        }
        builder.build()
    }

    fn longest(table: &Table<usize>, address: &str) -> Option<(String, usize)> {
        let (prefix, value) = table.longest(address.parse().unwrap())?;
        Some((prefix.to_string(), *value))
    }

    #[test]
    fn nothing_is_found_in_an_empty_table_nor_beside_a_prefix() {
        assert_eq!(longest(&table(&[]), "192.0.2.1"), None);
        assert_eq!(longest(&table(&[]), "2001:db8::1"), None);
        let table = table(&["192.0.2.0/24"]);
        assert_eq!(longest(&table, "192.0.2.255"), Some(("192.0.2.0/24".to_owned(), 0)));
        assert_eq!(longest(&table, "192.0.3.0"), None);
        assert_eq!(longest(&table, "2001:db8::1"), None);
    }

    #[test]
    fn a_default_route_is_found_when_it_was_added() {
        let table = table(&["0.0.0.0/0", "::/0", "2001:db8::/32"]);
        assert_eq!(longest(&table, "198.51.100.1"), Some(("0.0.0.0/0".to_owned(), 0)));
        assert_eq!(longest(&table, "2001:db9::"), Some(("::/0".to_owned(), 1)));
        assert_eq!(longest(&table, "2001:db8:ffff::"), Some(("2001:db8::/32".to_owned(), 2)));
        assert_eq!(table.lengths().totals(), (1, 2));
    }

    #[test]
    fn a_prefix_keeps_its_first_value() {
        let mut builder = TableBuilder::default();
        assert!(builder.add("192.0.2.77/24".parse().unwrap(), 'a'));
        assert!(!builder.add("192.0.2.0/24".parse().unwrap(), 'b'));
        assert_eq!(builder.get("192.0.2.0/24".parse().unwrap()), Some(&'a'));
        assert_eq!(builder.len(), 1);
        assert_eq!(builder.build().iter().collect::<Vec<_>>().len(), 1);
    }

    fn prefixes() -> impl Strategy<Value = Vec<IpNet>> {
        // Few bits differ, so that prefixes nest and meet.
        let v4 = (any::<u32>(), 0u8..=32).prop_map(|(bits, len)| {
            let address = (bits & 0xC003_0307) | 0x0A00_0000;
            IpNet::new(Ipv4Addr::from(address).into(), len).unwrap().trunc()
        });
        let v6 = (any::<u128>(), 0u8..=128).prop_map(|(bits, len)| {
            let address = bits & (0xF << 124 | 0x3 << 64 | 0x3 << 62 | 0x7);
            IpNet::new(Ipv6Addr::from(address).into(), len).unwrap().trunc()
        });
        proptest::collection::vec(prop_oneof![v4, v6], 0..200)
    }

    proptest! {
        #[test]
        fn the_longest_is_that_of_a_search_through_all(prefixes in prefixes(), others in prefixes()) {
            let mut builder = TableBuilder::default();
            let mut kept: Vec<IpNet> = Vec::new();
            for prefix in &prefixes {
                prop_assert_eq!(builder.add(*prefix, *prefix), !kept.contains(prefix));
                if !kept.contains(prefix) {
                    kept.push(*prefix);
                }
            }
            let table = builder.build();
            for address in prefixes.iter().chain(&others).flat_map(|p| [p.network(), p.broadcast(), p.addr()]) {
                let expected = kept.iter().filter(|p| p.contains(&address)).max_by_key(|p| p.prefix_len());
                let found = table.longest(address);
                prop_assert_eq!(found.map(|(prefix, _)| prefix), expected.copied());
                prop_assert_eq!(found.map(|(_, value)| value), expected);
            }
            prop_assert_eq!(table.iter().count(), kept.len());
            let (v4, v6) = table.lengths().totals();
            prop_assert_eq!((v4 + v6) as usize, kept.len());
        }
    }
}
