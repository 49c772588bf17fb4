//! AS numbers and countries from an MMDB file, in the layouts of MaxMind (also DB-IP) and of IPinfo.
//!
//! The file is read into memory and verified whole; each of its records is decoded once, so a look-up only walks the
//! file's tree. Memory: the file, and about 20 bytes for each different record.

use std::{collections::HashMap, fmt, io::Read, net::IpAddr, path::Path};

use ipnet::IpNet;
use jiff::Timestamp;
use maxminddb::{MaxMindDbError, Metadata, Reader};
use serde::Deserialize;

use super::{
    fault::Fault,
    labels::{Asn, Country},
    table::Lengths,
};

/// The largest ones there are have some hundred megabytes.
const MOST_BYTES: u64 = 1 << 30;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The AS.
    pub asn: Option<Asn>,
    /// The country.
    pub country: Option<Country>,
}

/// One file.
pub struct Mmdb {
    reader: Reader<Vec<u8>>,
    /// By the offset of the record.
    facts: HashMap<usize, Facts>,
    lengths: Lengths,
    has: Facts,
}

/// The fields that are read, in all layouts; a record has some of them.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Record<'a> {
    /// MaxMind.
    #[serde(default)]
    autonomous_system_number: Option<u32>,
    /// IPinfo: `AS64500`; others write the number.
    #[serde(default, borrow)]
    asn: Option<Field<'a>>,
    /// IPinfo Lite.
    #[serde(default)]
    country_code: Option<&'a str>,
    /// MaxMind: a map with `iso_code`. IPinfo: the code, or in Lite the name.
    #[serde(default, borrow)]
    country: Option<Field<'a>>,
    /// MaxMind: where the country of the address is not known, that of its registration is.
    #[serde(default, borrow)]
    registered_country: Option<Field<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Field<'a> {
    Text(&'a str),
    Number(u32),
    Map {
        #[serde(default)]
        iso_code: Option<&'a str>,
    },
}

impl Record<'_> {
    fn facts(&self) -> Facts {
        let number = match &self.asn {
            Some(Field::Text(text)) => text.parse().ok(),
            Some(Field::Number(number)) => Some(Asn(*number)),
            _ => None,
        };
        let code = |field: &Option<Field<'_>>| match field {
            Some(Field::Text(text) | Field::Map { iso_code: Some(text) }) => Country::new(text),
            _ => None,
        };
        Facts {
            asn: self.autonomous_system_number.map(Asn).or(number).filter(|asn| asn.0 != 0),
            country: self
                .country_code
                .and_then(Country::new)
                .or_else(|| code(&self.country))
                .or_else(|| code(&self.registered_country)),
        }
    }
}

impl Mmdb {
    /// Reads and verifies a file.
    ///
    /// # Errors
    /// It is no MMDB file or a broken one: with the byte or the network where it breaks, as far as that is known.
    pub fn read(path: &Path, mut from: impl Read) -> Result<Self, Fault> {
        let mut bytes = Vec::new();
        from.by_ref()
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Fault::unreadable(path, &error))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(Fault::file(path, "is longer than 1 GiB: that is no MMDB file of ASNs or countries"));
        }
        let unsound = |why: &dyn fmt::Display| {
            Fault::file(path, format!("is no sound MMDB file: {why}; fetch it again"))
        };
        let broken = |error: MaxMindDbError| unsound(&error);
        let sound = Reader::from_source(&bytes[..]).map_err(broken)?;
        if !is_a_tree(&bytes, sound.metadata()) {
            return Err(unsound(&"its search tree is none"));
        }
        let reader = Reader::from_source(bytes).map_err(broken)?;
        reader.verify().map_err(broken)?;
        let mut facts = HashMap::new();
        let mut lengths = Lengths::default();
        let mut has = Facts { asn: None, country: None };
        for found in reader.networks(maxminddb::WithinOptions::default()).map_err(broken)? {
            let found = found.map_err(broken)?;
            let Some(offset) = found.offset() else { continue };
            let network = found.network().map_err(broken)?;
            if let Ok(network) = IpNet::new(network.ip(), network.prefix()) {
                lengths.add(network);
            }
            if facts.contains_key(&offset) {
                continue;
            }
            let record: Option<Record<'_>> = found.decode().map_err(|error| {
                Fault::file(
                    path,
                    format!("the record of {network} is not understood: {error}; fetch the file again"),
                )
            })?;
            let Some(record) = record.map(|record| record.facts()) else { continue };
            has = Facts { asn: has.asn.or(record.asn), country: has.country.or(record.country) };
            facts.insert(offset, record);
        }
        facts.shrink_to_fit();
        Ok(Self { reader, facts, lengths, has })
    }

    /// An error unless some record has an AS number.
    ///
    /// # Errors
    /// None has; says what the file is.
    pub fn with_asn(self, path: &Path) -> Result<Self, Fault> {
        match self.has.asn {
            Some(_) => Ok(self),
            None => Err(self.lacks(path, "AS numbers", "an ASN")),
        }
    }

    /// An error unless some record has a country.
    ///
    /// # Errors
    /// None has; says what the file is.
    pub fn with_country(self, path: &Path) -> Result<Self, Fault> {
        match self.has.country {
            Some(_) => Ok(self),
            None => Err(self.lacks(path, "countries", "a country")),
        }
    }

    fn lacks(&self, path: &Path, what: &str, kind: &str) -> Fault {
        let own = self.database_type();
        Fault::file(path, format!("holds no {what} (it is a `{own}` file): give the path of {kind} file"))
    }

    /// What is known of an address.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<Facts> {
        let offset = self.reader.lookup(address).ok()?.offset()?;
        self.facts.get(&offset).copied()
    }

    /// The same with the network that the file says it of.
    #[must_use]
    pub fn find_network(&self, address: IpAddr) -> Option<(IpNet, Facts)> {
        let found = self.reader.lookup(address).ok()?;
        let facts = self.facts.get(&found.offset()?).copied()?;
        let network = found.network().ok()?;
        Some((IpNet::new(network.ip(), network.prefix()).ok()?, facts))
    }

    /// When it was made.
    #[must_use]
    pub fn built_at(&self) -> Option<Timestamp> {
        Timestamp::from_second(i64::try_from(self.reader.metadata().build_epoch).ok()?).ok()
    }

    /// Its own name for what it is, such as `GeoLite2-ASN`.
    #[must_use]
    pub fn database_type(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// Number of different records.
    #[must_use]
    pub fn records(&self) -> usize {
        self.facts.len()
    }

    /// Networks by length.
    #[must_use]
    pub const fn lengths(&self) -> &Lengths {
        &self.lengths
    }
}

/// Whether each node of the search tree is reached in one way, and that of IPv4, which has aliases, never from below itself. Otherwise
/// the ways through a small file may be more than there is time to verify.
fn is_a_tree(bytes: &[u8], metadata: &Metadata) -> bool {
    let (nodes, bits) = (metadata.node_count as usize, usize::from(metadata.record_size));
    let tree = nodes.checked_mul(bits / 4).and_then(|length| bytes.get(..length));
    let Some(tree) = tree.filter(|tree| !tree.is_empty() && [24, 28, 32].contains(&bits)) else {
        return false;
    };
    // Nodes below one; other records are data or nothing.
    let below = |node: usize| {
        let node = &tree[node * bits / 4..][..bits / 4];
        let (left, right) = (&node[..bits / 8], &node[node.len() - bits / 8..]);
        // Of 28 bits the byte in the middle has the highest four of both.
        let (high_left, high_right) = if bits == 28 { (node[3] >> 4, node[3] & 0xf) } else { (0, 0) };
        let number = |high: u8, low: &[u8]| {
            low.iter().fold(usize::from(high), |sum, byte| sum << 8 | usize::from(*byte))
        };
        [number(high_left, left), number(high_right, right)]
            .map(|below| Some(below).filter(|below| *below < nodes))
    };
    let v4 = if metadata.ip_version == 6 { (0..96).try_fold(0, |node, _| below(node)[0]) } else { None };
    let mut is_reached = vec![false; nodes];
    is_reached[0] = true;
    for below in (0..nodes).flat_map(below).flatten().filter(|below| Some(*below) != v4) {
        if std::mem::replace(&mut is_reached[below], true) {
            return false;
        }
    }
    let mut left = Vec::from_iter(v4);
    while let Some(node) = left.pop() {
        for below in below(node).into_iter().flatten() {
            if Some(below) == v4 {
                return false;
            }
            left.push(below);
        }
    }
    true
}

impl fmt::Debug for Mmdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mmdb({}, {} records)", self.database_type(), self.facts.len())
    }
}
