//! What is wrong in the configuration file, and where.

use std::{fmt, path::PathBuf};

/// One thing that is wrong: a sentence with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1; `None` if it is the file as a whole.
    pub line: Option<usize>,
    /// The key with its section, such as `networks.bgp`; empty if there is none.
    pub key: String,
    /// What is wrong, and the remedy.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)
    }
}
