//! From a record to its group: the one place where addresses, ports and cgroups become labels.
//!
//! Reads the configured services and networks, and paths of cgroups where a service asks for them. Once a record: 20
//! services and a fixed prefix cost some 60 ns, tables of networks what docs/decisions/networks.md says.

use std::{collections::BTreeSet, fmt, sync::Arc};

use probe_common::record::{FlowRecord, SynackRecord};

use super::{
    group::{FORMER, Group, LabelSet, Network, OTHER, plain_of, plain_of_synack},
    sums::Limits,
};
use crate::{
    config::{Config, Service, Services},
    flow::from_record::address,
    networks::{Label, Networks},
};

/// The path of a cgroup by its id.
pub type PathOf = Box<dyn FnMut(u64) -> Option<Arc<str>> + Send>;

/// How records are put into groups. By default by role and family alone.
#[derive(Default)]
pub struct Grouping {
    labels: LabelSet,
    limits: Limits,
    configured: Vec<Service>,
    services: Option<Services>,
    names: Vec<Arc<str>>,
    networks: Arc<Networks>,
    path_of: Option<PathOf>,
}

impl fmt::Debug for Grouping {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Grouping")
            .field("labels", &self.labels)
            .field("limits", &self.limits)
            .field("configured", &self.configured)
            .finish_non_exhaustive()
    }
}

impl Grouping {
    /// As it is configured; `networks` are made of the same configuration.
    #[must_use]
    pub fn new(config: &Config, networks: Arc<Networks>, path_of: Option<PathOf>) -> Self {
        let wanted: BTreeSet<Label> = networks.labels().iter().copied().collect();
        let has_services = !config.services.is_empty();
        Self {
            labels: LabelSet { service: has_services, networks: wanted.into_iter().collect() },
            limits: Limits::new(config),
            services: has_services.then(|| Services::new(&config.services)),
            names: config.services.iter().map(|service| Arc::clone(&service.name)).collect(),
            configured: config.services.clone(),
            networks,
            path_of,
        }
    }

    /// Which labels groups carry.
    #[must_use]
    pub const fn labels(&self) -> &LabelSet {
        &self.labels
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Tables that were read anew.
    pub(super) fn set_networks(&mut self, networks: Arc<Networks>) {
        self.networks = networks;
    }

    /// Paths that the other one has looked up: those of cgroups that are gone meanwhile can be found no more, and connections that
    /// were counted by one end by the same.
    pub(super) fn keep_paths_of(&mut self, other: &mut Self) {
        if self.path_of.is_some() && other.path_of.is_some() {
            self.path_of = other.path_of.take();
        }
    }

    pub(super) fn has_same_services(&self, other: &Self) -> bool {
        self.configured == other.configured
    }

    pub(super) fn has_same_networks(&self, other: &Self) -> bool {
        self.networks.is_same(&other.networks)
    }

    /// The group of a connection.
    pub fn group_of(&mut self, record: &FlowRecord) -> Group {
        let service =
            self.service_of(record.family, record.local_addr, record.local_port_be, record.cgroup_id);
        let network = self.network_of(record.family, record.remote_addr);
        Group { service, network, ..plain_of(record) }
    }

    /// The group of a repeated SYN-ACK.
    pub fn group_of_synack(&mut self, record: &SynackRecord) -> Group {
        let service =
            self.service_of(record.family, record.local_addr, record.local_port_be, record.cgroup_id);
        let network = self.network_of(record.family, record.remote_addr);
        Group { service, network, ..plain_of_synack(record) }
    }

    fn service_of(&mut self, family: u16, local: [u8; 16], port_be: u16, cgroup: u64) -> Option<Arc<str>> {
        let services = self.services.as_ref()?;
        let path = match &mut self.path_of {
            Some(path_of) if services.needs_cgroup() => path_of(cgroup),
            _ => None,
        };
        let found = services.find(u16::from_be(port_be), address(family, local), path.as_deref());
        Some(found.and_then(|index| self.names.get(index)).map_or_else(|| OTHER.into(), Arc::clone))
    }

    fn network_of(&self, family: u16, remote: [u8; 16]) -> Network {
        if self.labels.networks.is_empty() {
            return Network::Any;
        }
        Network::Of(self.networks.classify(address(family, remote)))
    }

    /// The group that takes over the sums that another grouping made.
    pub(super) fn heir_of(&self, group: &Group) -> Group {
        let is_known = |name: &&Arc<str>| self.names.contains(name) || [OTHER, FORMER].contains(&&***name);
        let service = self.labels.service.then(|| match &group.service {
            Some(name) => Some(name).filter(is_known).map_or_else(|| FORMER.into(), Arc::clone),
            None => FORMER.into(),
        });
        let network = if self.labels.networks.is_empty() { Network::Any } else { Network::Former };
        Group { service, network, ..*group }
    }
}
