//! Builds the eBPF object that the binary carries.
//!
//! The toolchain for it is named in `target/setup/ebpf-toolchain`, which `cargo xtask setup` writes, or in the
//! environment (`FLOWPROBE_BPF_TOOLCHAIN`, `FLOWPROBE_BPF_BOOTSTRAP`). The inner cargo needs another PATH and possibly
//! RUSTC_BOOTSTRAP; a process cannot change its own environment safely, so the script runs itself once more with them,
//! and with one output folder for all profiles: the object does not depend on the user side's.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

const INNER: &str = "FLOWPROBE_BPF_INNER";
const OBJECT: &str = "flowprobe-ebpf";

struct Toolchain {
    name: String,
    bootstrap: bool,
    linker: Option<PathBuf>,
}

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../probe-ebpf");
    println!("cargo:rerun-if-changed=../probe-common");
    for name in ["FLOWPROBE_BPF_TOOLCHAIN", "FLOWPROBE_BPF_BOOTSTRAP"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let toolchain = toolchain()?;
    if env::var_os(INNER).is_none() {
        return run_again(&toolchain);
    }
    aya_build::build_ebpf(
        [aya_build::Package { name: "probe-ebpf", root_dir: "../probe-ebpf", ..Default::default() }],
        aya_build::Toolchain::Custom(&toolchain.name),
    )
}

fn toolchain() -> Result<Toolchain> {
    if let Ok(name) = env::var("FLOWPROBE_BPF_TOOLCHAIN") {
        let bootstrap = env::var("FLOWPROBE_BPF_BOOTSTRAP").is_ok_and(|v| v == "1");
        return Ok(Toolchain { name, bootstrap, linker: None });
    }
    let path = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../target/setup/ebpf-toolchain");
    let Ok(text) = fs::read_to_string(&path) else {
        bail!("no eBPF toolchain is set up: run `cargo xtask setup`");
    };
    println!("cargo:rerun-if-changed={}", path.display());
    let value = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(|v| v.trim().to_owned())
    };
    Ok(Toolchain {
        name: value("toolchain").with_context(|| format!("{} names no toolchain", path.display()))?,
        bootstrap: value("bootstrap").as_deref() == Some("1"),
        linker: value("linker").map(PathBuf::from),
    })
}

fn run_again(toolchain: &Toolchain) -> Result<()> {
    let shared = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../target/ebpf");
    fs::create_dir_all(&shared)?;
    let mut command = Command::new(env::current_exe()?);
    command.env(INNER, "1").env("OUT_DIR", &shared).env("CARGO_TERM_QUIET", "true");
    if toolchain.bootstrap {
        command.env("RUSTC_BOOTSTRAP", "1");
    } else {
        command.env_remove("RUSTC_BOOTSTRAP");
    }
    if let Some(dir) = toolchain.linker.as_deref().and_then(Path::parent) {
        let path = env::var_os("PATH").unwrap_or_default();
        let joined = env::join_paths([dir.to_path_buf()].into_iter().chain(env::split_paths(&path)))?;
        command.env("PATH", joined);
    }
    let status = command.status()?;
    if !status.success() {
        bail!("the eBPF object was not built: see the messages above");
    }
    let to = Path::new(&env::var("OUT_DIR")?).join(OBJECT);
    fs::copy(shared.join(OBJECT), &to).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(())
}
