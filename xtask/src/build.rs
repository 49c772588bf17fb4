//! `cargo xtask build`: sets up, then leaves `target/release/flowprobe` with the eBPF object inside.
//!
//! The eBPF side is compiled by probe-user's build script, so after a set-up plain `cargo build` does the same.

use std::process::Command;

use anyhow::Result;

use crate::{
    setup::{self, Purpose},
    step, workspace,
};

/// Arguments of `cargo xtask build`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build target/debug/flowprobe instead
    #[arg(long)]
    debug: bool,
}

/// The verb.
pub(crate) fn main(arguments: &Arguments) -> Result<()> {
    setup::prepare(Purpose::Build)?;
    let file = if arguments.debug {
        compile(&[])?;
        workspace::target().join("debug/flowprobe")
    } else {
        release()?;
        workspace::flowprobe()
    };
    step::say(&format!("built {}", file.display()));
    Ok(())
}

/// Compiles the release program; the set-up must have run.
pub(crate) fn release() -> Result<()> {
    compile(&["--release"])
}

/// The program that runs the scenarios in a VM, of the crate `tests`.
pub(crate) const SCENARIOS: &str = "vm_scenarios";

/// Compiles what the tests run, here and in the VMs.
pub(crate) fn portable() -> Result<()> {
    compile_portable(&[("probe-user", "flowprobe"), ("tests", SCENARIOS)])
}

/// Compiles programs, given with their packages, so that they need no file of a guest: static glibc, in a target directory of
/// their own.
pub(crate) fn compile_portable(programs: &[(&str, &str)]) -> Result<()> {
    let mut build = portable_cargo("build");
    for (package, program) in programs {
        build.args(["--package", package, "--bin", program]);
    }
    step::shown(&mut build)
}

/// `cargo VERB` for what the tests are and run; one profile and one directory, so that every crate is built once.
pub(crate) fn portable_cargo(verb: &str) -> Command {
    let mut cargo = workspace::cargo(verb);
    cargo
        .args(["--profile", workspace::PORTABLE_PROFILE, "--target", workspace::PORTABLE_TARGET])
        .env("CARGO_TARGET_DIR", workspace::portable_dir())
        // With --target these go to the programs alone, not to build scripts and procedural macros.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo
}

fn compile(profile: &[&str]) -> Result<()> {
    step::shown(
        workspace::cargo("build").args(["--package", "probe-user", "--bin", "flowprobe"]).args(profile),
    )
}
