//! The command line's side of the socket.

use std::{io, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use probe_common::fields::{FIELD_COUNT, Places};
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use super::{
    End, Hello, Question,
    frame::{self, Tag},
    socket_path,
};
use crate::flow::from_record::Context as FlowContext;

/// A daemon that says nothing for so long is stopped or stuck.
const PATIENCE: Duration = Duration::from_secs(3);

/// A conversation with a daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    payload: Vec<u8>,
    /// Who answers.
    pub hello: Hello,
}

/// What the daemon says.
#[derive(Debug)]
pub enum Reply<'a> {
    /// Nothing is missed in silence from now on.
    Ready,
    /// A record.
    Record(&'a [u8]),
    /// So many records were lost on the way.
    Lost(u64),
    /// The snapshot is over.
    End(End),
    /// The daemon ended the conversation.
    Closed,
}

impl Client {
    /// Asks the daemon that owns `run_dir`; `None` when there is none.
    ///
    /// # Errors
    /// There is one, and it may not be asked, or speaks another version.
    pub async fn ask(run_dir: &Path, question: Question) -> Result<Option<Self>> {
        tokio::time::timeout(PATIENCE, Self::greet(run_dir, question))
            .await
            .unwrap_or_else(|_| bail!("the daemon in {} does not answer; restart it", run_dir.display()))
    }

    async fn greet(run_dir: &Path, question: Question) -> Result<Option<Self>> {
        let path = socket_path(run_dir);
        let mut stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err(e).with_context(|| {
                    format!("the daemon on {} cannot be asked; run as its user", path.display())
                });
            }
            Err(e) => {
                return Err(e)
                    .with_context(|| format!("{} cannot be reached; is --run-dir right?", path.display()));
            }
        };
        stream.write_all(format!("{}\n", question.word()).as_bytes()).await?;
        let mut stream = BufReader::new(stream);
        let mut payload = Vec::new();
        let tag = frame::read(&mut stream, &mut payload).await.context("the daemon does not answer")?;
        if tag != Some(Tag::Hello) {
            bail!("the daemon does not answer; is another program listening on {}?", path.display());
        }
        let hello: Hello =
            serde_json::from_slice(&payload).context("the daemon's answer is not understood")?;
        if hello.abi != probe_common::ABI_VERSION || hello.places.len() != FIELD_COUNT {
            bail!(
                "the running daemon is version {} and this is {}; restart the daemon, or use its own binary",
                hello.version,
                env!("CARGO_PKG_VERSION")
            );
        }
        Ok(Some(Self { stream, payload, hello }))
    }

    /// What the daemon's records mean.
    #[must_use]
    pub fn context(&self) -> FlowContext {
        let mut places: Places = [probe_common::fields::ABSENT; FIELD_COUNT];
        places.copy_from_slice(&self.hello.places);
        FlowContext { places, hz: self.hello.hz, wall_offset_ns: self.hello.wall_offset_ns }
    }

    /// The next thing it says. Not to be dropped half-way, as by `select!`, and called again.
    ///
    /// # Errors
    /// The conversation broke, or makes no sense.
    pub async fn next(&mut self) -> Result<Reply<'_>> {
        let tag = frame::read(&mut self.stream, &mut self.payload).await.context("the daemon fell silent")?;
        Ok(match tag {
            Some(Tag::Ready) => Reply::Ready,
            Some(Tag::Record) => Reply::Record(&self.payload),
            Some(Tag::Lost) => {
                let bytes = self.payload.as_slice().try_into().context("a count of the wrong length")?;
                Reply::Lost(u64::from_le_bytes(bytes))
            }
            Some(Tag::End) => Reply::End(
                serde_json::from_slice(&self.payload).context("the daemon's end is not understood")?,
            ),
            Some(Tag::Hello) => bail!("the daemon greets twice"),
            None => Reply::Closed,
        })
    }
}
