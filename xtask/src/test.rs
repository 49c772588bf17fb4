//! `cargo xtask test`: the README's second command. Every test there is: unit tests, the scenarios in network
//! namespaces on the running kernel, and the scenarios inside Debian's kernels under QEMU.
//!
//! The last line is the sum, alone: `N passed, N failed`.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::{
    build,
    setup::{self, Purpose},
    stage::{Counts, Stages},
    step,
    vm::{self, Series},
    workspace,
};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the kernel VMs
    #[arg(long)]
    quick: bool,
    /// Run only tests whose name contains this
    filter: Option<String>,
}

/// The verb.
pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    require_root("test")?;
    let mut stages = Stages::default();
    if stages.check("set-up", || setup::prepare(Purpose::Test)) {
        stages_of_tests(&mut stages, arguments.quick, arguments.filter.as_deref());
    }
    let total = stages.total();
    let code = stages.finish();
    if let (Some(filter), Counts { passed: 0, failed: 0 }) = (&arguments.filter, total) {
        bail!("no test's name contains `{filter}`");
    }
    Ok(code)
}

/// An error that says why the tests want root, and how.
pub(crate) fn require_root(verb: &str) -> Result<()> {
    if !workspace::is_root() {
        bail!(
            "the tests make network namespaces and load programs into the kernel, which takes root: run \
             `sudo -E env \"PATH=$PATH\" cargo xtask {verb}`"
        );
    }
    Ok(())
}

/// Runs the stages after the set-up.
pub(crate) fn stages_of_tests(stages: &mut Stages, quick: bool, filter: Option<&str>) {
    if !stages.check("build", build::portable) {
        return;
    }
    stages.tests("unit tests", |counts| {
        let mut tests = build::portable_cargo("test");
        tests.args(["--workspace", "--exclude", "tests", "--exclude", "probe-ebpf", "--no-fail-fast"]);
        cargo_test(&mut tests, filter, &[], counts)
    });
    stages.tests("namespaces, running kernel", |counts| {
        let mut tests = build::portable_cargo("test");
        tests.args(["--package", "tests", "--no-fail-fast"]);
        // Each changes what the whole machine sees (hooks, sysctls): one at a time.
        cargo_test(&mut tests, filter, &["--test-threads=1"], counts)
    });
    if quick {
        stages.skip("kernel VMs", "--quick");
        return;
    }
    // One after the other: two at once leave each too little of two cores for timers to be kept.
    for series in Series::ALL {
        stages.tests(&format!("VM, Debian {series}"), |counts| vm::scenarios(series, filter, counts));
    }
}

/// Runs `cargo test` with the program under test and the tools of the set-up in its environment.
fn cargo_test(
    command: &mut Command,
    filter: Option<&str>,
    libtest: &[&str],
    counts: &mut Counts,
) -> Result<()> {
    command
        .env("FLOWPROBE_BIN", workspace::portable_flowprobe())
        // An error says what was wrong; where the test asked is in its name.
        .env("RUST_BACKTRACE", "0")
        .env("PATH", workspace::path_with_tools())
        .args(["--color", step::colour()])
        .args(filter)
        .args(["--", "--color", step::colour()])
        .args(libtest);
    let mut reported = false;
    let status = step::streamed(command, None, |line| {
        println!("{line}");
        reported |= counts.add_line(&uncoloured(line));
    })?;
    match status {
        Some(status) if status.success() && reported => Ok(()),
        Some(status) if status.success() => bail!("cargo test reported no result"),
        Some(status) => bail!("cargo test ended with {status}"),
        None => bail!("cargo test did not end"),
    }
}

/// `line` without terminal colours.
fn uncoloured(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default();
    let rest = parts.map(|part| part.split_once('m').map_or("", |(_, text)| text));
    std::iter::once(first).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::uncoloured;

    #[test]
    fn colours_are_taken_away() {
        let line = "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 3 passed; 0 failed";
        assert_eq!(uncoloured(line), "test result: ok. 3 passed; 0 failed");
        assert_eq!(uncoloured("plain"), "plain");
    }
}
