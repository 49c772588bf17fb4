//! Which compiler makes the eBPF object. It must build `core` from source for bpfel-unknown-none, and its
//! bitcode must be readable by a `bpf-linker` built against the same LLVM.
//!
//! Taken, in this order: the toolchain named in `FLOWPROBE_BPF_TOOLCHAIN`; a rustup nightly with rust-src whose
//! LLVM is at hand; the distribution's matched set (Debian: rustc-web and LLVM 22). The choice is written to
//! `target/setup/ebpf-toolchain`, which probe-user/build.rs reads: plain `cargo build` then works as well.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::linker;
use crate::{
    debian::{self, Need},
    step::{self, say},
    workspace,
};

/// rustup's name for the distribution's compiler.
const DISTRIBUTION_TOOLCHAIN: &str = "flowprobe-bpf";

/// Debian's compiler with the source of its standard library.
const DISTRIBUTION_NEEDS: [Need; 3] = [
    Need { package: "rustc-web", program: None },
    Need { package: "cargo-web", program: None },
    Need { package: "rust-web-src", program: None },
];

/// Debian's clippy for the same compiler.
const DISTRIBUTION_LINT: [Need; 1] = [Need { package: "rust-web-clippy", program: None }];

/// The compiler of the eBPF side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// rustup's name for it.
    pub(crate) name: String,
    /// Whether it is a stable compiler that needs RUSTC_BOOTSTRAP=1 to build `core`.
    pub(crate) needs_bootstrap: bool,
    /// The major version of its LLVM.
    llvm: u32,
}

impl Toolchain {
    /// `PROGRAM` of this toolchain, for example its cargo.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("rustup");
        command.args(["run", &self.name, program]).current_dir(workspace::root());
        if self.needs_bootstrap {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

/// Makes a toolchain and its linker ready, and leaves the choice for the build script.
pub(super) fn prepare(with_lint: bool) -> Result<()> {
    if step::captured(Command::new("rustup").arg("--version")).is_err() {
        bail!("rustup is not on PATH: install Rust as https://rustup.rs says");
    }
    let toolchain = toolchain()?;
    if toolchain.name == DISTRIBUTION_TOOLCHAIN
        && with_lint
        && debian::is_available(DISTRIBUTION_LINT[0].package)
    {
        debian::require("clippy for the eBPF side", &DISTRIBUTION_LINT)?;
    }
    let linker = linker::prepare(toolchain.llvm)?;
    workspace::write_if_changed(&choice_file(), &choice_text(&toolchain, &linker))
}

/// The toolchain to take; installs and links the distribution's when nothing else fits.
pub(crate) fn toolchain() -> Result<Toolchain> {
    if let Some(name) = env::var_os("FLOWPROBE_BPF_TOOLCHAIN") {
        let name = name.to_string_lossy().into_owned();
        return match inspect(&name)? {
            Inspected { toolchain, has_source: true } => Ok(toolchain),
            Inspected { .. } => bail!(
                "the toolchain {name}, named in FLOWPROBE_BPF_TOOLCHAIN, has no source of `core`: \
                 rustup component add rust-src --toolchain {name}"
            ),
        };
    }
    let (nightly, passed_over) = nightly_with_source()?;
    if let Some(toolchain) = nightly {
        return Ok(toolchain);
    }
    if !linked_distribution_toolchain()? {
        for reason in &passed_over {
            say(reason);
        }
        install_distribution_toolchain()?;
    }
    let Inspected { toolchain, has_source } = inspect(DISTRIBUTION_TOOLCHAIN)?;
    if !has_source {
        bail!("Debian's rust-web-src does not fit its rustc-web: apt-get install --reinstall rust-web-src");
    }
    Ok(toolchain)
}

/// The first nightly that can do it, and why the others cannot.
fn nightly_with_source() -> Result<(Option<Toolchain>, Vec<String>)> {
    let mut passed_over = Vec::new();
    for name in nightlies(&step::captured(Command::new("rustup").args(["toolchain", "list"]))?) {
        let Ok(Inspected { toolchain, has_source }) = inspect(&name) else {
            passed_over.push(format!("passing over {name}: its rustc does not run"));
            continue;
        };
        if !has_source {
            passed_over.push(format!("passing over {name}: it has no rust-src component"));
        } else if let Err(error) = linker::can_be_had(toolchain.llvm) {
            passed_over.push(format!("passing over {name}: {error:#}"));
        } else {
            return Ok((Some(toolchain), passed_over));
        }
    }
    Ok((None, passed_over))
}

/// The nightlies in the output of `rustup toolchain list`, the undated one first, then the newest.
fn nightlies(list: &str) -> Vec<String> {
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("nightly")).map(str::to_owned).collect();
    let is_dated = |name: &str| name.as_bytes().get(8).is_some_and(u8::is_ascii_digit);
    names.sort_by(|a, b| is_dated(a).cmp(&is_dated(b)).then(b.cmp(a)));
    names
}

/// Whether rustup knows Debian's compiler under our name, with everything it needs.
fn linked_distribution_toolchain() -> Result<bool> {
    let list = step::captured(Command::new("rustup").args(["toolchain", "list"]))?;
    let is_linked = list.lines().any(|line| line.split_whitespace().next() == Some(DISTRIBUTION_TOOLCHAIN));
    Ok(is_linked && inspect(DISTRIBUTION_TOOLCHAIN).is_ok_and(|inspected| inspected.has_source))
}

fn install_distribution_toolchain() -> Result<()> {
    if !debian::is_available("rustc-web") {
        bail!(
            "no compiler here can build for eBPF, and {} offers none that fits: \
             rustup toolchain install nightly --component rust-src, \
             and install bpf-linker {} with an LLVM that matches it (`rustc +nightly -vV` names the version)",
            debian::distribution().name,
            linker::VERSION
        );
    }
    debian::require("the eBPF compiler", &DISTRIBUTION_NEEDS)?;
    say(&format!("linking the rustup toolchain {DISTRIBUTION_TOOLCHAIN} to Debian's compiler in /usr"));
    step::captured(Command::new("rustup").args(["toolchain", "link", DISTRIBUTION_TOOLCHAIN, "/usr"]))?;
    Ok(())
}

struct Inspected {
    toolchain: Toolchain,
    has_source: bool,
}

fn inspect(name: &str) -> Result<Inspected> {
    let rustc = |argument: &[&str]| {
        step::captured(Command::new("rustup").args(["run", name, "rustc"]).args(argument))
    };
    let version = rustc(&["-vV"])?;
    let sysroot = rustc(&["--print", "sysroot"])?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    let (needs_bootstrap, llvm) =
        parse_version(&version).with_context(|| format!("`rustc -vV` of {name} names no LLVM"))?;
    Ok(Inspected {
        toolchain: Toolchain { name: name.to_owned(), needs_bootstrap, llvm },
        has_source: source.is_dir(),
    })
}

/// From `rustc -vV`: whether it is no nightly, and the major version of its LLVM.
fn parse_version(text: &str) -> Option<(bool, u32)> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let is_nightly =
        ["-nightly", "-dev"].iter().any(|end| value("release: ").is_some_and(|r| r.ends_with(end)));
    let llvm = value("LLVM version: ")?.split('.').next()?.trim().parse().ok()?;
    Some((!is_nightly, llvm))
}

fn choice_file() -> PathBuf {
    workspace::setup_dir().join("ebpf-toolchain")
}

fn choice_text(toolchain: &Toolchain, linker: &Path) -> String {
    format!(
        "# Written by `cargo xtask setup`, read by probe-user/build.rs: what compiles and links the eBPF object.\n\
         # toolchain: rustup's name for it; bootstrap: 1 for a stable compiler, which needs RUSTC_BOOTSTRAP=1.\n\
         # FLOWPROBE_BPF_TOOLCHAIN and FLOWPROBE_BPF_BOOTSTRAP in the environment overrule this file.\n\
         toolchain={}\nbootstrap={}\nlinker={}\n",
        toolchain.name,
        u8::from(toolchain.needs_bootstrap),
        linker.display()
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Toolchain, choice_text, nightlies, parse_version};

    #[test]
    fn nightlies_are_found_and_the_undated_one_leads() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default)\nnightly-2026-01-02-x86_64-unknown-linux-gnu\n\
                    nightly-2026-05-20-x86_64-unknown-linux-gnu\nnightly-x86_64-unknown-linux-gnu\nflowprobe-bpf\n";
        assert_eq!(
            nightlies(list),
            [
                "nightly-x86_64-unknown-linux-gnu",
                "nightly-2026-05-20-x86_64-unknown-linux-gnu",
                "nightly-2026-01-02-x86_64-unknown-linux-gnu"
            ]
        );
        assert!(nightlies("no installed toolchains\n").is_empty());
    }

    #[test]
    fn channel_and_llvm_are_read() {
        let stable = "rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_version(stable), Some((true, 22)));
        let nightly = "rustc 1.97.0-nightly\nrelease: 1.97.0-nightly\nLLVM version: 23.1\n";
        assert_eq!(parse_version(nightly), Some((false, 23)));
        assert_eq!(parse_version("rustc 1.0\n"), None);
    }

    #[test]
    fn the_choice_is_one_word_a_line() {
        let toolchain = Toolchain { name: "flowprobe-bpf".to_owned(), needs_bootstrap: true, llvm: 22 };
        let text = choice_text(&toolchain, Path::new("/x/bpf-linker"));
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, ["toolchain=flowprobe-bpf", "bootstrap=1", "linker=/x/bpf-linker"]);
    }
}
