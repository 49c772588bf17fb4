//! `cargo-deny`, which checks licences, bans and sources. Built without optimisation: about a minute on two
//! cores instead of six, for a program that runs for a second.

use std::path::PathBuf;

use anyhow::Result;

use super::cache::Tool;
use crate::{step, workspace};

const VERSION: &str = "0.20.2";

/// Builds cargo-deny into `target/tools/bin` unless that version is there.
pub(super) fn prepare() -> Result<()> {
    let present = step::captured(std::process::Command::new(file()).arg("--version"));
    if present.is_ok_and(|text| text.trim().ends_with(VERSION)) {
        return Ok(());
    }
    let (key, file) = (format!("cargo-deny-{VERSION}"), file());
    let tool = Tool { key: &key, version: VERSION, file: &file };
    if tool.take() {
        return Ok(());
    }
    let target = workspace::setup_dir().join("cargo-deny-build");
    let mut install = workspace::cargo("install");
    install
        .args(["cargo-deny", "--version", VERSION, "--locked", "--force", "--root"])
        .arg(workspace::target().join("tools"))
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
    step::logged(&format!("building cargo-deny {VERSION}"), "cargo-deny", &mut install)?;
    tool.keep();
    step::remove_dir(&target)
}

fn file() -> PathBuf {
    workspace::tools_bin().join("cargo-deny")
}
