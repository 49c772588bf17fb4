//! What costs no system call is measured in the daemon's own library, by the benches of the package `probe-user`.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::parts::Context;
use super::sheet::Samples;

/// How the benches mark the library that the daemon uses.
const OURS: &str = " (ours)";

/// Networks by routing table (load, memory, look-up, beside other libraries), services, and what adding a record costs.
pub(super) fn networks(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    bench("networks", context, samples)?;
    bench("aggregation", context, samples)
}

/// Runs one some times. Other libraries' times stand beside ours of the same round, too, for the machine's hour is in both.
pub(super) fn bench(name: &str, context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for _ in 0..context.plan.long_rounds {
        context.say(&format!("bench {name} of the library"));
        let figures = run(name, context)?;
        for (figure, ratio) in of_ours(&figures) {
            samples.add(figure, "", ratio);
        }
        for (figure, unit, value) in figures {
            samples.add(figure, unit, value);
        }
    }
    Ok(())
}

type Printed = (String, &'static str, f64);

/// Runs one once; each line that it prints is a figure: name, unit and value, apart by tabs.
fn run(name: &str, context: &Context<'_>) -> Result<Vec<Printed>> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["bench", "--quiet", "--package", "probe-user", "--bench", name]);
    if context.plan.quick {
        command.args(["--", "--quick"]);
    }
    // What `cargo run` set for this program would have some build scripts run anew, here and at the next build elsewhere.
    for (name, _) in env::vars_os() {
        let own = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if own {
            command.env_remove(name);
        }
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cargo")?;
    ensure!(output.status.success(), "`cargo bench -p probe-user --bench {name}` failed");
    let mut figures = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let [figure, unit, value] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            continue;
        };
        let value = value.parse().with_context(|| format!("{line:?} is no figure"))?;
        figures.push((figure.to_owned(), known(unit)?, value));
    }
    ensure!(!figures.is_empty(), "`cargo bench -p probe-user --bench {name}` printed no figure");
    Ok(figures)
}

/// Of figures named `subject/library/question` the times as multiples of ours, which has [`OURS`] behind its name; in rows of their
/// own.
fn of_ours(figures: &[Printed]) -> Vec<(String, f64)> {
    let timed: Vec<_> = figures
        .iter()
        .filter(|(_, unit, _)| ["s", "ns"].contains(unit))
        .filter_map(|(figure, _, value)| {
            let (path, question) = figure.rsplit_once('/')?;
            let (subject, library) = path.rsplit_once('/')?;
            Some((subject, library, question, *value))
        })
        .collect();
    let mut ratios = Vec::new();
    for (subject, _, question, base) in timed.iter().filter(|(_, library, ..)| library.ends_with(OURS)) {
        for (about, library, asked, value) in &timed {
            if about == subject && asked == question && !library.ends_with(OURS) {
                ratios.push((format!("{subject}, of ours/{library}/{question}"), value / base));
            }
        }
    }
    ratios
}

/// Units are words of the program.
fn known(unit: &str) -> Result<&'static str> {
    let units = ["", "s", "ms", "ns", "MB", "KiB"];
    units.into_iter().find(|known| *known == unit).with_context(|| format!("a figure in {unit:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_question_of_the_same_subject_is_compared() {
        let figure = |name: &str, unit, value| (name.to_owned(), unit, value);
        let figures = [
            figure("library, 9 prefixes/trie (ours)/any", "ns", 50.0),
            figure("library, 9 prefixes/trie (ours)/memory", "MB", 3.0),
            figure("library, 9 prefixes/other/any", "ns", 75.0),
            figure("library, 9 prefixes/other/few", "ns", 20.0),
            figure("library, 9 prefixes/other/memory", "MB", 6.0),
            figure("file, 9 prefixes/text/any", "ns", 10.0),
        ];
        assert_eq!(of_ours(&figures), [("library, 9 prefixes, of ours/other/any".into(), 1.5)]);
    }
}
