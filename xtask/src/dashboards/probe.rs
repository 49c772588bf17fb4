//! The probe itself: whether its figures can be trusted, and what they cost.

use super::{
    grafana::{Dashboard, Row, lines, query},
    promql::OWN,
};

fn own(name: &str) -> String {
    format!("{name}{OWN}")
}

fn rate(name: &str) -> String {
    format!("rate({name}{OWN}[$__rate_interval])")
}

pub(super) fn dashboard() -> Dashboard {
    let lost = format!("sum by (reason) (increase(flowprobe_records_lost_total{OWN}[$__range]))");
    Dashboard {
        uid: "flowprobe-probe",
        title: "flowprobe / The probe itself",
        description: "Whether the figures can be trusted, and what they cost.",
        by_network: false,
        rows: vec![
            Row {
                title: "Trust",
                panels: vec![
                    lines(
                        "Hooks that are down",
                        "short",
                        "Hooks of the kernel that are not attached; `flowprobe check` says why and what is lost.",
                        vec![query(format!("count(flowprobe_hook_up{OWN} == 0) or vector(0)"), "down")],
                    )
                    .number(),
                    lines(
                        "Versions",
                        "short",
                        "Versions of flowprobe that run; more than one during a roll-out.",
                        vec![query(format!("count(count by (version) (flowprobe_build_info{OWN}))"), "versions")],
                    )
                    .number(),
                    lines(
                        "Web configuration",
                        "short",
                        "1: in force as its files are now. 0: a change cannot be used. Nothing without --web.config.file.",
                        vec![query(format!("min(flowprobe_web_config_last_reload_successful{OWN})"), "in force")],
                    )
                    .number(),
                    lines(
                        "Configuration",
                        "short",
                        "1: what was read last, at the start or a reload, is in force. 0: it cannot be used, and what was before it is.",
                        vec![query(format!("min(flowprobe_config_last_reload_successful{OWN})"), "in force")],
                    )
                    .number(),
                    lines(
                        "Age of what networks are known by",
                        "s",
                        "Since the date that the file of networks bears itself, or since it was written.",
                        vec![query(format!("time() - flowprobe_network_source_timestamp_seconds{OWN}"), "{{instance}} {{path}}")],
                    ),
                    lines(
                        "Groups with a place of their own",
                        "none",
                        "Sets of connections with the same labels; the others are summed in `other`.",
                        vec![query(own("flowprobe_groups"), "{{instance}}")],
                    ),
                    lines(
                        "Hooks",
                        "short",
                        "1: attached.",
                        vec![query(own("flowprobe_hook_up"), "{{instance}} {{hook}}")],
                    ),
                    lines(
                        "Records lost",
                        "short",
                        "Records that were lost between the kernel and the sums, in the time shown, by reason. Not 0: counters are too low by what these held.",
                        vec![query(lost, "{{reason}}")],
                    ),
                    lines(
                        "Counted by flowprobe / counted by the kernel",
                        "none",
                        "1 when nothing was missed, by the kernel's counter.",
                        vec![query(own("flowprobe_reconciliation_ratio"), "{{instance}} {{counter}}")],
                    ),
                    lines(
                        "Events missed",
                        "none",
                        "Events in a second that a hook missed because it was running on that CPU already.",
                        vec![query(rate("flowprobe_hook_missed_total"), "{{instance}} {{hook}}")],
                    ),
                    lines(
                        "Records added to a remainder",
                        "none",
                        "In a second, because the number of groups is at its limit; sums over all groups stay exact.",
                        vec![query(rate("flowprobe_label_overflow_total"), "{{instance}}")],
                    ),
                    lines(
                        "Records whose causes do not add up",
                        "none",
                        "In a second: more causes of retransmission than retransmissions.",
                        vec![query(rate("flowprobe_accounting_discrepancies_total"), "{{instance}}")],
                    ),
                ],
            },
            Row {
                title: "Cost",
                panels: vec![
                    lines(
                        "CPU of the daemon",
                        "percentunit",
                        "Of one CPU, in user space and in the system calls of the daemon.",
                        vec![query(rate("process_cpu_seconds_total"), "{{instance}}")],
                    ),
                    lines(
                        "CPU of the hooks",
                        "percentunit",
                        "Of one CPU, inside the kernel. Only where kernel.bpf_stats_enabled is 1.",
                        vec![query(rate("flowprobe_hook_run_seconds_total"), "{{instance}} {{hook}}")],
                    )
                    .stacked(),
                    lines(
                        "Runs of the hooks",
                        "none",
                        "In a second. Only where kernel.bpf_stats_enabled is 1.",
                        vec![query(rate("flowprobe_hook_runs_total"), "{{instance}} {{hook}}")],
                    ),
                    lines(
                        "Memory",
                        "bytes",
                        "Resident memory of the daemon.",
                        vec![query(own("process_resident_memory_bytes"), "{{instance}}")],
                    ),
                    lines(
                        "Sweep",
                        "s",
                        "How long the last walk over all sockets took, the time between two, and how long ago the last one ended.",
                        vec![
                            query(own("flowprobe_sweep_duration_seconds"), "{{instance}}: took"),
                            query(own("flowprobe_sweep_period_seconds"), "{{instance}}: one every"),
                            query(
                                format!("time() - flowprobe_last_sweep_timestamp_seconds{OWN}"),
                                "{{instance}}: age of the last",
                            ),
                        ],
                    ),
                    lines(
                        "Sockets",
                        "short",
                        "TCP sockets that the last walk read.",
                        vec![query(own("flowprobe_sweep_sockets"), "{{instance}}")],
                    ),
                    lines(
                        "Scrape",
                        "s",
                        "How long Prometheus waited for the metrics.",
                        vec![query(own("scrape_duration_seconds"), "{{instance}}")],
                    ),
                    lines(
                        "Samples of a scrape",
                        "short",
                        "What the groups cost Prometheus: series of each scrape.",
                        vec![query(own("scrape_samples_scraped"), "{{instance}}")],
                    ),
                    lines(
                        "Open files",
                        "short",
                        "File descriptors of the daemon.",
                        vec![query(own("process_open_fds"), "{{instance}}")],
                    ),
                ],
            },
        ],
    }
}
