//! What people ask first: are the figures of a live and of an ended connection those that the kernel tells its owner?

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::download::PORT;
use super::{LONG, Probe, causes, expect, expect_received, is_min_rtt, local_port};
use crate::kit::{Line, Namespace};
use crate::link::{Direction, Link};
use crate::traffic::{Behaviour, Options, Server, connect, drained, echo, receive_all};
use crate::truth::TcpInfo;

/// Every field of a flow, by contract.
pub const FIELDS: &[&str] = &[
    "schema_version",
    "flow_id",
    "netns",
    "family",
    "role",
    "local_addr",
    "local_port",
    "remote_addr",
    "remote_port",
    "uid",
    "cgroup",
    "congestion_control",
    "state",
    "adopted",
    "opened_at",
    "closed_at",
    "duration_us",
    "close_reason",
    "first_fin",
    "error",
    "handshake_rtt_us",
    "srtt_us",
    "rttvar_us",
    "min_rtt_us",
    "rtt_samples",
    "rtt_sum_us",
    "rtt_max_us",
    "rtt_histogram",
    "rtt_source",
    "segs_out",
    "data_segs_out",
    "segs_in",
    "data_segs_in",
    "retrans_segs",
    "retrans_fast",
    "retrans_rto",
    "retrans_tlp",
    "retrans_syn",
    "retrans_synack",
    "retrans_other",
    "retrans_unattributed",
    "retrans_bytes",
    "spurious_segs",
    "lost_segs_estimate",
    "rto_count",
    "loss_episodes",
    "loss_episode_us",
    "loss_episode_max_us",
    "undone_episodes",
    "needless_segs",
    "stalls_rto",
    "stalls_zero_window",
    "stalls_other",
    "stall_rto_us",
    "stall_zero_window_us",
    "stall_other_us",
    "reordering_seen",
    "ce_delivered_segs",
    "ooo_segs_in",
    "bytes_sent",
    "bytes_acked",
    "bytes_received",
    "delivery_rate_bytes_per_second",
    "app_limited",
    "busy_us",
    "rwnd_limited_us",
    "sndbuf_limited_us",
    "cwnd_segs",
    "ssthresh_segs",
    "mss_bytes",
    "unacked_segs",
    "unacked_bytes",
    "unsent_bytes",
];

/// The line has every field of the contract, and no other.
///
/// # Errors
/// When one is missing or too many.
pub fn has_all_fields(line: &Line) -> Result<()> {
    let missing: Vec<_> = FIELDS.iter().filter(|name| !line.0.contains_key(**name)).collect();
    ensure!(missing.is_empty(), "a flow lacks {missing:?}");
    let extra: Vec<_> = line.0.keys().filter(|name| !FIELDS.contains(&name.as_str())).collect();
    ensure!(extra.is_empty(), "a flow has fields that the contract does not know: {extra:?}");
    expect("schema_version", line.u64("schema_version")?, 1)
}

/// The figures of an idle connection are those of its own TCP_INFO.
///
/// # Errors
/// When one differs.
pub fn like_tcp_info(line: &Line, info: &TcpInfo) -> Result<()> {
    for (field, kernel) in [
        ("srtt_us", info.rtt),
        ("rttvar_us", info.rttvar),
        ("cwnd_segs", info.snd_cwnd),
        ("mss_bytes", info.snd_mss),
        ("segs_out", info.segs_out),
        ("segs_in", info.segs_in),
        ("data_segs_out", info.data_segs_out),
        ("data_segs_in", info.data_segs_in),
        ("unacked_segs", info.unacked),
        ("unsent_bytes", info.notsent_bytes),
        ("ce_delivered_segs", info.delivered_ce),
        ("reordering_seen", info.reord_seen),
        ("ooo_segs_in", info.rcv_ooopack),
    ] {
        expect(field, line.u64(field)?, u64::from(kernel))?;
    }
    for (field, kernel) in [
        ("bytes_sent", info.bytes_sent),
        ("bytes_received", info.bytes_received),
        ("bytes_acked", info.bytes_acked),
        ("retrans_bytes", info.bytes_retrans),
        ("busy_us", info.busy_time),
        ("rwnd_limited_us", info.rwnd_limited),
        ("sndbuf_limited_us", info.sndbuf_limited),
    ] {
        // The kernel keeps these times in ticks, and converts them both ways.
        let slack = if field.ends_with("_us") { 10_000 } else { 0 };
        let is = line.u64(field)?;
        ensure!(is.abs_diff(kernel) <= slack, "{field} is {is}, TCP_INFO says {kernel}");
    }
    let (is, kernel) = (line.maybe_u64("min_rtt_us")?, info.min_rtt_us().map(u64::from));
    ensure!(is_min_rtt(is, kernel), "min_rtt_us is {is:?}, TCP_INFO says {kernel:?}");
    expect("retrans_segs", causes(line)?.all, u64::from(info.total_retrans))?;
    // 2^31 − 1 is the kernel's word for a threshold that was never set.
    let threshold = Some(u64::from(info.snd_ssthresh)).filter(|value| *value < 0x7fff_ffff);
    ensure!(
        line.maybe_u64("ssthresh_segs")?.is_none_or(|value| Some(value) == threshold),
        "ssthresh_segs is {:?}, TCP_INFO says {threshold:?}",
        line.maybe_u64("ssthresh_segs")?
    );
    Ok(())
}

/// A connection in use, looked at while it idles, and again at its end.
///
/// # Errors
/// When a field is absent or differs from TCP_INFO.
pub fn live_and_ended_agree_with_tcp_info(probe: &Probe) -> Result<()> {
    let link =
        Link::builder().delay(Duration::from_millis(5)).loss(Direction::ToServer, 0.05).seed(5).build()?;
    let cubic = Options { congestion: Some("cubic"), ..Options::default() };
    let server = Server::start(&link.server, link.server_v4(PORT), Behaviour::Echo, &cubic)?;
    let mut stream = connect(&link.client, server.address, &cubic)??;
    echo(&mut stream, 20, 5000)?;
    drained(&stream, LONG)?;
    link.settled(LONG)?;
    let line = one_live(probe, &link.client)?;
    let info = TcpInfo::of(&stream)?;
    has_all_fields(&line)?;
    like_tcp_info(&line, &info)?;
    expect("state", line.text("state")?, "established")?;
    expect("role", line.text("role")?, "client")?;
    expect("congestion_control", line.text("congestion_control")?, "cubic")?;
    expect("uid", line.u64("uid")?, 0)?;
    expect("local_port", local_port(&line)?, stream.local_addr()?.port())?;
    expect("closed_at", line.maybe_text("closed_at")?, None)?;
    expect("adopted", line.flag("adopted")?, false)?;
    drop(stream);
    let ended = probe.ended_one(&link.client)?;
    has_all_fields(&ended)?;
    expect("flow_id", ended.text("flow_id")?, line.text("flow_id")?)?;
    expect("bytes_sent", ended.u64("bytes_sent")? - ended.u64("retrans_bytes")?, 100_000)?;
    expect_received(&ended, 100_000)?;
    let (opened, closed) = (ended.text("opened_at")?, ended.text("closed_at")?);
    ensure!(opened.ends_with('Z') && closed.ends_with('Z') && opened < closed, "from {opened} to {closed}");
    Ok(())
}

fn one_live(probe: &Probe, namespace: &Namespace) -> Result<Line> {
    let mut live = probe.live(namespace)?;
    expect("the number of live flows", live.len(), 1)?;
    live.pop().context("no live flow")
}

/// Two hundred downloads: each record equals the server's TCP_INFO just before its close.
///
/// # Errors
/// When one differs.
pub fn records_equal_tcp_info_at_close(probe: &Probe) -> Result<()> {
    const CONNECTIONS: usize = 200;
    let link =
        Link::builder().delay(Duration::from_millis(2)).loss(Direction::ToClient, 0.01).seed(9).build()?;
    let server =
        Server::start(&link.server, link.server_v4(PORT), Behaviour::Send(30_000), &Options::default())?;
    // Kept until all were made: a port that is in use is not given twice, and tells the connections apart.
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = connect(&link.client, server.address, &Options::default())??;
        expect("bytes that arrived", receive_all(&mut stream)?, 30_000)?;
        streams.push(stream);
    }
    drop(streams);
    let served = server.served(CONNECTIONS, LONG)?;
    let ended = probe.ended(&link.server, CONNECTIONS)?;
    let ledger = link.settled(LONG)?;
    for conversation in served {
        let port = conversation.peer.port();
        let line = ended
            .iter()
            .find(|line| line.u64("remote_port").is_ok_and(|have| have == u64::from(port)))
            .with_context(|| format!("no record of the connection from port {port}"))?;
        let info = conversation.info;
        // Its FIN, which may get lost too, came after TCP_INFO was read.
        let fins = ledger.flow_from(port)?.sent(Direction::ToClient).retransmitted.fin;
        expect("retrans_segs", causes(line)?.all, u64::from(info.total_retrans) + fins)?;
        expect("bytes_sent", line.u64("bytes_sent")?, info.bytes_sent)?;
        expect("retrans_bytes", line.u64("retrans_bytes")?, info.bytes_retrans)?;
        expect("data_segs_out", line.u64("data_segs_out")?, u64::from(info.data_segs_out))?;
        let acked = line.u64("bytes_acked")?;
        ensure!(
            (30_000..=30_002).contains(&acked),
            "bytes_acked is {acked}; SYN and FIN may count, not more"
        );
        expect("unsent_bytes", line.u64("unsent_bytes")?, 0)?;
    }
    Ok(())
}
