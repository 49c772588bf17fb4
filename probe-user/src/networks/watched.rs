//! A file that is read again when it changes.
//!
//! A look costs one stat. A changed file is read at the second look that finds it the same, so that one that is still
//! being written is left alone; what cannot be used leaves the data that is there.

use std::{
    fs::{File, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;

use super::fault::Fault;

/// What tells two states of a file apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    fn modified_at(self) -> Option<Timestamp> {
        Timestamp::new(self.modified.0, i32::try_from(self.modified.1).ok()?).ok()
    }
}

/// A file and what was last read from it.
#[derive(Debug)]
pub(super) struct Watched<T> {
    path: PathBuf,
    data: Arc<T>,
    /// Of the data.
    stamp: Stamp,
    /// Of the file at the last look, if it was another; `None` inside: there was no file.
    seen: Option<Option<Stamp>>,
    /// The state of the file that could not be used, and why.
    failed: Option<(Option<Stamp>, Fault)>,
}

/// What a look found.
pub(super) enum Look {
    /// The data is that of the file, or it is known that it cannot be, or the file may still be changing.
    Same,
    /// The data is new.
    New,
    /// The file cannot be used; the old data stays.
    Broken(Fault),
}

impl<T> Watched<T> {
    pub(super) fn open(path: &Path, read: impl FnOnce(File) -> Result<T, Fault>) -> Result<Self, Fault> {
        let (data, stamp) = load(path, read)?;
        Ok(Self { path: path.to_owned(), data: Arc::new(data), stamp, seen: None, failed: None })
    }

    pub(super) fn look(&mut self, read: impl FnOnce(File) -> Result<T, Fault>) -> Look {
        let now = std::fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata));
        if now == Some(self.stamp) {
            (self.seen, self.failed) = (None, None);
            return Look::Same;
        }
        let is_settled = self.seen == Some(now);
        self.seen = Some(now);
        if !is_settled || self.failed.as_ref().is_some_and(|(at, fault)| *at == now && !fault.is_unread) {
            return Look::Same;
        }
        match load(&self.path, read) {
            Ok((data, stamp)) => {
                (self.data, self.stamp) = (Arc::new(data), stamp);
                (self.seen, self.failed) = (None, None);
                Look::New
            }
            Err(fault) => {
                let known = self.failed.replace((now, fault.clone()));
                // Each state is told once.
                if known == Some((now, fault.clone())) { Look::Same } else { Look::Broken(fault) }
            }
        }
    }

    /// The same file with the same data, as if it had just been opened.
    pub(super) fn again(&self) -> Self {
        let (path, data) = (self.path.clone(), Arc::clone(&self.data));
        Self { path, data, stamp: self.stamp, seen: None, failed: None }
    }

    /// Whether the file is as it was when the data was read.
    pub(super) fn is_fresh(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|metadata| Stamp::of(&metadata) == self.stamp)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn data(&self) -> &Arc<T> {
        &self.data
    }

    pub(super) fn fault(&self) -> Option<&Fault> {
        self.failed.as_ref().map(|(_, fault)| fault)
    }

    /// When the file of the data was modified.
    pub(super) fn modified_at(&self) -> Option<Timestamp> {
        self.stamp.modified_at()
    }
}

fn load<T>(path: &Path, read: impl FnOnce(File) -> Result<T, Fault>) -> Result<(T, Stamp), Fault> {
    let unreadable = |error: std::io::Error| Fault::unreadable(path, &error);
    // Opening a FIFO would wait for a writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Fault::file(path, "is no file: give the path of a regular file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let stamp = |file: &File| file.metadata().map(|metadata| Stamp::of(&metadata)).map_err(unreadable);
    let before = stamp(&file)?;
    let after = file.try_clone().map_err(unreadable)?;
    let data = read(file)?;
    if stamp(&after)? == before {
        Ok((data, before))
    } else {
        Err(Fault::file(path, "was changed while it was read: put files in place by renaming them"))
    }
}
