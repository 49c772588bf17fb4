//! All TCP sockets of a namespace by inet_diag, read and counted and nothing else: what the kernel's own interface costs
//! without a program that formats.

use anyhow::{Context as _, Result, bail, ensure};
use bytemuck::{Pod, Zeroable};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::look::Looked;
use super::place;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_DUMP.
const REQUEST_DUMP: u16 = 0x1 | 0x300;
/// Bit of INET_DIAG_INFO in `idiag_ext`, which asks for TCP_INFO.
const WITH_INFO: u8 = 1 << 1;
const HEADER: usize = 16;

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Request {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    protocol: u8,
    ext: u8,
    pad: u8,
    states: u32,
    id: [u32; 12],
}

const _: () = assert!(size_of::<Request>() == 72, "as in linux/inet_diag.h");

/// Dumps both families of the namespace of `process` and counts.
pub(super) fn run(process: Option<u32>, info: bool) -> Result<Looked> {
    place::enter_namespace(process)?;
    Looked::measured(|| {
        let mut sockets = 0;
        for family in [libc::AF_INET, libc::AF_INET6] {
            sockets += dump(u8::try_from(family)?, info)?;
        }
        Ok(sockets)
    })
}

fn dump(family: u8, info: bool) -> Result<u64> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))
            .context("this kernel has no sock_diag")?;
    let request = Request {
        len: u32::try_from(size_of::<Request>())?,
        kind: SOCK_DIAG_BY_FAMILY,
        flags: REQUEST_DUMP,
        family,
        protocol: u8::try_from(libc::IPPROTO_TCP)?,
        ext: if info { WITH_INFO } else { 0 },
        states: u32::MAX,
        ..Request::zeroed()
    };
    send(&socket, bytemuck::bytes_of(&request), SendFlags::empty())?;
    let mut buffer = vec![0; 256 * 1024];
    let mut sockets = 0;
    loop {
        let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        match count(&buffer[..length])? {
            (some, false) => sockets += some,
            (some, true) => return Ok(sockets + some),
        }
    }
}

/// Messages about a socket in one datagram, and whether the dump is at its end.
fn count(mut datagram: &[u8]) -> Result<(u64, bool)> {
    let mut sockets = 0;
    while datagram.len() >= HEADER {
        let len = u32::from_ne_bytes(datagram[..4].try_into()?) as usize;
        ensure!((HEADER..=datagram.len()).contains(&len), "sock_diag sent a message of {len} bytes");
        match u16::from_ne_bytes(datagram[4..6].try_into()?) {
            NLMSG_DONE => return Ok((sockets, true)),
            NLMSG_ERROR => bail!("sock_diag refused the dump"),
            _ => sockets += 1,
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok((sockets, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_up_to_the_end() {
        let message = |len: u32, kind: u16| {
            let mut bytes = vec![0; (len as usize).next_multiple_of(4)];
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes
        };
        let two = [message(17, SOCK_DIAG_BY_FAMILY), message(16, SOCK_DIAG_BY_FAMILY)].concat();
        assert_eq!(count(&two).unwrap(), (2, false));
        assert_eq!(count(&[two, message(20, NLMSG_DONE)].concat()).unwrap(), (2, true));
        assert!(count(&message(20, NLMSG_ERROR)).is_err());
        assert!(count(&[255; 16]).is_err());
    }
}
