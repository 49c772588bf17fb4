//! Making sockets: family, congestion control, source port, linger.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::net::{SendFlags, sendto};
use socket2::{Domain, Protocol, Socket, Type};

use crate::kit::Namespace;

/// Patience with a peer that does not answer; longer than any programmed fault.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fast Open connections that may wait for the end of their handshake.
const FAST_OPEN_QUEUE: libc::c_int = 64;
/// Connect and send in one call (MSG_FASTOPEN of linux/socket.h).
const MSG_FASTOPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000);

/// How a socket is to be made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Congestion control by name; `None` takes `cubic` where the kernel has it, so that a scenario gives the same packets
    /// on every machine.
    pub congestion: Option<&'static str>,
    /// Use an IPv6 socket for an IPv4 address: the peer is `::ffff:a.b.c.d`.
    pub v4_mapped: bool,
    /// close() sends a reset (SO_LINGER 0).
    pub reset_on_close: bool,
    /// Share the listening port (SO_REUSEPORT).
    pub reuse_port: bool,
    /// Give up a connect after so many repeated SYNs (TCP_SYNCNT); `None` keeps the kernel's 6.
    pub syn_retries: Option<u8>,
    /// Take data in a SYN while listening (TCP_FASTOPEN), where `net.ipv4.tcp_fastopen` allows it.
    pub fast_open: bool,
    /// Size of the receive buffer (SO_RCVBUF; the kernel doubles it); `None` lets the kernel adapt it.
    pub receive_buffer: Option<usize>,
    /// Longest wait for a connect; `None` waits for the kernel's own error.
    pub connect_timeout: Option<Duration>,
}

impl Options {
    /// The address as this kind of socket writes it.
    fn address(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(v4) if self.v4_mapped && v4.is_unspecified() => {
                (Ipv6Addr::UNSPECIFIED, address.port()).into()
            }
            IpAddr::V4(v4) if self.v4_mapped => (v4.to_ipv6_mapped(), address.port()).into(),
            _ => address,
        }
    }

    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!self.v4_mapped)?;
        }
        socket.set_reuse_port(self.reuse_port)?;
        match self.congestion {
            Some(name) => socket.set_tcp_congestion(name.as_bytes())?,
            // bbr, some machines' default, paces by its own clock and answers to loss in its own way.
            None => socket.set_tcp_congestion(b"cubic").or_else(|_| socket.set_tcp_congestion(b"reno"))?,
        }
        if self.reset_on_close {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(count) = self.syn_retries {
            set_tcp_option(&socket, libc::TCP_SYNCNT, libc::c_int::from(count))?;
        }
        Ok(socket)
    }
}

/// Set an option of IPPROTO_TCP whose value is an int.
fn set_tcp_option(socket: &Socket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the kernel reads one int, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Listen inside a namespace; port 0 takes a free one.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(namespace: &Namespace, address: SocketAddr, options: &Options) -> Result<TcpListener> {
    let address = options.address(address);
    let listener = namespace.run(|| -> io::Result<TcpListener> {
        let socket = options.socket(address)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        if options.fast_open {
            set_tcp_option(&socket, libc::TCP_FASTOPEN, FAST_OPEN_QUEUE)?;
        }
        socket.listen(4096)?;
        Ok(socket.into())
    })?;
    listener.with_context(|| format!("cannot listen on {address}"))
}

/// Connect from inside a namespace.
///
/// # Errors
/// The outer error when the namespace cannot be entered; the inner one is the connect's own.
pub fn connect(
    namespace: &Namespace,
    address: SocketAddr,
    options: &Options,
) -> Result<io::Result<TcpStream>> {
    connect_from(namespace, None, address, options)
}

/// Connect from a given local address.
///
/// # Errors
/// As [`connect`].
pub fn connect_from(
    namespace: &Namespace,
    local: Option<SocketAddr>,
    address: SocketAddr,
    options: &Options,
) -> Result<io::Result<TcpStream>> {
    let address = options.address(address);
    namespace.run(|| {
        let socket = options.socket(address)?;
        if let Some(local) = local {
            socket.set_reuse_address(true)?;
            socket.bind(&options.address(local).into())?;
        }
        match options.connect_timeout {
            Some(timeout) => socket.connect_timeout(&address.into(), timeout)?,
            None => socket.connect(&address.into())?,
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(socket.into())
    })
}

/// Connect with data: it goes in the SYN when the namespace has a cookie of the server (its `net.ipv4.tcp_fastopen` allows that, as it does by default),
/// and after the handshake when not. Returns when the connection is established.
///
/// # Errors
/// As [`connect`].
pub fn connect_with_data(
    namespace: &Namespace,
    address: SocketAddr,
    options: &Options,
    data: &[u8],
) -> Result<io::Result<TcpStream>> {
    let address = options.address(address);
    namespace.run(|| {
        let socket = options.socket(address)?;
        let sent = sendto(&socket, data, MSG_FASTOPEN, &address)?;
        if sent != data.len() {
            return Err(io::Error::other(format!("{sent} of {} bytes were taken", data.len())));
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(socket.into())
    })
}

/// Begin a connect from a given local address and leave it to the kernel.
///
/// # Errors
/// When it fails at once.
pub fn start_connect(namespace: &Namespace, local: SocketAddr, address: SocketAddr) -> Result<TcpStream> {
    let started = namespace.run(|| -> io::Result<TcpStream> {
        let socket = Options::default().socket(address)?;
        socket.set_reuse_address(true)?;
        socket.bind(&local.into())?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket.into()),
        }
    })?;
    started.with_context(|| format!("cannot begin to connect {local} to {address}"))
}

/// Dissolve a connection and keep its socket: connect() to AF_UNSPEC. Then connect the same socket again.
///
/// # Errors
/// When the kernel refuses either.
pub fn reconnect(namespace: &Namespace, stream: &TcpStream, address: SocketAddr) -> Result<()> {
    let socket = socket2::SockRef::from(stream);
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    namespace
        .run(|| -> io::Result<()> {
            use std::os::fd::AsRawFd as _;
            // SAFETY: the kernel reads the address, which lives through the call.
            let result = unsafe {
                libc::connect(
                    stream.as_raw_fd(),
                    &raw const nowhere,
                    size_of::<libc::sockaddr>() as libc::socklen_t,
                )
            };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
            socket.connect(&address.into())
        })?
        .context("cannot connect a socket again")
}
