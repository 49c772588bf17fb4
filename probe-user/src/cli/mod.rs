//! The command line: reads what was typed, calls the verb, says what went wrong.
//!
//! One file a verb; they print and decide nothing about flows. Exit codes: 0 done, 1 failed, 2 not understood. A reader
//! that went away (a closed pipe) is no error.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

use crate::flow::filter::{FilterError, clean};

pub mod args;
mod check;
mod completions;
mod daemon;
mod flows;
mod man;
mod networks;
pub mod output;
mod reconcile;
mod reference;
mod watch;

use args::{Cli, Verb};

/// What was asked cannot be understood: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, which may be closed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be left to read it.
            let _ = writeln!(io::stderr(), "flowprobe: {}", message(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let run_dir = cli.run_dir;
    let config = cli.config.as_deref();
    match cli.verb {
        Verb::Daemon(args) => return daemon::run(&args, run_dir, config),
        Verb::Flows(args) => flows::run(&args, &run_dir, config)?,
        Verb::Watch(args) => watch::run(&args, &run_dir, config)?,
        Verb::Networks(verb) => networks::run(&verb, config)?,
        Verb::Check(args) => return check::run(&args, &run_dir),
        Verb::Completions { shell } => completions::run(shell)?,
        Verb::Man => man::run()?,
        Verb::Reference { page } => reference::run(page)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One line with the chain of causes; a filter's error keeps its carets.
fn message(error: &anyhow::Error) -> String {
    match error.downcast_ref::<FilterError>() {
        Some(error) => error.to_string(),
        None => one_line(&format!("{error:#}")),
    }
}

fn one_line(text: &str) -> String {
    clean(&text.replace('\n', " "))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<FilterError>() || error.is::<Usage>() { 2 } else { 1 }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref().map(io::Error::kind);
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;
    use crate::flow::filter::Filter;

    #[test]
    fn errors_are_one_line_with_their_causes() {
        let error = anyhow!("no such\nthing").context("cannot open \u{1b}x");
        assert_eq!(message(&error), "cannot open \u{fffd}x: no such thing");
        assert_eq!(exit_code(&error), 1);
    }

    #[test]
    fn what_is_not_understood_is_two() {
        let error = anyhow::Error::from(Filter::parse(&["nonsense"]).unwrap_err());
        assert_eq!(exit_code(&error), 2);
        assert_eq!(message(&error).lines().count(), 3);
        assert_eq!(exit_code(&Usage("x".to_owned()).into()), 2);
    }

    #[test]
    fn a_closed_pipe_is_found_in_the_chain() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&Err::<(), _>(closed()).context("cannot write").unwrap_err()));
        assert!(!is_broken_pipe(&anyhow!("other")));
    }
}
