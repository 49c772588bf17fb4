//! The verbs and their arguments, and nothing else: each verb's work is in the file of its name.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{accuracy, bench, build, ci, dashboards, docs, lint, run, setup, test, vm};

/// Everything one does with this project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing (idempotent; every other verb does it by itself)
    Setup(setup::Arguments),
    /// Build target/release/flowprobe with the eBPF object inside
    Build(build::Arguments),
    /// Build and start the daemon, and say where to look
    Run(run::Arguments),
    /// Run every test: unit, namespaces, kernel VMs
    Test(test::Arguments),
    /// Boot Debian's kernels under QEMU and run the scenarios, or a command, inside
    Vm(vm::Arguments),
    /// Compare the figures with the truth on three kernels and write docs/accuracy.md
    Accuracy(accuracy::Arguments),
    /// Measure what flowprobe and its peers cost, side by side, and write docs/performance.md
    Bench(bench::Arguments),
    /// Write the pages of docs/ that are made from the code
    Docs(docs::Arguments),
    /// Write dashboards/*.json for Grafana from their descriptions
    Dashboards(dashboards::Arguments),
    /// Check format, clippy on both targets, and dependencies
    Lint,
    /// What CI runs: lint, docs --check, dashboards --check, test
    Ci,
}

/// Runs the verb on the command line. Exit codes: 0 done, 1 failed, 2 usage; `vm` gives the guest's own.
pub(crate) fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup(arguments) => done(setup::main(&arguments)),
        Verb::Build(arguments) => done(build::main(&arguments)),
        Verb::Run(arguments) => done(run::main(&arguments)),
        Verb::Test(arguments) => test::main(&arguments),
        Verb::Vm(arguments) => vm::main(&arguments),
        Verb::Accuracy(arguments) => accuracy::main(&arguments),
        Verb::Bench(arguments) => bench::main(&arguments),
        Verb::Docs(arguments) => done(docs::main(&arguments)),
        Verb::Dashboards(arguments) => done(dashboards::main(&arguments)),
        Verb::Lint => lint::main(),
        Verb::Ci => ci::main(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn done(outcome: Result<()>) -> Result<ExitCode> {
    outcome.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
