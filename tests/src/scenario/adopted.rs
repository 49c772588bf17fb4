//! A connection that is older than the daemon: once, marked as such, and its past not counted as new (CASE 7).

use std::time::Duration;

use anyhow::{Result, ensure};

use super::download::PORT;
use super::{Daemon, LONG, Probe, causes, expect};
use crate::kit::wait_until;
use crate::link::{Direction, Link, Pick, Rule};
use crate::traffic::{Behaviour, Options, Server, connect, drained, echo};

/// Starts a daemon of its own in the middle of a connection's life.
///
/// # Errors
/// When the past is lost, doubled, or counted as new.
pub fn older_than_the_daemon() -> Result<()> {
    // IPv6 alone, so that the daemon's own scrapes do not count.
    let link = Link::builder().delay(Duration::from_millis(5)).build()?;
    link.rule(Rule::drop(Direction::ToServer, Pick::Data(5)));
    let server = Server::start(&link.server, link.server_v6(PORT), Behaviour::Echo, &Options::default())?;
    let mut stream = connect(&link.client, server.address, &Options::default())??;
    echo(&mut stream, 20, 1000)?;
    drained(&stream, LONG)?;

    let probe = Probe::on(Daemon::start()?)?;
    let mut live = Vec::new();
    wait_until(LONG, "the old connection is among the live flows", || {
        live = probe.live(&link.client)?;
        Ok(!live.is_empty())
    })?;
    expect("the number of live flows", live.len(), 1)?;
    expect("adopted", live[0].flag("adopted")?, true)?;
    let past = causes(&live[0])?;
    expect("retrans_unattributed", past.unattributed, past.all)?;
    ensure!(past.all >= 1, "the dropped segment was not sent again");
    // Both ends, whatever role is put down for them.
    let labels = [("family", "ipv6")];
    // Let the sweep take its baseline before there is anything new.
    wait_until(LONG, "the old connection's ends are counted as live", || {
        Ok(probe.scrape()?.sum("flowprobe_tcp_connections", &labels) >= 2.0)
    })?;
    let before = probe.scrape()?.sum("flowprobe_tcp_sent_bytes_total", &labels);
    expect("the bytes of the past that are counted as new", before, 0.0)?;
    echo(&mut stream, 3, 1000)?;
    drained(&stream, LONG)?;
    drop(stream);
    let ended = probe.ended_one(&link.client)?;
    expect("adopted", ended.flag("adopted")?, true)?;
    expect("flow_id", ended.text("flow_id")?, live[0].text("flow_id")?)?;
    expect("retrans_segs", causes(&ended)?.all, past.all)?;
    probe.ended_one(&link.server)?;
    let mut scrape = probe.scrape()?;
    wait_until(LONG, "the new bytes are counted", || {
        scrape = probe.scrape()?;
        Ok(scrape.sum("flowprobe_tcp_sent_bytes_total", &labels) >= 6000.0)
    })?;
    expect("the bytes that are new", scrape.sum("flowprobe_tcp_sent_bytes_total", &labels), 6000.0)?;
    expect(
        "retransmissions that are new",
        scrape.sum("flowprobe_tcp_retransmitted_segments_total", &labels),
        0.0,
    )?;
    probe.stop()
}
