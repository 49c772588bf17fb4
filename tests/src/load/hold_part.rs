//! One process of the held connections: both ends of each are its own, on addresses of its own.
//!
//! Each connection has a client address of its own in 127.0.0.0/8 and has carried one request and one response. Commands
//! come on standard input, one byte each; their answer is a line.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use super::{MESSAGE, place};

/// Command: one exchange on every active connection.
pub const TOUCH: u8 = b't';
/// Client addresses of a /24 that are used.
const OF_A_NETWORK: u32 = 250;

/// What one process holds.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Part {
    /// Which of the processes this is
    #[arg(long)]
    pub(super) index: u8,
    /// Connections of this process
    #[arg(long)]
    pub(super) connections: u32,
    /// How many of them are active
    #[arg(long)]
    pub(super) active: u32,
    /// Milliseconds from one exchange on the active ones to the next; 0: only when told
    #[arg(long)]
    pub(super) every: u64,
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
}

/// Opens, prints how many are open, and serves commands until standard input ends.
pub(super) fn run(part: Part) -> Result<()> {
    let descriptors = place::all_descriptors()?;
    ensure!(
        u64::from(part.connections) * 2 + 16 <= descriptors,
        "{} connections want more descriptors than {descriptors}",
        part.connections
    );
    let mut connections = open(part)?;
    connections.iter_mut().try_for_each(exchange)?;
    println!("{}", connections.len());
    let active = connections.len().min(part.active as usize);
    let every = (part.every > 0).then(|| Duration::from_millis(part.every));
    let mut next = every.map(|every| Instant::now() + every);
    loop {
        match command_until(next)? {
            Some(TOUCH) => {
                connections[..active].iter_mut().try_for_each(exchange)?;
                println!("{active}");
            }
            // Standard input has ended; the client's end resets, so that nothing is left.
            Some(_) => return Ok(()),
            None => {
                connections[..active].iter_mut().try_for_each(exchange)?;
                next = every.map(|every| Instant::now() + every);
            }
        }
    }
}

/// The next command, 0 at the end of standard input; `None` when the time has come.
fn command_until(time: Option<Instant>) -> Result<Option<u8>> {
    let stdin = io::stdin();
    if let Some(time) = time {
        let left = Timespec::try_from(time.saturating_duration_since(Instant::now()))?;
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        if poll(&mut ready, Some(&left))? == 0 {
            return Ok(None);
        }
    }
    let mut command = [0];
    let length = stdin.lock().read(&mut command)?;
    Ok(Some(if length == 0 { 0 } else { command[0] }))
}

fn open(part: Part) -> Result<Vec<Connection>> {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 200, part.index, 1), 0))?;
    let server = SocketAddrV4::new(Ipv4Addr::new(127, 200, part.index, 1), listener.local_addr()?.port());
    (0..part.connections)
        .map(|number| -> Result<Connection> {
            let network = u8::try_from(number / OF_A_NETWORK).context("too many for one process")?;
            let host = u8::try_from(number % OF_A_NETWORK)? + 1;
            let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            client.set_linger(Some(Duration::ZERO))?;
            let own = Ipv4Addr::new(127, 1 + part.index, network, host);
            client.bind(&SocketAddrV4::new(own, 10_000 + u16::try_from(number % 50_000)?).into())?;
            client.connect(&server.into()).with_context(|| format!("connection {number}"))?;
            let (server, _) = listener.accept()?;
            Ok(Connection { client: client.into(), server })
        })
        .collect()
}

/// A request and a response; both ends are ours, so that nobody waits.
fn exchange(connection: &mut Connection) -> Result<()> {
    let mut message = [2; MESSAGE];
    connection.client.write_all(&message)?;
    connection.server.read_exact(&mut message)?;
    connection.server.write_all(&message)?;
    connection.client.read_exact(&mut message)?;
    Ok(())
}
