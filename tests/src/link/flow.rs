//! One direction of one connection as packets tell it: what was sent before, what arrived before, how many round trips
//! were completed. Pure; the kernel's own counters are never looked at here.

use std::collections::BTreeMap;

use super::Kind;
use super::ledger::Half;
use super::packet::{ACK, FIN, Tcp};

/// What is to be known about a segment the moment it enters the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) retransmission: bool,
    pub(super) transmission: u32,
    pub(super) nth_of_kind: u64,
    pub(super) nth_data: u64,
    pub(super) offset: u64,
}

/// State of one direction. Offsets count stream bytes from 0; a FIN takes one.
#[derive(Debug, Default)]
pub(super) struct Sender {
    pub(super) half: Half,
    isn: Option<u32>,
    /// The first offset that was never sent.
    sent_to: u64,
    fin_sent: bool,
    transmissions: BTreeMap<u64, u32>,
    kinds: BTreeMap<u8, u64>,
    data_segments: u64,
    syns: u32,
    arrived: Ranges,
    acked_to: Option<u64>,
    round_ends: u64,
}

impl Sender {
    /// True when this SYN or SYN-ACK begins something new rather than repeating what was sent.
    pub(super) fn is_new_syn(&self, tcp: &Tcp) -> bool {
        self.isn != Some(tcp.seq)
    }

    /// Note a segment that enters the link.
    pub(super) fn send(&mut self, tcp: &Tcp) -> Place {
        let kind = tcp.kind();
        let count = self.kinds.entry(kind as u8).or_default();
        *count += 1;
        let nth_of_kind = *count;
        let mut place = Place { retransmission: false, transmission: 1, nth_of_kind, nth_data: 0, offset: 0 };
        self.half.packets += 1;
        match kind {
            Kind::Syn | Kind::SynAck => {
                if self.is_new_syn(tcp) {
                    self.isn = Some(tcp.seq);
                    self.syns = 0;
                }
                self.syns += 1;
                place.transmission = self.syns;
                place.retransmission = self.syns > 1;
            }
            Kind::Data => {
                place.offset = self.offset(tcp.seq);
                place.retransmission = place.offset < self.sent_to;
                let fin = u64::from(tcp.flags & FIN != 0);
                self.fin_sent |= fin == 1;
                self.sent_to = self.sent_to.max(place.offset + u64::from(tcp.payload_len) + fin);
                self.data_segments += u64::from(!place.retransmission);
                place.nth_data = self.data_segments;
                let count = self.transmissions.entry(place.offset).or_insert(u32::from(place.retransmission));
                *count += 1;
                place.transmission = *count;
                self.half.data_segments += 1;
                if place.retransmission {
                    self.half.retransmitted_bytes += u64::from(tcp.payload_len);
                }
            }
            Kind::Fin => {
                place.offset = self.offset(tcp.seq);
                place.retransmission = self.fin_sent;
                place.transmission = u32::try_from(nth_of_kind).unwrap_or(u32::MAX);
                self.fin_sent = true;
                self.sent_to = self.sent_to.max(place.offset + 1);
            }
            Kind::Ack | Kind::Rst | Kind::Other => {}
        }
        if place.retransmission {
            let class = &mut self.half.retransmitted;
            match kind {
                Kind::Syn => class.syn += 1,
                Kind::SynAck => class.synack += 1,
                Kind::Fin => class.fin += 1,
                _ => class.data += 1,
            }
        }
        place
    }

    /// Note that a segment left the link at its receiver; true when every byte of it had arrived before.
    pub(super) fn arrive(&mut self, tcp: &Tcp) -> bool {
        if tcp.kind() != Kind::Data {
            return false;
        }
        let start = self.offset(tcp.seq);
        let duplicate = self.arrived.insert(start, start + u64::from(tcp.payload_len));
        self.half.duplicates_arrived += u64::from(duplicate);
        duplicate
    }

    /// Note that an acknowledgement reached this sender. A round trip ends when something is acknowledged that was sent
    /// after the last one ended: RFC 6298's one sample a round trip, as tcp_rtt_estimator counts it.
    pub(super) fn acknowledged(&mut self, tcp: &Tcp) {
        if tcp.flags & ACK == 0 || self.isn.is_none() {
            return;
        }
        let to = self.offset(tcp.ack);
        if to > self.sent_to || self.acked_to.is_some_and(|before| to <= before) {
            return;
        }
        if self.acked_to.is_none() || to > self.round_ends {
            self.half.round_trips += 1;
            self.round_ends = self.sent_to;
        }
        self.acked_to = Some(to);
    }

    /// Sequence number to stream offset, nearest to what was sent last, so that it survives the wrap at 2^32.
    fn offset(&self, seq: u32) -> u64 {
        let first = self.isn.unwrap_or(seq).wrapping_add(1);
        let near = self.sent_to;
        let distance = seq.wrapping_sub(first).wrapping_sub(near as u32).cast_signed();
        near.saturating_add_signed(i64::from(distance))
    }
}

/// Byte ranges that do not touch each other, by start.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Add a range; true when all of it was there.
    fn insert(&mut self, mut start: u64, mut end: u64) -> bool {
        let touching: Vec<(u64, u64)> = self
            .0
            .range(..=end)
            .rev()
            .take_while(|(_, other_end)| **other_end >= start)
            .map(|(other_start, other_end)| (*other_start, *other_end))
            .collect();
        if touching.iter().any(|(other_start, other_end)| *other_start <= start && end <= *other_end) {
            return true;
        }
        for (other_start, other_end) in touching {
            self.0.remove(&other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_tell_duplicates() {
        let mut ranges = Ranges::default();
        assert!(!ranges.insert(0, 10));
        assert!(!ranges.insert(20, 30));
        assert!(ranges.insert(22, 30));
        assert!(!ranges.insert(5, 25), "a part is new");
        assert!(ranges.insert(0, 30));
        assert!(!ranges.insert(30, 40));
        assert_eq!(ranges.0.len(), 1);
    }
}
