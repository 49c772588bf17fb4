//! `cargo xtask setup`: installs what is missing, says so, and does nothing the second time.
//!
//! For a build: an eBPF toolchain, and `bpf-linker` built against its LLVM ([`ebpf`]). For tests besides:
//! QEMU with what the kernel VMs are made of, and Prometheus with promtool. For lint: clippy and cargo-deny.
//! Outside `target/` it changes only the distribution's packages, rustup's list of toolchains and a [`cache`] of built tools.

mod cache;
mod deny;
mod ebpf;
mod linker;

use std::{fs, io::ErrorKind, os::unix::fs::symlink, path::Path};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

pub(crate) use self::ebpf::toolchain;
use crate::{
    debian::{self, Need},
    step, workspace,
};

/// Arguments of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to make ready
    #[arg(long = "for", value_enum, default_value = "build")]
    purpose: Purpose,
}

/// What the set-up is for; each includes the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Purpose {
    /// cargo xtask build, cargo xtask run
    Build,
    /// cargo xtask test, cargo xtask vm
    Test,
    /// cargo xtask lint, cargo xtask ci
    Lint,
}

/// Programs that the kernel VMs need. Kernels, busybox and Prometheus are unpacked, never installed.
const VM_NEEDS: [Need; 3] = [
    Need { package: "qemu-system-x86", program: Some("qemu-system-x86_64") },
    Need { package: "kmod", program: Some("depmod") },
    Need { package: "xz-utils", program: Some("xz") },
];

/// Programs that the namespace tests start.
const TEST_NEEDS: [Need; 3] = [
    Need { package: "curl", program: Some("curl") },
    Need { package: "iproute2", program: Some("ip") },
    Need { package: "libcap2-bin", program: Some("capsh") },
];

/// The verb.
pub(crate) fn main(arguments: &Arguments) -> Result<()> {
    prepare(arguments.purpose)?;
    step::say("everything that is needed is there");
    Ok(())
}

/// Makes the machine ready for `purpose`.
pub(crate) fn prepare(purpose: Purpose) -> Result<()> {
    ebpf::prepare(purpose >= Purpose::Lint)?;
    if purpose >= Purpose::Test {
        debian::require("the test suite", &TEST_NEEDS)?;
        prepare_vm()?;
        prometheus()?;
    }
    if purpose >= Purpose::Lint {
        user_side_lint()?;
        deny::prepare()?;
    }
    Ok(())
}

/// What `cargo xtask vm` needs to boot a kernel.
pub(crate) fn prepare_vm() -> Result<()> {
    debian::require("the kernel VMs", &VM_NEEDS)
}

/// `prometheus` and `promtool` into `target/tools/bin`, without the service that the package would start.
fn prometheus() -> Result<()> {
    const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];
    if PROGRAMS.iter().all(|name| workspace::program(name).is_some()) {
        return Ok(());
    }
    if !debian::is_available("prometheus") {
        let needs = PROGRAMS.map(|program| Need { package: "prometheus", program: Some(program) });
        return debian::require("the test suite", &needs);
    }
    let unpacked = debian::unpack("prometheus")?;
    for name in PROGRAMS {
        link(&unpacked.join("usr/bin").join(name), &workspace::tools_bin().join(name))?;
    }
    Ok(())
}

/// rustfmt and clippy of the toolchain in use; rustup's minimal profile comes without them.
fn user_side_lint() -> Result<()> {
    for (verb, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if step::captured(workspace::cargo(verb).arg("--version")).is_err() {
            let mut add = std::process::Command::new("rustup");
            add.args(["component", "add", component]);
            step::logged(&format!("adding {component} to the toolchain in use"), component, &mut add)?;
        }
    }
    Ok(())
}

/// Makes `link` point to `file`, whatever was there.
fn link(file: &Path, link: &Path) -> Result<()> {
    workspace::make_dir(&workspace::tools_bin())?;
    match fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => symlink(file, link),
    }
    .with_context(|| format!("cannot link {}", link.display()))
}
