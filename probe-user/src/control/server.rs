//! The daemon's side of the socket.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use probe_common::decode::whole;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter},
    net::{UnixListener, UnixStream},
    sync::{broadcast, mpsc},
};
use tracing::debug;

use super::{
    End, Hello, Question,
    frame::{self, Tag},
    socket_path,
};

/// Records kept for a watcher that is slow; what comes beyond is counted to it as lost.
const BEHIND: usize = 16_384;

/// Pieces of a snapshot on their way to a client.
const PIECES: usize = 64;

/// Longest question, bytes.
const LONGEST: u64 = 64;

/// What watchers are told.
#[derive(Clone, Debug)]
enum Told {
    Record(Bytes),
    Lost(u64),
}

/// Hands ended connections to whoever watches. Costs nothing while nobody does.
#[derive(Clone, Debug)]
pub struct Watchers(broadcast::Sender<Told>);

impl Default for Watchers {
    fn default() -> Self {
        Self(broadcast::channel(BEHIND).0)
    }
}

impl Watchers {
    /// Whether anybody watches.
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Passes a record on.
    pub fn tell(&self, record: impl Into<Bytes>) {
        // An error says that nobody watches.
        let _ = self.0.send(Told::Record(record.into()));
    }

    /// So many records were lost before they came here.
    pub fn lost(&self, records: u64) {
        let _ = self.0.send(Told::Lost(records));
    }
}

/// What the server needs of the daemon.
pub trait Requests: Send + Sync + 'static {
    /// The first frame.
    fn hello(&self) -> Hello;
    /// Who watches.
    fn watchers(&self) -> &Watchers;
    /// Starts a snapshot: records come in pieces of whole records, then the end.
    fn snapshot(&self, pieces: mpsc::Sender<Result<Bytes, End>>);
}

/// The listening socket; removed when dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: std::path::PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The owner of the run directory is this process; a failure leaves a name that the next daemon replaces.
        let _ = fs::remove_file(&self.path);
    }
}

impl Server {
    /// Listens in the run directory, which the caller has locked.
    ///
    /// # Errors
    /// The socket cannot be made there.
    pub fn bind(run_dir: &Path) -> Result<Self> {
        let path = socket_path(run_dir);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot replace {}", path.display()));
            }
            _ => {}
        }
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("cannot protect {}", path.display()))?;
        Ok(Self { listener, path })
    }

    /// Answers until it is dropped.
    pub async fn serve(&self, requests: Arc<impl Requests>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let requests = Arc::clone(&requests);
                    tokio::spawn(async move {
                        if let Err(error) = answer(stream, &*requests).await {
                            debug!("a client left: {error}");
                        }
                    });
                }
                Err(error) => {
                    debug!("a client could not be taken: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn answer(stream: UnixStream, requests: &impl Requests) -> io::Result<()> {
    let (from, to) = stream.into_split();
    let mut from = BufReader::new(from.take(LONGEST));
    let mut to = BufWriter::new(to);
    let mut line = String::new();
    from.read_line(&mut line).await?;
    let Some(question) = Question::of(line.trim_end()) else { return Err(io::ErrorKind::InvalidData.into()) };
    let hello = serde_json::to_vec(&requests.hello())?;
    frame::write(&mut to, Tag::Hello, &hello).await?;
    match question {
        Question::Flows => snapshot(&mut to, requests).await?,
        Question::Watch => watch(&mut to, &mut from, requests).await?,
    }
    to.flush().await
}

type Writer = BufWriter<tokio::net::unix::OwnedWriteHalf>;
type Reader = BufReader<tokio::io::Take<tokio::net::unix::OwnedReadHalf>>;

async fn snapshot(to: &mut Writer, requests: &impl Requests) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel(PIECES);
    requests.snapshot(sender);
    while let Some(piece) = pieces.recv().await {
        match piece {
            Ok(records) => {
                for record in whole(&records) {
                    frame::write(to, Tag::Record, record).await?;
                }
            }
            Err(end) => return frame::write(to, Tag::End, &serde_json::to_vec(&end)?).await,
        }
    }
    let end = End {
        incomplete: Some("this reader was too slow, or the daemon stopped".to_owned()),
        ..End::default()
    };
    frame::write(to, Tag::End, &serde_json::to_vec(&end)?).await
}

async fn watch(to: &mut Writer, from: &mut Reader, requests: &impl Requests) -> io::Result<()> {
    let mut records = requests.watchers().0.subscribe();
    frame::write(to, Tag::Ready, &[]).await?;
    to.flush().await?;
    let mut nothing = String::new();
    loop {
        let next = tokio::select! {
            next = records.recv() => next,
            // The client says nothing more: this is its end.
            _ = from.read_line(&mut nothing) => return Ok(()),
        };
        match next {
            Ok(Told::Record(record)) => frame::write(to, Tag::Record, &record).await?,
            Ok(Told::Lost(n)) => frame::write(to, Tag::Lost, &n.to_le_bytes()).await?,
            Err(broadcast::error::RecvError::Lagged(n)) => {
                frame::write(to, Tag::Lost, &n.to_le_bytes()).await?;
            }
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
        if records.is_empty() {
            to.flush().await?;
        }
    }
}
