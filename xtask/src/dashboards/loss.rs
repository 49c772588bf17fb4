//! Loss by cause: what was sent again, why, how much of it was needless, and what it cost.

use super::{
    grafana::{Dashboard, Row, lines, query},
    promql::{HAS_PAYLOAD, rate, retransmitted, share},
};

pub(super) fn dashboard() -> Dashboard {
    let again = rate("retransmitted_segments", "", HAS_PAYLOAD);
    let needless = rate("needless_retransmitted_segments", "", "");
    let sent = rate("data_segments_sent", "", "");
    let episodes = rate("loss_episodes", "", "");
    Dashboard {
        uid: "flowprobe-loss",
        title: "flowprobe / Loss by cause",
        description: "What was sent again and why. A retransmission is not a loss: what proved needless is shown apart.",
        by_network: true,
        rows: vec![
            Row {
                title: "Retransmissions",
                panels: vec![
                    lines(
                        "By cause",
                        "none",
                        "Segments sent again in a second, each under one cause: fast (acknowledgements said so), rto (the timer ran out), tlp (a probe for the tail), syn, synack.",
                        vec![query(rate("retransmitted_segments", "cause", ""), "{{cause}}")],
                    )
                    .stacked(),
                    lines(
                        "Share of what was sent, by cause",
                        "percentunit",
                        "The same, divided by the segments with payload sent.",
                        vec![query(
                            format!(
                                "{} / on () group_left () ({sent} > 0)",
                                rate("retransmitted_segments", "cause", "")
                            ),
                            "{{cause}}",
                        )],
                    ),
                    lines(
                        "Needless and lost",
                        "percentunit",
                        "Of the segments with payload sent: sent again; sent again without need, as receivers reported or the kernel found; and the difference, an estimate of what was lost. A needless SYN or SYN-ACK is among the needless.",
                        vec![
                            query(retransmitted(""), "sent again"),
                            query(share(&needless, &sent), "needless"),
                            query(format!("clamp_min({again} - {needless}, 0) / ({sent} > 0)"), "lost (estimate)"),
                        ],
                    ),
                    lines(
                        "By service",
                        "percentunit",
                        "Segments with payload sent again, as a share of those sent.",
                        vec![query(retransmitted("service, role"), "{{service}} {{role}}")],
                    ),
                    lines(
                        "Retransmitted payload",
                        "Bps",
                        "Bytes sent again in a second.",
                        vec![query(rate("retransmitted_bytes", "", ""), "sent again")],
                    ),
                    lines(
                        "Congestion marks",
                        "none",
                        "Segments in a second that arrived with the mark of congestion (ECN CE), as their receivers reported.",
                        vec![query(rate("ce_delivered_segments", "", ""), "marked")],
                    ),
                ],
            },
            Row {
                title: "What it cost",
                panels: vec![
                    lines(
                        "Timeouts",
                        "none",
                        "Retransmission timers that ran out, in a second.",
                        vec![query(rate("rtos", "service", ""), "{{service}}")],
                    ),
                    lines(
                        "Loss episodes",
                        "none",
                        "Episodes of repair in a second, and of these such as the kernel took back because nothing was lost.",
                        vec![
                            query(episodes.clone(), "episodes"),
                            query(rate("loss_episodes_undone", "", ""), "taken back"),
                        ],
                    ),
                    lines(
                        "Duration of a loss episode",
                        "s",
                        "Mean time from the first retransmission of an episode to its end.",
                        vec![query(share(&rate("loss_episode_seconds", "", ""), &episodes), "mean")],
                    ),
                    lines(
                        "Stalled, by cause",
                        "none",
                        "Seconds of standing still in a second, summed over connections.",
                        vec![query(rate("stall_seconds", "cause", ""), "{{cause}}")],
                    )
                    .stacked(),
                    lines(
                        "Stalls by cause",
                        "none",
                        "Stalls that began in a second.",
                        vec![query(rate("stalls", "cause", ""), "{{cause}}")],
                    )
                    .stacked(),
                    lines(
                        "Needless retransmissions",
                        "none",
                        "Segments in a second that were sent again for nothing, as receivers reported or the kernel found when it took an episode back.",
                        vec![query(rate("needless_retransmitted_segments", "", ""), "needless")],
                    ),
                ],
            },
        ],
    }
}
