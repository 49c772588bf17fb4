//! Sweeps pass by connections whose socket's clock stands. Nothing of what they do later is lost, be it only that the kernel tells a
//! larger window because the application has read.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};

use super::start::start_daemon;
use super::{Daemon, LONG};
use crate::kit::{Scrape, wait_until};
use crate::link::Link;
use crate::traffic::{Options, connect, drained, listen};
use crate::truth::{Objects, RunStatistics, TcpInfo};

/// More sweeps than it takes until quiet connections are passed by.
const SWEEPS: u64 = 5;
/// Runs of the sweeps' program in a sweep beside those for connections, at most: one for each network namespace.
const NAMESPACES: u64 = 20;

struct Stage {
    daemon: Daemon,
    programs: Objects,
    before: Scrape,
    ends: [TcpStream; 2],
}

impl Stage {
    fn runs(&self) -> Result<u64> {
        let runs = self.programs.runs()?;
        let account = runs.values().find(|runs| runs.name == "account").context("no program sweeps")?;
        Ok(account.runs)
    }

    fn pass_sweeps(&self) -> Result<()> {
        let connections = self.daemon.scrape()?.sum("flowprobe_sweep_sockets", &[]) as u64;
        let enough = self.runs()? + SWEEPS * (connections + NAMESPACES);
        wait_until(LONG, "sweeps have passed", || Ok(self.runs()? >= enough))
    }

    /// The sums of both ends become what the kernel says of them: segments sent, segments received, bytes sent.
    fn sums_are_right(&self) -> Result<()> {
        const SUMS: [&str; 3] = [
            "flowprobe_tcp_segments_sent_total",
            "flowprobe_tcp_segments_received_total",
            "flowprobe_tcp_sent_bytes_total",
        ];
        let mut are = [0; 3];
        let mut should = [0; 3];
        let same = wait_until(LONG, "the sums are the kernel's", || {
            let now = self.daemon.scrape()?;
            let sum = |scrape: &Scrape, name| scrape.sum(name, &[("family", "ipv6")]);
            are = SUMS.map(|name| (sum(&now, name) - sum(&self.before, name)) as u64);
            should = [0; 3];
            // A delayed acknowledgement may come yet.
            for end in &self.ends {
                let info = TcpInfo::of(end)?;
                should[0] += u64::from(info.segs_out);
                should[1] += u64::from(info.segs_in);
                should[2] += info.bytes_sent;
            }
            Ok(are == should)
        });
        same.with_context(|| format!("they are {are:?}, should be {should:?}"))
    }
}

/// A connection that is quiet over sweeps, speaks, is quiet again, and at last reads what came long before.
///
/// # Errors
/// When the sums do not become the kernel's.
pub fn heard_again() -> Result<()> {
    let objects = Objects::now()?;
    let daemon = start_daemon()?;
    let programs = Objects::now()?.added_since(&objects);
    let _on = RunStatistics::enable()?;
    // On loopback a segment would be as large as the window.
    let link = Link::builder().build()?;
    let listener = listen(&link.server, link.server_v6(80), &Options::default())?;
    let before = daemon.scrape()?;
    let client = connect(&link.client, listener.local_addr()?, &Options::default())??;
    let (server, _) = listener.accept()?;
    let mut stage = Stage { daemon, programs, before, ends: [client, server] };
    stage.sums_are_right()?;
    for _ in 0..3 {
        stage.pass_sweeps()?;
        let [client, server] = &mut stage.ends;
        client.write_all(&[1; 1000])?;
        server.read_exact(&mut [0; 1000])?;
        stage.sums_are_right()?;
    }

    let unread = fill(&mut stage.ends[0])?;
    stage.sums_are_right()?;
    stage.pass_sweeps()?;
    let [_, server] = &mut stage.ends;
    let sent = TcpInfo::of(&*server)?.segs_out;
    server.read_exact(&mut vec![0; unread])?;
    let told = TcpInfo::of(&*server)?.segs_out - sent;
    ensure!(told > 0, "the kernel told no larger window: nothing is proved");
    stage.sums_are_right()?;
    stage.daemon.stop().map(drop)
}

/// Sends until the peer, which does not read, has a window left of at most a quarter of that: the kernel tells of one that doubles
/// (tcp_cleanup_rbuf), and it may have grown by what arrives. How much it was.
fn fill(stream: &mut TcpStream) -> Result<usize> {
    let mut unread = 0;
    loop {
        let window = TcpInfo::of(&*stream)?.snd_wnd as usize;
        if 4 * window <= unread {
            return Ok(unread);
        }
        stream.write_all(&vec![1; window.div_ceil(2)])?;
        unread += window.div_ceil(2);
        drained(stream, LONG)?;
    }
}
