//! `bpf-linker`, built against the LLVM of the eBPF compiler: it reads that compiler's bitcode, so the major
//! versions must agree. The plain `cargo install bpf-linker` takes its newest LLVM, which is rarely the one at hand.
//!
//! Costs about a minute of building, once; kept in `target/tools/bin` and the cache, rebuilt when the LLVM changes or is gone.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::cache::Tool;
use crate::{
    debian::{self, Need},
    step::{self, say},
    workspace,
};

/// The version that aya 0.14's objects were made and seen to load with.
pub(super) const VERSION: &str = "0.13.0";

/// What that version can be built against, with Debian's packages for it.
const LLVMS: [Llvm; 3] = [
    Llvm {
        major: 21,
        feature: "llvm-21",
        prefix: "/usr/lib/llvm-21",
        packages: ["llvm-21-dev", "libpolly-21-dev"],
    },
    Llvm {
        major: 22,
        feature: "llvm-22",
        prefix: "/usr/lib/llvm-22",
        packages: ["llvm-22-dev", "libpolly-22-dev"],
    },
    Llvm {
        major: 23,
        feature: "llvm-23",
        prefix: "/usr/lib/llvm-23",
        packages: ["llvm-23-dev", "libpolly-23-dev"],
    },
];

struct Llvm {
    major: u32,
    feature: &'static str,
    /// Where Debian's packages put it.
    prefix: &'static str,
    packages: [&'static str; 2],
}

impl Llvm {
    fn of(major: u32) -> Option<&'static Self> {
        LLVMS.iter().find(|llvm| llvm.major == major)
    }

    /// Where this LLVM's development files stand, if they do: Debian's place, or what llvm-config says.
    fn installed(&self) -> Option<PathBuf> {
        if Path::new(self.prefix).join("bin/llvm-config").exists() {
            return Some(PathBuf::from(self.prefix));
        }
        [format!("llvm-config-{}", self.major), "llvm-config".to_owned()].iter().find_map(|program| {
            let version = step::captured(Command::new(program).arg("--version")).ok()?;
            let prefix = step::captured(Command::new(program).arg("--prefix")).ok()?;
            (major_of(&version) == Some(self.major)).then(|| PathBuf::from(prefix.trim()))
        })
    }
}

/// The major version in `22.1.8` or `bpf-linker 22.1.8`.
fn major_of(version: &str) -> Option<u32> {
    version.split_whitespace().last()?.split('.').next()?.parse().ok()
}

/// An error that says why no linker for this LLVM can be had here.
pub(super) fn can_be_had(llvm: u32) -> Result<()> {
    let Some(known) = Llvm::of(llvm) else {
        bail!("its LLVM {llvm} is not one that bpf-linker {VERSION} can use");
    };
    if present(known) || known.installed().is_some() || debian::is_available(known.packages[0]) {
        return Ok(());
    }
    if own_by_hand().is_some() {
        return Ok(());
    }
    bail!("LLVM {llvm}, which it uses, is not here and not in the distribution's packages");
}

/// The linker for bitcode of this LLVM; builds it if it is not there.
pub(super) fn prepare(llvm: u32) -> Result<PathBuf> {
    can_be_had(llvm)?;
    let llvm = Llvm::of(llvm).with_context(|| format!("bpf-linker {VERSION} cannot use LLVM {llvm}"))?;
    if present(llvm) {
        return Ok(file());
    }
    if llvm.installed().is_none()
        && !debian::is_available(llvm.packages[0])
        && let Some(by_hand) = own_by_hand()
    {
        say(&format!("taking {}; it must be built against LLVM {}", by_hand.display(), llvm.major));
        return Ok(by_hand);
    }
    if debian::distribution().is_debian_like {
        let [dev, polly] = llvm.packages;
        let libraries = [dev, polly, "libzstd-dev", "zlib1g-dev"];
        debian::require("bpf-linker", &libraries.map(|package| Need { package, program: None }))?;
    }
    let Some(prefix) = llvm.installed() else {
        bail!("LLVM {}'s development files are not where bpf-linker can find them: install them", llvm.major);
    };
    let (key, file) = (format!("bpf-linker-{VERSION}-{}", llvm.feature), file());
    let tool = Tool { key: &key, version: VERSION, file: &file };
    if tool.take() {
        workspace::write_if_changed(&stamp(), &stamp_text(llvm))?;
        return Ok(file);
    }
    let target = workspace::setup_dir().join("bpf-linker-build");
    let mut install = workspace::cargo("install");
    install
        .args(["bpf-linker", "--version", VERSION, "--no-default-features", "--features", llvm.feature])
        .args(["--locked", "--force"])
        .arg("--root")
        .arg(workspace::target().join("tools"))
        .env("CARGO_TARGET_DIR", &target)
        // Its work is done inside libLLVM: optimising its own code would double the wait for nothing.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("LLVM_PREFIX", prefix);
    step::logged(
        &format!("building bpf-linker {VERSION} for LLVM {}", llvm.major),
        "bpf-linker",
        &mut install,
    )?;
    step::remove_dir(&target)?;
    tool.keep();
    workspace::write_if_changed(&stamp(), &stamp_text(llvm))?;
    Ok(file)
}

/// Whether the one we built is for this LLVM and runs (it links libLLVM dynamically).
fn present(llvm: &Llvm) -> bool {
    fs::read_to_string(stamp()).is_ok_and(|text| text == stamp_text(llvm))
        && step::captured(Command::new(file()).arg("--version")).is_ok_and(|text| text.contains(VERSION))
}

/// A bpf-linker that the user installed; which LLVM it has it does not tell.
fn own_by_hand() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join("bpf-linker"))
        .find(|found| found.is_file() && *found != file())
}

fn file() -> PathBuf {
    workspace::tools_bin().join("bpf-linker")
}

fn stamp() -> PathBuf {
    workspace::setup_dir().join("bpf-linker")
}

fn stamp_text(llvm: &Llvm) -> String {
    format!("{VERSION} {}\n", llvm.feature)
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn a_major_version_is_read() {
        assert_eq!(major_of("22.1.8\n"), Some(22));
        assert_eq!(major_of("LLVM version 23.1.0"), Some(23));
        assert_eq!(major_of(""), None);
    }
}
