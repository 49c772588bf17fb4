//! Which service a connection belongs to, by its local port, local address and cgroup.
//!
//! Services are bits of a word: a port and an address each give the set of services that they fit, and the lowest bit in
//! both is the first service. Tens of nanoseconds; a service with cgroups costs a pattern match when the rest fits.

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc};

use globset::{GlobBuilder, GlobMatcher};
use ipnet::IpNet;

use crate::networks::{Table, TableBuilder};

/// The bits of a word.
pub(super) const MOST_SERVICES: usize = 64;

/// A service as it is configured; an empty list fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Value of the label `service`.
    pub name: Arc<str>,
    /// Local ports.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Local addresses.
    pub addresses: Vec<IpNet>,
    /// Patterns of cgroup paths.
    pub cgroups: Vec<String>,
}

/// Finds the first service that fits.
#[derive(Debug)]
pub struct Services {
    names: Vec<Arc<str>>,
    /// First port of each stretch of ports with the same services, ascending from 0, and these.
    ports: Vec<(u16, u64)>,
    /// Services that fit any address.
    any_address: u64,
    /// Services that fit a prefix, and those of the prefixes around it.
    addresses: Table<u64>,
    /// Patterns of the services that have them.
    cgroups: Vec<Option<Vec<GlobMatcher>>>,
}

impl Services {
    /// Compiles checked services; beyond the 64th they are not looked at.
    #[must_use]
    pub fn new(services: &[Service]) -> Self {
        let services = &services[..services.len().min(MOST_SERVICES)];
        let bits = |fits: &dyn Fn(&Service) -> bool| {
            services.iter().enumerate().filter(|(_, s)| fits(s)).fold(0u64, |bits, (i, _)| bits | 1 << i)
        };
        let ranges = services.iter().flat_map(|service| &service.ports);
        let mut starts: Vec<u16> =
            ranges.flat_map(|range| [Some(*range.start()), range.end().checked_add(1)]).flatten().collect();
        starts.push(0);
        starts.sort_unstable();
        starts.dedup();
        let ports = starts
            .into_iter()
            .map(|start| (start, bits(&|s| s.ports.is_empty() || s.ports.iter().any(|r| r.contains(&start)))))
            .collect();
        let mut addresses = TableBuilder::default();
        for prefix in services.iter().flat_map(|service| &service.addresses) {
            addresses.add(*prefix, bits(&|s| s.addresses.iter().any(|net| net.contains(prefix))));
        }
        let compiled = |service: &Service| -> Option<Vec<GlobMatcher>> {
            let patterns = &service.cgroups;
            (!patterns.is_empty()).then(|| patterns.iter().filter_map(|text| glob(text).ok()).collect())
        };
        Self {
            names: services.iter().map(|service| Arc::clone(&service.name)).collect(),
            ports,
            any_address: bits(&|s| s.addresses.is_empty()),
            addresses: addresses.build(),
            cgroups: services.iter().map(compiled).collect(),
        }
    }

    /// Index of the first service that fits; `None` is `other`. A cgroup that is not known fits no pattern.
    #[must_use]
    pub fn find(&self, port: u16, address: IpAddr, cgroup: Option<&str>) -> Option<usize> {
        let stretch = self.ports.partition_point(|(start, _)| *start <= port).checked_sub(1)?;
        let by_port = self.ports.get(stretch)?.1;
        if by_port == 0 {
            return None;
        }
        let by_address =
            self.any_address | self.addresses.longest(address.to_canonical()).map_or(0, |(_, bits)| *bits);
        let mut candidates = by_port & by_address;
        while candidates != 0 {
            let index = candidates.trailing_zeros() as usize;
            match self.cgroups.get(index)? {
                None => return Some(index),
                Some(patterns) => {
                    if cgroup.is_some_and(|path| patterns.iter().any(|pattern| pattern.is_match(path))) {
                        return Some(index);
                    }
                }
            }
            candidates &= candidates - 1;
        }
        None
    }

    /// The value of the label `service`.
    #[must_use]
    pub fn name(&self, index: Option<usize>) -> &str {
        index.and_then(|index| self.names.get(index)).map_or("other", |name| name)
    }

    /// Whether a service asks for cgroups: if not, their paths need not be known.
    #[must_use]
    pub fn needs_cgroup(&self) -> bool {
        self.cgroups.iter().any(Option::is_some)
    }
}

/// Whether a pattern can be read.
pub(super) fn check_cgroup(text: &str) -> Result<(), String> {
    if !text.starts_with(['/', '*', '?']) {
        return Err(
            "a path of a cgroup begins with /: write for example \"/system.slice/nginx.service\"".to_owned()
        );
    }
    glob(text).map(|_| ())
}

/// The same patterns as in filters.
fn glob(text: &str) -> Result<GlobMatcher, String> {
    match GlobBuilder::new(text).backslash_escape(false).build() {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(format!("this pattern cannot be read ({}): use * and ?", error.kind())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(name: &str, ports: &[RangeInclusive<u16>], addresses: &[&str], cgroups: &[&str]) -> Service {
        Service {
            name: name.into(),
            ports: ports.to_vec(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            cgroups: cgroups.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn name(services: &Services, port: u16, address: &str, cgroup: Option<&str>) -> String {
        services.name(services.find(port, address.parse().unwrap(), cgroup)).to_owned()
    }

    fn some() -> Services {
        Services::new(&[
            service("edge", &[443..=443], &["192.0.2.1/32", "2001:db8::/64"], &[]),
            service("web", &[80..=80, 443..=443, 8000..=8099], &[], &[]),
            service("lab", &[], &["192.0.2.0/24"], &["/system.slice/*"]),
            service("top", &[65535..=65535], &[], &[]),
        ])
    }

    #[test]
    fn the_first_that_fits_in_all_is_taken() {
        let services = some();
        for (port, address, cgroup, expected) in [
            (443, "192.0.2.1", None, "edge"),
            (443, "::ffff:192.0.2.1", None, "edge"),
            (443, "2001:db8::9", None, "edge"),
            (443, "192.0.2.2", None, "web"),
            (8000, "198.51.100.1", None, "web"),
            (8099, "198.51.100.1", None, "web"),
            (8100, "198.51.100.1", None, "other"),
            (7999, "192.0.2.9", Some("/system.slice/a.service/b"), "lab"),
            (7999, "192.0.2.1", Some("/system.slice/a"), "lab"),
            (7999, "192.0.2.9", Some("/user.slice"), "other"),
            (7999, "192.0.2.9", None, "other"),
            (65535, "10.0.0.1", None, "top"),
            (0, "10.0.0.1", None, "other"),
        ] {
            assert_eq!(name(&services, port, address, cgroup), expected, "{port} {address} {cgroup:?}");
        }
        assert!(services.needs_cgroup());
    }

    #[test]
    fn without_services_all_is_other() {
        let services = Services::new(&[]);
        assert_eq!(name(&services, 443, "192.0.2.1", Some("/")), "other");
        assert!(!services.needs_cgroup());
    }

    #[test]
    fn patterns_are_checked() {
        for text in ["/system.slice/*", "*", "/a/{b,c}/[d]"] {
            assert_eq!(check_cgroup(text), Ok(()), "{text}");
        }
        for text in ["", "system.slice", "/a[", "/{a"] {
            assert!(check_cgroup(text).is_err(), "{text}");
        }
    }

    fn one() -> impl Strategy<Value = Service> {
        let ports = proptest::collection::vec(
            (0u16..12, 0u16..4).prop_map(|(first, more)| first..=first + more),
            0..3,
        );
        let addresses = proptest::collection::vec(
            (0u8..4, 24u8..=32).prop_map(|(last, len)| {
                IpNet::new(IpAddr::from([192, 0, 2, last << 6]), len).unwrap().trunc()
            }),
            0..3,
        );
        let cgroups = proptest::collection::vec("/[ab]\\*?".prop_map(|text| text), 0..2);
        (ports, addresses, cgroups).prop_map(|(ports, addresses, cgroups)| Service {
            name: "x".into(),
            ports,
            addresses,
            cgroups,
        })
    }

    proptest! {
        #[test]
        fn it_is_what_a_look_at_each_finds(
            services in proptest::collection::vec(one(), 0..70), port in 0u16..20, last: u8, path in "/[abc]{1,2}"
        ) {
            let address = IpAddr::from([192, 0, 2, last]);
            let expected = services.iter().take(MOST_SERVICES).position(|service| {
                (service.ports.is_empty() || service.ports.iter().any(|range| range.contains(&port)))
                    && (service.addresses.is_empty() || service.addresses.iter().any(|net| net.contains(&address)))
                    && (service.cgroups.is_empty()
                        || service.cgroups.iter().any(|pattern| glob(pattern).unwrap().is_match(&path)))
            });
            prop_assert_eq!(Services::new(&services).find(port, address, Some(&path)), expected);
        }
    }
}
