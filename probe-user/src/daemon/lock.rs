//! One daemon a run directory.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// A run directory that this process owns until the value is dropped.
#[derive(Debug)]
pub(super) struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes the directory if need be and takes its lock, which the kernel gives back however the process ends.
    ///
    /// # Errors
    /// Another daemon has it, or the directory cannot be made.
    pub(super) fn lock(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| {
            format!("cannot make {}; run as root, or choose another place with --run-dir", path.display())
        })?;
        let file = path.join("daemon.lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                bail!(
                    "a flowprobe daemon (process {}) is running in {}; stop it first, or give this one its own \
                     --run-dir and --listen",
                    pid.trim(),
                    path.display()
                );
            }
            Err(TryLockError::Error(e)) => {
                return Err(e).with_context(|| format!("cannot lock {}", file.display()));
            }
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = RunDir::lock(dir.path()).expect("free");
        let error = RunDir::lock(dir.path()).expect_err("taken").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(RunDir::lock(dir.path()).is_ok());
    }
}
