//! How the command line talks to a running daemon: a unix socket in its run directory, readable by its owner only.
//!
//! The client sends one line (`flows` or `watch`); the daemon answers with frames. Records pass as the kernel made
//! them, so that a table made here and one made from probes of its own are made by the same code.

mod client;
mod frame;
mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::{
    client::{Client, Reply},
    server::{Requests, Server, Watchers},
};

/// The socket of the daemon that owns a run directory.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("daemon.sock")
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Live connections, then the end.
    Flows,
    /// Connections as they end.
    Watch,
}

impl Question {
    const ALL: [(Self, &'static str); 2] = [(Self::Flows, "flows"), (Self::Watch, "watch")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(q, _)| *q == self).map_or("", |(_, word)| word)
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, w)| *w == word).map(|(q, _)| *q)
    }
}

/// The first frame: who answers, and what its records mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Layout of the records.
    pub abi: u16,
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// As [`crate::flow::from_record::Context`].
    pub places: Vec<u32>,
    /// Likewise.
    pub hz: u32,
    /// Likewise.
    pub wall_offset_ns: i64,
}

/// The last frame of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Namespaces that could not be entered.
    pub unseen_namespaces: u64,
    /// Why connections may be missing.
    pub incomplete: Option<String>,
}
