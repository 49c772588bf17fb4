//! The bodies of scrapes: each piece is made, and compressed for who asks for that, when the client has taken the one before.
//!
//! A slow client so holds two pieces and a snapshot of the sums, not a whole exposition.

use std::{io::Write as _, mem};

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::{StreamExt as _, stream};
use tokio::task;

use super::Pieces;

/// Length from which compressed bytes are sent.
const PIECE: usize = 16 << 10;

/// A body of these pieces. An error among them ends the connection before the body's end, so that the client does not take
/// it for whole.
pub(super) fn body(pieces: Pieces, gzip: bool) -> Body {
    let pieces = if gzip { Box::new(Gzip::of(pieces)) } else { pieces };
    Body::from_stream(stream::iter(pieces).then(async |piece| {
        // A client that reads quickly would have all of them made in one go, while those that share the thread wait.
        task::yield_now().await;
        if let Err(reason) = &piece {
            tracing::error!("a scrape was broken off: {reason}");
        }
        piece
    }))
}

struct Gzip {
    plain: Pieces,
    /// `None` behind the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Gzip {
    fn of(plain: Pieces) -> Self {
        Self { plain, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }

    /// The next compressed bytes; none behind the end.
    fn compress(&mut self) -> Result<Vec<u8>, String> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(Vec::new()) };
        let failed = |e| format!("it cannot be compressed: {e}; please report this");
        while encoder.get_ref().len() < PIECE {
            let Some(piece) = self.plain.next() else { return encoder.finish().map_err(failed) };
            encoder.write_all(&piece?).map_err(failed)?;
        }
        let out = mem::take(encoder.get_mut());
        self.encoder = Some(encoder);
        Ok(out)
    }
}

impl Iterator for Gzip {
    type Item = Result<Bytes, String>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.compress() {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => Some(Ok(bytes.into())),
            Err(reason) => Some(Err(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn what_is_compressed_is_the_same() {
        // Bytes that do not repeat, so that there are many compressed pieces.
        let line = |n: u64| format!("a{{b=\"{:x}\"}} {n}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let pieces: Vec<String> =
            (0..100).map(|piece| (0..1_000).map(|n| line(piece * 1_000 + n)).collect()).collect();
        let plain = pieces.concat();
        let compressed = Gzip::of(Box::new(pieces.into_iter().map(|piece| Ok(piece.into()))));
        let compressed: Vec<Bytes> = compressed.collect::<Result<_, _>>().unwrap();
        assert!(
            compressed.len() > 10 && compressed.iter().all(|piece| piece.len() < 5 * PIECE),
            "{}",
            compressed.len()
        );
        let mut text = String::new();
        GzDecoder::new(&compressed.concat()[..]).read_to_string(&mut text).unwrap();
        assert!(text == plain);
    }

    #[test]
    fn nothing_follows_an_error() {
        let plain = [Ok("a 1\n".into()), Err("broken".to_owned()), Ok("b 1\n".into())];
        let all: Vec<_> = Gzip::of(Box::new(plain.into_iter())).collect();
        assert_eq!(all, [Err("broken".to_owned())]);
    }
}
