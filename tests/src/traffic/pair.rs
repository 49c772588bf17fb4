//! Connections with both ends in hand, so that the kernel can be asked about either at any moment, its end included.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use socket2::SockRef;

use super::{Options, connect, listen};
use crate::kit::wait_until;
use crate::link::Link;
use crate::truth::TcpInfo;

/// TCP_CLOSE of net/tcp_states.h.
const CLOSE: u8 = 7;
/// A connection without anything unacknowledged on which nothing was sent for so long sends nothing of itself: the kernel
/// delays an acknowledgement by 200 ms at most (TCP_DELACK_MAX).
const QUIET: Duration = Duration::from_millis(300);
/// Longest piece of an exchange, bytes. It fits a new socket's send buffer, so that one thread can write and then read.
const LONGEST: usize = 12_000;

/// Both ends' TCP_INFO, the client's first.
pub type Infos = [TcpInfo; 2];

/// Both ends of a connection.
#[derive(Debug)]
pub struct Pair {
    /// The end that connected.
    pub client: TcpStream,
    /// The end that was accepted.
    pub server: TcpStream,
    /// SO_COOKIE of both.
    pub cookies: [u64; 2],
    turn: usize,
}

/// Make so many connections over a link in IPv6.
///
/// # Errors
/// When one cannot be made.
pub fn pairs(link: &Link, port: u16, count: usize) -> Result<Vec<Pair>> {
    let listener = listen(&link.server, link.server_v6(port), &Options::default())?;
    let mut made = Vec::new();
    for turn in 0..count {
        let client = connect(&link.client, listener.local_addr()?, &Options::default())??;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_secs(60)))?;
            end.set_write_timeout(Some(Duration::from_secs(60)))?;
        }
        let cookies = [SockRef::from(&client).cookie()?, SockRef::from(&server).cookie()?];
        made.push(Pair { client, server, cookies, turn });
    }
    Ok(made)
}

impl Pair {
    /// What the kernel says of both ends.
    ///
    /// # Errors
    /// When it does not.
    pub fn infos(&self) -> Result<Infos> {
        Ok([TcpInfo::of(&self.client)?, TcpInfo::of(&self.server)?])
    }

    /// The same connection through further descriptors.
    ///
    /// # Errors
    /// When this process may have no more.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { client: self.client.try_clone()?, server: self.server.try_clone()?, ..*self })
    }

    /// Close both descriptors; what is left are the cookies.
    #[must_use]
    pub fn close(self) -> [u64; 2] {
        self.cookies
    }

    /// A piece of another length each time, there and back.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn exchange(&mut self) -> Result<()> {
        self.turn += 1;
        let mut piece = vec![0; 1 + self.turn * 7_919 % LONGEST];
        self.client.write_all(&piece).context("the client cannot send")?;
        self.server.read_exact(&mut piece).context("nothing came to the server")?;
        piece.truncate(1 + piece.len() / 2);
        self.server.write_all(&piece).context("the server cannot send")?;
        self.client.read_exact(&mut piece).context("nothing came to the client")
    }
}

/// So many exchanges on all connections at once.
///
/// # Errors
/// When one fails.
pub fn exchange_all(pairs: &mut [Pair], rounds: usize) -> Result<()> {
    on_all(pairs, |pair| (0..rounds).try_for_each(|_| pair.exchange()))
}

/// Exchanges on all connections at once until told to stop.
///
/// # Errors
/// When one fails.
pub fn exchange_until(pairs: &mut [Pair], stop: &AtomicBool) -> Result<()> {
    on_all(pairs, |pair| {
        while !stop.load(Ordering::Relaxed) {
            pair.exchange()?;
        }
        Ok(())
    })
}

fn on_all(pairs: &mut [Pair], work: impl Fn(&mut Pair) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = pairs.iter_mut().map(|pair| scope.spawn(move || work(pair))).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(anyhow!("a thread of an exchange panicked")))
        })
    })
}

/// What the kernel says of all ends now.
///
/// # Errors
/// When it does not.
pub fn infos_of(pairs: &[Pair]) -> Result<Vec<Infos>> {
    pairs.iter().map(Pair::infos).collect()
}

/// Wait until nothing moves on any of the connections, and return what the kernel says of them then.
///
/// # Errors
/// When they do not get quiet.
pub fn quiet(pairs: &[Pair], deadline: Duration) -> Result<Vec<Infos>> {
    let activity = |infos: &[Infos]| -> Vec<_> {
        infos.iter().flatten().map(|info| (info.segs_out, info.segs_in)).collect()
    };
    let mut infos = infos_of(pairs)?;
    let mut since = Instant::now();
    wait_until(deadline, "nothing moves on the connections", || {
        let now = infos_of(pairs)?;
        let outstanding = now.iter().flatten().any(|info| info.unacked > 0 || info.notsent_bytes > 0);
        if outstanding || activity(&now) != activity(&infos) {
            since = Instant::now();
        }
        infos = now;
        Ok(since.elapsed() > QUIET)
    })?;
    Ok(infos)
}

/// End all connections in order, the client first, with the descriptors kept, and return what the kernel says of the ends when
/// it is done with them: its last totals.
///
/// # Errors
/// When a connection fails or does not end.
pub fn end_all(pairs: &mut [Pair], deadline: Duration) -> Result<Vec<Infos>> {
    for pair in pairs.iter() {
        pair.client.shutdown(Shutdown::Write)?;
    }
    for pair in pairs.iter_mut() {
        ensure!(pair.server.read(&mut [0])? == 0, "the server got more than was sent");
        pair.server.shutdown(Shutdown::Write)?;
    }
    wait_until(deadline, "all connections have ended", || {
        Ok(infos_of(pairs)?.iter().flatten().all(|info| info.state == CLOSE))
    })?;
    infos_of(pairs)
}
