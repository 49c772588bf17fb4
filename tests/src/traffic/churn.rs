//! Many short connections at once inside one namespace, half of them reset, with every socket end counted.
//!
//! Workers spread over the CPUs; each holds one connection at a time, so that few descriptors are needed. It is all over
//! `::1`, so that metrics of the family ipv6 are this churn's alone; the kernel reuses ports in TIME_WAIT on loopback.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use socket2::SockRef;

use super::{Options, listen};
use crate::kit::Namespace;

/// Patience with the other end.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Make the connections on the loopback of a namespace, one byte from the server each, and wait for the end of all.
///
/// # Errors
/// When a socket call fails: nothing but this churn uses the namespace, so none may.
pub fn churn(namespace: &Namespace, churn: Churn) -> Result<Ends> {
    ensure!(churn.workers > 0, "a churn needs a worker");
    let (connected, accepted) = (AtomicU64::new(0), AtomicU64::new(0));
    let listeners = (0..churn.workers)
        .map(|_| listen(namespace, (Ipv6Addr::LOCALHOST, 0).into(), &Options::default()))
        .collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| -> Result<()> {
        let mut threads = Vec::new();
        for (listener, worker) in listeners.iter().zip(0..churn.workers) {
            let share =
                churn.connections / churn.workers + u64::from(worker < churn.connections % churn.workers);
            let (connected, accepted) = (&connected, &accepted);
            threads.push(scope.spawn(move || accept_many(share, listener, accepted)));
            threads.push(scope.spawn(move || -> Result<()> {
                let address = listener.local_addr()?;
                // One thread stays in the namespace for all its connections.
                namespace.run(|| connect_many(share, address, churn.resets, connected))?
            }));
        }
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the churn panicked")))
        })
    })?;
    Ok(Ends { connected: connected.into_inner(), accepted: accepted.into_inner() })
}

/// As few calls a connection as it takes: an emulated machine makes a million of them.
fn connect_many(count: u64, address: SocketAddr, resets: bool, connected: &AtomicU64) -> Result<()> {
    for index in 0..count {
        let mut stream =
            TcpStream::connect(address).with_context(|| format!("connection {index} to {address}"))?;
        connected.fetch_add(1, Ordering::Relaxed);
        stream.set_read_timeout(Some(PATIENCE))?;
        // It waits for the server, so that no queue of the listener runs over.
        stream.read_exact(&mut [0]).with_context(|| format!("connection {index} got no answer"))?;
        if resets && index % 2 == 0 {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

fn accept_many(count: u64, listener: &TcpListener, accepted: &AtomicU64) -> Result<()> {
    // For accept(), and what it returns inherits it.
    SockRef::from(listener).set_read_timeout(Some(PATIENCE))?;
    for index in 0..count {
        let (mut stream, _) =
            listener.accept().with_context(|| format!("connection {index} did not come"))?;
        accepted.fetch_add(1, Ordering::Relaxed);
        stream.write_all(b"y")?;
        // The client ends first, by FIN or by reset; a reset is an error of this read and no failure.
        let _ = stream.read(&mut [0]);
    }
    Ok(())
}
