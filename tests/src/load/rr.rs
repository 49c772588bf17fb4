//! Request and response on open connections, one transaction at a time on each CPU: on loopback each is a round trip, so
//! nothing asks more of a program that looks at round trips.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use anyhow::Result;

use super::MESSAGE;
use super::pairs::Pair;
use super::window::{Counter, Latencies, Shared};

/// The load; the client takes its connections in turn.
pub(super) struct RequestResponse {
    /// Connections of a pair.
    pub(super) connections: usize,
}

impl Pair for RequestResponse {
    const NAME: &'static str = "rr";

    fn serve(&self, listener: &TcpListener) -> Result<()> {
        let mut streams = Vec::new();
        while streams.len() < self.connections {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let mut message = [0; MESSAGE];
        loop {
            for stream in &mut streams {
                // The client closes all of them at its end.
                if stream.read_exact(&mut message).is_err() {
                    return Ok(());
                }
                stream.write_all(&message)?;
            }
        }
    }

    fn request(&self, server: Ipv4Addr, port: u16, shared: &Shared, counter: &Counter) -> Result<Latencies> {
        let mut latencies = Latencies::new()?;
        let mut streams = Vec::new();
        for _ in 0..self.connections {
            let stream = TcpStream::connect((server, port))?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let mut message = [1; MESSAGE];
        loop {
            for stream in &mut streams {
                if shared.is_over() {
                    return Ok(latencies);
                }
                let begun = Instant::now();
                let window = shared.window();
                stream.write_all(&message)?;
                stream.read_exact(&mut message)?;
                latencies.add(window, begun.elapsed());
                counter.add(1);
            }
        }
    }
}
