//! `flowprobe completions`: the words of the command line for a shell.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::Cli;

pub(super) fn run(shell: Shell) -> anyhow::Result<()> {
    // The generator panics on a closed pipe: it writes to memory.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "flowprobe", &mut text);
    Ok(io::stdout().write_all(&text)?)
}
