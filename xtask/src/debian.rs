//! The distribution's packages: which are missing, installing them, and unpacking one without installing it.
//!
//! Reads /etc/os-release, dpkg's and apt's answers. Only [`require`] changes the machine, and only as root
//! on Debian or a derivative; elsewhere it names what to install. [`unpack`] writes under `target/debs` alone:
//! a Debian package such as `prometheus` would start a service if it were installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    step::{self, say},
    workspace,
};

/// What /etc/os-release says about who made this system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// Its name for people, for example `Debian GNU/Linux 12 (bookworm)`.
    pub(crate) name: String,
    /// Whether it is Debian or says that it is like it, so that apt and Debian's package names may be tried.
    pub(crate) is_debian_like: bool,
}

/// Something the project needs, and the package that brings it on Debian.
pub(crate) struct Need {
    /// Debian's package.
    pub(crate) package: &'static str,
    /// The program by which one sees that it is there, on any distribution; `None` for libraries.
    pub(crate) program: Option<&'static str>,
}

/// The running system's distribution.
pub(crate) fn distribution() -> Distribution {
    parse_os_release(&fs::read_to_string("/etc/os-release").unwrap_or_default())
}

fn parse_os_release(text: &str) -> Distribution {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
    };
    let family = [value("ID"), value("ID_LIKE")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    Distribution {
        name: value("PRETTY_NAME").unwrap_or_else(|| "an unknown system".to_owned()),
        is_debian_like: family.split_whitespace().any(|id| id == "debian"),
    }
}

/// Sees that every need is met; installs Debian's packages where it may, and otherwise says what to install.
pub(crate) fn require(purpose: &str, needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !is_met(need)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let distribution = distribution();
    if !distribution.is_debian_like {
        let names: Vec<&str> = missing.iter().map(|need| need.program.unwrap_or(need.package)).collect();
        bail!(
            "missing for {purpose}: {}; install with the package manager of {} what brings {} (Debian's packages: {})",
            names.join(" "),
            distribution.name,
            if names.len() == 1 { "it" } else { "them" },
            packages.join(" ")
        );
    }
    if !workspace::is_root() {
        bail!(
            "packages are missing for {purpose}; as root: apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    }
    refresh();
    let unknown: Vec<&str> =
        packages.iter().copied().filter(|package| candidate(package).is_none()).collect();
    if !unknown.is_empty() {
        bail!(
            "missing for {purpose}, and not among the packages that apt knows on {}: {}; enable its security and \
             updates suites for apt, or install them from elsewhere",
            distribution.name,
            unknown.join(" ")
        );
    }
    let mut install = apt("apt-get");
    install.args(["install", "-y", "--no-install-recommends"]).args(&packages);
    step::logged(&format!("installing {} (for {purpose})", packages.join(" ")), "apt-install", &mut install)
}

/// Whether `package` can be had, or is there: asks apt, and refreshes its lists once if it knows nothing.
pub(crate) fn is_available(package: &str) -> bool {
    if !distribution().is_debian_like {
        return false;
    }
    is_installed(package) || {
        refresh_if_unknown(package);
        candidate(package).is_some()
    }
}

fn is_met(need: &Need) -> bool {
    match need.program {
        Some(program) => workspace::program(program).is_some(),
        None => is_installed(need.package),
    }
}

fn is_installed(package: &str) -> bool {
    let mut query = apt("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    step::captured(&mut query).is_ok_and(|status| status == "installed")
}

/// The version of `package` that apt would take, if it knows one.
pub(crate) fn candidate(package: &str) -> Option<String> {
    parse_candidate(&step::captured(apt("apt-cache").args(["policy", package])).ok()?)
}

fn parse_candidate(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)").then(|| version.to_owned())
}

/// What `package` depends on.
pub(crate) fn depends(package: &str) -> Result<Vec<String>> {
    Ok(parse_depends(&step::captured(apt("apt-cache").args(["depends", package]))?))
}

fn parse_depends(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends:"))
        .map(|name| name.trim().trim_matches(['<', '>']).to_owned())
        .collect()
}

/// Refreshes apt's lists if they do not know `package`, once in a run and only as root.
pub(crate) fn refresh_if_unknown(package: &str) {
    if candidate(package).is_none() {
        refresh();
    }
}

/// Refreshes apt's lists, once in a run. A repository that cannot be reached is no failure here: what is then
/// missing is named when it is asked for.
fn refresh() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !workspace::is_root() || DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    if let Err(error) = step::logged("refreshing apt's lists", "apt-update", apt("apt-get").arg("update")) {
        say(&format!("  going on with the lists that are there: {error:#}"));
    }
}

/// The directory where Debian's `package` stands unpacked, at the version that apt would take. Kept by version;
/// a copy from before serves when apt knows nothing (no network).
pub(crate) fn unpack(package: &str) -> Result<PathBuf> {
    let all = workspace::target().join("debs");
    refresh_if_unknown(package);
    let Some(version) = candidate(package) else {
        return newest_copy(&all, package).with_context(|| {
            format!("apt does not know the package {package}: run `apt-get update` as root and try again")
        });
    };
    // A colon (the epoch's) may not stand in a PATH entry.
    let folder = all.join(format!("{package}_{}", version.replace(':', "%3a")));
    if folder.is_dir() {
        return Ok(folder);
    }
    let part = all.join(format!("{package}.part"));
    step::remove_dir(&part)?;
    workspace::make_dir(&part)?;
    let fetch = || {
        let mut download = apt("apt-get");
        download.args(["download", &format!("{package}={version}")]).current_dir(&part);
        if workspace::is_root() {
            // The sandbox user need not be able to write into the checkout.
            download.args(["-o", "APT::Sandbox::User=root"]);
        }
        step::logged(&format!("fetching Debian's {package} {version}"), "apt-download", &mut download)
    };
    if fetch().is_err() {
        // A list older than the mirror names files that are gone.
        refresh();
        fetch()?;
    }
    let archive = fs::read_dir(&part)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt fetched no file for {package}"))?;
    let content = part.join("content");
    step::captured(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&content))?;
    fs::rename(&content, &folder).with_context(|| format!("cannot move to {}", folder.display()))?;
    step::remove_dir(&part)?;
    Ok(folder)
}

fn newest_copy(all: &Path, package: &str) -> Option<PathBuf> {
    let prefix = format!("{package}_");
    let copies = fs::read_dir(all).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    copies
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok())
}

/// One of apt's programs, asking nothing, in English, waiting for another apt to end.
fn apt(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
    if program == "apt-get" {
        command.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::{parse_candidate, parse_depends, parse_os_release};

    #[test]
    fn debian_and_its_children_are_told_from_others() {
        let debian = parse_os_release("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n");
        assert_eq!(debian.name, "Debian GNU/Linux 12 (bookworm)");
        assert!(debian.is_debian_like);
        assert!(parse_os_release("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n").is_debian_like);
        let fedora = parse_os_release("NAME=\"Fedora Linux\"\nID=fedora\nPRETTY_NAME='Fedora Linux 44'\n");
        assert!(!fedora.is_debian_like);
        assert_eq!(fedora.name, "Fedora Linux 44");
        assert!(!parse_os_release("ID=notdebian\nVERSION_ID=\"debian\"\n").is_debian_like);
        assert_eq!(parse_os_release("").name, "an unknown system");
    }

    #[test]
    fn a_candidate_is_a_version_or_nothing() {
        let policy =
            "linux-image-cloud-amd64:\n  Installed: (none)\n  Candidate: 6.1.192-2\n  Version table:\n";
        assert_eq!(parse_candidate(policy).as_deref(), Some("6.1.192-2"));
        assert_eq!(parse_candidate("nothing:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }

    #[test]
    fn dependencies_are_read_without_suggestions() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n \
                    |Depends: one\n  Depends: <two>\n  Suggests: three\n";
        assert_eq!(parse_depends(text), ["linux-image-6.1.0-56-cloud-amd64", "one", "two"]);
    }
}
