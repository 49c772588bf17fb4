//! The configuration file: TOML, each key described once in [`keys`], from which the reference and the example are made.
//!
//! Pure but for reading the file. What is not understood is refused with file, line, key and remedy, all faults at once, so
//! that a file is used as a whole or not at all. Reading takes well under a millisecond.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::level_filters::LevelFilter;

pub(crate) use self::value::duration;
pub use self::{
    cost::SeriesCost,
    fault::Fault,
    reference::{example, reference},
    services::{Service, Services},
    summary::Summary,
};
use crate::networks;

mod cost;
mod document;
mod fault;
mod keys;
mod reference;
mod relations;
mod section;
mod services;
mod summary;
#[cfg(test)]
mod tests;
mod value;

/// Where the file is if nothing is said.
pub const DEFAULT_FILE: &str = "/etc/flowprobe/flowprobe.toml";

/// The file to read: the one that is named, else the default if there is one.
#[must_use]
pub fn find(named: Option<&Path>) -> Option<PathBuf> {
    let usual = Path::new(DEFAULT_FILE);
    // One that cannot be looked at is there, and is to be read: that tells why it cannot.
    let is_there = || !matches!(usual.try_exists(), Ok(false));
    named.map(Path::to_owned).or_else(|| is_there().then(|| usual.to_owned()))
}

/// Everything that can be configured; every value was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where metrics are served.
    pub listen: Listen,
    /// Time between walks over the live connections.
    pub sweep_period: Duration,
    /// Shortest time between two round-trip samples of one connection; 0 takes every one.
    pub rtt_interval: Duration,
    /// Size of all ring buffers together, a power of two; `None` leaves it to the number of CPUs.
    pub ring_bytes: Option<u32>,
    /// What is said on standard error; `None` leaves it to `kernel_log`.
    pub log: Option<LevelFilter>,
    /// Load the programs with their own log.
    pub kernel_log: bool,
    /// Which networks clients belong to.
    pub networks: networks::Settings,
    /// How many groups there are.
    pub groups: Groups,
    /// What is not said of clients.
    pub privacy: Privacy,
    /// Names for what clients connect to, the first that fits.
    pub services: Vec<Service>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // The port is the contract's.
            listen: Listen::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10179)),
            sweep_period: Duration::from_secs(5),
            rtt_interval: Duration::ZERO,
            ring_bytes: None,
            log: None,
            kernel_log: false,
            networks: networks::Settings::default(),
            groups: Groups::default(),
            privacy: Privacy::default(),
            services: Vec::new(),
        }
    }
}

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Address and port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Bounds of the groups that metrics are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// The most groups; what has no place is summed in `other`.
    pub max: u32,
    /// A group in which nothing happened for this time may be dropped.
    pub idle: Duration,
    /// … but not before it was shown in this many scrapes since.
    pub idle_scrapes: u32,
}

impl Default for Groups {
    fn default() -> Self {
        Self { max: 1_000, idle: Duration::from_secs(900), idle_scrapes: 3 }
    }
}

/// What is not said of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privacy {
    /// A group is part of `other` until it has had this many different clients.
    pub min_clients: u32,
    /// Peers' IPv4 addresses in records and on the command line are cut to this length.
    pub record_v4_prefix_len: u8,
    /// The same for IPv6.
    pub record_v6_prefix_len: u8,
}

impl Default for Privacy {
    fn default() -> Self {
        Self { min_clients: 1, record_v4_prefix_len: 32, record_v6_prefix_len: 128 }
    }
}

impl Config {
    /// Reads a file. Relative paths in it begin at its folder.
    ///
    /// # Errors
    /// The file cannot be read, or all that is wrong in it, in the order of its lines.
    pub fn read(path: &Path) -> Result<Self, Vec<Fault>> {
        let text = fs::read_to_string(path).map_err(|error| {
            vec![Fault {
                path: path.to_owned(),
                line: None,
                key: String::new(),
                what: format!(
                    "the configuration file cannot be read: {error}; check the path and its permissions"
                ),
            }]
        })?;
        Self::parse(&text, path)
    }

    /// The same from the text of the file at `path`.
    ///
    /// # Errors
    /// All that is wrong in it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Vec<Fault>> {
        document::parse(text, path)
    }

    /// Reads the file, or takes the defaults if there is none.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn load(path: Option<&Path>) -> Result<Self, Vec<Fault>> {
        path.map_or_else(|| Ok(Self::default()), Self::read)
    }

    /// Keys that differ in another and that only a restart puts to use.
    #[must_use]
    pub fn restart_keys(&self, other: &Self) -> Vec<&'static str> {
        [
            ("listen", self.listen == other.listen),
            ("sweep_period", self.sweep_period == other.sweep_period),
            ("rtt_interval", self.rtt_interval == other.rtt_interval),
            ("ring_size", self.ring_bytes == other.ring_bytes),
            ("log", self.log == other.log),
            ("kernel_log", self.kernel_log == other.kernel_log),
        ]
        .into_iter()
        .filter_map(|(key, is_same)| (!is_same).then_some(key))
        .collect()
    }

    /// What is in use when another is read: that one, but for the keys that only a restart puts to use.
    #[must_use]
    pub fn until_restart(&self, read: Self) -> Self {
        Self {
            listen: self.listen.clone(),
            sweep_period: self.sweep_period,
            rtt_interval: self.rtt_interval,
            ring_bytes: self.ring_bytes,
            log: self.log,
            kernel_log: self.kernel_log,
            ..read
        }
    }

    /// What this configuration amounts to, with its cost in series and what is odd about it. Opens no file.
    #[must_use]
    pub fn check(&self) -> Summary {
        Summary::new(self, SeriesCost::measured())
    }
}
