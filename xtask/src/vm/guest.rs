//! What is in the guest: busybox, the modules, our programs, the command, and an init that runs it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{cpio::Archive, kernel::Kernel, modules::Modules};
use crate::debian;

/// What runs first in the guest; it reads /modules/order and runs /command.
const INIT: &str = include_str!("init.sh");

/// Modules without which the scenarios mean nothing: the emulator's links, BBR, its pacing.
const REQUIRED: [&str; 4] = ["tun", "veth", "tcp_bbr", "sch_fq"];
/// Modules that a scenario may use where they are.
const OPTIONAL: [&str; 1] = ["sch_netem"];

/// A file of the host for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Put {
    /// On the host.
    pub(super) from: PathBuf,
    /// In the guest, absolute.
    pub(super) to: String,
}

/// `SRC:DST`, the last colon dividing.
pub(super) fn parse_put(text: &str) -> Result<Put, String> {
    match text.rsplit_once(':') {
        Some((from, to)) if !from.is_empty() && to.len() > 1 && to.starts_with('/') => {
            Ok(Put { from: PathBuf::from(from), to: to.to_owned() })
        }
        _ => Err("it is SRC:DST, with DST an absolute path in the guest".to_owned()),
    }
}

/// The guest's root as the kernel takes it.
pub(super) fn initramfs(kernel: &Kernel, files: &[Put], command: &[String]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["/dev", "/etc", "/proc", "/sys", "/tmp", "/run", "/root"] {
        archive.folder(folder);
    }
    // The kernel opens it for init before anything is mounted.
    archive.character_device("/dev/console", (5, 1));
    archive.file("/init", 0o755, INIT.as_bytes());
    archive.file("/command", 0o755, format!("#!/bin/sh\nexec {}\n", quoted(command)).as_bytes());
    archive.file("/etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    let busybox = debian::unpack("busybox-static")?;
    put(&mut archive, &["bin/busybox", "usr/bin/busybox"].map(|path| busybox.join(path)), "/bin/busybox")?;
    archive.link("/bin/sh", "busybox");
    for file in files {
        put(&mut archive, std::slice::from_ref(&file.from), &file.to)?;
    }
    add_modules(&mut archive, kernel)?;
    Ok(archive.finish())
}

/// Puts the first of `candidates` that is there.
fn put(archive: &mut Archive, candidates: &[PathBuf], to: &str) -> Result<()> {
    let from = candidates.iter().find(|path| path.is_file()).unwrap_or(&candidates[0]);
    let content = fs::read(from).with_context(|| format!("cannot read {} for the guest", from.display()))?;
    let permissions = fs::metadata(from)?.permissions().mode();
    archive.file(to, permissions, &content);
    Ok(())
}

fn add_modules(archive: &mut Archive, kernel: &Kernel) -> Result<()> {
    let text = |name: &str| {
        let file = kernel.modules.join(name);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    let (dependencies, built_in) = (text("modules.dep")?, text("modules.builtin")?);
    let modules = Modules::parse(&dependencies, &built_in);
    let mut order = Vec::new();
    for name in REQUIRED {
        if !modules.add(name, &mut order) {
            bail!("the kernel {} has no module {name}, which the scenarios need", kernel.release);
        }
    }
    for name in OPTIONAL {
        modules.add(name, &mut order);
    }
    let mut names = String::new();
    for file in order {
        let plain = Path::new(file.strip_suffix(".xz").unwrap_or(file));
        let name = plain.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("/modules/{name}"), 0o644, &module(&kernel.modules.join(file))?);
        names.push_str(&name);
        names.push('\n');
    }
    archive.file("/modules/order", 0o644, names.as_bytes());
    Ok(())
}

/// A module, decompressed if it is: busybox's insmod takes it plain.
fn module(file: &Path) -> Result<Vec<u8>> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => fs::read(file).with_context(|| format!("cannot read {}", file.display())),
        Some("xz") => {
            let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(file).output();
            let output = output.context("cannot start xz: package xz-utils")?;
            if !output.status.success() {
                bail!("xz cannot decompress {}", file.display());
            }
            Ok(output.stdout)
        }
        _ => bail!("{} is compressed in a way that is not known here (.ko and .ko.xz are)", file.display()),
    }
}

/// Words as a shell reads them back, each in single quotes.
fn quoted(words: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, process::Command};

    use super::{Put, parse_put, quoted};
    use crate::step;

    #[test]
    fn a_shell_reads_back_every_word() {
        let words = ["printf", "%s|", "it's", "a b", "$HOME", "\"", ""].map(str::to_owned);
        let script = quoted(&words);
        let output = step::captured(Command::new("sh").args(["-c", &script])).unwrap();
        assert_eq!(output, "it's|a b|$HOME|\"||");
    }

    #[test]
    fn put_divides_at_the_last_colon() {
        let expected = Put { from: PathBuf::from("a:b"), to: "/bin/b".to_owned() };
        assert_eq!(parse_put("a:b:/bin/b"), Ok(expected));
        for wrong in ["a", "a:b", ":/b", "a:/"] {
            assert!(parse_put(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn init_ends_with_the_line_that_the_host_waits_for() {
        assert!(super::INIT.contains(super::super::qemu::MARKER));
    }
}
