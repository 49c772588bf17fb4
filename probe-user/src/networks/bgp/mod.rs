//! Announced prefixes and the AS that each comes from, out of a BGP table on file.
//!
//! Two kinds: an MRT RIB dump (RFC 6396, TABLE_DUMP_V2) and CAIDA's prefix-to-AS text; either plain, gzip or bzip2, which
//! the first bytes tell. A full table of 1.22 million prefixes takes 33 MB in memory; docs/decisions/networks.md has more.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    net::IpAddr,
    num::NonZeroU32,
    path::Path,
};

use ipnet::IpNet;
use jiff::Timestamp;

use self::origins::Origins;
use super::{
    fault::Fault,
    labels::Asn,
    table::{Lengths, Table, TableBuilder},
};

mod compressed;
mod mrt;
mod origins;
mod pfx2as;

/// More prefixes than any table has: a file with more is not read on.
const MOST_PREFIXES: u64 = 16_000_000;

/// The AS that a prefix comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(NonZeroU32);

impl Origin {
    /// Not one AS: an AS_SET, or none. 4294967295 is reserved (RFC 7300).
    const NOT_ONE: Self = Self(NonZeroU32::MAX);

    fn new(asn: Option<Asn>) -> Self {
        asn.and_then(|asn| NonZeroU32::new(asn.0)).map_or(Self::NOT_ONE, Self)
    }

    /// `None` if the announcement does not tell one AS.
    #[must_use]
    pub fn asn(self) -> Option<Asn> {
        (self != Self::NOT_ONE).then(|| Asn(self.0.get()))
    }
}

/// A routing table.
#[derive(Debug, Default)]
pub struct Bgp {
    table: Table<Origin>,
    /// What is to say of prefixes that do not simply come from one AS.
    remarks: HashMap<IpNet, Box<str>>,
    written_at: Option<Timestamp>,
    kind: &'static str,
    skipped: u64,
}

impl Bgp {
    /// Reads a file of either kind.
    ///
    /// # Errors
    /// It is neither, or breaks off, or has a record or line that is not understood.
    pub fn read(path: &Path, from: impl Read + 'static) -> Result<Self, Fault> {
        let mut from = compressed::reader(path, from)?;
        let start = from.fill_buf().map_err(|error| Fault::unreadable(path, &error))?;
        if start.is_empty() {
            return Err(Fault::file(path, "is empty: give an MRT RIB dump or prefix-to-AS text"));
        }
        let mut draft = Draft::default();
        if mrt::looks_like(start) {
            mrt::read(path, &mut *from, &mut draft)?;
            draft.bgp.kind = "MRT RIB dump";
        } else {
            pfx2as::read(path, &mut *from, &mut draft)?;
            draft.bgp.kind = "prefix-to-AS text";
        }
        draft.finish(path)
    }

    /// The longest announced prefix that holds the address, and where it comes from.
    #[must_use]
    pub fn route(&self, address: IpAddr) -> Option<(IpNet, Origin)> {
        self.table.longest(address).map(|(prefix, origin)| (prefix, *origin))
    }

    /// What is to say of the origin of a prefix, if it is not simply one AS.
    #[must_use]
    pub fn remark(&self, prefix: IpNet) -> Option<&str> {
        self.remarks.get(&prefix).map(|remark| &**remark)
    }

    /// When the collector wrote it, if it says so.
    #[must_use]
    pub const fn written_at(&self) -> Option<Timestamp> {
        self.written_at
    }

    /// Kind of file.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Prefixes with more than one origin, or with none that is one AS.
    #[must_use]
    pub fn remarked(&self) -> usize {
        self.remarks.len()
    }

    /// Entries that were left out: default routes, routes to one host, repeated prefixes, and what is not unicast.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Prefixes by length.
    #[must_use]
    pub const fn lengths(&self) -> &Lengths {
        self.table.lengths()
    }
}

/// A table that is being read.
#[derive(Debug, Default)]
struct Draft {
    table: TableBuilder<Origin>,
    bgp: Bgp,
}

impl Draft {
    /// Adds a prefix with what was counted of its origins.
    ///
    /// A default route says nothing of networks and is left out, as are a route to one host, which would be a client's address in
    /// the metrics, and a prefix that came before.
    fn add(&mut self, prefix: IpNet, origins: &Origins) -> Result<(), String> {
        let says_nothing = prefix.prefix_len() == 0 || is_one_host(prefix);
        if says_nothing || !self.table.add(prefix, Origin::new(origins.first())) {
            self.bgp.skipped += 1;
            return Ok(());
        }
        if let Some(remark) = origins.remark() {
            self.bgp.remarks.insert(prefix.trunc(), remark.into());
        }
        if self.table.len() > MOST_PREFIXES {
            return Err(format!("has more than {MOST_PREFIXES} prefixes, which no routing table has"));
        }
        Ok(())
    }

    fn finish(self, path: &Path) -> Result<Bgp, Fault> {
        if self.table.is_empty() {
            return Err(Fault::file(path, "holds no unicast prefix: give a RIB dump or prefix-to-AS text"));
        }
        let mut bgp = Bgp { table: self.table.build(), ..self.bgp };
        bgp.remarks.shrink_to_fit();
        Ok(bgp)
    }
}

/// A host of IPv6 has a /64 for itself, or less.
const fn is_one_host(prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(prefix) => prefix.prefix_len() == 32,
        IpNet::V6(prefix) => prefix.prefix_len() >= 64,
    }
}

/// A file read in large steps.
fn buffered(from: impl Read) -> BufReader<impl Read> {
    BufReader::with_capacity(1 << 16, from)
}

/// Whether a line can be one of prefix-to-AS text.
pub(super) fn is_entry(line: &str) -> bool {
    pfx2as::is_entry(line)
}

/// For sources that are opened by path.
pub(super) fn read_file(path: &Path, file: File) -> Result<Bgp, Fault> {
    Bgp::read(path, file)
}
