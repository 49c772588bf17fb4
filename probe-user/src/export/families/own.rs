//! What flowprobe says of itself: whether the numbers above it can be trusted, and what they cost.

use jiff::Timestamp;

use super::{Family, Read, Sample};
use crate::export::stats::{HookStats, SelfStats, SourceStats};

/// Families of the daemon.
pub const OWN: &[Family] = &[
    Family {
        name: "flowprobe_build_info",
        labels: &["version"],
        unit: "always 1",
        help: "Version of flowprobe, as a label.",
        source: "the build",
        meaning: "Join it to other series to see them by version.",
        field: None,
        read: Read::OwnGauge(|_, own| vec![(vec![own.version.clone()], 1.0)]),
    },
    Family {
        name: "flowprobe_hook_up",
        labels: &["hook"],
        unit: "1 or 0",
        help: "Whether a hook of the kernel is attached.",
        source: "the load of each program",
        meaning: "0: `flowprobe check` says why, and what is lost without it.",
        field: None,
        read: Read::OwnGauge(|_, own| each_hook(own, |hook| Some(truth(hook.up)))),
    },
    Family {
        name: "flowprobe_hook_missed_total",
        labels: &["hook"],
        unit: "events",
        help: "Events that a hook missed because it was already running on that CPU.",
        source: "recursion_misses of the program, by its descriptor's /proc/self/fdinfo",
        meaning: "What the sock_ops program carries is not subject to this: connections and their ends are complete even when other hooks miss events.",
        field: None,
        read: Read::OwnCounter(|_, own| each_hook(own, |hook| hook.missed.map(|count| count as f64))),
    },
    Family {
        name: "flowprobe_hook_runs_total",
        labels: &["hook"],
        unit: "runs",
        help: "Runs of a hook.",
        source: "run_cnt of the program, by its descriptor's /proc/self/fdinfo",
        meaning: "Absent until the sysctl kernel.bpf_stats_enabled is 1; runs while it is 0 are not counted.",
        field: None,
        read: Read::OwnCounter(|_, own| each_hook(own, |hook| hook.runs.map(|count| count as f64))),
    },
    Family {
        name: "flowprobe_hook_run_seconds_total",
        labels: &["hook"],
        unit: "seconds",
        help: "Time spent in runs of a hook.",
        source: "run_time_ns of the program, by its descriptor's /proc/self/fdinfo",
        meaning: "What the measurement costs the machine's CPUs. Absent until the sysctl kernel.bpf_stats_enabled is 1; runs while it is 0 are not counted.",
        field: None,
        read: Read::OwnCounter(|_, own| each_hook(own, |hook| hook.run_time.map(|time| time.as_secs_f64()))),
    },
    Family {
        name: "flowprobe_records_lost_total",
        labels: &["reason"],
        unit: "records",
        help: "Records that were lost between the kernel and the sums, by reason.",
        source: "counted by the programs where they give up, by the reader where bytes are no record, and by the sweeper",
        meaning: "Not 0: something is missing, and the reason tells what. `ring_full_closed`, `ring_full_increment`, `counters_wiped`, `end_unseen`, `malformed`: the counters of connections are too low by what these records held. `ring_full_synack`: by a repeated SYN-ACK. `state_refused`, `take_over_refused`: a connection is not seen until a sweep can take it over. `trouble_refused`, `rtt_unknown`, `histogram_refused`, `callbacks_refused`, `callbacks_taken`: causes, round trips or their buckets of a connection are missing. `sweep_incomplete`: what live connections added is counted later.",
        field: None,
        read: Read::OwnCounter(|_, own| {
            own.losses.iter().map(|(reason, count)| (vec![reason.clone()], *count as f64)).collect()
        }),
    },
    Family {
        name: "flowprobe_rtt_samples_left_out_total",
        labels: &[],
        unit: "samples",
        help: "Round trips of which no sample was taken because the connection's last one was too recent.",
        source: "RTT_CB, with the time of --rtt-interval",
        meaning: "0 unless --rtt-interval or `rtt_interval` asks for a distance between samples. They are no loss: with them `flowprobe_tcp_rtt_seconds_count` would be what it is without that option.",
        field: None,
        read: Read::OwnCounter(|_, own| {
            own.rtt_samples_left_out.iter().map(|count| (Vec::new(), *count as f64)).collect()
        }),
    },
    Family {
        name: "flowprobe_sweep_duration_seconds",
        labels: &[],
        unit: "seconds",
        help: "Duration of the last sweep over all sockets.",
        source: "CLOCK_MONOTONIC",
        meaning: "Time on the wall: where CPUs are short the sweeping thread stands back (nice 5), and this grows. Absent before the first sweep.",
        field: None,
        read: Read::OwnGauge(|_, own| {
            own.sweep.iter().map(|sweep| (Vec::new(), sweep.duration.as_secs_f64())).collect()
        }),
    },
    Family {
        name: "flowprobe_last_sweep_timestamp_seconds",
        labels: &[],
        unit: "seconds since 1970",
        help: "When the last sweep over all sockets ended.",
        source: "CLOCK_REALTIME",
        meaning: "Sums of live connections are of this moment. One that stands still for some periods says that a sweep does not come to its end: it waits for the lock of each socket, which a thread keeps whose memory does not come (a page of a network file system that hangs). Then `/-/ready` says so, and the daemon's process may outlive its end until that thread goes on. Absent before the first sweep.",
        field: None,
        read: Read::OwnGauge(|_, own| {
            own.sweep.iter().map(|sweep| (Vec::new(), seconds(sweep.ended))).collect()
        }),
    },
    Family {
        name: "flowprobe_sweep_period_seconds",
        labels: &[],
        unit: "seconds",
        help: "Time between two sweeps, as it now is.",
        source: "own clock: CLOCK_THREAD_CPUTIME_ID of the thread that sweeps",
        meaning: "As configured, and longer where sweeps would take more than 1 % of one CPU. Sums of live connections are no older than this and a sweep's duration, or than a second where a scrape can ask for a sweep within that share. Absent before the first sweep.",
        field: None,
        read: Read::OwnGauge(|_, own| {
            own.sweep.iter().map(|sweep| (Vec::new(), sweep.period.as_secs_f64())).collect()
        }),
    },
    Family {
        name: "flowprobe_sweep_sockets",
        labels: &[],
        unit: "sockets",
        help: "Connections that the last sweep looked at; listeners are not among them.",
        source: "iter/tcp in every network namespace that holds TCP sockets",
        meaning: "Absent before the first sweep.",
        field: None,
        read: Read::OwnGauge(|_, own| {
            own.sweep.iter().map(|sweep| (Vec::new(), sweep.sockets as f64)).collect()
        }),
    },
    Family {
        name: "flowprobe_reconciliation_ratio",
        labels: &["counter"],
        unit: "ratio",
        help: "What flowprobe counted divided by what the kernel counted since the start, by the kernel's counter.",
        source: "/proc/net/snmp and /proc/net/netstat of the network namespaces",
        meaning: "1 when nothing was missed. Only counters that the records determine: ActiveOpens, PassiveOpens, EstabResets, RetransSegs, TCPFastRetrans, TCPSynRetrans, TCPRetransFail (RetransSegs and TCPSynRetrans only with the synack hook). Absent for a counter that the kernel has not raised yet. Connects that wait for an answer keep ActiveOpens, and their repeated SYNs RetransSegs and TCPSynRetrans, below 1 until their outcome is known; what happens during a sweep moves it for a moment. `flowprobe check --reconcile 10s` tells differences and reasons.",
        field: None,
        read: Read::OwnGauge(|_, own| {
            own.reconciliation.iter().map(|(counter, ratio)| (vec![counter.clone()], *ratio)).collect()
        }),
    },
    Family {
        name: "flowprobe_web_config_last_reload_successful",
        labels: &[],
        unit: "1 or 0",
        help: "Whether the web configuration is in force as its files are now.",
        source: "the file of --web.config.file and those it names, read at each connection",
        meaning: "0: a file was changed and cannot be used; the log says why, and what was in force before stays. Absent without --web.config.file.",
        field: None,
        read: Read::OwnGauge(|_, own| {
            own.web_config.iter().map(|ok| (Vec::new(), f64::from(u8::from(*ok)))).collect()
        }),
    },
    Family {
        name: "flowprobe_accounting_discrepancies_total",
        labels: &[],
        unit: "records",
        help: "Records whose causes of retransmission added up to more than their retransmissions.",
        source: "checked as each record is added",
        meaning: "Not 0: the causes in `flowprobe_tcp_retransmitted_segments_total` add up to more than the kernel counted.",
        field: None,
        read: Read::OwnCounter(|snapshot, _| vec![(Vec::new(), snapshot.discrepancies as f64)]),
    },
    Family {
        name: "flowprobe_label_overflow_total",
        labels: &[],
        unit: "records",
        help: "Records that were added to a remainder because there was no place for their group.",
        source: "counted as records are grouped",
        meaning: "All of `groups.max` are taken; for who completes no handshake, half of them. The sums over all groups stay exact.",
        field: None,
        read: Read::OwnCounter(|snapshot, _| vec![(Vec::new(), snapshot.label_overflow as f64)]),
    },
    Family {
        name: "flowprobe_groups",
        labels: &[],
        unit: "groups",
        help: "Groups with a place of their own.",
        source: "counted at the scrape",
        meaning: "At most `groups.max` of the configuration where groups have labels of networks. What has no place is in groups whose values are `other` and `former`.",
        field: None,
        read: Read::OwnGauge(|snapshot, _| vec![(Vec::new(), snapshot.held as f64)]),
    },
    Family {
        name: "flowprobe_groups_left_total",
        labels: &[],
        unit: "groups",
        help: "Places that groups gave up because they were idle, or for heavier ones.",
        source: "counted when places are given, once a minute",
        meaning: "Their sums are in the group whose values are `former` from then on, which jumps by them: leave it out of rates, with `prefix!=\"former\"` for example.",
        field: None,
        read: Read::OwnCounter(|snapshot, _| vec![(Vec::new(), snapshot.left as f64)]),
    },
    Family {
        name: "flowprobe_config_last_reload_successful",
        labels: &[],
        unit: "1 or 0",
        help: "Whether the last attempt to read the configuration succeeded.",
        source: "the start, and each SIGHUP",
        meaning: "0: the configuration from before is in use, and the log says what is wrong with the file.",
        field: None,
        read: Read::OwnGauge(|_, own| {
            own.config.iter().map(|config| (Vec::new(), truth(config.is_last_good))).collect()
        }),
    },
    Family {
        name: "flowprobe_config_last_reload_success_timestamp_seconds",
        labels: &[],
        unit: "seconds since 1970",
        help: "When the configuration in use was read.",
        source: "CLOCK_REALTIME",
        meaning: "The start of the daemon, or a later SIGHUP.",
        field: None,
        read: Read::OwnGauge(|_, own| {
            own.config.iter().map(|config| (Vec::new(), seconds(config.last_good))).collect()
        }),
    },
    Family {
        name: "flowprobe_network_source_timestamp_seconds",
        labels: &["source", "path"],
        unit: "seconds since 1970",
        help: "Date of the data in use of a file of networks.",
        source: "the file's own date (MMDB, MRT), else its modification time",
        meaning: "`source` is `list`, `mmdb` or `bgp`. Absent without such a file.",
        field: None,
        read: Read::OwnGauge(|_, own| each_source(own, |source| source.date.map(seconds))),
    },
    Family {
        name: "flowprobe_network_source_last_reload_successful",
        labels: &["source", "path"],
        unit: "1 or 0",
        help: "Whether a file of networks is in use as it is now.",
        source: "a look at the file every 5 s",
        meaning: "0: it changed and cannot be used; what was read before is in use, and the log says what is wrong.",
        field: None,
        read: Read::OwnGauge(|_, own| each_source(own, |source| Some(truth(source.is_good)))),
    },
    Family {
        name: "flowprobe_network_source_prefixes",
        labels: &["source", "path"],
        unit: "prefixes",
        help: "Prefixes in use of a file of networks.",
        source: "counted as the file is read",
        meaning: "A sudden change is worth a look at the file: `flowprobe networks stats FILE`.",
        field: None,
        read: Read::OwnGauge(|_, own| each_source(own, |source| Some(source.prefixes as f64))),
    },
];

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

fn each_source(own: &SelfStats, value: impl Fn(&SourceStats) -> Option<f64>) -> Vec<Sample> {
    let labels = |source: &SourceStats| vec![source.source.to_owned(), source.path.clone()];
    own.sources.iter().filter_map(|source| Some((labels(source), value(source)?))).collect()
}

fn each_hook(own: &SelfStats, value: impl Fn(&HookStats) -> Option<f64>) -> Vec<Sample> {
    own.hooks.iter().filter_map(|hook| Some((vec![hook.name.clone()], value(hook)?))).collect()
}
