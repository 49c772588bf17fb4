//! Connection health: how connections begin, what holds them up, and how they end.

use super::{
    grafana::{Dashboard, Row, lines, query},
    promql::{CLIENT, quantile, rate, share},
};

pub(super) fn dashboard() -> Dashboard {
    let busy = rate("busy_seconds", "", "");
    let failed = rate("connect_failures", "", CLIENT);
    let tried = format!("({failed} + {})", rate("connections_opened", "", CLIENT));
    Dashboard {
        uid: "flowprobe-connections",
        title: "flowprobe / Connection health",
        description: "How connections begin, what holds them up, and how they end.",
        by_network: true,
        rows: vec![
            Row {
                title: "Beginnings",
                panels: vec![
                    lines(
                        "Opened",
                        "cps",
                        "Handshakes completed in a second, by who asked for the connection.",
                        vec![query(rate("connections_opened", "role", ""), "{{role}}")],
                    )
                    .stacked(),
                    lines(
                        "Handshakes that failed, by reason",
                        "cps",
                        "Connections in a second that ended before their handshake completed. Of role client: connects of this host.",
                        vec![query(rate("connect_failures", "role, reason", ""), "{{role}} {{reason}}")],
                    )
                    .stacked(),
                    lines(
                        "Share of connects that failed",
                        "percentunit",
                        "Of all connects of this host whose outcome is known.",
                        vec![query(share(&failed, &tried), "failed")],
                    ),
                    lines(
                        "Handshake RTT",
                        "s",
                        "From SYN or SYN-ACK to its answer, one sample a connection.",
                        vec![
                            query(quantile("0.5", "handshake_rtt", "", ""), "p50"),
                            query(quantile("0.9", "handshake_rtt", "", ""), "p90"),
                            query(quantile("0.99", "handshake_rtt", "", ""), "p99"),
                        ],
                    ),
                ],
            },
            Row {
                title: "What holds them up",
                panels: vec![
                    lines(
                        "Sending time that was limited",
                        "percentunit",
                        "Of the time in which there was something to send: spent waiting for the peer's window (rwnd) or for room in the send buffer (sndbuf). The rest is the network's.",
                        vec![
                            query(share(&rate("limited_seconds", "", "limit=\"rwnd\""), &busy), "rwnd"),
                            query(share(&rate("limited_seconds", "", "limit=\"sndbuf\""), &busy), "sndbuf"),
                        ],
                    ),
                    lines(
                        "Sending",
                        "none",
                        "Connections that had something to send, at a time: busy seconds in a second.",
                        vec![query(rate("busy_seconds", "service, role", ""), "{{service}} {{role}}")],
                    )
                    .stacked(),
                    lines(
                        "Segments",
                        "none",
                        "Segments in a second, pure acknowledgements included.",
                        vec![
                            query(rate("segments_sent", "", ""), "sent"),
                            query(rate("segments_received", "", ""), "received"),
                        ],
                    ),
                    lines(
                        "Stalled, by cause",
                        "none",
                        "Seconds of standing still in a second, summed over connections.",
                        vec![query(rate("stall_seconds", "cause", ""), "{{cause}}")],
                    )
                    .stacked(),
                ],
            },
            Row {
                title: "Ends",
                panels: vec![
                    lines(
                        "By reason",
                        "cps",
                        "Connections that ended in a second; fin_local and fin_remote are in order, by who ended first.",
                        vec![query(rate("connections_closed", "reason", ""), "{{reason}}")],
                    )
                    .stacked(),
                    lines(
                        "With something undelivered",
                        "cps",
                        "Connections in a second that ended with bytes unsent or unacknowledged.",
                        vec![query(rate("connections_closed_incomplete", "reason", ""), "{{reason}}")],
                    )
                    .stacked(),
                    lines(
                        "Undelivered payload",
                        "Bps",
                        "Of connections that ended, in a second: never sent, and sent but never acknowledged.",
                        vec![
                            query(rate("closed_unsent_bytes", "", ""), "unsent"),
                            query(rate("closed_unacked_bytes", "", ""), "unacknowledged"),
                        ],
                    ),
                    lines(
                        "Duration",
                        "s",
                        "How long the connections lasted that ended.",
                        vec![
                            query(quantile("0.5", "connection_duration", "", ""), "p50"),
                            query(quantile("0.9", "connection_duration", "", ""), "p90"),
                        ],
                    ),
                ],
            },
        ],
    }
}
