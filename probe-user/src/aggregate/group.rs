//! The labels that a record is added under: [`Group`].
//!
//! Role and family are from closed lists. Service and network labels come from the configuration; how many groups have a
//! place of their own is bounded in [`super::sums`], and what has none is `other`, or `former` once its place was given up.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use probe_common::record::{FlowRecord, SynackRecord, role};

use super::bounded::Key;
use crate::{
    flow::{Family, Role},
    networks::{Asn, Country, Label, Labels},
};

/// Names of the labels that each TCP series has whatever is configured.
pub const GROUP_LABELS: [&str; 2] = ["role", "family"];

/// The label of configured services.
pub const SERVICE_LABEL: &str = "service";

/// What stands for a value that is not known.
const UNKNOWN: &str = "unknown";

/// What stands for values of groups that have no place of their own.
pub const OTHER: &str = "other";

/// What stands for values of groups whose place was given up: sums of the past, which do not grow by what happens now.
pub const FORMER: &str = "former";

/// A set of connections whose numbers are added up together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Who opened the connections; `None` for those older than the probe.
    pub role: Option<Role>,
    /// Address family on the wire; `None` for one that is neither IPv4 nor IPv6.
    pub family: Option<Family>,
    /// Name of the service; `None` if none are configured.
    pub service: Option<Arc<str>>,
    /// The peers' network.
    pub network: Network,
}

/// Which network the peers of a group are in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// No labels are configured.
    Any,
    /// This one.
    Of(Labels),
    /// One that has no place of its own.
    Other,
    /// One that had a place and gave it up.
    Former,
}

impl Group {
    /// The group without configured labels.
    #[must_use]
    pub const fn plain(role: Option<Role>, family: Option<Family>) -> Self {
        Self { role, family, service: None, network: Network::Any }
    }
}

/// In one piece: with the derived one, a dozen small writes to SipHash, a record cost twice as much.
impl Hash for Group {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut packed = Packed::default();
        packed.put(&[self.role.map_or(2, |role| role as u8), self.family.map_or(2, |family| family as u8)]);
        if let Network::Of(Labels { prefix, bgp_prefix, asn, country, list }) = &self.network {
            for prefix in [prefix, bgp_prefix].into_iter().flatten() {
                match prefix.addr() {
                    IpAddr::V4(address) => packed.put(&address.octets()),
                    IpAddr::V6(address) => packed.put(&address.octets()),
                }
                packed.put(&[prefix.prefix_len()]);
            }
            packed.put(&asn.map_or(0, |Asn(number)| number).to_ne_bytes());
            packed.put(country.as_ref().map_or("", Country::as_str).as_bytes());
            if let Some(list) = list {
                list.hash(state);
            }
        }
        if let Some(service) = &self.service {
            service.hash(state);
        }
        state.write(&packed.bytes[..packed.length]);
    }
}

/// Bytes to be hashed; two prefixes of IPv6 and the rest are 42.
struct Packed {
    bytes: [u8; 48],
    length: usize,
}

impl Default for Packed {
    fn default() -> Self {
        Self { bytes: [0; 48], length: 0 }
    }
}

impl Packed {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            room.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }
}

impl Key for Group {
    /// Role, family and service are few: they stay.
    fn remainder(&self, left: bool) -> Self {
        let network = match (&self.network, left) {
            (Network::Any, _) => Network::Any,
            (_, false) => Network::Other,
            (_, true) => Network::Former,
        };
        Self { network, service: self.service.clone(), ..*self }
    }

    /// Role and family do not change while a connection lives.
    fn elder(&self) -> Self {
        let network = if self.network == Network::Any { Network::Any } else { Network::Other };
        Self { network, service: self.service.as_ref().map(|_| OTHER.into()), ..*self }
    }
}

/// Which labels groups carry beside role and family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSet {
    /// The service.
    pub service: bool,
    /// Those of the network, each once and in the order of [`Label::ALL`].
    pub networks: Vec<Label>,
}

impl LabelSet {
    /// Names and values of a group's labels.
    pub fn of<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = (&'static str, Cow<'a, str>)> {
        let role = group.role.map_or(UNKNOWN, Role::name);
        let family = group.family.map_or(UNKNOWN, Family::name);
        let service = self.service.then(|| group.service.as_deref().unwrap_or(OTHER));
        let network = self.networks.iter().map(|label| {
            let value = match &group.network {
                Network::Of(labels) => labels.value(*label),
                Network::Former => FORMER.into(),
                Network::Other | Network::Any => OTHER.into(),
            };
            (label.as_str(), value)
        });
        GROUP_LABELS
            .into_iter()
            .zip([role.into(), family.into()])
            .chain(service.map(|name| (SERVICE_LABEL, name.into())))
            .chain(network)
    }
}

/// Role and family of a connection.
pub(super) fn plain_of(record: &FlowRecord) -> Group {
    let role = match record.role {
        role::CLIENT => Some(Role::Client),
        role::SERVER => Some(Role::Server),
        _ => None,
    };
    Group::plain(role, family_on_the_wire(record.family, record.remote_addr))
}

/// Those of a repeated SYN-ACK; only a listener sends one.
pub(super) fn plain_of_synack(record: &SynackRecord) -> Group {
    Group::plain(Some(Role::Server), family_on_the_wire(record.family, record.remote_addr))
}

/// A v4-mapped peer (RFC 4291, 2.5.5.2) of an IPv6 socket is reached over IPv4.
fn family_on_the_wire(family: u16, remote: [u8; 16]) -> Option<Family> {
    match i32::from(family) {
        libc::AF_INET => Some(Family::Ipv4),
        libc::AF_INET6 if Ipv6Addr::from(remote).to_ipv4_mapped().is_some() => Some(Family::Ipv4),
        libc::AF_INET6 => Some(Family::Ipv6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        hash::{BuildHasher as _, RandomState},
        net::Ipv4Addr,
    };

    use super::*;

    #[test]
    fn a_mapped_peer_is_ipv4() {
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
        let real = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets();
        assert_eq!(family_on_the_wire(libc::AF_INET6 as u16, mapped), Some(Family::Ipv4));
        assert_eq!(family_on_the_wire(libc::AF_INET6 as u16, real), Some(Family::Ipv6));
        assert_eq!(family_on_the_wire(libc::AF_INET as u16, [0; 16]), Some(Family::Ipv4));
        assert_eq!(family_on_the_wire(libc::AF_UNIX as u16, [0; 16]), None);
    }

    #[test]
    fn labels_are_those_that_are_configured() {
        let group = Group {
            service: Some("web".into()),
            network: Network::Of(Labels {
                prefix: Some("192.0.2.0/24".parse().unwrap()),
                ..Labels::default()
            }),
            ..Group::plain(Some(Role::Server), None)
        };
        let text = |set: &LabelSet, group: &Group| {
            set.of(group).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        let set = LabelSet { service: true, networks: vec![Label::Prefix, Label::Asn] };
        assert_eq!(text(&LabelSet::default(), &group), "role=server family=unknown");
        assert_eq!(
            text(&set, &group),
            "role=server family=unknown service=web prefix=192.0.2.0/24 asn=unknown"
        );
        assert_eq!(
            text(&set, &group.remainder(false)),
            "role=server family=unknown service=web prefix=other asn=other"
        );
        assert_eq!(
            text(&set, &group.remainder(true)),
            "role=server family=unknown service=web prefix=former asn=former"
        );
        let plain = Group::plain(None, None);
        assert_eq!((plain.remainder(true), plain.remainder(false)), (plain.clone(), plain));
    }

    #[test]
    fn each_label_is_hashed() {
        let net = |text: &str| text.parse().ok();
        let labels = Labels {
            prefix: net("2001:db8::/48"),
            bgp_prefix: net("2001:db8::/32"),
            asn: Some(Asn(64500)),
            country: Country::new("NL"),
            list: Some("lab".into()),
        };
        let of = |labels: &Labels, service: &str| Group {
            service: Some(service.into()),
            network: Network::Of(labels.clone()),
            ..Group::plain(Some(Role::Client), Some(Family::Ipv6))
        };
        let groups = [
            of(&labels, "web"),
            of(&labels, "api"),
            Group { role: Some(Role::Server), ..of(&labels, "web") },
            Group { family: None, ..of(&labels, "web") },
            of(&Labels { prefix: net("2001:db8::/47"), ..labels.clone() }, "web"),
            of(&Labels { bgp_prefix: net("2001:db9::/32"), ..labels.clone() }, "web"),
            of(&Labels { asn: None, ..labels.clone() }, "web"),
            of(&Labels { country: Country::new("BE"), ..labels.clone() }, "web"),
            of(&Labels { list: Some("lib".into()), ..labels.clone() }, "web"),
            of(&Labels { prefix: net("192.0.2.0/24"), ..labels.clone() }, "web"),
            Group { network: Network::Other, ..of(&labels, "web") },
        ];
        let state = RandomState::new();
        let hashes: HashSet<u64> = groups.iter().map(|group| state.hash_one(group)).collect();
        assert_eq!(hashes.len(), groups.len());
        assert_eq!(state.hash_one(&groups[0]), state.hash_one(of(&labels, "web")));
    }
}
