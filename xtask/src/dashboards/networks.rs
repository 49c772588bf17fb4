//! Networks: which ones reach us badly, and since when.

use super::{
    grafana::{Dashboard, Row, lines, query},
    promql::{CLIENT, NETWORK, of, quantile, rate, retransmitted, share},
};

const NAME: &str = "{{service}} {{prefix}} {{bgp_prefix}} {{asn}} {{country}} {{list}}";

fn top(expression: &str) -> String {
    format!("topk(10, {expression})")
}

pub(super) fn dashboard() -> Dashboard {
    let p90 = quantile("0.9", "rtt", NETWORK, "");
    let least = quantile("0.5", "min_rtt", NETWORK, "");
    let synacks = rate("retransmitted_segments", NETWORK, "cause=\"synack\"");
    let asked = format!("({synacks} + {})", rate("connections_opened", NETWORK, "role=\"server\""));
    let synack_share = share(&synacks, &asked);
    let inflation = format!("({p90}) / ({least})");
    Dashboard {
        uid: "flowprobe-networks",
        title: "flowprobe / Networks",
        description: "Clients by service and network: round trips, losses and what they get.",
        by_network: true,
        rows: vec![
            Row {
                title: "Worst first",
                panels: vec![
                    lines(
                        "Networks",
                        "short",
                        "The networks as configured, those that send the most again first. A click on a column sorts by it.",
                        vec![
                            query(retransmitted(NETWORK), "retransmitted|percentunit"),
                            query(quantile("0.5", "rtt", NETWORK, ""), "RTT p50|s"),
                            query(p90.clone(), "RTT p90|s"),
                            query(least.clone(), "smallest RTT, median|s"),
                            query(synack_share.clone(), "SYN-ACKs sent again|percentunit"),
                            query(rate("acked_bytes", NETWORK, ""), "acknowledged|Bps"),
                            query(
                                format!("sum by ({NETWORK}) (flowprobe_tcp_connections{})", of("")),
                                "connections|short",
                            ),
                        ],
                    )
                    .table(),
                ],
            },
            Row {
                title: "The ten worst over time",
                panels: vec![
                    lines(
                        "Retransmitted",
                        "percentunit",
                        "Segments with payload sent again, as a share of those sent.",
                        vec![query(top(&retransmitted(NETWORK)), NAME)],
                    ),
                    lines(
                        "SYN-ACKs sent again",
                        "percentunit",
                        "Repeated SYN-ACKs as a share of these and completed handshakes: clients that do not hear us, or that we do not hear.",
                        vec![query(top(&synack_share), NAME)],
                    ),
                    lines(
                        "RTT p90",
                        "s",
                        "Nine of ten round trips were shorter.",
                        vec![query(top(&p90), NAME)],
                    ),
                    lines(
                        "RTT inflation",
                        "none",
                        "RTT p90 divided by the median of connections' smallest RTT: how much of the time is queues. Absent while no connection ends.",
                        vec![query(top(&inflation), NAME)],
                    ),
                    lines(
                        "Handshake RTT p50",
                        "s",
                        "From SYN or SYN-ACK to its answer, one sample a connection.",
                        vec![query(top(&quantile("0.5", "handshake_rtt", NETWORK, "")), NAME)],
                    ),
                    lines(
                        "Acknowledged payload",
                        "Bps",
                        "Bytes in a second that clients acknowledged, of the ten largest networks.",
                        vec![query(top(&rate("acked_bytes", NETWORK, "")), NAME)],
                    ),
                    lines(
                        "Stalled",
                        "none",
                        "Connections that stood still at a time: seconds of stalls in a second.",
                        vec![query(top(&rate("stall_seconds", NETWORK, "")), NAME)],
                    ),
                    lines(
                        "Connect failures",
                        "cps",
                        "Connects of this host in a second that did not lead to a connection.",
                        vec![query(top(&rate("connect_failures", NETWORK, CLIENT)), NAME)],
                    ),
                ],
            },
        ],
    }
}
