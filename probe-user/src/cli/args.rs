//! What can be typed: verbs, options and their help.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tracing::level_filters::LevelFilter;

use super::output::{Format, columns::ColumnName};
use crate::{config::Listen, flow::sort::Sort};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "flowprobe",
    version,
    about = "Round trips, losses and limits of every TCP connection of this machine",
    after_help = "Seen in the kernel with eBPF. TCP only: QUIC and other UDP are outside.\n\n\
        Examples:\n  \
        flowprobe daemon                       serve http://127.0.0.1:10179/metrics\n  \
        flowprobe flows                        connections now, most bytes first\n  \
        flowprobe flows 'loss > 1%' sport :443\n  \
        flowprobe watch -o jsonl | jq .        each connection as it ends\n  \
        flowprobe check                        what this kernel allows and lacks\n\
        Exit codes: 0 done (finding nothing is done), 1 failed, 2 not understood.",
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Where the daemon and the other verbs meet
    #[arg(
        long,
        global = true,
        env = "FLOWPROBE_RUN_DIR",
        default_value = "/run/flowprobe",
        value_name = "DIR"
    )]
    #[arg(hide_env_values = true)]
    pub run_dir: PathBuf,
    /// Configuration (TOML); else /etc/flowprobe/flowprobe.toml if there
    #[arg(long, global = true, env = "FLOWPROBE_CONFIG", value_name = "FILE", hide_env = true)]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Load the probes and serve /metrics until SIGTERM
    Daemon(DaemonArgs),
    /// Show live connections now
    Flows(FlowsArgs),
    /// Show each connection as it ends or fails, until interrupted
    Watch(WatchArgs),
    /// Say what this kernel allows, and what is lost without the rest
    Check(CheckArgs),
    /// Say which network an address is in and why, or what a file holds
    #[command(subcommand)]
    Networks(NetworksVerb),
    /// Write shell completions to standard output
    #[command(after_help = "Example:\n  \
        flowprobe completions bash > /etc/bash_completion.d/flowprobe")]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual page to standard output
    #[command(after_help = "Example:\n  \
        flowprobe man > /usr/local/share/man/man1/flowprobe.1\n  \
        flowprobe man | man -l -")]
    Man,
    /// Write a page of the documentation to standard output
    #[command(hide = true)]
    Reference {
        /// Which page
        page: ReferencePage,
    },
}

/// Pages that are made from the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReferencePage {
    /// docs/metrics.md
    Metrics,
    /// docs/configuration.md
    Configuration,
    /// docs/flowprobe.toml
    Example,
}

/// `flowprobe networks`.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "\
Examples:
  flowprobe networks lookup 192.0.2.7 2001:db8::1
  flowprobe networks lookup --config ./flowprobe.toml 192.0.2.7
  flowprobe networks stats /var/lib/flowprobe/rib.gz")]
pub enum NetworksVerb {
    /// Say which labels addresses get by the configuration, and why
    Lookup {
        /// IPv4 or IPv6
        #[arg(value_name = "ADDR", required = true)]
        addresses: Vec<IpAddr>,
    },
    /// Read a file and say what is in it and what it costs
    ///
    /// MMDB, MRT RIB dump, prefix-to-AS text or CIDR list; plain, gzip or bzip2.
    Stats {
        /// The file
        file: PathBuf,
    },
}

/// `flowprobe daemon`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "\
Examples:
  flowprobe daemon
  flowprobe daemon --listen '[::]:10179' --sweep-period 10s
  flowprobe daemon --check-config --config ./flowprobe.toml
  flowprobe daemon --listen unix:/run/flowprobe.sock

What is typed wins over the environment (FLOWPROBE_LOG, FLOWPROBE_CONFIG),
that over the configuration file, and that over the defaults. The file is
TOML; it also sets services, networks and bounds:
  listen = \"127.0.0.1:10179\"
  [networks]
  labels = [\"prefix\"]
  [[service]]
  name = \"web\"
  ports = [443]
SIGHUP reads it again; a file that is broken leaves the old one in use.")]
pub struct DaemonArgs {
    /// Check the configuration and the files that it names, say what it costs in series, and end
    #[arg(long)]
    pub check_config: bool,
    /// Address and port of /metrics, or unix:PATH [default: 127.0.0.1:10179]
    #[arg(long, value_name = "ADDR", value_parser = super::daemon::listen)]
    pub listen: Option<Listen>,
    /// TLS and passwords for /metrics, in the exporter-toolkit's format; read again when it changes
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config: Option<PathBuf>,
    /// Time between two walks over the live connections, 100ms to 10m [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = super::daemon::sweep_period)]
    pub sweep_period: Option<Duration>,
    /// Shortest time between two round-trip samples of one connection, 0s to 1m [default: 0s, every round trip]
    #[arg(long, value_name = "DURATION", value_parser = super::daemon::rtt_interval)]
    pub rtt_interval: Option<Duration>,
    /// Memory for records on their way from the kernel, a power of two, 64Ki to 1Gi [default: 4Mi, or 256Ki for each CPU where that is more]
    #[arg(long, value_name = "BYTES", value_parser = super::daemon::ring_size)]
    pub ring_size: Option<u32>,
    /// What is said on standard error: error, warn, info, debug or trace [default: info; debug with --kernel-log]
    #[arg(long, value_name = "LEVEL", env = "FLOWPROBE_LOG", value_parser = super::daemon::log_level)]
    pub log: Option<LevelFilter>,
    /// Load these hooks only, to measure what each costs; what the others would see is not seen
    #[arg(long, value_name = "HOOK", env = "FLOWPROBE_HOOKS", value_delimiter = ',', hide = true)]
    #[arg(value_parser = super::daemon::hook)]
    pub hooks: Option<Vec<&'static str>>,
    /// Load the probes with their own log, to standard error; costs time in the kernel
    #[arg(long)]
    pub kernel_log: bool,
}

const FILTER: &str = "\
Filters are words as in ss, joined by and, or, not and parentheses; words
side by side mean and:
  dst 192.0.2.0/24    src [2001:db8::1]:443     address, prefix or :PORT
  sport :443    dport != :80    sport ge 1024   ports
  state established   role server   family ipv6   cc bbr
  uid 33   netns 4026531840   cgroup '/system.slice/*'
  reason reset_received   adopted               ending; older than the probe
  rtt > 100ms   min-rtt   rttvar   duration     in us, ms, s, min, h
  retrans > 0   cwnd                            numbers; k M G T: 1000s
  bytes > 10M   unsent                          also Ki Mi Gi Ti: 1024s
  loss > 1%     lost_segs_estimate less the handshake's, of data_segs_out
bytes is bytes_acked + bytes_received. Any other field of the JSON works by
its own name. Quote < and > from the shell, or write lt, le, gt, ge, eq, ne.
What the kernel gives no value for matches neither a test nor its opposite.

Columns and sort keys are the JSON's field names; tables also have columns
of their own, as in the header, and keys the short names above. In CSV
rtt_histogram is upper:count;upper:count in us, the last without upper.";

const FLOWS: &str = "\
Examples:
  flowprobe flows
  flowprobe flows --sort retrans --limit 20
  flowprobe flows 'rtt > 100ms and loss > 1%'
  flowprobe flows state established sport :443 -o jsonl
  flowprobe flows -o csv --columns remote_addr,srtt_us,retrans_segs
Without a running daemon it loads probes for the moment; connections are then
older than the probe.";

const WATCH: &str = "\
Examples:
  flowprobe watch
  flowprobe watch reason reset_received or reason timeout
  flowprobe watch 'dst 192.0.2.0/24 and retrans > 0' -o jsonl >> ends.jsonl
  flowprobe watch --limit 1 dport :5432
Standard error has a line when it is ready, and one for each loss of records.";

/// `flowprobe flows`.
#[derive(Args, Clone, Debug)]
#[command(after_help = FLOWS, after_long_help = format!("{FILTER}\n\n{FLOWS}"))]
pub struct FlowsArgs {
    /// Which connections, in words; all if none (--help lists the words)
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
    /// How it looks.
    #[command(flatten)]
    pub view: View,
    /// Largest number, longest or latest time first, names from A to Z; -KEY the other way round
    ///
    /// What has no value comes last either way. Default: bytes for tables and with --limit; json, jsonl and csv are
    /// otherwise written as they are found, in no order.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub sort: Option<Sort>,
    /// Show only the first N
    #[arg(long, value_name = "N", value_parser = limit)]
    pub limit: Option<usize>,
}

/// `flowprobe watch`.
#[derive(Args, Clone, Debug)]
#[command(after_help = WATCH, after_long_help = format!("{FILTER}\n\n{WATCH}"))]
pub struct WatchArgs {
    /// Which connections, in words; all if none (--help lists the words)
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
    /// How it looks.
    #[command(flatten)]
    pub view: View,
    /// End after N connections
    #[arg(long, value_name = "N", value_parser = limit)]
    pub limit: Option<usize>,
}

/// How flows are shown.
#[derive(Args, Clone, Debug, Default)]
pub struct View {
    /// Table that fits the terminal, all columns, or a format for programs
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Only these, in this order
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub columns: Option<Vec<ColumnName>>,
    /// Without the line of names
    #[arg(long)]
    pub no_header: bool,
}

/// `flowprobe check`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  flowprobe check
  flowprobe check -o json | jq '.hooks[] | select(.ok | not)'
  flowprobe check --reconcile 10s        our sums beside the kernel's own
Exit code 0: all that is required is there, and every counter that is exact
agrees; 1: something is not, or does not.")]
pub struct CheckArgs {
    /// Count for this time, 100ms to 1h, and compare with the kernel's counters
    ///
    /// Loads probes of its own; a running daemon is not asked. Ctrl-C ends it early with a result.
    #[arg(long, value_name = "DURATION", value_parser = super::reconcile::duration)]
    pub reconcile: Option<Duration>,
    /// For people or for programs
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: CheckFormat,
}

/// Formats of `flowprobe check`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people.
    #[default]
    Table,
    /// One object.
    Json,
}

fn limit(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "a number from 1 is wanted".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn filters_and_options_mix() {
        let line = ["flowprobe", "flows", "rtt", ">", "1ms", "--sort", "-rtt", "or", "adopted", "-o", "csv"];
        let Verb::Flows(args) = Cli::try_parse_from(line).unwrap().verb else { panic!("not flows") };
        assert_eq!(args.filter, ["rtt", ">", "1ms", "or", "adopted"]);
        assert_eq!(args.view.output, Format::Csv);
        assert!(args.sort.is_some());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "flowprobe flows --sort rtz",
            "flowprobe flows --limit 0",
            "flowprobe flows --columns srtt",
            "flowprobe flows -o xml",
            "flowprobe watch --sort rtt",
            "flowprobe daemon --sweep-period 5",
            "flowprobe daemon --ring-size 3M",
            "flowprobe daemon --listen localhost",
            "flowprobe daemon --log loud",
            "flowprobe daemon --log flowprobe=debug",
            "flowprobe dance",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_fits_a_screen() {
        for option in ["-h", "--help"] {
            let help = Cli::try_parse_from(["flowprobe", option]).unwrap_err().to_string();
            assert!(help.contains("QUIC"));
            assert!(help.lines().count() <= 29, "{} lines\n{help}", help.lines().count());
        }
        for verb in Cli::command().get_subcommands() {
            let notes = [verb.get_after_help(), verb.get_after_long_help()];
            for line in notes
                .into_iter()
                .flatten()
                .flat_map(|text| text.to_string().lines().map(str::to_owned).collect::<Vec<_>>())
            {
                assert!(line.chars().count() <= 78, "{line}");
            }
        }
    }

    #[test]
    fn every_verb_has_an_example() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let help = verb.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "{}", verb.get_name());
        }
    }
}
