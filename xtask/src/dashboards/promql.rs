//! PromQL that several panels share.
//!
//! A label that is not configured is absent; `=~".*"`, which `All` stands for, matches that too. Where a server keeps
//! native histograms in place of classic ones, the second half of an `or` answers.

/// Selector of series of connections, with more matchers. Without `former`, which takes over the past of networks that gave
/// their series up, all at once: a rate of it means nothing.
pub(super) fn of(more: &str) -> String {
    let variables = ["job", "instance", "service", "prefix", "asn", "country"];
    let networks = ["prefix", "bgp_prefix", "asn", "country", "list"];
    let mut matchers: Vec<_> = variables.iter().map(|name| format!("{name}=~\"${name}\"")).collect();
    matchers.extend(networks.iter().map(|name| format!("{name}!=\"former\"")));
    matchers.extend(Some(more.to_owned()).filter(|more| !more.is_empty()));
    format!("{{{}}}", matchers.join(","))
}

/// Selector of the daemon's own series.
pub(super) const OWN: &str = "{job=~\"$job\",instance=~\"$instance\"}";

/// Labels of a network.
pub(super) const NETWORK: &str = "service, prefix, bgp_prefix, asn, country, list";

/// Rate of a counter of connections, `flowprobe_tcp_…_total`, summed by labels.
pub(super) fn rate(name: &str, by: &str, more: &str) -> String {
    format!("sum by ({by}) (rate(flowprobe_tcp_{name}_total{}[$__rate_interval]))", of(more))
}

/// Quantile of a histogram of connections, `flowprobe_tcp_…_seconds`, by labels.
pub(super) fn quantile(quantile: &str, name: &str, by: &str, more: &str) -> String {
    let le = if by.is_empty() { "le".to_owned() } else { format!("le, {by}") };
    let (family, of) = (format!("flowprobe_tcp_{name}_seconds"), of(more));
    format!(
        "histogram_quantile({quantile}, sum by ({le}) (rate({family}_bucket{of}[$__rate_interval]))) or \
         histogram_quantile({quantile}, sum by ({by}) (rate({family}{of}[$__rate_interval])))"
    )
}

/// Matches connections that this host asked for.
pub(super) const CLIENT: &str = "role=\"client\"";

/// Matches retransmissions of segments that may have payload: of all but the handshake's.
pub(super) const HAS_PAYLOAD: &str = "cause!~\"syn|synack\"";

/// Segments with payload sent again, as a share of those sent.
pub(super) fn retransmitted(by: &str) -> String {
    share(&rate("retransmitted_segments", by, HAS_PAYLOAD), &rate("data_segments_sent", by, ""))
}

/// A share of what there is; absent where there is nothing.
pub(super) fn share(part: &str, all: &str) -> String {
    format!("{part} / ({all} > 0)")
}
