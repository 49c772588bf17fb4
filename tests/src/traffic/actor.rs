//! What the ends of a connection do: a server with one behaviour for all its connections, and the client's moves.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Options, listen};
use crate::kit::{Namespace, wait_for, wait_until};
use crate::truth::TcpInfo;

/// A chunk of a write or read.
const CHUNK_LEN: usize = 64 * 1024;
/// How often an idle server looks whether it is to end.
const IDLE: Duration = Duration::from_millis(50);

/// What a server does with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Write so many bytes, wait until all are acknowledged, note TCP_INFO, close.
    Send(usize),
    /// Write so many bytes and close at once: the kernel delivers what is left.
    SendAndLeave(usize),
    /// Read until the peer closes, then close.
    Sink,
    /// Send everything back until the peer closes, then close.
    Echo,
    /// Answer each byte with so many bytes until the peer closes, then close.
    Answer(usize),
    /// Close with a reset as soon as accepted.
    Reset,
    /// Wait for one byte and close without reading it: the kernel answers with a reset.
    LeaveUnread,
    /// Read until so many bytes came, then close first.
    CloseAfter(usize),
}

/// One served connection, as its server saw it just before its close.
#[derive(Clone, Copy, Debug)]
pub struct Conversation {
    /// The server's end.
    pub local: SocketAddr,
    /// The client's end.
    pub peer: SocketAddr,
    /// Bytes read.
    pub received: usize,
    /// TCP_INFO just before close().
    pub info: TcpInfo,
}

/// A server in a namespace: accepts until dropped, one thread a connection.
#[derive(Debug)]
pub struct Server {
    /// The address it listens on.
    pub address: SocketAddr,
    done: Arc<Mutex<Vec<Conversation>>>,
    failures: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listen inside a namespace and serve.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        behaviour: Behaviour,
        options: &Options,
    ) -> Result<Self> {
        let listener = listen(namespace, address, options)?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (done, failures, stop) = (Arc::default(), Arc::default(), Arc::new(AtomicBool::new(false)));
        let worker = Worker { behaviour, done: Arc::clone(&done), failures: Arc::clone(&failures) };
        let flag = Arc::clone(&stop);
        let thread =
            thread::Builder::new().name("server".into()).spawn(move || accept(&listener, &worker, &flag))?;
        Ok(Self { address, done, failures, stop, thread: Some(thread) })
    }

    /// The connections that were served so far.
    #[must_use]
    pub fn conversations(&self) -> Vec<Conversation> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wait until `count` connections were served to their end.
    ///
    /// # Errors
    /// When the deadline passes, or one of them failed.
    pub fn served(&self, count: usize, deadline: Duration) -> Result<Vec<Conversation>> {
        wait_for(deadline, &format!("the server has served {count} connections"), || {
            let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            ensure!(failures.is_empty(), "the server failed: {}", failures.join("; "));
            let done = self.conversations();
            Ok((done.len() >= count).then_some(done))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Worker {
    behaviour: Behaviour,
    done: Arc<Mutex<Vec<Conversation>>>,
    failures: Arc<Mutex<Vec<String>>>,
}

fn accept(listener: &TcpListener, worker: &Worker, stop: &AtomicBool) {
    let mut fds = [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
    let idle = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(IDLE.subsec_nanos()) };
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, peer)) => {
                let worker = worker.clone();
                thread::spawn(move || {
                    let served = worker.serve(stream, peer);
                    if let Err(error) = served {
                        worker
                            .failures
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(format!("{error:#}"));
                    }
                });
            }
            Err(_) => {
                let _ = rustix::event::poll(&mut fds, Some(&idle));
            }
        }
    }
}

impl Worker {
    fn serve(&self, mut stream: TcpStream, peer: SocketAddr) -> Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut received = 0;
        match self.behaviour {
            Behaviour::Send(bytes) => {
                send_all(&mut stream, bytes)?;
                drained(&stream, Duration::from_secs(120))?;
            }
            Behaviour::SendAndLeave(bytes) => send_all(&mut stream, bytes)?,
            Behaviour::Sink => received = receive_all(&mut stream)?,
            Behaviour::Echo => received = io::copy(&mut stream.try_clone()?, &mut stream)?.try_into()?,
            Behaviour::Answer(bytes) => {
                let mut questions = [0; 64];
                loop {
                    let asked = stream.read(&mut questions)?;
                    if asked == 0 {
                        break;
                    }
                    for _ in 0..asked {
                        send_all(&mut stream, bytes)?;
                    }
                    received += asked;
                }
            }
            Behaviour::Reset => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
            Behaviour::LeaveUnread => {
                stream.peek(&mut [0])?;
            }
            Behaviour::CloseAfter(bytes) => {
                let mut buffer = vec![0; CHUNK_LEN];
                while received < bytes {
                    let length = stream.read(&mut buffer)?;
                    ensure!(length > 0, "the client closed first, after {received} of {bytes} bytes");
                    received += length;
                }
            }
        }
        let local = stream.local_addr()?;
        let info = TcpInfo::of(&stream)?;
        drop(stream);
        let conversation = Conversation { local, peer, received, info };
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(conversation);
        Ok(())
    }
}

/// The byte at a place of the stream: both ends know it, so that a reader can check what it reads.
fn byte_at(offset: usize) -> u8 {
    (offset % 251) as u8
}

/// Write `bytes` bytes of the known pattern.
///
/// # Errors
/// When the connection fails.
pub fn send_all(stream: &mut TcpStream, bytes: usize) -> Result<()> {
    let mut sent = 0;
    let mut chunk = Vec::with_capacity(CHUNK_LEN);
    while sent < bytes {
        let length = CHUNK_LEN.min(bytes - sent);
        chunk.clear();
        chunk.extend((sent..sent + length).map(byte_at));
        stream.write_all(&chunk).with_context(|| format!("cannot send, after {sent} of {bytes} bytes"))?;
        sent += length;
    }
    Ok(())
}

/// Read until the peer closes; how many bytes came.
///
/// # Errors
/// When the connection fails, or a byte is not what [`send_all`] sends.
pub fn receive_all(stream: &mut TcpStream) -> Result<usize> {
    let mut received = 0;
    let mut chunk = vec![0; CHUNK_LEN];
    loop {
        let length =
            stream.read(&mut chunk).with_context(|| format!("cannot read, after {received} bytes"))?;
        if length == 0 {
            return Ok(received);
        }
        for (index, byte) in chunk[..length].iter().enumerate() {
            ensure!(*byte == byte_at(received + index), "byte {} of the stream is wrong", received + index);
        }
        received += length;
    }
}

/// Send `bytes` bytes and read them back, `rounds` times; the peer must be an [`Behaviour::Echo`].
///
/// # Errors
/// When the connection fails or something else comes back.
pub fn echo(stream: &mut TcpStream, rounds: usize, bytes: usize) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut back = vec![0; bytes];
    for round in 0..rounds {
        let message: Vec<u8> = (0..bytes).map(|index| byte_at(round + index)).collect();
        stream.write_all(&message).with_context(|| format!("cannot send round {round}"))?;
        stream.read_exact(&mut back).with_context(|| format!("no answer to round {round}"))?;
        ensure!(back == message, "round {round} came back changed");
    }
    Ok(())
}

/// Send one byte and read the answer of `bytes` bytes; the peer must be a [`Behaviour::Answer`] of as many.
///
/// # Errors
/// When the connection fails or something else comes back.
pub fn ask(stream: &mut TcpStream, bytes: usize) -> Result<()> {
    stream.write_all(&[0]).context("cannot ask")?;
    let mut answer = vec![0; bytes];
    stream.read_exact(&mut answer).context("no answer")?;
    let wrong = answer.iter().enumerate().position(|(index, byte)| *byte != byte_at(index));
    ensure!(wrong.is_none(), "byte {wrong:?} of the answer is wrong");
    Ok(())
}

/// Wait until everything that was written is acknowledged.
///
/// # Errors
/// When the deadline passes.
pub fn drained(stream: &TcpStream, deadline: Duration) -> Result<()> {
    wait_until(deadline, "everything sent is acknowledged", || {
        let info = TcpInfo::of(stream)?;
        Ok(info.unacked == 0 && info.notsent_bytes == 0)
    })
}

/// Close the sending half and read what is left, so that this end closes first and in order.
///
/// # Errors
/// When the connection fails.
pub fn finish(stream: &mut TcpStream) -> Result<usize> {
    stream.shutdown(Shutdown::Write)?;
    receive_all(stream)
}
