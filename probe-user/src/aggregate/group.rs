//! Which series a record is added to: the one place where a record becomes labels.
//!
//! The values are from closed lists, so the number of groups is bounded: nothing in a record can make a new one.
//! Configured labels (service, prefix, AS number, country) go here: a field of [`Group`], a name in [`GROUP_LABELS`],
//! a value in [`Group::label_values`].

use std::net::Ipv6Addr;

use probe_common::record::{FlowRecord, SynackRecord, role};

use crate::flow::{Family, Role};

/// Names of the labels that each TCP series has, in the order of [`Group::label_values`].
pub const GROUP_LABELS: [&str; 2] = ["role", "family"];

/// What stands for a value that is not known.
const UNKNOWN: &str = "unknown";

/// A set of connections whose numbers are added up together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Who opened the connections; `None` for those older than the probe.
    pub role: Option<Role>,
    /// Address family on the wire; `None` for one that is neither IPv4 nor IPv6.
    pub family: Option<Family>,
}

impl Group {
    /// Values of the labels in [`GROUP_LABELS`].
    #[must_use]
    pub fn label_values(&self) -> [&'static str; GROUP_LABELS.len()] {
        [self.role.map_or(UNKNOWN, Role::name), self.family.map_or(UNKNOWN, Family::name)]
    }
}

/// The group of a connection.
#[must_use]
pub fn group_of(record: &FlowRecord) -> Group {
    let role = match record.role {
        role::CLIENT => Some(Role::Client),
        role::SERVER => Some(Role::Server),
        _ => None,
    };
    Group { role, family: family_on_the_wire(record.family, record.remote_addr) }
}

/// The group of a repeated SYN-ACK; only a listener sends one.
#[must_use]
pub fn group_of_synack(record: &SynackRecord) -> Group {
    Group { role: Some(Role::Server), family: family_on_the_wire(record.family, record.remote_addr) }
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
    use std::net::Ipv4Addr;

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
}
