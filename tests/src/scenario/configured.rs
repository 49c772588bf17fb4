//! A configuration file for one test, and the program run with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use super::{Daemon, LONG, command};
use crate::kit::{Finished, Process};

/// A configuration in a folder of its own.
#[derive(Debug)]
pub struct Configured {
    folder: TempDir,
    file: PathBuf,
}

impl Configured {
    /// Write it.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(text: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("flowprobe.toml");
        fs::write(&file, text)?;
        Ok(Self { folder, file })
    }

    /// Start a daemon with it.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn daemon(&self) -> Result<Daemon> {
        Daemon::start_with(|command| _ = command.arg("--config").arg(&self.file))
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Run a verb with it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn run(&self, words: &[&str]) -> Result<Finished> {
        let mut command = command(self.folder.path())?;
        command.args(words).arg("--config").arg(&self.file);
        Process::run(command, LONG)
    }

    /// Put a text in place of a file of the folder as one should: by renaming it.
    ///
    /// # Errors
    /// When the folder is gone.
    pub fn put(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        let new = self.folder.path().join(format!("{name}.new"));
        fs::write(&new, text)?;
        fs::rename(&new, &path)?;
        Ok(path)
    }
}
