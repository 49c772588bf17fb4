//! One cell of the matrix: the link, what it does to whom, and the traffic. Everything random starts from its seed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::link::{Action, Direction, Gso, Kind, Link, Pick, Rule};

/// What the link does to the segments of each flow, beside its random loss. Places count first transmissions from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A share of the first transmissions, chosen by the seed, arrives so much later than the others.
    Hold {
        /// 0 to 1.
        share: f64,
        /// How much later.
        by: Duration,
    },
    /// So many data segments in a row are lost once.
    Burst {
        /// The first of them.
        first: u64,
        /// How many.
        count: u64,
    },
    /// At random segments, chosen by the seed, so many data segments in a row are lost, repeated ones too.
    Bursts {
        /// With this probability (0 to 1) a first transmission is the first of them.
        share: f64,
        /// How many.
        length: u64,
    },
    /// The last so many data segments are lost once.
    Tail {
        /// How many.
        count: u64,
    },
    /// From the first transmission of a data segment on, everything towards the client is lost for a time.
    Blackout {
        /// That segment.
        from: u64,
        /// How long.
        length: Duration,
    },
    /// The first so many SYNs are lost.
    Syn(u64),
    /// The first so many SYN-ACKs are lost.
    SynAck(u64),
}

/// One cell. The server sends, so its end of each flow is the one whose round trips and losses are compared.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The axis it belongs to.
    pub axis: &'static str,
    /// Its place on the axis.
    pub name: String,
    /// The link's round trip: half of it each way.
    pub round_trip: Duration,
    /// Random loss towards the client, 0 to 1.
    pub loss: f64,
    /// What else the link does.
    pub fault: Fault,
    /// The one cause that every retransmission of data or FIN must have here; `None` where several mix.
    pub cause: Option<&'static str>,
    /// Tail loss probes (net.ipv4.tcp_early_retrans) on or off at the server.
    pub tail_probes: bool,
    /// Congestion control of both ends.
    pub congestion: &'static str,
    /// Over IPv6.
    pub v6: bool,
    /// Packets of several segments.
    pub gso: Gso,
    /// Connections at once.
    pub flows: usize,
    /// How long after the one before each connection begins.
    pub apart: Duration,
    /// What the server sends on each.
    pub bytes: usize,
    /// Start of everything random.
    pub seed: u64,
}

impl Cell {
    /// The base case: a round trip of 20 ms, 1 % loss, CUBIC, IPv4, GSO off, one flow of 3 MB, seed 7.
    #[must_use]
    pub fn base(axis: &'static str, name: &str) -> Self {
        Self {
            axis,
            name: name.to_owned(),
            round_trip: Duration::from_millis(20),
            loss: 0.01,
            fault: Fault::None,
            cause: None,
            tail_probes: true,
            congestion: "cubic",
            v6: false,
            gso: Gso::Off,
            flows: 1,
            apart: Duration::ZERO,
            bytes: 3_000_000,
            seed: 7,
        }
    }

    /// Payload bytes of a full segment: MTU 1500 less the headers and the timestamp option.
    #[must_use]
    pub fn segment(&self) -> u64 {
        if self.v6 { 1428 } else { 1448 }
    }

    /// The rules of its fault.
    pub(super) fn program(&self, link: &Link) {
        let drop = |pick| link.rule(Rule::drop(Direction::ToClient, pick));
        match self.fault {
            Fault::None => {}
            Fault::Hold { share, by } => link.rule(self.hold(share, by)),
            Fault::Burst { first, count } => {
                (first..first + count).for_each(|segment| drop(Pick::Data(segment)));
            }
            Fault::Bursts { share, length } => drop(self.bursts(share, length)),
            Fault::Tail { count } => (0..count).for_each(|back| {
                let offset = self.bytes as u64 - 1 - back * self.segment();
                drop(Pick::Byte { offset, transmission: 1 });
            }),
            Fault::Blackout { from, length } => drop(blackout(from, length)),
            Fault::Syn(count) => (1..=count).for_each(|nth| {
                link.rule(Rule::drop(Direction::ToServer, Pick::Syn(nth)));
            }),
            Fault::SynAck(count) => (1..=count).for_each(|nth| drop(Pick::SynAck(nth))),
        }
    }

    fn hold(&self, share: f64, by: Duration) -> Rule {
        let mut random = fastrand::Rng::with_seed(self.seed);
        // The first flight stays in order: an early loss of the congestion window would hide the rest.
        let pick = Pick::When(Box::new(move |seen| {
            seen.kind == Kind::Data && seen.transmission == 1 && seen.nth_data > 10 && random.f64() < share
        }));
        Rule::new(Direction::ToClient, pick, Action::Hold(by))
    }

    fn bursts(&self, share: f64, length: u64) -> Pick {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut left: HashMap<u16, u64> = HashMap::new();
        Pick::When(Box::new(move |seen| {
            if seen.kind != Kind::Data {
                return false;
            }
            let left = left.entry(seen.client_port).or_default();
            if *left == 0 && seen.transmission == 1 && random.f64() < share {
                *left = length;
            }
            let lost = *left > 0;
            *left = left.saturating_sub(1);
            lost
        }))
    }
}

fn blackout(from: u64, length: Duration) -> Pick {
    let mut begun: HashMap<u16, Instant> = HashMap::new();
    Pick::When(Box::new(move |seen| {
        if seen.kind == Kind::Data && seen.nth_data == from && seen.transmission == 1 {
            begun.entry(seen.client_port).or_insert_with(Instant::now);
        }
        begun.get(&seen.client_port).is_some_and(|begun| begun.elapsed() < length)
    }))
}
