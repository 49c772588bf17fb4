//! TUN devices and interface settings by plain system calls, so that no `ip` command is needed.
//!
//! The functions that take an interface name act in the network namespace of the calling thread.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::kit::wait_until;

/// Bytes of `struct ifreq`: 16 of name, 24 of value.
const NAME_LEN: usize = 16;
/// `struct virtio_net_hdr` in front of every packet of a device with offloads.
pub(crate) const VNET_HEADER_LEN: usize = 10;
/// `_IOW('T', 226, int)` of linux/if_tun.h.
const TUNSETCARRIER: libc::c_ulong = 0x4004_54e2;
/// Packets that a device may hold until the engine reads them: more than any scenario has in flight.
const QUEUE_PACKETS: i32 = 10_000;

/// `struct ifreq`, its value as bytes.
#[repr(C, align(8))]
struct InterfaceRequest {
    name: [u8; NAME_LEN],
    value: [u8; 24],
}

/// `struct in6_ifreq` of linux/ipv6.h.
#[repr(C)]
struct Address6Request {
    address: [u8; 16],
    prefix_len: u32,
    interface_index: i32,
}

/// One ioctl on `fd` with a pointer to `argument`, which must be of the layout that `request` names.
fn ioctl<T>(fd: impl AsFd, request: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: every caller in this file passes the structure that the request reads and writes, alive for the call.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn control_socket(family: AddressFamily) -> Result<OwnedFd> {
    Ok(socket(family, SocketType::DGRAM, None)?)
}

fn interface_ioctl(name: &str, request: libc::c_ulong, value: &[u8]) -> Result<[u8; 24]> {
    let mut argument = InterfaceRequest { name: [0; NAME_LEN], value: [0; 24] };
    argument.name[..name.len()].copy_from_slice(name.as_bytes());
    argument.value[..value.len()].copy_from_slice(value);
    ioctl(control_socket(AddressFamily::INET)?, request, &mut argument)
        .with_context(|| format!("ioctl {request:#x} on interface {name} failed"))?;
    Ok(argument.value)
}

/// Bring an interface up or down.
pub(crate) fn set_up(name: &str, up: bool) -> Result<()> {
    let value = interface_ioctl(name, libc::SIOCGIFFLAGS, &[])?;
    let flags = u16::from_ne_bytes([value[0], value[1]]);
    let bit = u16::try_from(libc::IFF_UP)?;
    let flags = if up { flags | bit } else { flags & !bit };
    interface_ioctl(name, libc::SIOCSIFFLAGS, &flags.to_ne_bytes())?;
    Ok(())
}

fn interface_index(name: &str) -> Result<i32> {
    let value = interface_ioctl(name, libc::SIOCGIFINDEX, &[])?;
    Ok(i32::from_ne_bytes([value[0], value[1], value[2], value[3]]))
}

/// Give the interface an address; the kernel makes the route to its prefix (/24 or /64).
pub(crate) fn add_address(name: &str, address: IpAddr) -> Result<()> {
    match address {
        IpAddr::V4(v4) => {
            let sockaddr = |octets: [u8; 4]| {
                let mut bytes = [0; 16];
                bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&octets);
                bytes
            };
            interface_ioctl(name, libc::SIOCSIFADDR, &sockaddr(v4.octets()))?;
            interface_ioctl(name, libc::SIOCSIFNETMASK, &sockaddr([255, 255, 255, 0]))?;
        }
        IpAddr::V6(v6) => {
            let mut request = Address6Request {
                address: v6.octets(),
                prefix_len: 64,
                interface_index: interface_index(name)?,
            };
            ioctl(control_socket(AddressFamily::INET6)?, libc::SIOCSIFADDR, &mut request)
                .with_context(|| format!("cannot give {name} the address {v6}"))?;
            wait_until(Duration::from_secs(10), "the kernel lets the IPv6 address be used", || {
                is_settled(v6)
            })?;
        }
    }
    Ok(())
}

/// Send an IPv4 /24 through the interface.
pub(crate) fn add_route(name: &str, network: Ipv4Addr) -> Result<()> {
    let address = |octets: [u8; 4]| libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(octets) },
        sin_zero: [0; 8],
    };
    let mut device = [0_u8; NAME_LEN];
    device[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: struct rtentry is numbers and pointers, for which zero is valid (a null pointer: not given).
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    // SAFETY: sockaddr_in and sockaddr have the same size, and the kernel reads the first as the family says.
    route.rt_dst =
        unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address(network.octets())) };
    // SAFETY: as above.
    route.rt_genmask =
        unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address([255, 255, 255, 0])) };
    route.rt_flags = libc::RTF_UP;
    route.rt_dev = device.as_mut_ptr().cast();
    ioctl(control_socket(AddressFamily::INET)?, libc::SIOCADDRT, &mut route)
        .with_context(|| format!("cannot route {network}/24 through {name}"))
}

/// False while an address of the calling thread's namespace is tentative: a kernel thread looks after it.
fn is_settled(address: Ipv6Addr) -> Result<bool> {
    let digits: String = address.octets().iter().map(|byte| format!("{byte:02x}")).collect();
    let text =
        fs::read_to_string("/proc/thread-self/net/if_inet6").context("cannot read the IPv6 addresses")?;
    // Address, interface index, prefix length, scope, flags, name; numbers are hexadecimal.
    let flags = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == digits).then(|| words.nth(3).map(str::to_owned)).flatten()
    });
    let flags = flags.with_context(|| format!("the address {address} is gone"))?;
    Ok(u32::from_str_radix(&flags, 16)? & libc::IFA_F_TENTATIVE == 0)
}

/// Let TCP make packets of one segment only: since 4.17 it segments late on every device, whatever the device says.
pub(crate) fn limit_gso_segments(name: &str, segments: u32) -> Result<()> {
    // struct nlmsghdr, struct ifinfomsg, one attribute of four bytes.
    let mut message = Vec::with_capacity(40);
    message.extend_from_slice(&40_u32.to_ne_bytes());
    message.extend_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&interface_index(name)?.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&8_u16.to_ne_bytes());
    message.extend_from_slice(&libc::IFLA_GSO_MAX_SEGS.to_ne_bytes());
    message.extend_from_slice(&segments.to_ne_bytes());
    // No protocol number: NETLINK_ROUTE is 0.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0_u8; 1024];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    if length < 20 {
        bail!("netlink answered with {length} bytes to a change of {name}");
    }
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code))
            .with_context(|| format!("cannot limit the segments of a packet on {name}")),
    }
}

/// Make a TUN device in the calling thread's namespace. With `offload` it takes TCP super-packets, each behind a
/// `virtio_net_hdr`.
pub(crate) fn open_tun(name: &str, mtu: i32, offload: bool) -> Result<OwnedFd> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .context("cannot open /dev/net/tun: load the module `tun` and run as root")?;
    let mut flags = libc::IFF_TUN | libc::IFF_NO_PI;
    if offload {
        flags |= libc::IFF_VNET_HDR;
    }
    let mut request = InterfaceRequest { name: [0; NAME_LEN], value: [0; 24] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    request.value[..2].copy_from_slice(&u16::try_from(flags)?.to_ne_bytes());
    ioctl(&file, libc::TUNSETIFF as libc::c_ulong, &mut request)
        .context("cannot make a TUN device: run as root")?;
    if offload {
        let features = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory.
        let result = unsafe {
            libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD as libc::c_ulong, libc::c_ulong::from(features))
        };
        if result < 0 {
            return Err(io::Error::last_os_error()).context("this kernel's TUN takes no TCP segmentation");
        }
    }
    interface_ioctl(name, libc::SIOCSIFMTU, &mtu.to_ne_bytes())?;
    interface_ioctl(name, libc::SIOCSIFTXQLEN, &QUEUE_PACKETS.to_ne_bytes())?;
    Ok(file.into())
}

/// Plug or unplug the cable of a TUN device, and wait until the kernel has noticed: its link watch takes up to a second.
pub(crate) fn set_carrier(tun: impl AsFd, name: &str, on: bool) -> Result<()> {
    let mut carrier = libc::c_int::from(on);
    ioctl(tun, TUNSETCARRIER, &mut carrier).context("cannot change the carrier of a TUN device")?;
    wait_until(Duration::from_secs(10), "the kernel has noticed the cable", || {
        let value = interface_ioctl(name, libc::SIOCGIFFLAGS, &[])?;
        let running = libc::c_int::from(u16::from_ne_bytes([value[0], value[1]])) & libc::IFF_RUNNING != 0;
        Ok(running == on)
    })?;
    // The flag changes before the queue does, both under the lock that this call takes too.
    interface_ioctl(name, libc::SIOCSIFTXQLEN, &(QUEUE_PACKETS - i32::from(on)).to_ne_bytes())?;
    Ok(())
}

/// Packets that the kernel dropped before the engine saw them; a link whose ledger is complete has none.
pub(crate) fn device_drops(name: &str) -> Result<u64> {
    let text =
        fs::read_to_string("/proc/thread-self/net/dev").context("cannot read /proc/thread-self/net/dev")?;
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))
        .with_context(|| format!("there is no interface {name}"))?;
    // The twelfth number is `drop` of the transmit side.
    let field = line.split_whitespace().nth(11).context("/proc/net/dev has too few columns")?;
    Ok(field.parse()?)
}

/// Spread the receive work of an interface over all CPUs. sysfs shows the namespace it was mounted in, so the calling
/// thread gets a mount namespace of its own and mounts it there.
pub(crate) fn set_rps(name: &str) -> Result<()> {
    // SAFETY: only the calling thread, which ends with its closure, leaves the mount namespace; it shares no state
    // with others that depends on it (CLONE_NEWNS also gives it its own working directory).
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.context("cannot make a mount namespace: run as root")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .or_else(|_| mount_change("/proc", MountPropagationFlags::PRIVATE))
        .context("cannot make mounts private")?;
    let folder = tempfile::tempdir()?;
    mount("sysfs", folder.path(), "sysfs", MountFlags::empty(), None).context("cannot mount sysfs")?;
    let cpus = thread::available_parallelism()?.get().min(32);
    let mask = format!("{:x}", (1_u64 << cpus) - 1);
    let path = folder.path().join(format!("class/net/{name}/queues/rx-0/rps_cpus"));
    let written =
        fs::write(&path, &mask).with_context(|| format!("cannot set receive packet steering of {name}"));
    let unmounted = rustix::mount::unmount(folder.path(), rustix::mount::UnmountFlags::DETACH);
    written?;
    unmounted.context("cannot unmount sysfs")
}
