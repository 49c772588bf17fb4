//! What the link does to which segment: rules, tried in order; the first that picks a segment decides.

use std::fmt;
use std::time::Duration;

use super::{Direction, Kind};

/// What a rule may know about a segment: the flow, and its place in it. Counts start at 1.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Which way it goes.
    pub direction: Direction,
    /// What it is for.
    pub kind: Kind,
    /// The client's port.
    pub client_port: u16,
    /// The server's port.
    pub server_port: u16,
    /// Packets of this kind so far in this flow and direction, this one included; retransmissions count.
    pub nth_of_kind: u64,
    /// For a data segment: its place among the first transmissions of this flow and direction.
    pub nth_data: u64,
    /// How often these bytes (or this SYN) were sent, this time included: 1 for the first transmission.
    pub transmission: u32,
    /// First payload byte's place in the stream, from 0.
    pub offset: u64,
    /// Payload bytes.
    pub payload_len: u32,
}

/// Which segments a rule is about.
pub enum Pick {
    /// The n-th SYN, retransmissions counted.
    Syn(u64),
    /// The n-th SYN-ACK, retransmissions counted.
    SynAck(u64),
    /// The first transmission of the n-th data segment.
    Data(u64),
    /// Transmission number `transmission` of the data segment that holds byte `offset` of the stream.
    Byte {
        /// Place in the stream, from 0.
        offset: u64,
        /// 1 for the first transmission, 2 for the first retransmission, …
        transmission: u32,
    },
    /// Whatever the function says.
    When(Box<dyn FnMut(&Seen) -> bool + Send>),
}

impl fmt::Debug for Pick {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syn(n) => write!(out, "Syn({n})"),
            Self::SynAck(n) => write!(out, "SynAck({n})"),
            Self::Data(n) => write!(out, "Data({n})"),
            Self::Byte { offset, transmission } => write!(out, "Byte({offset}, {transmission})"),
            Self::When(_) => write!(out, "When"),
        }
    }
}

/// What happens to a picked segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is lost.
    Drop,
    /// It arrives this much later than it would, behind the segments that were sent after it.
    Hold(Duration),
    /// It arrives twice, the second behind the first. The copy is not its sender's and not in the ledger.
    Copy,
}

/// One rule of a direction.
#[derive(Debug)]
pub struct Rule {
    direction: Direction,
    server_port: Option<u16>,
    pick: Pick,
    action: Action,
}

impl Rule {
    /// Do `action` to the picked segments of every flow in `direction`.
    #[must_use]
    pub fn new(direction: Direction, pick: Pick, action: Action) -> Self {
        Self { direction, server_port: None, pick, action }
    }

    /// Lose the picked segments of every flow in `direction`.
    #[must_use]
    pub fn drop(direction: Direction, pick: Pick) -> Self {
        Self::new(direction, pick, Action::Drop)
    }

    /// Only flows to this port of the server.
    #[must_use]
    pub fn to_port(mut self, port: u16) -> Self {
        self.server_port = Some(port);
        self
    }

    pub(crate) fn decide(&mut self, seen: &Seen) -> Option<Action> {
        if seen.direction != self.direction || self.server_port.is_some_and(|port| port != seen.server_port) {
            return None;
        }
        let picked = match &mut self.pick {
            Pick::Syn(n) => seen.kind == Kind::Syn && seen.nth_of_kind == *n,
            Pick::SynAck(n) => seen.kind == Kind::SynAck && seen.nth_of_kind == *n,
            Pick::Data(n) => seen.kind == Kind::Data && seen.nth_data == *n && seen.transmission == 1,
            Pick::Byte { offset, transmission } => {
                seen.kind == Kind::Data
                    && seen.transmission == *transmission
                    && (seen.offset..seen.offset + u64::from(seen.payload_len)).contains(offset)
            }
            Pick::When(function) => function(seen),
        };
        picked.then_some(self.action)
    }
}
