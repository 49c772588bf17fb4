//! The program `accuracy`: runs a form and prints one JSON line a cell, or makes the document of such lines.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use super::{Cell, Form, Measurement, Outcome, cells, exceeded, exceeded_together, measure, report};
use crate::kit::take_turn;
use crate::link::device;
use crate::scenario::Probe;

/// `accuracy short|vm|quick|full [WORD…]` runs the cells whose axis or name contains one of the words (all, without),
/// prints a JSON line for each, and says on standard error what exceeds a bound. `accuracy report` reads such lines
/// from standard input and prints docs/accuracy.md. Exit code 0 when every bound holds, 1 when one does not or a cell
/// could not be measured.
#[must_use]
pub fn run_as_program(words: &[String]) -> ExitCode {
    let outcome = match words {
        [] => Err(anyhow::anyhow!("say what to run: short, vm, quick, full, or report")),
        [verb] if verb == "report" => print_report().map(|()| true),
        [form, words @ ..] => form.parse().and_then(|form| run(form, words)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_report() -> Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context("cannot read the measurements")?;
    let measurements = text
        .lines()
        .map(|line| {
            serde_json::from_str(line).with_context(|| {
                format!(
                    "this is no measurement, or one of an older program: measure that kernel again: {line}"
                )
            })
        })
        .collect::<Result<Vec<Measurement>>>()?;
    io::stdout().write_all(report(&measurements).as_bytes())?;
    Ok(())
}

/// Run a form; true when every bound holds.
fn run(form: Form, words: &[String]) -> Result<bool> {
    let picked: Vec<Cell> = cells(form)
        .into_iter()
        .filter(|cell| {
            let name = format!("{}: {}", cell.axis, cell.name);
            words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
        })
        .collect();
    if picked.is_empty() {
        bail!("no cell's name contains one of {words:?}");
    }
    let _turn = take_turn()?;
    device::set_up("lo", true)?;
    let mut probe = None;
    let (mut sound, mut measured) = (true, Vec::new());
    for cell in &picked {
        let running = match &probe {
            Some(running) => running,
            None => probe.insert(Probe::start()?),
        };
        let measurement = measure(running, cell, form, picked.len());
        if matches!(measurement.outcome, Outcome::Failed(_)) {
            // The next cell starts with a fresh daemon.
            probe = None;
        }
        println!("{}", serde_json::to_string(&measurement)?);
        io::stdout().flush()?;
        for sentence in exceeded(&measurement) {
            sound = false;
            eprintln!("{}, {}: {sentence}", cell.axis, cell.name);
        }
        measured.push(measurement);
    }
    for sentence in exceeded_together(&measured) {
        sound = false;
        eprintln!("all cells together: {sentence}");
    }
    if let Some(probe) = probe {
        probe.stop()?;
    }
    Ok(sound)
}
