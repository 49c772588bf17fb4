//! What is wrong with a file, and where in it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// A file that cannot be used: one sentence with the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{place}: {what}", path.display())]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub place: Place,
    /// What is wrong there, and the remedy.
    pub what: String,
    /// It could not be read, and its bytes may be good: worth another try as it is.
    pub is_unread: bool,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line, counted from 1.
    Line(u64),
    /// A record, counted from 1, and its first byte counted from 0; of what is in the file once it is uncompressed.
    Record {
        /// Which.
        number: u64,
        /// Where it starts.
        byte: u64,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) => write!(f, ":{line}"),
            Self::Record { number, byte } => write!(f, ": record {number} at byte {byte}"),
        }
    }
}

impl Fault {
    pub(super) fn file(path: &Path, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), place: Place::File, what: what.into(), is_unread: false }
    }

    pub(super) fn line(path: &Path, line: u64, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), place: Place::Line(line), what: what.into(), is_unread: false }
    }

    /// An error of the system, or of what uncompresses.
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        if error.raw_os_error().is_some() {
            let what = format!("cannot be read: {error}; check the path and its permissions");
            Self { is_unread: true, ..Self::file(path, what) }
        } else {
            Self::file(path, format!("is broken: {error}; fetch the file again"))
        }
    }
}
