//! Do the words and formats of `flowprobe flows` do what they say?

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::kit::{Finished, Line, Process, take_turn};
use tests::link::Link;
use tests::scenario::{Daemon, LONG, command, expect, flows};
use tests::traffic::{Behaviour, Options, Server, connect, echo};

/// A daemon, and three idle connections that echoed 1000, 2000 and 3000 bytes over 10 ms.
struct Stage {
    daemon: Daemon,
    link: Link,
    _server: Server,
    streams: Vec<std::net::TcpStream>,
}

impl Stage {
    fn set() -> Result<Self> {
        let daemon = Daemon::start()?;
        let link = Link::builder().delay(Duration::from_millis(5)).build()?;
        let cubic = Options { congestion: Some("cubic"), ..Options::default() };
        let server = Server::start(&link.server, link.server_v4(8080), Behaviour::Echo, &cubic)?;
        let mut streams = Vec::new();
        for bytes in [1000, 2000, 3000] {
            let mut stream = connect(&link.client, server.address, &cubic)??;
            echo(&mut stream, 1, bytes)?;
            streams.push(stream);
        }
        link.settled(LONG)?;
        Ok(Self { daemon, link, _server: server, streams })
    }

    fn ours(&self, line: &Line) -> Option<&'static str> {
        let netns = line.field("netns").ok()?;
        let inode = netns.as_u64().or_else(|| netns.as_str()?.parse().ok())?;
        if inode == self.link.client.inode() {
            Some("client")
        } else if inode == self.link.server.inode() {
            Some("server")
        } else {
            None
        }
    }

    /// Our flows among those that `flows WORDS…` lists: of the client's namespace, of the server's.
    fn listed(&self, words: &[&str]) -> Result<[usize; 2]> {
        let lines = flows(self.daemon.run_dir(), words).with_context(|| format!("flows {words:?}"))?;
        let count = |end| lines.iter().filter(|line| self.ours(line) == Some(end)).count();
        Ok([count("client"), count("server")])
    }

    fn print(&self, words: &[&str]) -> Result<Finished> {
        let mut command = command(self.daemon.run_dir())?;
        command.arg("flows").args(words);
        let done = Process::run(command, LONG)?;
        ensure!(done.code == Some(0), "flows {words:?} ended with {:?}: {}", done.code, done.err);
        Ok(done)
    }
}

#[test]
fn filters_pick_what_they_say() -> Result<()> {
    let _turn = take_turn()?;
    let stage = Stage::set()?;
    let port = format!(":{}", stage.streams[0].local_addr()?.port());
    for (words, wanted) in [
        (&[][..], [3, 3]),
        (&["dport", "=", ":8080"], [3, 0]),
        (&["sport", "=", ":8080"], [0, 3]),
        (&["sport", "=", &port], [1, 0]),
        (&["sport", "=", &port, "or", "dport", "=", &port], [1, 1]),
        (&["dst", "192.0.2.0/24"], [3, 3]),
        (&["dst", "192.0.2.2"], [3, 0]),
        (&["src", "192.0.2.2"], [0, 3]),
        (&["dst", "2001:db8::/32"], [0, 0]),
        (&["role", "server", "and", "src", "192.0.2.2"], [0, 3]),
        (&["not", "role", "server"], [3, 0]),
        (&["state", "established"], [3, 3]),
        (&["cc", "cubic"], [3, 3]),
        (&["rtt", ">", "5ms", "and", "rtt", "<", "200ms"], [3, 3]),
        (&["min-rtt", ">", "100ms"], [0, 0]),
        (&["retrans", ">", "0", "and", "dst", "192.0.2.0/24"], [0, 0]),
        (&["bytes", ">", "1M"], [0, 0]),
    ] {
        expect(&format!("flows {words:?}"), stage.listed(words)?, wanted)?;
    }
    // One argument with spaces is the same as several.
    expect("quoted words", stage.listed(&["dport = :8080 and role client"])?, [3, 0])?;
    stage.daemon.stop().map(drop)
}

#[test]
fn formats_hold_the_same_flows() -> Result<()> {
    let _turn = take_turn()?;
    let stage = Stage::set()?;
    let only = ["dst", "192.0.2.2", "and", "dport", "=", ":8080"];
    let print = |more: &[&str]| stage.print(&[&only[..], more].concat());
    let ports: BTreeSet<String> = stage
        .streams
        .iter()
        .map(|stream| Ok(stream.local_addr()?.port().to_string()))
        .collect::<Result<_>>()?;

    let json: Value = serde_json::from_str(&print(&["-o", "json"])?.out)?;
    let in_json: BTreeSet<String> = json
        .as_array()
        .context("json is no array")?
        .iter()
        .map(|flow| flow["local_port"].to_string())
        .collect();
    expect("json", &in_json, &ports)?;

    let csv = print(&["-o", "csv", "--columns", "local_port,remote_port"])?.out;
    let mut rows = csv.lines();
    expect("csv's header", rows.next(), Some("local_port,remote_port"))?;
    let in_csv: BTreeSet<String> =
        rows.filter_map(|row| row.strip_suffix(",8080")).map(str::to_owned).collect();
    expect("csv", &in_csv, &ports)?;
    let bare = print(&["-o", "csv", "--columns", "local_port,remote_port", "--no-header"])?.out;
    expect("csv without header", bare.lines().count(), 3)?;

    for format in ["table", "wide"] {
        let table = print(&["-o", format])?.out;
        ensure!(!table.contains('\u{1b}'), "colours where there is no terminal: {table}");
        ensure!(ports.iter().all(|port| table.contains(port.as_str())), "a flow is missing: {table}");
        expect("the table's lines", table.lines().filter(|line| line.contains("192.0.2.2")).count(), 3)?;
        let bare = print(&["-o", format, "--no-header"])?.out;
        expect("the lines without header", bare.lines().count(), 3)?;
    }

    let sorted = print(&["-o", "jsonl", "--sort", "bytes_received"])?.out;
    let bytes: Vec<u64> = tests::kit::parse_lines(&sorted)?
        .iter()
        .map(|line| line.u64("bytes_received"))
        .collect::<Result<_>>()?;
    ensure!(bytes == [1000, 2000, 3000] || bytes == [3000, 2000, 1000], "sorted by bytes: {bytes:?}");
    let one = print(&["-o", "jsonl", "--sort", "bytes_received", "--limit", "1"])?.out;
    expect("the lines of --limit 1", one.lines().count(), 1)?;
    stage.daemon.stop().map(drop)
}

#[test]
fn no_match_and_a_closed_pipe_are_no_errors() -> Result<()> {
    let _turn = take_turn()?;
    let stage = Stage::set()?;
    let done = stage.print(&["dst", "203.0.113.77", "-o", "jsonl"])?;
    expect("the lines of no match", done.out.as_str(), "")?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = command(stage.daemon.run_dir())?;
    let said =
        command.args(["flows", "-o", "jsonl"]).stdout(writer).stderr(std::process::Stdio::piped()).spawn()?;
    let said = said.wait_with_output()?;
    expect("what a closed pipe makes it say", String::from_utf8_lossy(&said.stderr).trim(), "")?;
    expect("the exit code", said.status.code(), Some(0))?;
    stage.daemon.stop().map(drop)
}
