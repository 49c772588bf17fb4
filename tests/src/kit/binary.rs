//! Where the program under test is.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// The `flowprobe` binary: `FLOWPROBE_BIN`, or the release build of this workspace, or a file beside this program.
///
/// # Errors
/// When there is none; the message says how to build it.
pub fn flowprobe() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FLOWPROBE_BIN").map(PathBuf::from) {
        if path.is_file() {
            return Ok(path);
        }
        bail!(
            "FLOWPROBE_BIN is {}, which is no file: set it to the built flowprobe, or unset it",
            path.display()
        );
    }
    let program = std::env::current_exe()?;
    let beside = program.parent().map(|folder| folder.join("flowprobe"));
    // target/debug/deps/TEST and target/release/deps/TEST lie three below target.
    let release = program.ancestors().nth(3).map(|target| target.join("release/flowprobe"));
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/release/flowprobe");
    match [release, Some(workspace), beside].into_iter().flatten().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("there is no flowprobe to test: run `cargo xtask build`, or set FLOWPROBE_BIN"),
    }
}
