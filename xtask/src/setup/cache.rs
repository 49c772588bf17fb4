//! Tools that a set-up built, kept for other checkouts of the same user: a clean clone need not build them again.
//!
//! In `$XDG_CACHE_HOME/flowprobe/tools` (`~/.cache` without it). Deleting it costs the time to build them, nothing else.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use crate::{
    step::{self, say},
    workspace,
};

/// A tool as one file; `key` tells all that it was made of.
pub(super) struct Tool<'a> {
    pub(super) key: &'a str,
    /// What its `--version` has in it.
    pub(super) version: &'a str,
    /// Where the workspace wants it.
    pub(super) file: &'a Path,
}

impl Tool<'_> {
    /// Takes it from the cache, if it is there and runs; says whether.
    pub(super) fn take(&self) -> bool {
        let Some(kept) = self.kept() else { return false };
        let runs = step::captured(Command::new(&kept).arg("--version"));
        let taken = runs.is_ok_and(|text| text.contains(self.version))
            && workspace::make_dir(&workspace::tools_bin()).is_ok()
            && fs::copy(&kept, self.file).is_ok();
        if taken {
            say(&format!("taking {} from {}", self.key, kept.display()));
        }
        taken
    }

    /// Puts a copy into the cache. A cache that cannot be written to is no error.
    pub(super) fn keep(&self) {
        let Some(kept) = self.kept() else { return };
        let unfinished = kept.with_file_name(format!("{}.{}", self.key, process::id()));
        let done = kept.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok())
            && fs::copy(self.file, &unfinished).is_ok()
            && fs::rename(&unfinished, &kept).is_ok();
        if !done {
            let _ = fs::remove_file(&unfinished);
        }
    }

    fn kept(&self) -> Option<PathBuf> {
        let cache = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
        Some(cache.join("flowprobe/tools").join(self.key))
    }
}
