//! Is a connection's family and namespace right, and are equal addresses of two namespaces kept apart?

use anyhow::Result;
use tests::scenario::{hold, namespaces};

#[test]
fn v4_mapped_clients_are_ipv4() -> Result<()> {
    hold(namespaces::mapped_clients_are_ipv4)
}

#[test]
fn ipv6_clients_are_ipv6() -> Result<()> {
    hold(namespaces::ipv6_clients_are_ipv6)
}

#[test]
fn equal_addresses_of_two_namespaces_are_not_mixed() -> Result<()> {
    hold(namespaces::equal_addresses_are_not_mixed)
}

#[test]
fn the_ends_of_a_namespace_without_process_are_reported() -> Result<()> {
    hold(namespaces::namespace_without_process)
}
