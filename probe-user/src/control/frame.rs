//! Frames on the socket: length and tag, four bytes each in little-endian order, then the payload.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// No frame is larger than this: records have half a kilobyte, the texts little more.
const LARGEST: usize = 64 * 1024;

/// What a frame's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Tag {
    /// [`super::Hello`] as JSON.
    Hello = 1,
    /// Nothing: from now on nothing is missed in silence.
    Ready = 2,
    /// A record.
    Record = 3,
    /// How many records were lost, 8 bytes.
    Lost = 4,
    /// [`super::End`] as JSON.
    End = 5,
}

const TAGS: [Tag; 5] = [Tag::Hello, Tag::Ready, Tag::Record, Tag::Lost, Tag::End];

pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), tag: Tag, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&length.to_le_bytes()).await?;
    to.write_all(&(tag as u32).to_le_bytes()).await?;
    to.write_all(payload).await
}

/// Reads a frame's payload into `payload`; `None` at the end of the stream.
pub(super) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    payload: &mut Vec<u8>,
) -> io::Result<Option<Tag>> {
    let length = match from.read_u32_le().await {
        Ok(length) => length as usize,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    };
    let number = from.read_u32_le().await?;
    let tag = TAGS.into_iter().find(|tag| *tag as u32 == number).ok_or(io::ErrorKind::InvalidData)?;
    if length > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    payload.resize(length, 0);
    from.read_exact(payload).await?;
    Ok(Some(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_is_read_as_it_was_written_and_a_broken_one_is_refused() {
        let mut wire = Vec::new();
        write(&mut wire, Tag::Record, b"abc").await.expect("memory");
        let mut payload = Vec::new();
        assert_eq!(read(&mut wire.as_slice(), &mut payload).await.expect("whole"), Some(Tag::Record));
        assert_eq!(payload, b"abc");
        assert_eq!(read(&mut [].as_slice(), &mut payload).await.expect("the end"), None);
        assert!(read(&mut wire[..9].as_ref(), &mut payload).await.is_err(), "cut short");
        wire[4] = 99;
        assert!(read(&mut wire.as_slice(), &mut payload).await.is_err(), "unknown tag");
        assert!(read(&mut [255; 8].as_slice(), &mut payload).await.is_err(), "far too long");
    }
}
