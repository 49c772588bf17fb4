//! One scenario at a time: some questions are about the whole machine (which BPF programs exist, how often hooks were
//! missed), so tests of all processes of one run take turns through a file lock.

use std::fs::{File, OpenOptions};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

static PROCESS: Mutex<()> = Mutex::new(());

/// The right to run; give it back by dropping it.
#[derive(Debug)]
pub struct Turn {
    _file: File,
    _process: MutexGuard<'static, ()>,
}

/// Wait for the turn. A test that panicked gives its turn back.
///
/// # Errors
/// When the lock file in the temporary directory cannot be opened.
pub fn take_turn() -> Result<Turn> {
    let process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let path = std::env::temp_dir().join("flowprobe-tests.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive).context("cannot take the tests' lock")?;
    Ok(Turn { _file: file, _process: process })
}
