//! The parts of the configuration file.

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Top,
    Networks,
    Groups,
    Privacy,
    Service,
}

impl Section {
    pub(super) const ALL: [Self; 5] = [Self::Top, Self::Networks, Self::Groups, Self::Privacy, Self::Service];

    /// The name in brackets; none for the beginning of the file.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::Networks => "networks",
            Self::Groups => "groups",
            Self::Privacy => "privacy",
            Self::Service => "service",
        }
    }

    /// The line that begins it.
    pub(super) const fn header(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::Networks => "[networks]",
            Self::Groups => "[groups]",
            Self::Privacy => "[privacy]",
            Self::Service => "[[service]]",
        }
    }

    /// What it is about, in sentences.
    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::Top => "The daemon itself. These keys stand before the first section.",
            Self::Networks => {
                "Which networks clients belong to. Files are looked at every few seconds and read again when they changed; one that is broken leaves what was read before. `flowprobe networks lookup ADDR` says what an address belongs to and why."
            }
            Self::Groups => {
                "A group is a set of connections with the same labels: role, family, service and those in `networks.labels`. With labels of networks the number of groups is bounded whatever clients do: the heaviest have groups of their own, and the rest is summed, by role, family and service, in groups whose network labels say `other`. What a group had counted when it gave its place up goes to those that say `former`, which jump by it: leave `former` out of rates. Sums over all groups stay exact. Without labels of networks there are few groups, which all stay."
            }
            Self::Privacy => {
                "What is not said of clients. Metrics have no client addresses unless a prefix length makes them whole."
            }
            Self::Service => {
                "A name for what clients connect to, in the label `service`. Write one `[[service]]` for each; the first that fits is taken, and what fits none is `other`. A service needs at least one of `ports`, `addresses` and `cgroups`; if it has several, all must fit. Of connections that this host opens the local side is looked at too: name who opens them by `cgroups`."
            }
        }
    }
}
