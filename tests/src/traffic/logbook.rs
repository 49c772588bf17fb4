//! Churn that keeps a logbook: for each connection both ends' cookies, so that a record can be told to be of one end and
//! no other, and when it began and ended.
//!
//! One thread makes both ends of its connections, one after the other over loopback. Every tenth is kept open until the
//! churn is told to let go, so that connections of any moment outlive a daemon's start; each turn moves a byte on one of
//! those. Costs two descriptors for each that is kept.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use socket2::SockRef;

use super::{Options, listen};
use crate::kit::{Namespace, monotonic_ns, pause, wait_until};

/// One in so many connections is kept.
const KEEP_EVERY: u64 = 10;
/// A worker keeps so many at most: a process may have 20,000 descriptors on the machines that run this.
const KEPT_MOST: usize = 2_000;

/// One connection, in CLOCK_MONOTONIC nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// SO_COOKIE of the end that connected.
    pub client: u64,
    /// SO_COOKIE of the end that was accepted.
    pub server: u64,
    /// Before connect().
    pub begun_ns: u64,
    /// After accept(): both ends are established.
    pub established_ns: u64,
    /// Before the first close(). The kernel is done with both ends some time after it.
    pub ending_ns: u64,
    /// Bytes that each end sent, which are those that the other got.
    pub bytes: u64,
}

/// The running churn. Dropping it ends it.
#[derive(Debug)]
pub struct Logbook {
    stop: Arc<AtomicBool>,
    let_go: Arc<AtomicBool>,
    pause: Arc<AtomicBool>,
    resting: Arc<AtomicU64>,
    made: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Result<Vec<Entry>>>>,
}

impl Logbook {
    /// Start so many workers between this loopback address and itself.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub fn start(namespace: &Namespace, address: IpAddr, workers: usize) -> Result<Self> {
        let mut book = Self {
            stop: Arc::default(),
            let_go: Arc::default(),
            pause: Arc::default(),
            resting: Arc::default(),
            made: Arc::default(),
            workers: Vec::new(),
        };
        for _ in 0..workers {
            let listener = listen(namespace, (address, 0).into(), &Options::default())?;
            let mut worker = Worker {
                listener,
                let_go: Arc::clone(&book.let_go),
                pause: Arc::clone(&book.pause),
                resting: Arc::clone(&book.resting),
                made: Arc::clone(&book.made),
                kept: Vec::new(),
                done: Vec::new(),
            };
            let (namespace, stop) = (namespace.clone(), Arc::clone(&book.stop));
            let work = move || namespace.run(|| worker.work(&stop))?;
            book.workers.push(thread::Builder::new().name("logbook".into()).spawn(work)?);
        }
        Ok(book)
    }

    /// Connections so far.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Fail when a worker has ended, which only an error makes it do.
    ///
    /// # Errors
    /// Then; [`Logbook::close`] says which.
    pub fn expect_running(&self) -> Result<()> {
        ensure!(!self.workers.iter().any(JoinHandle::is_finished), "a worker of the churn has ended");
        Ok(())
    }

    /// Rest: only the kept connections are there when this returns, and nothing moves. Until [`Logbook::let_go`].
    ///
    /// # Errors
    /// When the workers do not come to rest.
    pub fn pause(&self) -> Result<()> {
        self.pause.store(true, Ordering::Relaxed);
        wait_until(Duration::from_secs(60), "the churn rests", || {
            self.expect_running()?;
            Ok(self.resting.load(Ordering::Relaxed) == self.workers.len() as u64)
        })
    }

    /// End the kept connections and keep none from now on; further short ones are made.
    pub fn let_go(&self) {
        self.let_go.store(true, Ordering::Relaxed);
        self.pause.store(false, Ordering::Relaxed);
    }

    /// End all connections and return what there was.
    ///
    /// # Errors
    /// When a socket call failed: nothing but this churn uses the addresses, so none may.
    pub fn close(mut self) -> Result<Vec<Entry>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for worker in self.workers.drain(..) {
            all.extend(worker.join().map_err(|_| anyhow!("a worker of the churn panicked"))??);
        }
        Ok(all)
    }
}

impl Drop for Logbook {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

struct Open {
    entry: Entry,
    client: TcpStream,
    server: TcpStream,
}

struct Worker {
    listener: TcpListener,
    let_go: Arc<AtomicBool>,
    pause: Arc<AtomicBool>,
    resting: Arc<AtomicU64>,
    made: Arc<AtomicU64>,
    kept: Vec<Open>,
    done: Vec<Entry>,
}

impl Worker {
    fn work(&mut self, stop: &AtomicBool) -> Result<Vec<Entry>> {
        for turn in 0_u64.. {
            self.rest(stop);
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let mut open = self.open().with_context(|| format!("connection {turn}"))?;
            open.exchange()?;
            let let_go = self.let_go.load(Ordering::Relaxed);
            if let_go {
                self.close_kept()?;
            }
            if turn % KEEP_EVERY == 0 && !let_go && self.kept.len() < KEPT_MOST {
                self.kept.push(open);
            } else {
                self.done.push(open.close(turn)?);
            }
            if !self.kept.is_empty() {
                // Any one, so that the daemon's sweeps find some that have moved and some that have not.
                let any = (turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % self.kept.len();
                self.kept[any].exchange()?;
            }
            self.made.fetch_add(1, Ordering::Relaxed);
        }
        self.close_kept()?;
        Ok(std::mem::take(&mut self.done))
    }

    fn rest(&self, stop: &AtomicBool) {
        if !self.pause.load(Ordering::Relaxed) {
            return;
        }
        self.resting.fetch_add(1, Ordering::Relaxed);
        while self.pause.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
            pause(Duration::from_millis(1));
        }
        self.resting.fetch_sub(1, Ordering::Relaxed);
    }

    /// The only connection of this listener that is not accepted yet is the one just made.
    fn open(&self) -> Result<Open> {
        let begun_ns = monotonic_ns();
        let client = TcpStream::connect(self.listener.local_addr()?)?;
        let (server, _) = self.listener.accept()?;
        let established_ns = monotonic_ns();
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_secs(30)))?;
            end.set_nodelay(true)?;
        }
        let (of_client, of_server) = (SockRef::from(&client).cookie()?, SockRef::from(&server).cookie()?);
        let entry =
            Entry { client: of_client, server: of_server, begun_ns, established_ns, ending_ns: 0, bytes: 0 };
        Ok(Open { entry, client, server })
    }

    fn close_kept(&mut self) -> Result<()> {
        for (turn, open) in (0..).zip(self.kept.drain(..)) {
            self.done.push(open.close(turn)?);
        }
        Ok(())
    }
}

impl Open {
    /// A byte each way.
    fn exchange(&mut self) -> Result<()> {
        self.client.write_all(b"x")?;
        self.server.read_exact(&mut [0])?;
        self.server.write_all(b"y")?;
        self.client.read_exact(&mut [0])?;
        self.entry.bytes += 1;
        Ok(())
    }

    /// In turn: the client closes first, the server does, the client resets.
    fn close(mut self, turn: u64) -> Result<Entry> {
        self.entry.ending_ns = monotonic_ns();
        match turn % 3 {
            0 => {
                drop(self.client);
                drop(self.server);
            }
            1 => {
                drop(self.server);
                drop(self.client);
            }
            _ => {
                SockRef::from(&self.client).set_linger(Some(Duration::ZERO))?;
                drop(self.client);
                drop(self.server);
            }
        }
        Ok(self.entry)
    }
}
