//! The true round trips of one end, and what it sent needlessly, from the ledger alone.
//!
//! A round trip is the time from the entry of a packet into the link, in the transmission that reached the receiver
//! first, to the arrival of the acknowledgement that covers it. As in RFC 6298, and as the kernel samples, one counts
//! each time something is acknowledged that was sent after the last one ended. It holds the receiver's delay of the
//! acknowledgement, which is part of what a sender can see; it does not hold the ends' own time above the link. The
//! handshake's is apart, as it is in a record.
//!
//! A segment that the sender's TCP has sent may wait in the device until the link reads it. So a round may end later than
//! the link thinks, and there may be fewer. The least there can be is counted as if each packet had been sent half a
//! millisecond before the link read it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::link::{Direction, Entry, Kind, Ledger};

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// The longest that a packet may have waited in the device.
const WAITED_NS: u64 = 500_000;
/// No packet of the link is longer, so a packet that holds a byte starts at most so much before it.
const LONGEST: u64 = 65_536;

/// What one end could have measured, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct RoundTrips {
    /// One a round trip, without the handshake, in order of time.
    pub(super) each_ns: Vec<u64>,
    /// How many there were at least.
    pub(super) least: u64,
    /// The smallest over all acknowledgements, handshake included, each from the newest byte that it covers.
    pub(super) smallest_ns: Option<u64>,
}

/// One transmission: sequence space after the SYN's number, and its times.
#[derive(Clone, Copy, Debug)]
struct Transmission {
    end: u64,
    entered_ns: u64,
    left_ns: Option<u64>,
}

#[derive(Debug, Default)]
struct Replay {
    isn: Option<u32>,
    sent: BTreeMap<u64, Vec<Transmission>>,
    sent_to: u64,
    acked_to: u64,
    round_ends: u64,
    found: RoundTrips,
}

/// The round trips of the end that sends in `direction`, of one flow of the ledger.
///
/// # Errors
/// When there are not as many as the ledger counted while packets passed.
pub(super) fn round_trips(ledger: &Ledger, flow: usize, direction: Direction) -> Result<RoundTrips> {
    let mut found = replay(ledger, flow, direction, 0);
    let (rounds, counted) = (found.each_ns.len() as u64, ledger.flows[flow].sent(direction).round_trips);
    ensure!(
        rounds + 1 == counted,
        "the ledger's packets hold {rounds} round trips and the handshake, it counted {counted}"
    );
    found.least = replay(ledger, flow, direction, WAITED_NS).each_ns.len() as u64;
    Ok(found)
}

/// Go through the packets as if each had been sent so long before the link read it.
fn replay(ledger: &Ledger, flow: usize, direction: Direction, waited_ns: u64) -> RoundTrips {
    let mut events: Vec<(u64, &Entry)> = ledger
        .packets_of(flow)
        .filter_map(|entry| {
            let sent_ns = entry.entered_ns.saturating_sub(waited_ns);
            let at_ns = if entry.direction == direction { Some(sent_ns) } else { entry.left_ns };
            Some((at_ns?, entry))
        })
        .collect();
    events.sort_by_key(|(at_ns, _)| *at_ns);
    let mut replay = Replay::default();
    for (at_ns, entry) in events {
        if entry.direction == direction {
            replay.send(entry);
        } else if entry.flags & ACK != 0 {
            replay.acknowledge(at_ns, entry.ack);
        }
    }
    replay.found
}

/// Segments that an end sent again although all they hold had arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needless {
    /// SYNs and SYN-ACKs that arrived after another.
    pub(super) handshake: u64,
    /// The ledger's data segments, and FINs that arrived after another.
    pub(super) data: u64,
}

impl Needless {
    pub(super) fn all(self) -> u64 {
        self.handshake + self.data
    }
}

/// What the end that sends in `direction` sent needlessly.
pub(super) fn needless(ledger: &Ledger, flow: usize, direction: Direction) -> Needless {
    let after_another = |kind: Kind| {
        let packets = ledger.packets_of(flow);
        let arrived = packets
            .filter(|entry| entry.direction == direction && entry.kind == kind && entry.left_ns.is_some());
        (arrived.count() as u64).saturating_sub(1)
    };
    Needless {
        handshake: after_another(Kind::Syn) + after_another(Kind::SynAck),
        data: ledger.flows[flow].sent(direction).duplicates_arrived + after_another(Kind::Fin),
    }
}

impl Replay {
    fn send(&mut self, entry: &Entry) {
        if entry.flags & SYN != 0 {
            self.isn = Some(entry.seq);
        }
        let Some(isn) = self.isn else { return };
        let start = u64::from(entry.seq.wrapping_sub(isn));
        let numbers = u64::from(entry.payload_len)
            + u64::from(entry.flags & SYN != 0)
            + u64::from(entry.flags & FIN != 0);
        if numbers == 0 {
            return;
        }
        let end = start + numbers;
        self.sent_to = self.sent_to.max(end);
        let left_ns = entry.left_ns.filter(|_| !entry.refused);
        let transmission = Transmission { end, entered_ns: entry.entered_ns, left_ns };
        self.sent.entry(start).or_default().push(transmission);
    }

    fn acknowledge(&mut self, at_ns: u64, ack: u32) {
        let Some(isn) = self.isn else { return };
        let to = u64::from(ack.wrapping_sub(isn));
        if to > self.sent_to || to <= self.acked_to {
            return;
        }
        let smallest = self.since_entry(to - 1, at_ns);
        self.found.smallest_ns = self.found.smallest_ns.into_iter().chain(smallest).min();
        if to > self.round_ends {
            if self.acked_to > 0 {
                // What is acknowledged has arrived, so that there is a transmission that arrived.
                self.found.each_ns.extend(self.since_entry(self.acked_to, at_ns));
            }
            self.round_ends = self.sent_to;
        }
        self.acked_to = to;
    }

    /// From the entry of the transmission of this byte that arrived first until `at_ns`.
    fn since_entry(&self, byte: u64, at_ns: u64) -> Option<u64> {
        self.sent
            .range(byte.saturating_sub(LONGEST)..=byte)
            .flat_map(|(_, transmissions)| transmissions)
            .filter(|one| byte < one.end)
            .filter_map(|one| Some((one.left_ns.filter(|left| *left <= at_ns)?, one.entered_ns)))
            .min()
            .map(|(_, entered_ns)| at_ns - entered_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(seq: u32, payload_len: u32, flags: u8, entered_ns: u64, left_ns: Option<u64>) -> Entry {
        Entry {
            direction: Direction::ToClient,
            entered_ns,
            left_ns,
            ip_version: 4,
            length: payload_len + 52,
            kind: Kind::Data,
            flow: Some(0),
            seq,
            ack: 0,
            flags,
            window: 0,
            payload_len,
            retransmission: false,
            transmission: 1,
            dropped: None,
            duplicate: false,
            refused: false,
        }
    }

    #[test]
    fn a_round_trip_runs_from_the_transmission_that_arrived() {
        let mut replay = Replay::default();
        replay.send(&sent(u32::MAX, 0, SYN, 0, Some(5)));
        replay.acknowledge(10, 0);
        // The first transmission of the first hundred bytes was lost, the second arrived.
        replay.send(&sent(0, 100, ACK, 20, None));
        replay.send(&sent(100, 100, ACK, 21, Some(26)));
        replay.send(&sent(0, 100, ACK, 40, Some(45)));
        replay.acknowledge(52, 200);
        replay.acknowledge(53, 200);
        assert_eq!(replay.found.each_ns, [12]);
        assert_eq!(replay.found.smallest_ns, Some(10));
    }
}
