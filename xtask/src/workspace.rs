//! Where things are. All that xtask makes lies under `target/`, so deleting that directory undoes it
//! (packages installed by the distribution's package manager apart).

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

/// The workspace's directory.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo's target directory. `CARGO_TARGET_DIR` is overruled by [`cargo`], so that paths in the documents hold.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Logs and stamps of the set-up.
pub(crate) fn setup_dir() -> PathBuf {
    target().join("setup")
}

/// Tools that the set-up built: `bpf-linker`, `cargo-deny`, `promtool`, `prometheus`.
pub(crate) fn tools_bin() -> PathBuf {
    target().join("tools/bin")
}

/// The program that `cargo xtask build` leaves.
pub(crate) fn flowprobe() -> PathBuf {
    target().join("release/flowprobe")
}

/// rustc's name of the machine that the programs of [`crate::build::portable`] are for; the VMs' too.
pub(crate) const PORTABLE_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Their profile in Cargo.toml.
pub(crate) const PORTABLE_PROFILE: &str = "tested";

/// Their target directory: other flags, beside which cargo would build everything anew.
pub(crate) fn portable_dir() -> PathBuf {
    target().join("static")
}

/// Where they stand.
pub(crate) fn portable_programs() -> PathBuf {
    portable_dir().join(PORTABLE_TARGET).join(PORTABLE_PROFILE)
}

/// `flowprobe` as the tests run it.
pub(crate) fn portable_flowprobe() -> PathBuf {
    portable_programs().join("flowprobe")
}

/// `cargo VERB` in the workspace, with the environment that a plain `cargo VERB` would have: what `cargo run`
/// told xtask about itself is taken away, so that no build script sees a change between the two and runs again.
pub(crate) fn cargo(verb: &str) -> Command {
    let mut command = Command::new("cargo");
    command.arg(verb).current_dir(root()).env("CARGO_TARGET_DIR", target());
    // The set-up has heard these and wrote its choice down, linker included, where the build script reads it.
    command.env_remove("FLOWPROBE_BPF_TOOLCHAIN").env_remove("FLOWPROBE_BPF_BOOTSTRAP");
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&key);
        }
    }
    command
}

/// `PATH` with the tools of the set-up in front and the system directories behind, where a user's may lack them.
pub(crate) fn path_with_tools() -> OsString {
    let mut path = OsString::from(tools_bin());
    if let Some(rest) = env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path.push(":/usr/sbin:/sbin");
    path
}

/// The file that `name` means on [`path_with_tools`], if there is one.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    env::split_paths(&path_with_tools()).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Whether this process may do what root may.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Writes `text` to `file` unless it is there already, so that a modification time means a change.
pub(crate) fn write_if_changed(file: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|present| present == text) {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        make_dir(folder)?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Creates `folder` and those above it.
pub(crate) fn make_dir(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}
