//! A client and a server thread on each CPU, talking to each other: the work of a connection stays on one CPU, so that
//! neither the scheduler's choices nor wake-ups across CPUs are measured.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use socket2::{Domain, Socket, Type};

use super::cpu;
use super::window::{Counter, Latencies, Outcome, Shared, Window};

/// A load's two sides; one value serves all pairs.
pub(super) trait Pair: Sync {
    /// Its name in the outcome.
    const NAME: &'static str;

    /// Accepts and serves until the client's side has gone.
    fn serve(&self, listener: &TcpListener) -> Result<()>;

    /// Makes traffic until it is over, and then lets the server end.
    fn request(&self, server: Ipv4Addr, port: u16, shared: &Shared, counter: &Counter) -> Result<Latencies>;
}

/// Runs a pair on each of `cpus` and measures.
pub(super) fn run<P: Pair>(pair: &P, cpus: &[usize], window: &Window) -> Result<Outcome> {
    let shared = Shared::default();
    let counters: Vec<Counter> = cpus.iter().map(|_| Counter::default()).collect();
    let listeners = cpus.iter().map(|_| listen()).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for ((&cpu, listener), counter) in cpus.iter().zip(&listeners).zip(&counters) {
            threads.push(scope.spawn(move || {
                cpu::pin(&[cpu])?;
                pair.serve(listener).context("the server's side failed").map(|()| None)
            }));
            let shared = &shared;
            threads.push(scope.spawn(move || {
                cpu::pin(&[cpu])?;
                let port = listener.local_addr()?.port();
                let [_, _, third, _] = Ipv4Addr::from(u32::try_from(cpu)? << 8).octets();
                let server = Ipv4Addr::new(127, 1, third, 1);
                pair.request(server, port, shared, counter).context("the client's side failed").map(Some)
            }));
        }
        let measured = window.measure(P::NAME, &shared, &counters);
        shared.end();
        let mut latencies = Vec::new();
        for thread in threads {
            latencies.extend(thread.join().map_err(|_| anyhow!("a thread of the load panicked"))??);
        }
        let all_operations = counters.iter().map(Counter::get).sum();
        Ok(Outcome { all_operations, latency: Latencies::summary(latencies)?, ..measured? })
    })
}

/// Listens on every loopback address, on a port of its own.
fn listen() -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into())?;
    socket.listen(65_535).context("cannot listen")?;
    Ok(socket.into())
}
