//! `cargo xtask VERB`: set up, build, run, test, check. One file per verb; `cli.rs` lists them.

mod accuracy;
mod bench;
mod build;
mod ci;
mod cli;
mod dashboards;
mod debian;
mod docs;
mod lint;
mod run;
mod setup;
mod stage;
mod step;
mod test;
mod vm;
mod workspace;

fn main() -> std::process::ExitCode {
    cli::main()
}
