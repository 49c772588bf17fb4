//! What values must be together.

use std::ops::Range;

use super::{
    Config,
    document::{Faults, Places},
    services::{MOST_SERVICES, Service},
};
use crate::networks::Label;

/// Faults between keys of different meaning.
pub(super) fn check(config: &Config, places: &Places, faults: &mut Faults<'_>) {
    let networks = &config.networks;
    for label in &networks.labels {
        let missing = match label {
            Label::Prefix => None,
            Label::BgpPrefix => networks.bgp.is_none().then_some("networks.bgp"),
            Label::Asn => (networks.bgp.is_none() && networks.mmdb_asn.is_none())
                .then_some("networks.mmdb_asn or networks.bgp"),
            Label::Country => networks.mmdb_country.is_none().then_some("networks.mmdb_country"),
            Label::List => networks.lists.is_empty().then_some("networks.lists"),
        };
        if let Some(missing) = missing {
            let key = "networks.labels";
            let what = format!("`{}` has no source: set {missing}, or take the label out", label.as_str());
            faults.add(places.get(key), key, what);
        }
    }
}

/// Faults of the last service; `span` is where it begins.
pub(super) fn check_service(
    services: &[Service],
    places: &Places,
    span: &Range<usize>,
    faults: &mut Faults<'_>,
) {
    let has = |name: &str| places.contains_key(&format!("service.{name}"));
    // The span of [[service]] may be that of what is in it.
    let start = places.values().map(|place| place.start).chain([span.start]).min().unwrap_or(span.start);
    let place = start..start;
    if !has("name") {
        faults.add(Some(&place), "service", "this service has no name: write name = \"…\"");
    }
    if !has("ports") && !has("addresses") && !has("cgroups") {
        let what = "this service says nothing of what belongs to it: write at least one of ports, addresses, cgroups";
        faults.add(Some(&place), "service", what);
    }
    if services.len() == MOST_SERVICES + 1 {
        faults.add(
            Some(&place),
            "service",
            format!("there are more than {MOST_SERVICES} services: merge some"),
        );
    }
}
