//! Making a link and telling it what to do.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::event::{EventfdFlags, eventfd};

use super::device;
use super::engine::{Engine, Shared, State, Way};
use super::ledger::{Book, Ledger};
use super::{Direction, Rule};
use crate::kit::{Namespace, wait_until};

/// The device's name in both namespaces.
const DEVICE: &str = "link0";

/// Whether the sender's TCP makes packets of several segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    /// One segment a packet.
    #[default]
    Off,
    /// Super-packets up to 64 kB; the link cuts them.
    On,
}

/// How a link is to be. Both directions start alike.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    delay: Duration,
    loss: [f64; 2],
    seed: u64,
    bits_per_second: Option<u64>,
    queue_packets: usize,
    gso: Gso,
    mtu: i32,
    addresses: Addresses,
}

impl Builder {
    /// Which addresses the ends have: links of different numbers (0, 1, 2) are different networks.
    #[must_use]
    pub fn network(mut self, number: usize) -> Self {
        self.addresses = ADDRESSES[number % ADDRESSES.len()];
        self
    }

    /// One-way delay of both directions.
    #[must_use]
    pub fn delay(mut self, one_way: Duration) -> Self {
        self.delay = one_way;
        self
    }

    /// Lose each packet of a direction with this probability (0 to 1), by a generator that starts from the seed.
    #[must_use]
    pub fn loss(mut self, direction: Direction, probability: f64) -> Self {
        self.loss[direction.index()] = probability;
        self
    }

    /// Start of the random generator; the same seed gives the same losses for the same packets.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Put packets on the line at this rate, with room for `queue_packets` waiting ones; more are dropped.
    #[must_use]
    pub fn rate(mut self, bits_per_second: u64, queue_packets: usize) -> Self {
        self.bits_per_second = Some(bits_per_second);
        self.queue_packets = queue_packets;
        self
    }

    /// Super-packets or not.
    #[must_use]
    pub fn gso(mut self, gso: Gso) -> Self {
        self.gso = gso;
        self
    }

    /// Largest IP packet.
    #[must_use]
    pub fn mtu(mut self, bytes: i32) -> Self {
        self.mtu = bytes;
        self
    }

    /// Make the namespaces, the devices and the engine.
    ///
    /// # Errors
    /// Without root or `/dev/net/tun`.
    pub fn build(self) -> Result<Link> {
        let ends = [Namespace::new()?, Namespace::new()?];
        let mut tuns = Vec::new();
        for (end, addresses) in ends.iter().zip(self.addresses) {
            tuns.push(end.run(|| make_device(self, addresses))?.context("cannot make one end of the link")?);
        }
        let tuns: [OwnedFd; 2] = tuns.try_into().ok().context("a link has two ends")?;
        let spare = [tuns[0].try_clone()?, tuns[1].try_clone()?];
        let way = |loss| Way {
            delay: self.delay,
            loss,
            bits_per_second: self.bits_per_second,
            queue_packets: self.queue_packets,
        };
        let state = State {
            ways: [way(self.loss[0]), way(self.loss[1])],
            rules: Vec::new(),
            blackout: false,
            random: fastrand::Rng::with_seed(self.seed),
            book: Book::default(),
            stop: false,
        };
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let shared = Arc::new(Shared { state: state.into(), wake });
        let engine = Engine::new(Arc::clone(&shared), tuns, self.gso == Gso::On);
        let thread = thread::Builder::new().name("link".into()).spawn(|| engine.run())?;
        let [client, server] = ends;
        Ok(Link { client, server, shared, addresses: self.addresses, tuns: spare, thread: Some(thread) })
    }
}

/// An IPv4 and an IPv6 address of the client's end, then of the server's.
type Addresses = [[IpAddr; 2]; 2];

/// Documentation prefixes (RFC 5737, RFC 3849), by the number of the network.
const ADDRESSES: [Addresses; 3] = [ends([192, 0, 2], 0), ends([198, 51, 100], 1), ends([203, 0, 113], 2)];

const fn ends([a, b, c]: [u8; 3], site: u16) -> Addresses {
    [
        [
            IpAddr::V4(Ipv4Addr::new(a, b, c, 1)),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, 1)),
        ],
        [
            IpAddr::V4(Ipv4Addr::new(a, b, c, 2)),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, 2)),
        ],
    ]
}

fn make_device(builder: Builder, addresses: [IpAddr; 2]) -> Result<OwnedFd> {
    let tun = device::open_tun(DEVICE, builder.mtu, builder.gso == Gso::On)?;
    if builder.gso == Gso::Off {
        device::limit_gso_segments(DEVICE, 1)?;
    }
    device::set_up(DEVICE, true)?;
    for address in addresses {
        device::add_address(DEVICE, address)?;
    }
    Ok(tun)
}

/// Two namespaces and the line between them. Dropping it ends the line; the namespaces go with their last socket.
pub struct Link {
    /// The client's namespace: 192.0.2.1 and `2001:db8::1`, unless the network has another number.
    pub client: Namespace,
    /// The server's namespace: 192.0.2.2 and `2001:db8::2`.
    pub server: Namespace,
    shared: Arc<Shared>,
    addresses: Addresses,
    tuns: [OwnedFd; 2],
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Link")
            .field("client", &self.client)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A link without delay, loss or rate limit, one segment a packet, MTU 1500.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            delay: Duration::ZERO,
            loss: [0.0; 2],
            seed: 1,
            bits_per_second: None,
            queue_packets: 0,
            gso: Gso::Off,
            mtu: 1500,
            addresses: ADDRESSES[0],
        }
    }

    /// The server's IPv4 address with this port.
    #[must_use]
    pub fn server_v4(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses[1][0], port)
    }

    /// The server's IPv6 address with this port.
    #[must_use]
    pub fn server_v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses[1][1], port)
    }

    /// Add a rule; rules are tried in the order they were added.
    pub fn rule(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// Take all rules away.
    pub fn clear_rules(&self) {
        self.shared.lock().rules.clear();
    }

    /// While on, the link drops everything, also what is on its way.
    pub fn blackout(&self, on: bool) {
        self.shared.lock().blackout = on;
    }

    /// Change the one-way delay of a direction for packets that enter from now on. They do not overtake.
    pub fn set_delay(&self, direction: Direction, one_way: Duration) {
        self.shared.lock().ways[direction.index()].delay = one_way;
    }

    /// Change the random loss of a direction.
    pub fn set_loss(&self, direction: Direction, probability: f64) {
        self.shared.lock().ways[direction.index()].loss = probability;
    }

    /// Plug (true) or unplug the cable of the device that sends in this direction: the kernel keeps its routes and
    /// drops what is sent.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_carrier(&self, sender: Direction, on: bool) -> Result<()> {
        let tun = &self.tuns[sender.index()];
        self.end(sender).run(|| device::set_carrier(tun, DEVICE, on))?
    }

    /// Bring the device that sends in this direction up or down: down takes its routes away.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_up(&self, sender: Direction, up: bool) -> Result<()> {
        let address = self.addresses[sender.index()][1];
        self.end(sender).run(|| -> Result<()> {
            device::set_up(DEVICE, up)?;
            if up {
                // The kernel forgets IPv6 addresses of a device that goes down.
                device::add_address(DEVICE, address)?;
            }
            Ok(())
        })?
    }

    /// Let the namespace that sends in this direction send an IPv4 /24 over the link, which the other end does not have.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn route(&self, sender: Direction, network: Ipv4Addr) -> Result<()> {
        self.end(sender).run(|| device::add_route(DEVICE, network))?
    }

    /// The namespace that sends in this direction.
    #[must_use]
    pub fn end(&self, sender: Direction) -> &Namespace {
        match sender {
            Direction::ToServer => &self.client,
            Direction::ToClient => &self.server,
        }
    }

    /// What has happened so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.lock().book.snapshot()
    }

    /// Wait until nothing is on its way and no packet came for 50 ms, and return the ledger.
    ///
    /// # Errors
    /// When the link does not get quiet, or the kernel dropped packets before the ledger saw them.
    pub fn settled(&self, deadline: Duration) -> Result<Ledger> {
        let mut last = (0, 0);
        let mut quiet_since = std::time::Instant::now();
        wait_until(deadline, "the link is quiet", || {
            let now = self.shared.lock().book.progress();
            if now != last {
                last = now;
                quiet_since = std::time::Instant::now();
            }
            Ok(now.1 == 0 && quiet_since.elapsed() > Duration::from_millis(50))
        })?;
        for end in [&self.client, &self.server] {
            let drops = end.run(|| device::device_drops(DEVICE))??;
            ensure!(
                drops == 0,
                "the kernel dropped {drops} packets before the ledger saw them: it is not complete"
            );
        }
        Ok(self.ledger())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
