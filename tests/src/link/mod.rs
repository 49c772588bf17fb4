//! A link between two network namespaces that does exactly what it is told, and remembers every packet.
//!
//! Each namespace has a TUN device. One thread reads packets from both, decides about each TCP segment (drop, hold,
//! delay), and writes it to the other side when its time has come. The thread sleeps until 150 µs before the next
//! packet is due and looks at the clock from there on, so that delays hold to about 0.1 ms. A super-packet (GSO on) is
//! cut into the segments it stands for, so that every decision and every ledger entry is about one segment.
//!
//! Costs one thread, with real-time priority where the kernel grants it, and two copies of each packet.

mod build;
pub(crate) mod device;
mod engine;
mod flow;
mod ledger;
pub(crate) mod packet;
mod pause;
mod rule;

pub use build::{Builder, Gso, Link};
pub use ledger::{Entry, Flow, Half, Ledger, Retransmissions};
pub use packet::Kind;
pub use pause::Pause;
pub use rule::{Action, Pick, Rule, Seen};

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the client's namespace to the server's.
    ToServer,
    /// From the server's namespace to the client's.
    ToClient,
}

impl Direction {
    /// Both, in the order of [`Direction::index`].
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];

    /// 0 to the server, 1 to the client.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::ToServer => 0,
            Self::ToClient => 1,
        }
    }

    /// The other way.
    #[must_use]
    pub fn reverse(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// A rule picked it.
    Rule,
    /// Random loss.
    Random,
    /// The link was in a blackout.
    Blackout,
    /// The rate limit's queue was full.
    Queue,
    /// The receiver's device did not take it (it was down).
    Device,
}
