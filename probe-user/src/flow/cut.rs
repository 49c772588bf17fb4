//! Peers' addresses cut to the length that the configuration allows, in records before they leave the daemon.

use std::{mem::offset_of, net::IpAddr};

use probe_common::record::{FlowHead, kind};

use crate::{config::Privacy, flow::from_record::address, networks::truncate};

/// Lengths of prefixes; what is beyond them becomes zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    v4_len: u8,
    v6_len: u8,
}

impl Default for Cut {
    /// Nothing is cut.
    fn default() -> Self {
        Self { v4_len: 32, v6_len: 128 }
    }
}

impl Cut {
    /// As it is configured.
    #[must_use]
    pub const fn new(privacy: &Privacy) -> Self {
        Self { v4_len: privacy.record_v4_prefix_len, v6_len: privacy.record_v6_prefix_len }
    }

    /// Cuts the remote address of a connection's record; bytes that are none stay as they are.
    pub fn apply(self, bytes: &mut [u8]) {
        const REMOTE: usize = offset_of!(FlowHead, remote_addr);
        const FAMILY: usize = offset_of!(FlowHead, family);
        if self == Self::default() || bytes.get(offset_of!(FlowHead, kind)) == Some(&kind::SYNACK) {
            return;
        }
        let Some(family) = bytes.get(FAMILY..FAMILY + 2).and_then(|two| two.try_into().ok()) else { return };
        let family = u16::from_ne_bytes(family);
        let Some(remote) = bytes.get_mut(REMOTE..REMOTE + 16) else { return };
        let mut whole = [0; 16];
        whole.copy_from_slice(remote);
        match truncate(address(family, whole), self.v4_len, self.v6_len).network() {
            IpAddr::V4(cut) if i32::from(family) == libc::AF_INET => {
                remote[..4].copy_from_slice(&cut.octets());
            }
            IpAddr::V4(cut) => remote.copy_from_slice(&cut.to_ipv6_mapped().octets()),
            IpAddr::V6(cut) => remote.copy_from_slice(&cut.octets()),
        }
    }
}

#[cfg(test)]
mod tests {
    use probe_common::record::{kind::CLOSED, role::SERVER};

    use super::*;
    use crate::aggregate::testing::record;

    fn cut(family: i32, remote: IpAddr) -> IpAddr {
        let mut record = record(CLOSED, SERVER, 0);
        record.family = family as u16;
        match remote {
            IpAddr::V4(v4) if family == libc::AF_INET => {
                record.remote_addr[..4].copy_from_slice(&v4.octets());
            }
            IpAddr::V4(v4) => record.remote_addr = v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => record.remote_addr = v6.octets(),
        }
        let before = record;
        Cut { v4_len: 20, v6_len: 44 }.apply(bytemuck::bytes_of_mut(&mut record));
        let after = record.remote_addr;
        record.remote_addr = before.remote_addr;
        assert_eq!(bytemuck::bytes_of(&record), bytemuck::bytes_of(&before), "more than the address changed");
        address(record.family, after)
    }

    #[test]
    fn addresses_of_each_kind_are_cut() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(cut(libc::AF_INET, ip("203.0.113.77")), ip("203.0.112.0"));
        assert_eq!(cut(libc::AF_INET6, ip("203.0.113.77")), ip("203.0.112.0"));
        assert_eq!(cut(libc::AF_INET6, ip("2001:db8:ffff::1")), ip("2001:db8:fff0::"));
    }

    #[test]
    fn by_default_and_in_bytes_that_are_no_record_nothing_is_cut() {
        let mut bytes = [255; 700];
        Cut::default().apply(&mut bytes);
        assert_eq!(bytes, [255; 700]);
        for length in 0..100 {
            Cut { v4_len: 0, v6_len: 0 }.apply(&mut bytes[..length]);
        }
    }
}
