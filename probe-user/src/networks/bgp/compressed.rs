//! Files as they are published: plain, gzip or bzip2, told by their first bytes, not by their names.
//!
//! Both formats may hold several streams one after the other (pigz, pbzip2, `cat a.gz b.gz`); all are read.

use std::{
    io::{self, BufRead, Read},
    path::Path,
};

use bzip2_rs::decoder::{Decoder, ReadState, WriteState};
use flate2::bufread::MultiGzDecoder;

use super::buffered;
use crate::networks::fault::Fault;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The bytes of the file, uncompressed.
pub(super) fn reader(path: &Path, from: impl Read + 'static) -> Result<Box<dyn BufRead>, Fault> {
    let mut from = buffered(from);
    let start = from.fill_buf().map_err(|error| Fault::unreadable(path, &error))?;
    Ok(if start.starts_with(&GZIP) {
        Box::new(buffered(MultiGzDecoder::new(from)))
    } else if is_bzip2_head(start) {
        Box::new(buffered(Bzip2::new(from)))
    } else {
        Box::new(from)
    })
}

/// Bytes of `BZh`, a level, and the mark of a block or of the end.
const HEAD: usize = 10;

fn is_bzip2_head(bytes: &[u8]) -> bool {
    const BLOCK: [u8; 6] = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
    const END: [u8; 6] = [0x17, 0x72, 0x45, 0x38, 0x50, 0x90];
    bytes.strip_prefix(b"BZh").and_then(<[u8]>::split_first).is_some_and(|(level, mark)| {
        (b'1'..=b'9').contains(level) && (mark.starts_with(&BLOCK) || mark.starts_with(&END))
    })
}

/// All streams of a bzip2 file; the decoder itself knows one.
struct Bzip2<R> {
    from: R,
    decoder: Decoder,
    /// Read and not yet given to the decoder.
    held: Vec<u8>,
    /// How many of these belong to the present stream for certain.
    ready: usize,
    /// Whether the decoder has had any of the present stream.
    begun: bool,
    /// How often the decoder asked for more than there is, since it last gave something.
    wanting: u8,
}

impl<R: BufRead> Bzip2<R> {
    fn new(from: R) -> Self {
        Self { from, decoder: Decoder::new(), held: Vec::new(), ready: 0, begun: false, wanting: 0 }
    }

    /// Finds bytes of the present stream: up to the head of the next, which is 80 bits that chance does not write.
    fn find_ready(&mut self) -> io::Result<usize> {
        while self.ready == 0 {
            let more = self.from.fill_buf()?;
            let (read, is_end) = (more.len(), more.is_empty());
            self.held.extend_from_slice(more);
            self.from.consume(read);
            let first = usize::from(!self.begun);
            let next = (first..self.held.len()).find(|at| is_bzip2_head(&self.held[*at..]));
            self.ready = match next {
                Some(at) => at,
                None if is_end => self.held.len(),
                // The last bytes may be the beginning of a head.
                None => self.held.len().saturating_sub(HEAD - 1),
            };
            if next.is_some() || is_end {
                break;
            }
        }
        Ok(self.ready)
    }

    fn take(&mut self, count: usize) {
        self.held.drain(..count);
        self.ready -= count;
        self.begun |= count > 0;
    }

    /// Goes to the next stream, if there is one; what stands between is ignored, as bzip2 does.
    fn is_next(&mut self) -> io::Result<bool> {
        loop {
            match self.find_ready()? {
                0 => break,
                count => self.take(count),
            }
        }
        (self.decoder, self.begun, self.wanting) = (Decoder::new(), false, 0);
        Ok(!self.held.is_empty())
    }
}

impl<R: BufRead> Read for Bzip2<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.decoder.read(buffer)? {
                ReadState::Read(count) => {
                    self.wanting = 0;
                    return Ok(count);
                }
                ReadState::Eof if self.is_next()? => {}
                ReadState::Eof => return Ok(0),
                ReadState::NeedsWrite(space) => {
                    let count = self.find_ready()?.min(space);
                    // The decoder is told the end with nothing: once for the last block, and once more.
                    self.wanting = if count == 0 { self.wanting + 1 } else { 0 };
                    if self.wanting > 3 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    match self.decoder.write(&self.held[..count])? {
                        WriteState::Written(count) => self.take(count.min(self.ready)),
                        WriteState::NeedsRead => {}
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write as _};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// `prefix-to-AS` text of 30 lines, compressed by bzip2 1.0.8 in two streams of 15 lines and an empty one.
    const TWO_STREAMS: &str = "\
        425a6839314159265359dd08f52100004dd800003000017fe020006847aa9ea68dfa527a8368535019d81006f3adb2eefce6\
        fec6aaa955564924d01803c8924d24be4276cb36048db6dec0d658a48a49b02dec0d016e01236df05dc914e142437423d484\
        425a6839314159265359713299ff000045d800003000017fe020006857ea87a91bf546847b54a9a68c9a64040ae63b534f3b\
        4abb02491d2aaaa814074a9dd4cf2aeb8f2add038cdd00003733bab9d3f55b9999a7356e818c7f177245385090713299ff42\
        5a683917724538509000000000";

    fn two_streams() -> Vec<u8> {
        let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
        TWO_STREAMS.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    fn text(range: std::ops::Range<u32>) -> Vec<u8> {
        range.map(|n| format!("10.{n}.0.0\t16\t{}\n", 64500 + n)).collect::<String>().into_bytes()
    }

    fn uncompressed(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let reader = reader(Path::new("x"), io::Cursor::new(bytes)).unwrap();
        reader.take(1 << 24).read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzip_and_several_gzip_streams_are_read() {
        assert_eq!(uncompressed(text(0..9)).unwrap(), text(0..9));
        assert_eq!(uncompressed(gzip(&text(0..9))).unwrap(), text(0..9));
        assert_eq!(uncompressed([gzip(&text(0..9)), gzip(&text(9..20))].concat()).unwrap(), text(0..20));
        assert_eq!(uncompressed(Vec::new()).unwrap(), b"");
    }

    #[test]
    fn all_bzip2_streams_are_read_however_the_bytes_come() {
        assert_eq!(uncompressed(two_streams()).unwrap(), text(0..30));
        for step in [1, 2, 7, 10, 11, 64] {
            let mut out = Vec::new();
            Bzip2::new(BufReader::with_capacity(step, &two_streams()[..])).read_to_end(&mut out).unwrap();
            assert_eq!(out, text(0..30), "{step}");
        }
    }

    #[test]
    fn what_breaks_off_is_an_error() {
        let whole = gzip(&text(0..99));
        assert!(uncompressed(whole[..whole.len() - 5].to_vec()).is_err());
        let whole = two_streams();
        let first = (1..whole.len()).find(|at| is_bzip2_head(&whole[*at..])).unwrap();
        for cut in [10, 20, first / 2, first - 11, first + 30] {
            assert!(uncompressed(whole[..cut].to_vec()).is_err(), "{cut}");
        }
    }

    #[test]
    fn mangled_bytes_end_in_an_error_or_in_bytes() {
        let mut seed = crate::networks::testing::Mangler::new(5);
        for _ in 0..300 {
            let _ = uncompressed(seed.mangle(&two_streams()));
            let _ = uncompressed(seed.mangle(&gzip(&text(0..99))));
        }
    }
}
