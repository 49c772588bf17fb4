//! Connect, one request, one response, close: a connection's whole life, one at a time on each CPU.
//!
//! The server closes first, as for HTTP with `Connection: close`, so that its end goes through FIN_WAIT and TIME_WAIT and
//! the client's port is free at once. Destinations rotate, so that no 4-tuple comes back while it is in TIME_WAIT.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use anyhow::Result;

use super::MESSAGE;
use super::pairs::Pair;
use super::window::{Counter, Latencies, Shared};

/// Times the ports of one address: more than a minute of connections.
const DESTINATIONS: u8 = 250;

/// The load.
pub(super) struct ConnectRequestResponse;

impl Pair for ConnectRequestResponse {
    const NAME: &'static str = "crr";

    fn serve(&self, listener: &TcpListener) -> Result<()> {
        let mut message = [0; MESSAGE];
        loop {
            let (mut stream, _) = listener.accept()?;
            // The last connection brings no request: it only ends the wait.
            if stream.read_exact(&mut message).is_err() {
                return Ok(());
            }
            stream.write_all(&message)?;
        }
    }

    fn request(&self, server: Ipv4Addr, port: u16, shared: &Shared, counter: &Counter) -> Result<Latencies> {
        let latencies = connections(server, port, shared, counter);
        drop(TcpStream::connect((server, port))?);
        latencies
    }
}

fn connections(server: Ipv4Addr, port: u16, shared: &Shared, counter: &Counter) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let [a, b, c, _] = server.octets();
    let mut last = 0;
    while !shared.is_over() {
        last = last % DESTINATIONS + 1;
        let begun = Instant::now();
        let window = shared.window();
        connection(Ipv4Addr::new(a, b, c, last), port)?;
        latencies.add(window, begun.elapsed());
        counter.add(1);
    }
    Ok(latencies)
}

fn connection(server: Ipv4Addr, port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((server, port))?;
    stream.write_all(&[1; MESSAGE])?;
    let mut answer = Vec::with_capacity(MESSAGE);
    stream.read_to_end(&mut answer)?;
    anyhow::ensure!(answer.len() == MESSAGE, "{} bytes were answered", answer.len());
    Ok(())
}
