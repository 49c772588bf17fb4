//! A running `flowprobe watch -o jsonl`, its lines kept by namespace.
//!
//! One thread reads and one parses; per flow about 2 kB are kept, or in a count 40 bytes.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use super::check::inode_of;
use super::command;
use crate::kit::{Finished, Line, Process, Stream};

/// Columns of a watch that is to count a great many: those of [`Head`], and what tells one connection from another.
pub(super) const COUNTED: &str = "netns,flow_id,role,adopted,local_port,remote_port,state,close_reason";

/// What is kept of a namespace's flows.
#[derive(Debug, Default)]
struct Kept {
    /// The lines; left out for a namespace that is only counted.
    lines: Vec<Line>,
    /// Identities by role.
    seen: HashMap<String, HashSet<Identity>>,
    /// Identities that came twice with the same role.
    twice: Vec<String>,
}

/// A socket's cookie, and how often it was connected before.
type Identity = (u64, u32);

#[derive(Debug, Default)]
struct Book {
    by_namespace: HashMap<u64, Kept>,
    counted: HashSet<u64>,
    failure: Option<String>,
    /// A line that is not complete yet.
    rest: Vec<u8>,
}

/// A running watch.
#[derive(Debug)]
pub struct Watch {
    process: Process,
    book: Arc<Mutex<Book>>,
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Start it; with a daemon in `run_dir` it asks that one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(run_dir: &Path, words: &[&str]) -> Result<Self> {
        let book = Arc::new(Mutex::new(Book::default()));
        let mut command = command(run_dir)?;
        command.arg("watch").args(words).args(["-o", "jsonl"]);
        let sink = Arc::clone(&book);
        // Read as fast as it prints, so that it never has to leave out what its reader is too slow for; parse apart.
        let (send, receive) = mpsc::channel::<Vec<u8>>();
        thread::Builder::new().name("watch".into()).spawn(move || {
            receive.iter().for_each(|chunk| lock(&sink).add(&chunk));
        })?;
        let process = Process::start_reading(command, None, move |chunk| {
            // The parser ends after this reader, never before.
            let _ = send.send(chunk.to_vec());
        })?;
        Ok(Self { process, book })
    }

    /// Keep only identities of this namespace's flows, not their lines.
    pub fn only_count(&self, inode: u64) {
        lock(&self.book).counted.insert(inode);
    }

    /// The flows of a namespace so far.
    ///
    /// # Errors
    /// When the watch has ended or printed something that is no flow, or one flow came twice.
    pub fn flows_of(&mut self, inode: u64) -> Result<Vec<Line>> {
        self.look(inode, |kept| kept.lines.clone())
    }

    /// How many flows of a namespace had this role so far.
    ///
    /// # Errors
    /// As [`Watch::flows_of`].
    pub fn count_of(&mut self, inode: u64, role: &str) -> Result<u64> {
        self.look(inode, |kept| kept.seen.get(role).map_or(0, |seen| seen.len() as u64))
    }

    /// The cookies of a namespace's sockets so far.
    ///
    /// # Errors
    /// As [`Watch::flows_of`].
    pub fn sockets_of(&mut self, inode: u64) -> Result<HashSet<u64>> {
        self.look(inode, |kept| kept.seen.values().flatten().map(|(cookie, _)| *cookie).collect())
    }

    fn look<T: Default>(&mut self, inode: u64, read: impl FnOnce(&Kept) -> T) -> Result<T> {
        self.process.expect_running()?;
        let book = lock(&self.book);
        if let Some(failure) = &book.failure {
            bail!("flowprobe watch printed something unexpected: {failure}");
        }
        let Some(kept) = book.by_namespace.get(&inode) else { return Ok(T::default()) };
        ensure!(
            kept.twice.is_empty(),
            "{} flows were reported twice, such as {}",
            kept.twice.len(),
            kept.twice[0]
        );
        Ok(read(kept))
    }

    /// Its standard error so far.
    #[must_use]
    pub fn errors(&self) -> String {
        self.process.output(Stream::Err)
    }

    /// End it as Ctrl-C does.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn interrupt(self) -> Result<Finished> {
        self.process.signal(Signal::INT)?;
        self.process.finish(Duration::from_secs(10))
    }
}

impl Book {
    fn add(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let complete: Vec<u8> = self.rest.drain(..=end).collect();
        for line in complete.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if let Err(error) = self.add_line(line) {
                self.failure.get_or_insert(format!("{error:#}: {}", String::from_utf8_lossy(line)));
            }
        }
    }

    fn add_line(&mut self, text: &[u8]) -> Result<()> {
        let head: Head = serde_json::from_slice(text).context("not a flow")?;
        let inode = inode_of(&head.netns)?;
        let kept = self.by_namespace.entry(inode).or_default();
        // A connection older than the probes may have no role that can be known.
        let role = head.role.unwrap_or_else(|| "unknown".into());
        let identity = identity(&head.flow_id)?;
        let again = identity.1 > 0 || kept.seen.values().any(|seen| seen.contains(&identity));
        if !kept.seen.entry(role).or_default().insert(identity) {
            kept.twice.push(head.flow_id);
        }
        // In a counted namespace no connection is older than the probes, and no socket lives twice: else it is evidence.
        if !self.counted.contains(&inode) || head.adopted || again {
            kept.lines.push(Line(serde_json::from_slice(text).context("not a JSON object")?));
        }
        Ok(())
    }
}

fn identity(flow_id: &str) -> Result<Identity> {
    let (cookie, generation) =
        flow_id.split_once('.').with_context(|| format!("{flow_id} has no generation"))?;
    Ok((cookie.parse()?, generation.parse()?))
}

/// What is needed to count a flow: the columns of [`COUNTED`].
#[derive(Deserialize)]
struct Head {
    flow_id: String,
    netns: Value,
    role: Option<String>,
    adopted: bool,
}
