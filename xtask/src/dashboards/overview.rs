//! Overview: is anything wrong, and where to look.

use super::{
    grafana::{Dashboard, Row, lines, query},
    promql::{CLIENT, of, quantile, rate, retransmitted},
};

pub(super) fn dashboard() -> Dashboard {
    let failures = rate("connect_failures", "", CLIENT);
    Dashboard {
        uid: "flowprobe-overview",
        title: "flowprobe / Overview",
        description: "All TCP connections of the hosts: how many, how fast, how much of it twice.",
        by_network: true,
        rows: vec![
            Row {
                title: "Now",
                panels: vec![
                    lines(
                        "Connections",
                        "short",
                        "Connections that are established or closing.",
                        vec![query(format!("sum(flowprobe_tcp_connections{})", of("")), "connections")],
                    )
                    .number(),
                    lines(
                        "Opened",
                        "cps",
                        "Handshakes completed in a second.",
                        vec![query(rate("connections_opened", "", ""), "opened")],
                    )
                    .number(),
                    lines(
                        "Failed to open",
                        "cps",
                        "Connects of this host in a second that did not lead to a connection.",
                        vec![query(failures, "failed")],
                    )
                    .number(),
                    lines(
                        "RTT p90",
                        "s",
                        "Nine of ten round trips were shorter.",
                        vec![query(quantile("0.9", "rtt", "", ""), "p90")],
                    )
                    .number(),
                    lines(
                        "Retransmitted",
                        "percentunit",
                        "Segments with payload sent again, as a share of those sent. Not all of them were lost.",
                        vec![query(retransmitted(""), "retransmitted")],
                    )
                    .number(),
                    lines(
                        "Sent",
                        "Bps",
                        "Payload sent in a second, retransmissions included.",
                        vec![query(rate("sent_bytes", "", ""), "sent")],
                    )
                    .number(),
                ],
            },
            Row {
                title: "Over time",
                panels: vec![
                    lines(
                        "Round trips",
                        "s",
                        "One sample a round trip, unless rtt_interval is set: connections that send more count more.",
                        vec![
                            query(quantile("0.5", "rtt", "", ""), "p50"),
                            query(quantile("0.9", "rtt", "", ""), "p90"),
                            query(quantile("0.99", "rtt", "", ""), "p99"),
                            query(quantile("0.5", "min_rtt", "", ""), "median of the smallest of each connection"),
                        ],
                    ),
                    lines(
                        "Retransmitted by service",
                        "percentunit",
                        "Segments with payload sent again, as a share of those sent.",
                        vec![query(retransmitted("service"), "{{service}}")],
                    ),
                    lines(
                        "Connections by service",
                        "short",
                        "Connections that are established or closing.",
                        vec![query(
                            format!("sum by (service, role) (flowprobe_tcp_connections{})", of("")),
                            "{{service}} {{role}}",
                        )],
                    )
                    .stacked(),
                    lines(
                        "Opened by service",
                        "cps",
                        "Handshakes completed in a second.",
                        vec![query(rate("connections_opened", "service, role", ""), "{{service}} {{role}}")],
                    )
                    .stacked(),
                    lines(
                        "Payload",
                        "Bps",
                        "Bytes in a second: sent (retransmissions included), acknowledged by peers, received.",
                        vec![
                            query(rate("sent_bytes", "", ""), "sent"),
                            query(rate("acked_bytes", "", ""), "acknowledged"),
                            query(rate("received_bytes", "", ""), "received"),
                        ],
                    ),
                    lines(
                        "Ends",
                        "cps",
                        "Connections that ended in a second, by reason.",
                        vec![query(rate("connections_closed", "reason", ""), "{{reason}}")],
                    )
                    .stacked(),
                ],
            },
        ],
    }
}
