//! Reads records from a BPF iterator's file.

use std::io::{self, Read};

use bytemuck::cast_slice_mut;
use probe_common::decode::whole;

/// Larger than the kernel's own buffer of eight pages, so that a read never splits a record by itself.
const BUFFER_WORDS: usize = 64 * 1024 / 8;

/// The iterator ends with EAGAIN after a million sockets without output (bpf_seq_read), and may lack memory.
const MOST_RETRIES: u32 = 1000;

/// A buffer on 8-byte boundaries, as records want it; kept between reads.
#[derive(Debug)]
pub struct Buffer(Vec<u64>);

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; BUFFER_WORDS])
    }
}

/// Hands out every record until the iterator ends; returns their number.
///
/// # Errors
/// Reading failed and did not recover, or the last record is cut short: what was handed out is right, but not all.
pub fn read_records(
    iterator: &mut impl Read,
    buffer: &mut Buffer,
    each: &mut dyn FnMut(&[u8]),
) -> io::Result<u64> {
    let bytes: &mut [u8] = cast_slice_mut(&mut buffer.0);
    let (mut filled, mut records, mut retries) = (0, 0, 0);
    loop {
        match iterator.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(records),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if is_passing(&e) && retries < MOST_RETRIES => {
                retries += 1;
                continue;
            }
            Err(e) => return Err(e),
        }
        let mut taken = 0;
        for record in whole(&bytes[..filled]) {
            each(record);
            records += 1;
            taken += record.len();
        }
        bytes.copy_within(taken..filled, 0);
        filled -= taken;
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use bytemuck::bytes_of;
    use probe_common::record::{kind::LIVE, role::CLIENT};

    use super::*;
    use crate::aggregate::testing::record;

    /// Gives what it holds in pieces, errors between them.
    struct Pieces(Vec<io::Result<Vec<u8>>>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0)?;
            into[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    fn records(pieces: Vec<io::Result<Vec<u8>>>) -> (io::Result<u64>, Vec<Vec<u8>>) {
        let mut seen = Vec::new();
        let mut each = |record: &[u8]| seen.push(record.to_vec());
        let result = read_records(&mut Pieces(pieces), &mut Buffer::default(), &mut each);
        (result, seen)
    }

    #[test]
    fn records_that_come_in_pieces_are_put_together() {
        let record = bytes_of(&record(LIVE, CLIENT, 0).head).to_vec();
        let (result, seen) = records(vec![
            Ok(record[..8].to_vec()),
            Err(io::Error::from_raw_os_error(libc::EINTR)),
            Ok([&record[8..], &record[..100]].concat()),
            Err(io::Error::from_raw_os_error(libc::EAGAIN)),
            Ok(record[100..].to_vec()),
        ]);
        assert_eq!(result.expect("whole"), 2);
        assert_eq!(seen, [record.clone(), record]);
    }

    #[test]
    fn a_broken_end_is_told() {
        let record = bytes_of(&record(LIVE, CLIENT, 0).head).to_vec();
        let (result, seen) = records(vec![Ok([&record[..], &record[..20]].concat())]);
        assert!(result.is_err());
        assert_eq!(seen.len(), 1);
        let (result, seen) = records(vec![Ok(vec![0xff; 700])]);
        assert!(result.is_err());
        assert_eq!(seen.len(), 0);
        let (result, _) = records(vec![Err(io::Error::from_raw_os_error(libc::EIO))]);
        assert!(result.is_err());
    }
}
