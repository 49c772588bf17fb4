//! One direction of one connection as packets tell it: what was sent before, what arrived before, how many round trips
//! were completed. Pure; the kernel's own counters are never looked at here.

use std::collections::BTreeMap;

use super::Kind;
use super::ledger::Half;
use super::packet::{ACK, FIN, RST, SYN, Tcp};

/// What is to be known about a segment the moment it enters the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) retransmission: bool,
    pub(super) transmission: u32,
    pub(super) nth_of_kind: u64,
    pub(super) nth_data: u64,
    pub(super) offset: u64,
}

/// What becomes of a segment at its receiver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Every byte of it had arrived before.
    pub(super) duplicate: bool,
    /// The receiver throws it away because of its timestamp.
    pub(super) refused: bool,
}

/// State of one direction. Offsets count stream bytes from 0; a FIN takes one.
#[derive(Debug, Default)]
pub(super) struct Sender {
    pub(super) half: Half,
    isn: Option<u32>,
    /// The first offset that was never sent, data in a SYN counted as sent.
    sent_to: u64,
    fin_sent: bool,
    transmissions: BTreeMap<u64, u32>,
    kinds: BTreeMap<u8, u64>,
    data_segments: u64,
    syns: u32,
    synacks: u32,
    arrived: Ranges,
    /// The timestamp that the receiver remembers (TS.Recent of RFC 7323).
    newest_timestamp: Option<u32>,
    acked_to: Option<u64>,
    round_ends: u64,
}

impl Sender {
    /// True when this SYN begins another connection: this end sent one with another sequence number before. Without one
    /// before, it crosses the other end's SYN.
    pub(super) fn begins_another(&self, tcp: &Tcp) -> bool {
        self.isn.is_some_and(|isn| isn != tcp.seq)
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
                if self.isn != Some(tcp.seq) {
                    self.isn = Some(tcp.seq);
                    (self.syns, self.synacks) = (0, 0);
                }
                // When two SYNs cross, each end answers with a SYN-ACK of the same number: not a repetition.
                let count = if kind == Kind::Syn { &mut self.syns } else { &mut self.synacks };
                *count += 1;
                place.transmission = *count;
                place.retransmission = *count > 1;
                // Data in a SYN (Fast Open); repeated without it.
                self.sent_to = self.sent_to.max(u64::from(tcp.payload_len));
                self.half.data_segments += u64::from(tcp.payload_len > 0);
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

    /// Note that a segment left the link at its receiver.
    pub(super) fn arrive(&mut self, tcp: &Tcp) -> Arrival {
        let refused = self.is_refused(tcp);
        if tcp.kind() != Kind::Data {
            return Arrival { duplicate: false, refused };
        }
        let start = self.offset(tcp.seq);
        let end = start + u64::from(tcp.payload_len);
        let duplicate =
            if refused { self.arrived.holds(start, end) } else { self.arrived.insert(start, end) };
        self.half.duplicates_arrived += u64::from(duplicate);
        self.half.refused += u64::from(refused);
        self.half.refused_needed += u64::from(refused && !duplicate);
        Arrival { duplicate, refused }
    }

    /// Whether the receiver throws the segment away because of its timestamp: as tcp_paws_discard does, it is older by
    /// more than a tick than that of a segment that was in order when it arrived (RFC 7323, 5.3). A segment held up on its
    /// way meets this when a repeated one, sent later, has filled a gap before it. The receiver remembers the timestamps
    /// of what begins at or before its last ACK (tcp_replace_ts_recent) and does not end before it (tcp_sequence); the first
    /// gap is close to that ACK, and the same while something is missing.
    fn is_refused(&mut self, tcp: &Tcp) -> bool {
        const TCP_PAWS_WINDOW: i32 = 1;
        let Some(timestamp) = tcp.timestamp else { return false };
        let Some(newest) = self.newest_timestamp else {
            self.newest_timestamp = Some(timestamp);
            return false;
        };
        let older = newest.wrapping_sub(timestamp).cast_signed();
        if older > TCP_PAWS_WINDOW && tcp.flags & (SYN | RST) == 0 {
            return true;
        }
        let (start, gap) = (self.offset(tcp.seq), self.arrived.first_gap());
        if older < 0 && start <= gap && start + u64::from(tcp.payload_len) >= gap {
            self.newest_timestamp = Some(timestamp);
        }
        false
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
    /// The first number from 0 on that is not there.
    fn first_gap(&self) -> u64 {
        self.0.get(&0).copied().unwrap_or(0)
    }

    /// Whether all of a range is there.
    fn holds(&self, start: u64, end: u64) -> bool {
        self.0.range(..=start).next_back().is_some_and(|(_, other_end)| end <= *other_end)
    }

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
    use super::super::packet::parse_tcp;
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
        assert!(!ranges.insert(50, 60));
        assert_eq!(ranges.first_gap(), 40);
        assert!(ranges.holds(50, 60) && !ranges.holds(41, 42) && !ranges.holds(45, 60));
    }

    fn segment(seq: u32, timestamp: u32) -> Tcp {
        // IPv4 and TCP headers with the timestamp option, and 100 bytes of payload.
        let mut bytes = vec![0_u8; 20 + 32 + 100];
        bytes[0] = 0x45;
        bytes[9] = 6;
        bytes[24..28].copy_from_slice(&seq.to_be_bytes());
        (bytes[32], bytes[33]) = (0x80, ACK);
        bytes[40..44].copy_from_slice(&[1, 1, 8, 10]);
        bytes[44..48].copy_from_slice(&timestamp.to_be_bytes());
        parse_tcp(&bytes).unwrap()
    }

    #[test]
    fn a_receiver_refuses_old_timestamps_after_a_repeated_segment_filled_a_gap() {
        let mut sender = Sender { isn: Some(u32::MAX), ..Sender::default() };
        let mut arrive = |seq, timestamp| {
            let arrival = sender.arrive(&segment(seq, timestamp));
            (arrival.duplicate, arrival.refused)
        };
        assert_eq!(arrive(0, 10), (false, false));
        // 100 is lost, 300 is held up, the others come.
        assert_eq!(arrive(200, 10), (false, false));
        assert_eq!(arrive(400, 20), (false, false), "not in order: its timestamp is not remembered");
        assert_eq!(arrive(100, 30), (false, false), "sent again");
        assert_eq!(arrive(300, 10), (false, true), "at last, and too old");
        assert_eq!(arrive(300, 40), (false, false), "sent again: it was needed");
        assert_eq!(arrive(400, 20), (true, true));
        assert_eq!(
            arrive(0, 90),
            (true, false),
            "its timestamp is not remembered: all of it was acknowledged"
        );
        assert_eq!(arrive(500, 39), (false, false), "one tick older is let in");
        assert_eq!((sender.half.refused, sender.half.refused_needed), (2, 1));
    }
}
