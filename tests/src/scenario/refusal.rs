//! What flowprobe says when the machine does not give it what it needs, and that nothing stays behind (CASE 26).

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Daemon, Probe, command, expect};
use crate::kit::{Finished, Process, Sandbox, free_port, wait_until};
use crate::truth::Objects;

/// A refusal comes at once; the rest is for a slow machine.
const SOON: Duration = Duration::from_secs(60);

/// Run the command, which has to end with this code, having said one of these words on standard error, in one clear
/// sentence, and having left no BPF object behind.
///
/// # Errors
/// When it does otherwise.
pub fn refuses(command: Command, code: i32, words: &[&str]) -> Result<Finished> {
    let before = Objects::now()?;
    let done = Process::run(command, SOON)?;
    ensure!(
        done.code == Some(code),
        "it ended with {:?}/{:?}, not {code}: {}",
        done.code,
        done.signal,
        done.err
    );
    clear(&done.err, words)?;
    nothing_is_left(&before)?;
    Ok(done)
}

/// The message names its cause and is written for people.
fn clear(err: &str, words: &[&str]) -> Result<()> {
    ensure!(!err.trim().is_empty(), "it said nothing");
    ensure!(words.iter().any(|word| err.contains(word)), "it did not say any of {words:?}: {err}");
    for noise in ["panicked", "Stack backtrace", "Caused by", "Os {", "libbpf", "processed "] {
        ensure!(!err.contains(noise), "`{noise}` is not for people: {err}");
    }
    ensure!(err.lines().count() <= 12, "that is not one clear sentence: {err}");
    Ok(())
}

/// Wait until no BPF object is there that was not there before: the kernel frees some of them late.
///
/// # Errors
/// When something stays.
pub fn nothing_is_left(before: &Objects) -> Result<()> {
    let mut left = None;
    let freed = wait_until(Duration::from_secs(30), "every BPF object is freed", || {
        left = Some(Objects::now()?.added_since(before));
        Ok(left.as_ref().is_some_and(Objects::is_empty))
    });
    freed.map_err(|error| error.context(format!("left: {left:?}")))
}

fn daemon_command(run_dir: &std::path::Path) -> Result<Command> {
    let mut command = command(run_dir)?;
    command.args(["daemon", "--listen", &format!("127.0.0.1:{}", free_port()?)]);
    Ok(command)
}

/// No BTF of the kernel.
///
/// # Errors
/// When the refusal is not clear, or something is left.
pub fn without_btf(_: &Probe) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for verb in ["daemon", "flows", "watch"] {
        let mut command =
            if verb == "daemon" { daemon_command(folder.path())? } else { command(folder.path())? };
        if verb != "daemon" {
            command.arg(verb);
        }
        Sandbox { hide: &["/sys/kernel/btf"], ..Sandbox::default() }.apply(&mut command)?;
        refuses(command, 1, &["BTF"])?;
    }
    Ok(())
}

/// Root without the capabilities for BPF.
///
/// # Errors
/// When the refusal is not clear, or something is left.
pub fn without_capabilities(_: &Probe) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for verb in ["daemon", "flows", "watch"] {
        let mut command =
            if verb == "daemon" { daemon_command(folder.path())? } else { command(folder.path())? };
        if verb != "daemon" {
            command.arg(verb);
        }
        Sandbox { drop_capabilities: true, ..Sandbox::default() }.apply(&mut command)?;
        refuses(command, 1, &["CAP_", "root"])?;
    }
    Ok(())
}

/// The host has mounted no cgroup v2: flowprobe mounts it for itself, and the host does not see that.
///
/// # Errors
/// When the daemon does not get ready, or the mount shows.
pub fn without_cgroup_mount(_: &Probe) -> Result<()> {
    let mounts = || -> Result<Vec<String>> {
        let text = std::fs::read_to_string("/proc/self/mounts")?;
        Ok(text.lines().filter(|line| line.contains(" cgroup2 ")).map(str::to_owned).collect())
    };
    let before = mounts()?;
    let sandbox = Sandbox { unmount: Some("cgroup2"), ..Sandbox::default() };
    let mut applied = Ok(());
    let daemon = Daemon::start_with(|command| applied = sandbox.apply(command))?;
    applied?;
    ensure!(daemon.scrape()?.count("flowprobe_hook_up", &[]) > 0, "the daemon says nothing of its hooks");
    expect("the host's mounts of cgroup v2", mounts()?, before)?;
    daemon.stop().map(drop)
}
