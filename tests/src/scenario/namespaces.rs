//! Whose connection is it: address families and network namespaces (CASE 10).

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::download::PORT;
use super::{LONG, Probe, expect, expect_received, flows, local_port};
use crate::kit::{Line, Namespace};
use crate::link::Link;
use crate::traffic::{Behaviour, Options, Server, connect, echo};

/// An IPv6 socket that speaks IPv4 is ipv4, on both ends, with plain addresses.
///
/// # Errors
/// When a record says otherwise.
pub fn mapped_clients_are_ipv4(probe: &Probe) -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(2)).build()?;
    let mapped = Options { v4_mapped: true, ..Options::default() };
    let any = (Ipv4Addr::UNSPECIFIED, PORT).into();
    let server = Server::start(&link.server, any, Behaviour::Echo, &mapped)?;
    ensure!(server.address.is_ipv6(), "the listener is not an IPv6 socket");
    let mut stream = connect(&link.client, link.server_v4(PORT), &mapped)??;
    ensure!(stream.local_addr()?.is_ipv6(), "the client is not an IPv6 socket");
    let port = stream.local_addr()?.port();
    echo(&mut stream, 1, 100)?;
    let plain = |line: &Line, local: &str, remote: &str| {
        expect("family", line.text("family")?, "ipv4")?;
        expect("local_addr", line.text("local_addr")?, local)?;
        expect("remote_addr", line.text("remote_addr")?, remote)
    };
    let live = probe.live(&link.server)?;
    expect("the number of live flows", live.len(), 1)?;
    plain(&live[0], "192.0.2.2", "192.0.2.1")?;
    drop(stream);
    let client = probe.ended_one(&link.client)?;
    plain(&client, "192.0.2.1", "192.0.2.2")?;
    expect("local_port", local_port(&client)?, port)?;
    plain(&probe.ended_one(&link.server)?, "192.0.2.2", "192.0.2.1")
}

/// IPv6 is ipv6.
///
/// # Errors
/// When a record says otherwise.
pub fn ipv6_clients_are_ipv6(probe: &Probe) -> Result<()> {
    let link = Link::builder().delay(Duration::from_millis(2)).build()?;
    let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, 1, 100)?;
    drop(stream);
    for (end, local, remote) in
        [(&link.client, "2001:db8::1", "2001:db8::2"), (&link.server, "2001:db8::2", "2001:db8::1")]
    {
        let line = probe.ended_one(end)?;
        expect("family", line.text("family")?, "ipv6")?;
        expect("local_addr", line.text("local_addr")?, local)?;
        expect("remote_addr", line.text("remote_addr")?, remote)?;
    }
    Ok(())
}

/// The same addresses and ports in two pairs of namespaces: each flow has the inode of its own, and its own bytes. Live
/// flows of all namespaces are listed, from the daemon as from a `flows` of its own.
///
/// # Errors
/// When they are mixed.
pub fn equal_addresses_are_not_mixed(probe: &Probe) -> Result<()> {
    let mut pairs = Vec::new();
    for bytes in [100, 200] {
        let link = Link::builder().delay(Duration::from_millis(2)).build()?;
        let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &Options::default())?;
        let local = (Ipv4Addr::new(192, 0, 2, 1), 41_000).into();
        let mut stream =
            crate::traffic::connect_from(&link.client, Some(local), server.address, &Options::default())??;
        echo(&mut stream, 1, bytes)?;
        pairs.push((link, server, stream, bytes as u64));
    }
    let alone = tempfile::tempdir()?;
    for (link, .., bytes) in &pairs {
        for end in [&link.client, &link.server] {
            let live = probe.live(end)?;
            expect("the number of live flows of one namespace", live.len(), 1)?;
            expect("bytes_received", live[0].u64("bytes_received")?, *bytes)?;
            let mut without_daemon = flows(alone.path(), &[])?;
            without_daemon.retain(|line| super::check::netns(line).is_ok_and(|inode| inode == end.inode()));
            expect("the number of live flows without daemon", without_daemon.len(), 1)?;
            expect("bytes_received without daemon", without_daemon[0].u64("bytes_received")?, *bytes)?;
        }
    }
    for (link, server, stream, bytes) in pairs {
        drop(stream);
        server.served(1, LONG)?;
        for end in [&link.client, &link.server] {
            let line = probe.ended_one(end)?;
            expect("bytes_sent", line.u64("bytes_sent")?, bytes)?;
            expect_received(&line, bytes)?;
        }
    }
    Ok(())
}

/// A namespace that no process is in, but sockets are: the walks do not find it (docs/decisions/namespaces.md), the ends
/// of its connections are reported all the same.
///
/// # Errors
/// When they are not.
pub fn namespace_without_process(probe: &Probe) -> Result<()> {
    let namespace = Namespace::without_process()?;
    let server =
        Server::start(&namespace, (Ipv4Addr::LOCALHOST, PORT).into(), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&namespace, server.address, &Options::default())??;
    echo(&mut stream, 1, 100)?;
    drop(stream);
    for line in probe.ended(&namespace, 2)? {
        expect("adopted", line.flag("adopted")?, false)?;
    }
    Ok(())
}
