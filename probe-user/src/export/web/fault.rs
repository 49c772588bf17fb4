//! What is wrong with a web configuration: file, line where there is one, and a sentence.

use std::{fmt, path::Path};

/// Why a web configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fault(String);

impl Fault {
    /// About a file as a whole.
    pub(super) fn of(path: &Path, reason: impl fmt::Display) -> Self {
        Self(format!("{}: {reason}", path.display()))
    }

    /// About a line, counted from 1.
    pub(super) fn at(path: &Path, line: u64, reason: impl fmt::Display) -> Self {
        Self(format!("{}:{line}: {reason}", path.display()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
