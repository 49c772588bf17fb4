//! What a configuration amounts to, for `flowprobe daemon --check-config`.

use std::fmt;

use super::{Config, SeriesCost};
use crate::networks::{Label, Settings};

/// Values of `role` (client, server, unknown) times those of `family` (ipv4, ipv6, unknown).
const ROLES_AND_FAMILIES: u64 = 9;

/// The essence of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Where metrics are served.
    pub listen: String,
    /// Names of the services, without `other`.
    pub services: Vec<String>,
    /// Labels of each group.
    pub labels: Vec<&'static str>,
    /// The most groups with a place of their own.
    pub groups: u64,
    /// The most groups beside them that hold remainders.
    pub remainders: u64,
    /// What each costs.
    pub cost: SeriesCost,
    /// What works but is perhaps not meant.
    pub notes: Vec<String>,
}

impl Summary {
    pub(super) fn new(config: &Config, cost: SeriesCost) -> Self {
        let networks = &config.networks;
        // Role, family and service are few by themselves.
        let plain = ROLES_AND_FAMILIES * (config.services.len() as u64 + 1);
        let is_bounded_by_labels = networks.labels.is_empty();
        let max = u64::from(config.groups.max);
        let mut labels = vec!["role", "family"];
        if !config.services.is_empty() {
            labels.push("service");
        }
        labels.extend(
            Label::ALL.iter().filter(|label| networks.labels.contains(label)).map(|label| label.as_str()),
        );
        Self {
            listen: config.listen.to_string(),
            services: config.services.iter().map(|service| service.name.to_string()).collect(),
            labels,
            groups: if is_bounded_by_labels { plain } else { max },
            // `other` and `former`.
            remainders: if is_bounded_by_labels { 0 } else { 2 * plain },
            cost,
            notes: notes(config),
        }
    }

    /// The most series of all groups in the text format.
    #[must_use]
    pub const fn series(&self) -> u64 {
        (self.groups + self.remainders) * self.cost.classic
    }

    /// The most series of all groups with native histograms.
    #[must_use]
    pub const fn native_series(&self) -> u64 {
        (self.groups + self.remainders) * self.cost.native
    }
}

fn notes(config: &Config) -> Vec<String> {
    let networks = &config.networks;
    let usual = Config::default();
    let lengths = |of: &Settings| (of.v4_prefix_len, of.v6_prefix_len);
    let bounds = |of: &Config| (of.groups, of.privacy.min_clients);
    let has = |label| networks.labels.contains(&label);
    let unused = |is_set: bool, is_used: bool, key: &str, labels: &str| {
        (is_set && !is_used).then(|| {
            format!("{key} is read but no label needs it: add {labels} to networks.labels, or take it out")
        })
    };
    let client_label = [Label::Prefix, Label::BgpPrefix, Label::Asn].into_iter().find(|label| has(*label));
    [
        unused(!networks.lists.is_empty(), has(Label::List), "networks.lists", "`list`"),
        unused(networks.mmdb_asn.is_some(), has(Label::Asn), "networks.mmdb_asn", "`asn`"),
        unused(networks.mmdb_country.is_some(), has(Label::Country), "networks.mmdb_country", "`country`"),
        unused(
            networks.bgp.is_some(),
            has(Label::Asn) || has(Label::BgpPrefix),
            "networks.bgp",
            "`bgp_prefix` or `asn`",
        ),
        unused(
            lengths(networks) != lengths(&usual.networks),
            has(Label::Prefix),
            "a length of prefixes (networks.v4_prefix_len, networks.v6_prefix_len)",
            "`prefix`",
        ),
        (networks.labels.is_empty() && bounds(config) != bounds(&usual)).then(|| {
            "[groups] and privacy.min_clients bound groups by network: without networks.labels they do nothing".to_owned()
        }),
        (has(Label::Prefix) && (networks.v4_prefix_len == 32 || networks.v6_prefix_len == 128)).then(|| {
            "a prefix of full length is a client's address in the metrics: make networks.v4_prefix_len and networks.v6_prefix_len shorter".to_owned()
        }),
        client_label.filter(|_| config.privacy.min_clients == 1).map(|label| {
            format!(
                "a group by `{}` may be of one client: privacy.min_clients above 1 keeps it in `other`",
                label.as_str()
            )
        }),
        (config.groups.idle < config.sweep_period * 3).then(|| {
            "groups.idle is shorter than three sweeps: groups may come and go; make it longer".to_owned()
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// 1234567 as 1,234,567.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listen    {}", self.listen)?;
        let services = if self.services.is_empty() {
            "none named".to_owned()
        } else {
            format!("{}, and other", self.services.join(", "))
        };
        writeln!(f, "services  {services}")?;
        writeln!(f, "labels    {}", self.labels.join(", "))?;
        write!(f, "groups    at most {}", thousands(self.groups))?;
        if self.remainders > 0 {
            write!(f, ", and at most {} for what has no place of its own", thousands(self.remainders))?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "series    at most {} in text ({} a group, {} families), {} with native histograms ({} a group)",
            thousands(self.series()),
            self.cost.classic,
            self.cost.families,
            thousands(self.native_series()),
            self.cost.native
        )?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}
