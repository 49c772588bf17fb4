//! One daemon a run directory.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
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
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("cannot make {}; run as root, or choose another place with --run-dir", path.display())
        })?;
        own(path)?;
        let file = path.join("daemon.lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&file)
            .with_context(|| {
                format!("cannot open {}; run as root, or choose another --run-dir", file.display())
            })?;
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
        let written = lock
            .set_permissions(Permissions::from_mode(0o600))
            .and_then(|()| lock.set_len(0))
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whoever else could write in the directory could keep daemons from starting, or take their place.
fn own(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        bail!(
            "{} is not a directory that only this user can write to; choose another with --run-dir",
            path.display()
        );
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))
        .with_context(|| format!("cannot protect {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = dir.path().join("open");
        fs::create_dir(&open).expect("a directory");
        fs::set_permissions(&open, Permissions::from_mode(0o777)).expect("permissions");
        let error = RunDir::lock(&open).expect_err("anybody could write there").to_string();
        assert!(error.contains("--run-dir"), "{error}");
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").expect("a file");
        let run_dir = dir.path().join("run");
        DirBuilder::new().mode(0o700).create(&run_dir).expect("a directory");
        std::os::unix::fs::symlink(&victim, run_dir.join("daemon.lock")).expect("a link");
        assert!(RunDir::lock(&run_dir).is_err());
        assert_eq!(fs::read_to_string(&victim).expect("still there"), "precious");
    }

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
