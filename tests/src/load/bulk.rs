//! One stream on each CPU, as fast as it goes; operations are bytes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::Result;

use super::pairs::Pair;
use super::window::{Counter, Latencies, Shared};

const CHUNK: usize = 128 * 1024;

/// The load.
pub(super) struct Bulk;

impl Pair for Bulk {
    const NAME: &'static str = "bulk";

    fn serve(&self, listener: &TcpListener) -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut chunk = vec![0; CHUNK];
        while stream.read(&mut chunk)? > 0 {}
        Ok(())
    }

    fn request(&self, server: Ipv4Addr, port: u16, shared: &Shared, counter: &Counter) -> Result<Latencies> {
        let mut stream = TcpStream::connect((server, port))?;
        let chunk = vec![1; CHUNK];
        while !shared.is_over() {
            counter.add(stream.write(&chunk)? as u64);
        }
        // A write has no end that anyone waits for.
        Latencies::new()
    }
}
