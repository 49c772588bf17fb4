//! `cargo xtask build`: sets up, then leaves `target/release/flowprobe` with the eBPF object inside.
//!
//! The eBPF side is compiled by probe-user's build script, so after a set-up plain `cargo build` does the same.

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

fn compile(profile: &[&str]) -> Result<()> {
    step::shown(
        workspace::cargo("build").args(["--package", "probe-user", "--bin", "flowprobe"]).args(profile),
    )
}
