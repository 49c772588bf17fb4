//! Why an address has the labels that it has, in lines for people.

use std::{fmt, net::IpAddr};

use super::{Networks, labels::Label};

/// One label of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Which label.
    pub label: Label,
    /// Its value, as in the metrics.
    pub value: String,
    /// Where it comes from.
    pub why: String,
    /// Whether groups carry it.
    pub is_configured: bool,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, value, why, is_configured } = self;
        let unused = if *is_configured { "" } else { " (not in groups: not among networks.labels)" };
        write!(f, "{:<10} {value:<20} {why}{unused}", label.as_str())
    }
}

impl Networks {
    /// Each label of an address with its reason; also those that are not configured, as far as there is a source.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Vec<Reason> {
        let address = address.to_canonical();
        let all = Networks {
            settings: super::Settings { labels: Label::ALL.to_vec(), ..self.settings.clone() },
            ..self.clone()
        };
        let labels = all.classify(address);
        Label::ALL
            .into_iter()
            .filter_map(|label| {
                let is_configured = self.settings.labels.contains(&label);
                let why = self
                    .why(label, address)
                    .or_else(|| is_configured.then(|| "no source is configured for it".to_owned()))?;
                Some(Reason { label, value: labels.value(label).into_owned(), why, is_configured })
            })
            .collect()
    }

    /// `None` if there is no source for the label.
    fn why(&self, label: Label, address: IpAddr) -> Option<String> {
        match label {
            Label::Prefix => Some(match address {
                IpAddr::V4(_) => format!("networks.v4_prefix_len is {}", self.settings.v4_prefix_len),
                IpAddr::V6(_) => format!("networks.v6_prefix_len is {}", self.settings.v6_prefix_len),
            }),
            Label::BgpPrefix => {
                let path = self.settings.bgp.as_deref()?.display();
                Some(if self.bgp.as_deref()?.route(address).is_some() {
                    format!("longest announced prefix in {path}")
                } else {
                    format!("no announced prefix in {path} holds it")
                })
            }
            Label::Asn => self.why_asn(address),
            Label::Country => {
                let path = self.settings.mmdb_country.as_deref()?.display();
                Some(match self.country.as_deref()?.find_network(address) {
                    Some((network, facts)) if facts.country.is_some() => {
                        format!("{path} says it of {network}")
                    }
                    Some((network, _)) => format!("{path} has no country for {network}"),
                    None => format!("{path} has nothing on it"),
                })
            }
            Label::List => {
                if self.lists.is_empty() {
                    return None;
                }
                Some(match self.listed(address) {
                    Some((index, prefix, _)) => {
                        let path = self.settings.lists.get(index).map(|list| list.path.display().to_string());
                        format!("longest prefix is {prefix} in {}", path.unwrap_or_default())
                    }
                    None => "no listed prefix holds it".to_owned(),
                })
            }
        }
    }

    fn why_asn(&self, address: IpAddr) -> Option<String> {
        let announced = self.settings.bgp.as_deref().zip(self.bgp.as_deref()).map(|(path, bgp)| {
            let path = path.display();
            match bgp.route(address) {
                Some((prefix, origin)) => {
                    let remark = bgp.remark(prefix).map_or_else(String::new, |remark| format!(" ({remark})"));
                    if origin.asn().is_some() {
                        (true, format!("origin of {prefix} in {path}{remark}"))
                    } else {
                        (false, format!("{path} has no single origin of {prefix}{remark}"))
                    }
                }
                None => (false, format!("no announced prefix in {path} holds it")),
            }
        });
        if let Some((true, why)) = announced {
            return Some(why);
        }
        let recorded = self.settings.mmdb_asn.as_deref().zip(self.asn.as_deref()).map(|(path, mmdb)| {
            let path = path.display();
            match mmdb.find_network(address) {
                Some((network, facts)) if facts.asn.is_some() => format!("{path} says it of {network}"),
                Some((network, _)) => format!("{path} has no AS for {network}"),
                None => format!("{path} has nothing on it"),
            }
        });
        match (announced, recorded) {
            (None, None) => None,
            (Some((_, why)), None) | (None, Some(why)) => Some(why),
            (Some((_, bgp)), Some(mmdb)) => Some(format!("{bgp}; {mmdb}")),
        }
    }
}
