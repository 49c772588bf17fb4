//! Files as they are published: plain, gzip or bzip2, told by their first bytes, not by their names.
//!
//! Both formats may hold several streams one after the other (pigz, pbzip2, `cat a.gz b.gz`); all are read.

use std::{
    io::{BufRead, Read},
    path::Path,
};

use bzip2::bufread::MultiBzDecoder;
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
        Box::new(buffered(MultiBzDecoder::new(from)))
    } else {
        Box::new(from)
    })
}

/// `BZh`, a level, and the mark of a block or of the end.
fn is_bzip2_head(bytes: &[u8]) -> bool {
    const BLOCK: [u8; 6] = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
    const END: [u8; 6] = [0x17, 0x72, 0x45, 0x38, 0x50, 0x90];
    bytes.strip_prefix(b"BZh").and_then(<[u8]>::split_first).is_some_and(|(level, mark)| {
        (b'1'..=b'9').contains(level) && (mark.starts_with(&BLOCK) || mark.starts_with(&END))
    })
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufReader, Write as _};

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
            MultiBzDecoder::new(BufReader::with_capacity(step, &two_streams()[..]))
                .read_to_end(&mut out)
                .unwrap();
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
