//! Text of `docs/metrics.md`, made from the tables that the scrape is made from.

use std::fmt::Write as _;

use probe_common::histogram::upper_bound_seconds;
use prometheus::{core::Collector as _, process_collector::ProcessCollector};

use super::{
    families::{Family, OWN, TCP},
    prometheus::RTT_BUCKETS,
};
use crate::aggregate::GROUP_LABELS;

const INTRODUCTION: &str = "\
# Metrics

Made from the code by `cargo xtask docs`; do not edit. Served at `/metrics` in Prometheus' text format, and in
its protobuf format to a scraper that asks for it.

* Counters start at 0 with the daemon. Increments of live connections are added at each sweep (by default every 5 s) and
  at a scrape when the last sweep is older than 1 s and than a hundred times its own time; what remains is added when the
  connection ends.
* A family or series whose value is not known is absent; it is never 0 instead. A group of connections is shown from its
  first connection on.
* No label holds a port, or an address unless a prefix length of the configuration makes it whole. A label that a peer can
  choose, by the network that it comes from, has a bounded number of values.
";

const NATIVE: &str = "
A scraper that asks for protobuf (Prometheus with `--enable-feature=native-histograms`, or from 3.0 on with
`scrape_native_histograms`) gets the same counts as native histograms too: round trips in all buckets of schema 2, durations
in those of schema 0. The lowest bucket is the zero bucket. What is above the highest bound is in the overflow bucket: of
these samples only the bound is known, so a quantile among them is `+Inf`, where classic buckets give the bound.
";

/// The reference of all metrics, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    out.push_str("\n## Connections\n\n");
    out.push_str("Each of these has the labels `role` (`client`: this host connected, `server`: the peer did, `unknown`: the connection is older than the probe)\nand `family` (`ipv4`, `ipv6`; an IPv4 peer of an IPv6 socket is `ipv4`), and what the [configuration](configuration.md) adds:\n`service`, `prefix`, `bgp_prefix`, `asn`, `country`, `list`. Their values `other` and `former` stand for groups that have no place\nof their own, and for the past of those that gave it up: sums over all are exact, and rates leave `former` out. What a group had before\nits first scrape is in no rate ([method](method.md#connections)).\n");
    families(&mut out, TCP);
    buckets(&mut out);
    out.push_str("\n## flowprobe itself\n");
    families(&mut out, OWN);
    process(&mut out);
    out
}

fn families(out: &mut String, families: &[Family]) {
    for family in families {
        let labels: Vec<String> =
            group_labels(family).chain(family.labels).map(|l| format!("`{l}`")).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        push(out, format_args!("\n### `{}`\n\n{}\n\n", family.name, family.help));
        push(
            out,
            format_args!("* Type: {}. Unit: {}. Labels: {labels}.\n", family.kind().as_str(), family.unit),
        );
        push(out, format_args!("* Source: {}.\n", family.source));
        push(out, format_args!("* {}\n", family.meaning));
        if family.field.is_some() {
            out.push_str("* Absent where the kernel has no such field.\n");
        }
    }
}

fn group_labels(family: &Family) -> impl Iterator<Item = &'static &'static str> {
    GROUP_LABELS.iter().filter(|_| family.is_by_group())
}

fn buckets(out: &mut String) {
    out.push_str(
        "\n### Buckets\n\nRound trips are kept in the buckets of Prometheus' exponential schema 2 (bounds 2^(k/4) s, four an octave). The\nhistograms above show every second of them, and below a millisecond every fourth, so their counts are exact. Upper\nbounds in seconds:\n\n",
    );
    for bucket in RTT_BUCKETS {
        push(out, format_args!("`{}` ", upper_bound_seconds(bucket)));
    }
    out.push_str("`+Inf`\n\nDurations of connections have one bucket an octave, 2^-10 s to 2^17 s.\n");
    out.push_str(NATIVE);
}

fn process(out: &mut String) {
    out.push_str("\n### `process_*`\n\nThe daemon's process, as every Prometheus client shows it:\n\n");
    let collector = ProcessCollector::for_self();
    for desc in collector.desc() {
        push(out, format_args!("* `{}`: {}\n", desc.fq_name, desc.help));
    }
}

/// Writing to a String cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::families;

    #[test]
    fn each_family_is_described_in_full_sentences() {
        let text = markdown();
        for family in families::all() {
            assert!(text.contains(&format!("### `{}`\n\n{}\n", family.name, family.help)), "{}", family.name);
            assert!(family.help.ends_with('.') && family.help.matches(". ").count() == 0, "{}", family.name);
            assert!(family.meaning.ends_with('.'), "{}", family.name);
            assert!(!family.source.ends_with('.'), "{}", family.name);
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("# ")).count(), 1);
    }
}
