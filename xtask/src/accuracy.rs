//! `cargo xtask accuracy`: runs the accuracy matrix on the running kernel and inside Debian's kernels under QEMU, and
//! writes docs/accuracy.md from what was measured.
//!
//! The program `accuracy` of the crate `tests` does the measuring and the writing; it is linked statically, so that the
//! same file runs everywhere. Each run's lines are kept under `target/accuracy/`, and kernels that are not asked for
//! keep their part from there. On the running kernel the full form takes some minutes, the quick one about one.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    setup::{self, Purpose},
    step::{self, say},
    test, workspace,
};

const PROGRAM: &str = "accuracy";
/// How a line of measurement begins; the rest of a guest's console is for people.
const LINE_BEGINS: &str = "{\"axis\":";
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Arguments of `cargo xtask accuracy`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// About a minute on the running kernel, instead of some
    #[arg(long)]
    quick: bool,
    /// Which kernels to measure; the others keep the part of their last run
    #[arg(long, value_enum, default_value = "all")]
    kernel: Kernels,
}

/// Where to measure.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kernels {
    /// The running kernel
    Host,
    /// Debian 12's own, in a VM
    #[value(name = "6.1")]
    V6_1,
    /// Debian 12's backport, in a VM
    #[value(name = "6.12")]
    V6_12,
    /// All three
    All,
}

impl Kernels {
    /// The places, by the name of their file of lines; a VM's is its series.
    fn places(self) -> &'static [&'static str] {
        match self {
            Self::Host => &["host"],
            Self::V6_1 => &["6.1"],
            Self::V6_12 => &["6.12"],
            Self::All => &["host", "6.12", "6.1"],
        }
    }
}

/// The verb. Writes the document also when a bound is exceeded, and then fails.
pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    test::require_root("accuracy")?;
    setup::prepare(Purpose::Build)?;
    build::release()?;
    build::compile_portable(&[("tests", PROGRAM)])?;
    workspace::make_dir(&folder())?;
    let mut exceeded = Vec::new();
    for &place in arguments.kernel.places() {
        if !measure(place, arguments.quick)? {
            exceeded.push(place);
        }
    }
    let file = workspace::root().join("docs/accuracy.md");
    workspace::write_if_changed(&file, &document()?)?;
    say(&format!("{} holds what was measured", file.display()));
    if !exceeded.is_empty() {
        bail!(
            "a bound is exceeded, or a cell could not be measured, on: {}; the lines above and the document say which",
            exceeded.join(", ")
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the matrix in one place and keeps its lines; whether every bound held.
fn measure(place: &str, quick: bool) -> Result<bool> {
    let program = program();
    let mut command = if place == "host" {
        let mut command = Command::new(&program);
        command.arg(if quick { "quick" } else { "full" }).env("FLOWPROBE_BIN", workspace::flowprobe());
        command
    } else {
        let mut command = Command::new(env::current_exe().context("cannot find this program again")?);
        let put = format!("{}:/bin/{PROGRAM}", program.display());
        command.args(["vm", "--kernel", place, "--put", &put, "--timeout", &LIMIT.as_secs().to_string()]);
        command.args(["--", &format!("/bin/{PROGRAM}"), "vm"]);
        command
    };
    say(&format!("measuring on: {place}"));
    let mut lines = String::new();
    let status = step::streamed(&mut command, Some(2 * LIMIT), |line| {
        if line.starts_with(LINE_BEGINS) {
            lines.push_str(line);
            lines.push('\n');
            say(&format!("  {}", progress(line)));
        } else if !line.is_empty() {
            println!("{line}");
        }
    })?;
    if lines.is_empty() {
        bail!("{place}: nothing was measured ({status:?})");
    }
    let file = folder().join(format!("{place}.jsonl"));
    fs::write(&file, &lines).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(status.is_some_and(|status| status.success()))
}

/// The beginning of a line of measurement, as far as it names the cell.
fn progress(line: &str) -> String {
    let named = line.split(",\"cells\"").next().unwrap_or_default();
    named
        .trim_start_matches("{\"axis\":\"")
        .replace("\",\"cell\":\"", ": ")
        .replace("\",\"seed\":", ", seed ")
}

/// The document of all lines there are, running kernel first.
fn document() -> Result<String> {
    let mut lines = String::new();
    for place in Kernels::All.places() {
        lines += &fs::read_to_string(folder().join(format!("{place}.jsonl"))).unwrap_or_default();
    }
    let input = folder().join("all.jsonl");
    fs::write(&input, &lines).with_context(|| format!("cannot write {}", input.display()))?;
    let output = Command::new(program())
        .arg("report")
        .stdin(Stdio::from(fs::File::open(&input)?))
        .output()
        .context("cannot start the accuracy program")?;
    if !output.status.success() {
        bail!("the report failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn program() -> PathBuf {
    workspace::portable_programs().join(PROGRAM)
}

fn folder() -> PathBuf {
    workspace::target().join("accuracy")
}

#[cfg(test)]
mod tests {
    use super::progress;

    #[test]
    fn progress_names_the_cell() {
        let line = "{\"axis\":\"loss\",\"cell\":\"1 %\",\"seed\":7,\"cells\":3,\"kernel\":\"6\"}";
        assert_eq!(progress(line), "loss: 1 %, seed 7");
    }
}
