//! Another sock_ops program on the same cgroup that takes our callbacks away: connections are accounted for all the same, and what
//! was not seen is counted.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::download::PORT;
use super::{Daemon, LONG, Probe, expect};
use crate::kit::wait_until;
use crate::link::Link;
use crate::traffic::{Behaviour, Options, Server, connect, echo};
use crate::truth::Thief;

/// Takes the callbacks of a server's socket at the end of its handshake, which is told after that; once from one that lives on and
/// once from one that ends soon.
///
/// # Errors
/// When an opened connection is not counted as one, or that its callbacks were taken is not.
pub fn takes_callbacks_of_a_handshake() -> Result<()> {
    // IPv6 alone, so that the daemon's own scrapes do not count.
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Echo, &Options::default())?;
    let probe = Probe::on(Daemon::start()?)?;
    let sum = |family: &str| -> Result<f64> {
        Ok(probe.scrape()?.sum(family, &[("family", "ipv6"), ("role", "server")]))
    };
    let lost = || -> Result<f64> {
        Ok(probe.scrape()?.sum("flowprobe_records_lost_total", &[("reason", "callbacks_taken")]))
    };
    expect("callbacks taken before", lost()?, 0.0)?;

    let thief = Thief::start()?;
    let mut stays = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stays, 1, 700)?;
    let mut leaves = connect(&link.client, server.address, &Options::default())??;
    echo(&mut leaves, 1, 50)?;
    drop(leaves);
    drop(thief);
    wait_until(LONG, "the connection without callbacks is counted as live", || {
        Ok(sum("flowprobe_tcp_connections")? == 1.0 && sum("flowprobe_tcp_connections_closed_total")? == 1.0)
    })?;
    ensure!(lost()? >= 1.0, "nobody says that callbacks were taken");
    echo(&mut stays, 1, 300)?;
    drop(stays);

    let mut sent: Vec<_> =
        probe.ended(&link.server, 2)?.iter().map(|line| line.u64("bytes_sent")).collect::<Result<_>>()?;
    sent.sort_unstable();
    expect("bytes that the server sent, by connection", sent, vec![50, 1000])?;
    wait_until(LONG, "no connection counts as live any more", || {
        Ok(sum("flowprobe_tcp_connections")? == 0.0)
    })?;
    expect("connections opened", sum("flowprobe_tcp_connections_opened_total")?, 2.0)?;
    expect("connections closed", sum("flowprobe_tcp_connections_closed_total")?, 2.0)?;
    expect("bytes sent", sum("flowprobe_tcp_sent_bytes_total")?, 1050.0)?;
    probe.stop()
}
