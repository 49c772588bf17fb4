//! Many short connections at once inside one namespace, half of them reset, with every socket end counted.
//!
//! Workers spread over the CPUs; each holds one connection at a time, so that few descriptors are needed. It is all over
//! `::1`, so that metrics of the family ipv6 are this churn's alone; the kernel reuses ports in TIME_WAIT on loopback.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use socket2::SockRef;

use super::{Options, listen};
use crate::kit::Namespace;

/// How much churn.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// Connections to make.
    pub connections: u64,
    /// Threads that make them, each with a listener and an accepting thread of its own.
    pub workers: u64,
    /// Reset every second connection instead of closing it.
    pub resets: bool,
}

/// What was made: established on both sides, so each connection has two socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Connections that connect() reported as established.
    pub connected: u64,
    /// Connections that accept() returned.
    pub accepted: u64,
}

/// Make the connections on the loopback of a namespace, one byte each way, and wait for the end of all.
///
/// # Errors
/// When a socket call fails: nothing but this churn uses the namespace, so none may.
pub fn churn(namespace: &Namespace, churn: Churn) -> Result<Ends> {
    ensure!(churn.workers > 0, "a churn needs a worker");
    let (connected, accepted) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let listeners = (0..churn.workers)
        .map(|_| listen(namespace, (Ipv6Addr::LOCALHOST, 0).into(), &Options::default()))
        .collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| -> Result<()> {
        let servers: Vec<_> =
            listeners.iter().map(|listener| scope.spawn(|| serve(listener, &accepted, &stop))).collect();
        let clients: Vec<_> = listeners
            .iter()
            .zip(0..churn.workers)
            .map(|(listener, worker)| {
                let connected = &connected;
                scope.spawn(move || -> Result<()> {
                    let port = listener.local_addr()?.port();
                    let share = churn.connections / churn.workers
                        + u64::from(worker < churn.connections % churn.workers);
                    // One thread stays in the namespace for all its connections.
                    namespace.run(|| connect_many(share, port, churn.resets, connected))?
                })
            })
            .collect();
        let mut result = Ok(());
        for client in clients {
            result = result.and(client.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked"))));
        }
        stop.store(true, Ordering::Relaxed);
        for server in servers {
            result = result.and(server.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a server panicked"))));
        }
        result
    })?;
    Ok(Ends { connected: connected.into_inner(), accepted: accepted.into_inner() })
}

fn connect_many(count: u64, port: u16, resets: bool, connected: &AtomicU64) -> Result<()> {
    for index in 0..count {
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let mut stream =
            TcpStream::connect(address).with_context(|| format!("connection {index} to {address}"))?;
        connected.fetch_add(1, Ordering::Relaxed);
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0]).with_context(|| format!("connection {index} got no answer"))?;
        if resets && index % 2 == 0 {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

fn serve(listener: &TcpListener, accepted: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    listener.set_nonblocking(true)?;
    let mut fds = [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
    let idle = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            let _ = rustix::event::poll(&mut fds, Some(&idle));
            continue;
        };
        accepted.fetch_add(1, Ordering::Relaxed);
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.read_exact(&mut [0])?;
        stream.write_all(b"y")?;
        // The client ends first, by FIN or by reset; a reset is an error of this read and no failure.
        let _ = stream.read(&mut [0]);
    }
    Ok(())
}
