//! SYNs from addresses that nobody has, as an attacker sends them: the answers reach no one.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::kit::Namespace;
use crate::link::packet::syn;

/// `IPPROTO_RAW`: what is written has its IP header.
const RAW: i32 = 255;

/// Send the SYNs with these numbers from inside a namespace, each from another address and port of the /24 `network`.
///
/// # Errors
/// Without CAP_NET_RAW, or when a packet is not taken.
pub fn flood(namespace: &Namespace, network: Ipv4Addr, to: SocketAddrV4, numbers: Range<u32>) -> Result<()> {
    let socket = namespace
        .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW))))?
        .context("cannot make a raw socket: run as root")?;
    let [a, b, c, _] = network.octets();
    let hosts = 1..255_u32;
    for index in numbers {
        let host = hosts.start + index % hosts.len() as u32;
        let port = 1024 + index / hosts.len() as u32 % 60_000;
        let from = SocketAddrV4::new(Ipv4Addr::new(a, b, c, host as u8), port as u16);
        socket.send_to(&syn(from, to, index), &to.into()).with_context(|| format!("SYN {index}"))?;
    }
    Ok(())
}
