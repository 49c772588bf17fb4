//! How late the record of an ended connection is: from its close to its line from `flowprobe watch`, one at a time on a
//! quiet machine, where nothing but the reader's own clock brings it.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use super::child::Child;
use super::daemon::{Daemon, Setting};
use super::parts::Context;
use super::sheet::Samples;
use crate::kit::{flowprobe, parse_lines};

const CONNECTIONS: usize = 50;
const LONG: Duration = Duration::from_secs(20);

pub(super) fn measure(_: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let daemon = Daemon::start(&Setting::default())?;
    let mut command = Command::new(flowprobe()?);
    command.args(["watch", "-o", "jsonl"]).env("FLOWPROBE_RUN_DIR", daemon.run_dir());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut watch = Child::start(command, None)?;
    let out = BufReader::new(watch.stdout()?);
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if sender.send((Instant::now(), line)).is_err() {
                break;
            }
        }
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // Until the watch has begun nothing comes.
    let end = Instant::now() + LONG;
    while connection(&listener, &lines, Duration::from_millis(300))?.is_none() {
        if Instant::now() > end {
            bail!("flowprobe watch shows no connection");
        }
    }
    for _ in 0..CONNECTIONS {
        let delay = connection(&listener, &lines, LONG)?.context("a record did not come")?;
        samples.add("a record, from close to `flowprobe watch`/after", "ms", delay.as_secs_f64() * 1e3);
    }
    watch.stop(Signal::INT, LONG)?;
    reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?;
    daemon.stop()
}

/// Makes a connection, closes it, and waits for the client's record.
fn connection(
    listener: &TcpListener,
    lines: &Receiver<(Instant, String)>,
    patience: Duration,
) -> Result<Option<Duration>> {
    let client = TcpStream::connect(listener.local_addr()?)?;
    let port = u64::from(client.local_addr()?.port());
    let (server, _) = listener.accept()?;
    drop(server);
    drop(client);
    let closed = Instant::now();
    loop {
        let left = patience.saturating_sub(closed.elapsed());
        let Ok((at, line)) = lines.recv_timeout(left) else { return Ok(None) };
        for record in parse_lines(&(line + "\n"))? {
            if record.u64("local_port")? == port {
                return Ok(Some(at.saturating_duration_since(closed)));
            }
        }
    }
}
