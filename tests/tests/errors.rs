//! Is every refusal one clear sentence with the right exit code, and is nothing left loaded?

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tests::kit::{Process, Sandbox, free_port, get, take_turn};
use tests::scenario::refusal::{self, refuses};
use tests::scenario::{Daemon, LONG, command, expect, hold};

fn with(run_dir: &Path, words: &[&str]) -> Result<Command> {
    let mut command = command(run_dir)?;
    command.args(words);
    Ok(command)
}

fn empty() -> Result<TempDir> {
    Ok(tempfile::tempdir()?)
}

#[test]
fn without_btf() -> Result<()> {
    hold(refusal::without_btf)
}

#[test]
fn without_capabilities() -> Result<()> {
    hold(refusal::without_capabilities)
}

#[test]
fn without_cgroup_mount() -> Result<()> {
    hold(refusal::without_cgroup_mount)
}

#[test]
fn without_root() -> Result<()> {
    let _turn = take_turn()?;
    // A folder and a copy of the program that anybody may read.
    let folder = tempfile::Builder::new().permissions(world_readable()).tempdir()?;
    let program = folder.path().join("flowprobe");
    std::fs::copy(tests::kit::flowprobe()?, &program)?;
    for verb in ["daemon", "flows", "watch"] {
        let mut command = Command::new(&program);
        command.env("FLOWPROBE_RUN_DIR", folder.path().join("run")).arg(verb);
        if verb == "daemon" {
            command.args(["--listen", &format!("127.0.0.1:{}", free_port()?)]);
        }
        Sandbox { user: Some(65_534), ..Sandbox::default() }.apply(&mut command)?;
        refuses(command, 1, &["root", "CAP_"])?;
    }
    Ok(())
}

fn world_readable() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::Permissions::from_mode(0o755)
}

#[test]
fn an_unknown_option_or_verb_is_a_usage_error() -> Result<()> {
    let _turn = take_turn()?;
    let folder = empty()?;
    refuses(with(folder.path(), &["daemon", "--lisen", "127.0.0.1:1"])?, 2, &["--lisen"])?;
    refuses(with(folder.path(), &["flow"])?, 2, &["flow"])?;
    refuses(with(folder.path(), &["daemon", "--listen", "nonsense"])?, 2, &["nonsense"])?;
    refuses(with(folder.path(), &["flows", "-o", "yaml"])?, 2, &["yaml"])?;
    refuses(with(folder.path(), &["flows", "--limit", "many"])?, 2, &["many"])?;
    refuses(with(folder.path(), &["flows", "--columns", "netns,colour"])?, 2, &["colour"])?;
    refuses(with(folder.path(), &["flows", "--sort", "colour"])?, 2, &["colour"])?;
    Ok(())
}

#[test]
fn an_unknown_filter_word_is_shown_with_a_caret() -> Result<()> {
    let _turn = take_turn()?;
    let folder = empty()?;
    for verb in ["flows", "watch"] {
        for (words, wrong) in [
            (&["colour", "red"][..], "colour"),
            (&["dst", "192.0.2.0/33"][..], "192.0.2.0/33"),
            (&["rtt", ">", "100parsecs"][..], "100parsecs"),
            (&["dport", "=", ":https443"][..], ":https443"),
            (&["state", "marvellous"][..], "marvellous"),
            (&["role", "server", "and"][..], "and"),
        ] {
            let mut arguments = vec![verb];
            arguments.extend_from_slice(words);
            let done = refuses(with(folder.path(), &arguments)?, 2, &[wrong])?;
            let lines: Vec<&str> = done.err.lines().collect();
            let caret = lines.iter().position(|line| line.contains('^'));
            let caret = caret.ok_or_else(|| anyhow::anyhow!("no caret: {}", done.err))?;
            ensure!(caret > 0, "the caret is below nothing: {}", done.err);
            ensure!(lines[caret - 1].contains(wrong), "the caret is not below the word: {}", done.err);
        }
    }
    Ok(())
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let _turn = take_turn()?;
    let folder = empty()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    refuses(with(folder.path(), &["daemon", "--listen", &address])?, 1, &[&address])?;
    Ok(())
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() -> Result<()> {
    let _turn = take_turn()?;
    let first = Daemon::start()?;
    let other = format!("127.0.0.1:{}", free_port()?);
    refuses(with(first.run_dir(), &["daemon", "--listen", &other])?, 1, &["already", "running", "another"])?;
    expect("the first daemon's readiness", get(first.address, "/-/ready")?.status, 200)?;
    first.scrape()?;
    first.stop().map(drop)
}

#[test]
fn a_broken_configuration_is_named_with_its_line() -> Result<()> {
    let _turn = take_turn()?;
    let folder = empty()?;
    let missing = folder.path().join("missing.toml");
    let missing = missing.to_string_lossy().into_owned();
    let done = Process::run(with(folder.path(), &["daemon", "--config", &missing])?, LONG)?;
    ensure!(done.code.is_some_and(|code| code != 0), "a missing configuration file was accepted");
    ensure!(done.err.contains(&missing), "the file is not named: {}", done.err);
    let broken = folder.path().join("broken.toml");
    std::fs::File::create(&broken)?.write_all(b"# fine\n\n= = nonsense\n")?;
    let broken = broken.to_string_lossy().into_owned();
    let done = Process::run(with(folder.path(), &["daemon", "--config", &broken])?, LONG)?;
    ensure!(done.code.is_some_and(|code| code != 0), "a broken configuration file was accepted");
    ensure!(
        done.err.contains(&broken) && done.err.contains('3'),
        "file and line are not named: {}",
        done.err
    );
    ensure!(!done.err.contains("panicked"), "it panicked: {}", done.err);
    Ok(())
}
