//! The program `bench`: measures the parts that are asked for, keeps the others from the last run, and writes the document.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use super::compare::compare;
use super::condition::Condition;
use super::machine::Machine;
use super::parts::{self, Context, Question};
use super::plan::Plan;
use super::sheet::{Part, Samples, Sheet};
use super::{daemon, lines, peers, report};
use crate::kit::{flowprobe, take_turn};

/// Measures what flowprobe and its peers cost; run it through `cargo xtask bench`.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Arguments {
    /// Less than two minutes instead of more than two hours
    #[arg(long)]
    quick: bool,
    /// How often each condition is measured [default: 7, quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Open sockets at most [default: 400000, quick: 1000]
    #[arg(long, value_name = "SOCKETS", value_parser = clap::value_parser!(u64).range(1_000..))]
    most: Option<u64>,
    /// Parts and conditions, by their names, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measure nothing: make the document anew of the figures
    #[arg(long)]
    report: bool,
    /// Where performance.json and performance.md are
    #[arg(long)]
    folder: PathBuf,
}

/// Exit code 0 when everything asked for was measured; a peer that is not installed is no failure.
#[must_use]
pub fn run_as_program() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let file = arguments.folder.join("performance.json");
    let mut sheet = read(&file)?;
    let mut whole = true;
    if !arguments.report {
        let plan = plan(arguments);
        let (questions, conditions) = chosen(&arguments.only, Condition::all(&plan))?;
        if let Some(missing) = peers::how_to_install() {
            println!("{missing}");
        }
        println!("waiting until no other test or bench uses this machine's hooks");
        let _turn = take_turn()?;
        daemon::remove_leftovers();
        let begun = Instant::now();
        for question in questions {
            let context = Context { plan: &plan, conditions: conditions.clone(), part: question.name };
            let (part, complete) = measured(question, &context)?;
            whole &= complete;
            keep(&mut sheet.parts, question.name, part);
            // What was measured is not lost when a later part is interrupted.
            write(&file, &lines::json(&sheet)?)?;
        }
        println!("measured in {:.0} s", begun.elapsed().as_secs_f64());
    }
    let (text, plots) = report::report(&sheet);
    for plot in plots {
        write(&arguments.folder.join("performance").join(plot.file), &plot.svg()?)?;
    }
    let document = arguments.folder.join("performance.md");
    write(&document, &text)?;
    println!("{} holds what was measured", document.display());
    Ok(whole)
}

fn plan(arguments: &Arguments) -> Plan {
    let mut plan = if arguments.quick { Plan::quick() } else { Plan::full() };
    if let Some(most) = arguments.most {
        plan.sizes.retain(|size| *size <= most);
        plan.memory_sockets = plan.memory_sockets.min(most);
        plan.latency_sockets = plan.latency_sockets.min(most);
    }
    if let Some(rounds) = arguments.rounds {
        plan.rounds = usize::from(rounds);
        plan.long_rounds = plan.rounds;
        plan.sweeps = (plan.rounds, plan.rounds.min(plan.sweeps.1));
        plan.rings.2 = plan.rounds.min(plan.rings.2);
    }
    plan
}

/// Words name parts or conditions; of what no word names a kind of, all are taken.
fn chosen(words: &[String], conditions: Vec<Condition>) -> Result<(Vec<&'static Question>, Vec<Condition>)> {
    let is = |word: &str, name: &str| word == name;
    for word in words {
        let known = parts::ALL.iter().any(|part| is(word, part.name))
            || conditions.iter().any(|condition| is(word, &condition.name()));
        ensure!(known, "there is no part or condition `{word}`; there are: {}", names(&conditions));
    }
    let named = |name: &str| words.iter().any(|word| is(word, name));
    let some_part = parts::ALL.iter().any(|part| named(part.name));
    let some_condition = conditions.iter().any(|condition| named(&condition.name()));
    let questions = parts::ALL.iter().filter(|part| {
        // A condition alone means the parts that compare conditions.
        let compares = matches!(part.name, "rates" | "kernel-time");
        if some_part { named(part.name) } else { !some_condition || compares }
    });
    let conditions =
        conditions.into_iter().filter(|condition| !some_condition || named(&condition.name())).collect();
    Ok((questions.collect(), conditions))
}

fn names(conditions: &[Condition]) -> String {
    let parts = parts::ALL.iter().map(|part| part.name.to_owned());
    parts.chain(conditions.iter().map(|condition| condition.name())).collect::<Vec<_>>().join(", ")
}

/// Measures one part; what went wrong is in it.
fn measured(question: &Question, context: &Context<'_>) -> Result<(Part, bool)> {
    let begun = Instant::now();
    let (machine, build) = (Machine::now()?, build()?);
    let mut samples = Samples::default();
    let outcome = (question.measure)(context, &mut samples);
    let complete = outcome.is_ok();
    if let Err(error) = outcome {
        let why = format!("{error:#}");
        eprintln!("{}: not measured to its end: {why}", question.name);
        samples.absent("all or the rest", why);
    }
    context.say(&format!("done in {:.1} s", begun.elapsed().as_secs_f64()));
    Ok((samples.finish(context.plan.quick, machine, build), complete))
}

/// A hash of the program that is measured; it tells two builds apart and no more.
fn build() -> Result<String> {
    let program = flowprobe()?;
    let bytes = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Ok(format!("{:016x}", hasher.finish()))
}

/// Puts a part in its place, with how it stands to the one that was there.
fn keep(parts: &mut BTreeMap<String, Part>, name: &str, mut part: Part) {
    let comparable = |before: &&Part| before.quick == part.quick && before.machine.is_like(&part.machine);
    if let Some(before) = parts.get(name).filter(comparable) {
        part.agreement = Some(compare(before, &part));
        part.follow(before);
    }
    if let Some(agreement) = &part.agreement {
        agreement.sentence().iter().for_each(|sentence| println!("{name}: {sentence}"));
        agreement.differ.iter().for_each(|line| println!("  {line}"));
    }
    parts.insert(name.to_owned(), part);
}

fn read(file: &Path) -> Result<Sheet> {
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("{} is not of this bench: remove it", file.display())),
        Err(_) => Ok(Sheet::default()),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_parts_and_conditions() {
        let pick = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            let (parts, conditions) = chosen(&words, Condition::all(&Plan::quick()))?;
            Ok::<_, anyhow::Error>((parts.len(), conditions.len()))
        };
        let (parts, conditions) = pick(&[]).unwrap();
        assert_eq!(parts, parts::ALL.len());
        assert_eq!(pick(&["sweep"]).unwrap(), (1, conditions));
        assert_eq!(pick(&["tcplife"]).unwrap(), (2, 1));
        assert_eq!(pick(&["rates", "flowprobe"]).unwrap(), (1, 1));
        assert!(pick(&["nonsense"]).unwrap_err().to_string().contains("tcplife"));
    }
}
