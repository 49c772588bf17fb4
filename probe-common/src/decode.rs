//! How bytes from the kernel become records: one by one from the ring buffer, one after the other from an iterator.
//!
//! The user side's. Whatever the bytes are, the answer is a record or a reason why not.

use bytemuck::{AnyBitPattern, NoUninit};

use crate::{
    histogram::NearHistogram,
    record::{FlowHead, FlowRecord, SynackRecord, flag, kind},
};

/// A record as it was received, its round trips by bucket however they came.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "repeated SYN-ACKs are rare, and none is kept")]
pub enum Record {
    /// A connection.
    Flow(FlowRecord),
    /// A repeated SYN-ACK.
    Synack(SynackRecord),
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The length fits no kind of record.
    Length,
    /// The bytes do not start on an 8-byte boundary.
    Alignment,
    /// Another version of the layout.
    Abi,
    /// A kind that does not exist, or does not go with the length.
    Kind,
}

/// Reads one record; the bytes must start on an 8-byte boundary, as ring buffer and iterator give them.
///
/// # Errors
/// [`Malformed`]; nothing is guessed and nothing panics.
pub fn decode(bytes: &[u8]) -> Result<Record, Malformed> {
    let &[a, b, kind, ..] = bytes else { return Err(Malformed::Length) };
    if u16::from_ne_bytes([a, b]) != crate::ABI_VERSION {
        return Err(Malformed::Abi);
    }
    if length(bytes).is_none_or(|length| length != bytes.len()) {
        return Err(if kind > kind::SYNACK || kind == 0 { Malformed::Kind } else { Malformed::Length });
    }
    match kind {
        kind::CLOSED | kind::LIVE | kind::INCREMENT if bytes.len() == size_of::<FlowHead>() => {
            let mut head: FlowHead = *view(bytes)?;
            let rtt_histogram = head.near.spread();
            head.near = NearHistogram::default();
            Ok(Record::Flow(FlowRecord { head, rtt_histogram }))
        }
        kind::CLOSED | kind::LIVE | kind::INCREMENT => {
            let mut record: FlowRecord = *view(bytes)?;
            record.near = NearHistogram::default();
            Ok(Record::Flow(record))
        }
        kind::SYNACK => Ok(Record::Synack(*view(bytes)?)),
        _ => Err(Malformed::Kind),
    }
}

/// Length of the record that the bytes begin with; `None` when they are too few to tell, or of no kind.
#[must_use]
pub fn length(bytes: &[u8]) -> Option<usize> {
    let &[_, _, kind, _, a, b, c, d, ..] = bytes else { return None };
    match kind {
        kind::CLOSED | kind::LIVE | kind::INCREMENT if u32::from_ne_bytes([a, b, c, d]) & flag::WIDE != 0 => {
            Some(size_of::<FlowRecord>())
        }
        kind::CLOSED | kind::LIVE | kind::INCREMENT => Some(size_of::<FlowHead>()),
        kind::SYNACK => Some(size_of::<SynackRecord>()),
        _ => None,
    }
}

/// The whole records that the bytes begin with, one after the other.
pub fn whole(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let (record, rest) = bytes.split_at_checked(length(bytes)?)?;
        bytes = rest;
        Some(record)
    })
}

fn view<T: AnyBitPattern + NoUninit>(bytes: &[u8]) -> Result<&T, Malformed> {
    if bytes.len() != size_of::<T>() {
        return Err(Malformed::Length);
    }
    bytemuck::try_from_bytes(bytes).map_err(|_misaligned| Malformed::Alignment)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use bytemuck::Zeroable as _;

    use super::*;
    use crate::histogram::bucket_of;

    fn flow() -> FlowRecord {
        let mut record = FlowRecord::zeroed();
        record.abi = crate::ABI_VERSION;
        record.kind = kind::CLOSED;
        record
    }

    #[test]
    fn a_record_survives_the_border() {
        let mut record = flow();
        record.flags = flag::WIDE;
        record.rtt_histogram[63] = 1;
        assert!(matches!(decode(bytemuck::bytes_of(&record)), Ok(Record::Flow(r)) if r == record));
    }

    #[test]
    fn records_of_several_lengths_are_taken_apart() {
        let (mut wide, near) = (flow(), flow().head);
        wide.flags = flag::WIDE;
        let mut bytes = bytemuck::bytes_of(&near).to_vec();
        bytes.extend_from_slice(bytemuck::bytes_of(&wide));
        bytes.extend_from_slice(&bytemuck::bytes_of(&near)[..300]);
        let lengths: Vec<usize> = whole(&bytes).map(<[u8]>::len).collect();
        assert_eq!(lengths, [400, 656]);
    }

    #[test]
    fn near_round_trips_come_out_where_they_were_taken() {
        let mut record = flow();
        for us in [20_000, 20_000, 40_000] {
            let bucket = bucket_of(us);
            let is_first = record.counters.rtt_samples == 0;
            assert!(record.near.add(bucket as u32, is_first));
            record.counters.rtt_samples += 1;
        }
        let Ok(Record::Flow(got)) = decode(bytemuck::bytes_of(&record.head)) else { panic!("not a flow") };
        assert_eq!(got.rtt_histogram[bucket_of(20_000)], 2);
        assert_eq!(got.rtt_histogram[bucket_of(40_000)], 1);
        assert_eq!(got.rtt_histogram.iter().sum::<u32>(), 3);
    }

    #[test]
    fn broken_bytes_are_refused_by_reason() {
        let mut record = flow().head;
        let whole = bytemuck::bytes_of(&record);
        assert!(matches!(decode(&whole[..whole.len() - 8]), Err(Malformed::Length)));
        assert!(matches!(decode(&[]), Err(Malformed::Length)));
        record.kind = 9;
        assert!(matches!(decode(bytemuck::bytes_of(&record)), Err(Malformed::Kind)));
        record.abi += 1;
        assert!(matches!(decode(bytemuck::bytes_of(&record)), Err(Malformed::Abi)));
    }
}
