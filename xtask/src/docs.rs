//! `cargo xtask docs`: writes the pages of docs/ that are made from the code, or checks that they are fresh.
//!
//! The program itself prints its manual page and completions; they are not kept in the repository.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    setup::{self, Purpose},
    step, workspace,
};

/// The pages in docs/, and what `flowprobe reference` calls them.
const PAGES: [(&str, &str); 3] =
    [("metrics.md", "metrics"), ("configuration.md", "configuration"), ("flowprobe.toml", "example")];

/// Arguments of `cargo xtask docs`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if a page differs from what the code says
    #[arg(long)]
    check: bool,
}

/// The verb.
pub(crate) fn main(arguments: &Arguments) -> Result<()> {
    setup::prepare(Purpose::Build)?;
    build::release()?;
    let program = workspace::flowprobe();
    if arguments.check { check(&program) } else { write(&program) }
}

fn write(program: &Path) -> Result<()> {
    for (name, page) in PAGES {
        workspace::write_if_changed(&file(name), &generated(program, page)?)?;
        step::say(&format!("{} is up to date", file(name).display()));
    }
    Ok(())
}

/// Fails if a committed page is not what the code of `program` says.
pub(crate) fn check(program: &Path) -> Result<()> {
    PAGES.into_iter().try_for_each(|(name, page)| check_one(program, &file(name), page))
}

fn check_one(program: &Path, file: &Path, page: &str) -> Result<()> {
    let present = fs::read_to_string(file)
        .with_context(|| format!("{} is missing: cargo xtask docs", file.display()))?;
    match first_difference(&present, &generated(program, page)?) {
        None => Ok(()),
        Some(line) => {
            bail!("{}:{line} differs from what the code says: run `cargo xtask docs`", file.display())
        }
    }
}

fn file(name: &str) -> PathBuf {
    workspace::root().join("docs").join(name)
}

fn generated(program: &Path, page: &str) -> Result<String> {
    step::captured(Command::new(program).args(["reference", page]))
}

/// The number of the first line in which two texts differ, counted from 1.
fn first_difference(left: &str, right: &str) -> Option<usize> {
    if left == right {
        return None;
    }
    let same = left.split('\n').zip(right.split('\n')).take_while(|(left, right)| left == right).count();
    Some(same + 1)
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn the_first_difference_is_found_also_at_the_end() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
        assert_eq!(first_difference("a", "a\n"), Some(2));
    }
}
