//! `cargo xtask docs`: writes docs/metrics.md from the metrics' definitions in the code, or checks that it is fresh.
//!
//! The program itself prints its manual page and completions; they are not kept in the repository.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    setup::{self, Purpose},
    step, workspace,
};

/// Arguments of `cargo xtask docs`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if the file differs from what the code says
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
    workspace::write_if_changed(&file(), &generated(program)?)?;
    step::say(&format!("{} is up to date", file().display()));
    Ok(())
}

/// Fails if the committed file is not what the code of `program` says.
pub(crate) fn check(program: &Path) -> Result<()> {
    let present = fs::read_to_string(file())
        .with_context(|| format!("{} is missing: cargo xtask docs", file().display()))?;
    match first_difference(&present, &generated(program)?) {
        None => Ok(()),
        Some(line) => {
            bail!("{}:{line} differs from what the code says: run `cargo xtask docs`", file().display())
        }
    }
}

fn file() -> std::path::PathBuf {
    workspace::root().join("docs/metrics.md")
}

fn generated(program: &Path) -> Result<String> {
    step::captured(Command::new(program).arg("metrics-reference"))
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
