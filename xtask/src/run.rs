//! `cargo xtask run`: the README's first command. Sets up, builds, says where to look, and becomes the daemon.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    setup::{self, Purpose},
    step::say,
    workspace,
};

/// Arguments of `cargo xtask run`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Arguments for `flowprobe daemon`, after `--`
    #[arg(last = true)]
    daemon: Vec<OsString>,
}

/// The verb. Returns only when something failed.
pub(crate) fn main(arguments: &Arguments) -> Result<()> {
    setup::prepare(Purpose::Build)?;
    build::release()?;
    if !workspace::is_root() {
        bail!(
            "flowprobe loads programs into the kernel, which takes root: run \
             `sudo -E env \"PATH=$PATH\" cargo xtask run`"
        );
    }
    say("starting the daemon; it ends on Ctrl-C. Meanwhile, in another terminal:");
    if arguments.daemon.is_empty() {
        say("  curl -s http://127.0.0.1:10179/metrics     what Prometheus sees");
    }
    say("  target/release/flowprobe flows             the connections that are open now");
    say("  target/release/flowprobe watch             each connection as it closes");
    let error = Command::new(workspace::flowprobe())
        .arg("daemon")
        .args(&arguments.daemon)
        .stdin(Stdio::null())
        .exec();
    Err(error).with_context(|| format!("cannot start {}", workspace::flowprobe().display()))
}
