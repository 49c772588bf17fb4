//! Which network a peer belongs to: fixed prefix, announced prefix, origin AS, country, named list.
//!
//! Pure but for reading the configured files: [`Sources`] keeps them fresh, [`Networks`] answers from memory. An answer
//! costs one look-up in each table that a label needs; docs/decisions/networks.md has the nanoseconds and megabytes.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
};

use ipnet::IpNet;

pub use self::{
    bgp::{Bgp, Origin},
    explain::Reason,
    fault::{Fault, Place},
    labels::{Asn, Country, Label, Labels},
    list::List,
    mmdb::{Facts, Mmdb},
    sources::{Poll, SourceStatus, Sources},
    stats::{FileStats, file_stats},
    table::{Lengths, Table, TableBuilder},
};
pub(crate) use self::{labels::check_name, list::cidr};

mod bgp;
mod explain;
mod fault;
#[cfg(test)]
mod fuzz;
mod labels;
mod list;
mod mmdb;
mod sources;
mod stats;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod watched;

/// What the configuration says of networks; every value was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Labels that groups carry; no others are looked up.
    pub labels: Vec<Label>,
    /// Length of [`Label::Prefix`] for IPv4, 0 to 32; 0 makes all of IPv4 one network.
    pub v4_prefix_len: u8,
    /// The same for IPv6, 0 to 128.
    pub v6_prefix_len: u8,
    /// Named CIDR lists; between equal prefixes the earlier file wins.
    pub lists: Vec<ListFile>,
    /// MMDB file with AS numbers.
    pub mmdb_asn: Option<PathBuf>,
    /// MMDB file with countries; may be the same file.
    pub mmdb_country: Option<PathBuf>,
    /// BGP table: an MRT RIB dump or prefix-to-AS text.
    pub bgp: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            v4_prefix_len: 24,
            v6_prefix_len: 48,
            lists: Vec::new(),
            mmdb_asn: None,
            mmdb_country: None,
            bgp: None,
        }
    }
}

/// A file of prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListFile {
    /// The name of all its prefixes; `None` if each line has its own.
    pub name: Option<Arc<str>>,
    /// Where it is.
    pub path: PathBuf,
}

/// All sources at one moment; what is reloaded later does not change it.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    settings: Settings,
    lists: Vec<Arc<List>>,
    asn: Option<Arc<Mmdb>>,
    country: Option<Arc<Mmdb>>,
    bgp: Option<Arc<Bgp>>,
}

impl Networks {
    /// The configured labels of an address; the others are `None`. A v4-mapped address is an IPv4 one.
    #[must_use]
    pub fn classify(&self, address: IpAddr) -> Labels {
        let address = address.to_canonical();
        let mut labels = Labels::default();
        let route = self.needs_route().then(|| self.bgp.as_deref()?.route(address)).flatten();
        for label in &self.settings.labels {
            match label {
                Label::Prefix => labels.prefix = Some(self.fixed_prefix(address)),
                Label::BgpPrefix => labels.bgp_prefix = route.map(|(prefix, _)| prefix),
                Label::Asn => {
                    labels.asn = route
                        .and_then(|(_, origin)| origin.asn())
                        .or_else(|| self.asn.as_deref()?.find(address)?.asn);
                }
                Label::Country => {
                    labels.country =
                        self.country.as_deref().and_then(|file| file.find(address)).and_then(|f| f.country);
                }
                Label::List => {
                    labels.list = self.listed(address).map(|(_, _, name)| Arc::clone(name));
                }
            }
        }
        labels
    }

    /// Whether both give the same answers because they have the same settings and tables.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
            match (one, other) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            }
        }
        self.settings == other.settings
            && self.lists.len() == other.lists.len()
            && self.lists.iter().zip(&other.lists).all(|(one, other)| Arc::ptr_eq(one, other))
            && same(self.asn.as_ref(), other.asn.as_ref())
            && same(self.country.as_ref(), other.country.as_ref())
            && same(self.bgp.as_ref(), other.bgp.as_ref())
    }

    /// The labels that groups carry, in the order of the configuration.
    #[must_use]
    pub fn labels(&self) -> &[Label] {
        &self.settings.labels
    }

    fn needs_route(&self) -> bool {
        self.settings.labels.iter().any(|label| matches!(label, Label::BgpPrefix | Label::Asn))
    }

    fn fixed_prefix(&self, address: IpAddr) -> IpNet {
        truncate(address, self.settings.v4_prefix_len, self.settings.v6_prefix_len)
    }

    /// The longest listed prefix: index of its file, prefix, name.
    fn listed(&self, address: IpAddr) -> Option<(usize, IpNet, &Arc<str>)> {
        self.lists
            .iter()
            .enumerate()
            .filter_map(|(index, list)| list.find(address).map(|(prefix, name)| (index, prefix, name)))
            // The last of equals is taken: from the end, that is the earliest file.
            .rev()
            .max_by_key(|(_, prefix, _)| prefix.prefix_len())
    }
}

/// The network of an address; lengths beyond the family's are taken as its longest.
#[must_use]
pub fn truncate(address: IpAddr, v4_len: u8, v6_len: u8) -> IpNet {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let len = v4_len.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            IpNet::from_prefix(IpAddr::V4((u32::from(address) & mask).into()), len)
        }
        IpAddr::V6(address) => {
            let len = v6_len.min(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            IpNet::from_prefix(IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask)), len)
        }
    }
}

/// An [`IpNet`] whose length is known to fit.
trait FromPrefix {
    fn from_prefix(address: IpAddr, len: u8) -> Self;
}

impl FromPrefix for IpNet {
    fn from_prefix(address: IpAddr, len: u8) -> Self {
        Self::new(address, len).unwrap_or_else(|_| address.into())
    }
}

/// A sentence part: `1 prefix`, `2 prefixes`.
fn counted(count: u64, one: &str, many: &str) -> impl fmt::Display {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

#[cfg(test)]
mod tests;
