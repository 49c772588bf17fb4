//! `cargo xtask lint`: format, clippy with every warning an error on both targets, and dependencies.
//!
//! The eBPF side is linted by the compiler that builds it, for its own target: most of its code exists there only.

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{
    setup::{self, Purpose},
    stage::Stages,
    step, workspace,
};

/// The verb.
pub(crate) fn main() -> Result<ExitCode> {
    let mut stages = Stages::default();
    if stages.check("set-up", || setup::prepare(Purpose::Lint)) {
        stages_of_lint(&mut stages);
    }
    Ok(stages.finish())
}

/// Runs the stages after the set-up.
pub(crate) fn stages_of_lint(stages: &mut Stages) {
    stages.check("format", || step::shown(workspace::cargo("fmt").args(["--all", "--check"])));
    stages.check("clippy, user side", || {
        let mut clippy = workspace::cargo("clippy");
        clippy.args(["--workspace", "--exclude", "probe-ebpf", "--all-targets", "--", "-D", "warnings"]);
        step::shown(&mut clippy)
    });
    stages.check("clippy, eBPF side", ebpf_clippy);
    stages.check("dependencies", dependencies);
    advisories(stages);
}

fn ebpf_clippy() -> Result<()> {
    let toolchain = setup::toolchain()?;
    if step::captured(toolchain.command("cargo-clippy").arg("--version")).is_err() {
        bail!(
            "the toolchain {name} has no clippy: rustup component add clippy --toolchain {name} \
             (Debian: apt-get install rust-web-clippy)",
            name = toolchain.name
        );
    }
    let mut clippy = toolchain.command("cargo");
    clippy
        .args(["clippy", "--package", "probe-ebpf", "--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .args(["--", "-D", "warnings"])
        // A directory of its own: another compiler's artifacts, beside which cargo would wait for its lock.
        .env("CARGO_TARGET_DIR", workspace::target().join("ebpf-lint"))
        // As aya-build sets it for the real build.
        .env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH))
        .env_remove("RUSTC")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    step::shown(&mut clippy)
}

/// Licences, bans and sources always.
fn dependencies() -> Result<()> {
    step::shown(deny("check").args(["--show-stats", "--hide-inclusion-graph", "bans", "licenses", "sources"]))
}

/// Advisories when their database can be fetched; otherwise the stage is noted as not run, with the reason.
fn advisories(stages: &mut Stages) {
    const NAME: &str = "dependencies, advisories";
    match fetch_advisories() {
        Ok(()) => {
            stages.check(NAME, || step::shown(deny("check").args(["--disable-fetch", "advisories"])));
        }
        Err(error) => stages.skip(NAME, &format!("their database cannot be fetched: {error:#}")),
    }
}

fn fetch_advisories() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let mut fetch = deny("fetch");
    fetch.arg("db");
    match step::streamed(&mut fetch, Some(LIMIT), |_| ())? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("cargo-deny fetch db ended with {status}"),
        None => bail!("no answer within {} s", LIMIT.as_secs()),
    }
}

fn deny(verb: &str) -> Command {
    let mut command = Command::new(workspace::tools_bin().join("cargo-deny"));
    command.current_dir(workspace::root()).args(["--color", step::colour(), "--all-features", verb]);
    command
}
