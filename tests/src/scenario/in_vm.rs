//! The list of scenarios for a machine that holds nothing but this program and flowprobe.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::{IN_VM, Probe, Question, Scenario};
use crate::kit::{monotonic_ns, take_turn};
use crate::link::device;
use crate::truth::{Point, Tiny};

/// Run the scenarios whose name contains one of `words` (all, without words; `--list` only names them), and print one
/// TAP line each: `ok 1 - connect::refused # 1.2 s`, or `not ok …` and the reason in lines that begin with `#`.
/// The last line is `P passed, F failed`. Exit code 0 when all passed.
#[must_use]
pub fn run_in_vm(words: &[String]) -> ExitCode {
    if words.iter().any(|word| word == "--list") {
        IN_VM.iter().for_each(|scenario| println!("{}", scenario.name));
        return ExitCode::SUCCESS;
    }
    let picked: Vec<&Scenario> = IN_VM
        .iter()
        .filter(|scenario| words.is_empty() || words.iter().any(|word| scenario.name.contains(word.as_str())))
        .collect();
    println!("1..{}", picked.len());
    let mut passed = 0;
    let mut probe = None;
    for (index, scenario) in picked.iter().enumerate() {
        let begun = monotonic_ns();
        let mut result = hold(&mut probe, scenario);
        // An emulated machine stands still at times, and its timers and its link disagree then. A fault would come again; what
        // must never happen, a lost end or one counted twice, is asked once.
        if let (Err(error), Question::Shared(_)) = (&result, &scenario.run) {
            println!(
                "# {} once more, with a new daemon, because {}",
                scenario.name,
                cut(&format!("{error:#}"))
            );
            probe = None;
            result = hold(&mut probe, scenario);
        }
        let seconds = (monotonic_ns() - begun) as f64 / 1e9;
        match result {
            Ok(()) => {
                passed += 1;
                println!("ok {} - {} # {seconds:.1} s", index + 1, scenario.name);
            }
            Err(error) => {
                println!("not ok {} - {} # {seconds:.1} s", index + 1, scenario.name);
                // What backtraces would add is noise on a serial console.
                error
                    .chain()
                    .for_each(|part| part.to_string().lines().for_each(|line| println!("#   {}", cut(line))));
                // The next scenario starts with a fresh daemon.
                probe = None;
            }
        }
        let _ = std::io::stdout().flush();
    }
    println!("{passed} passed, {} failed", picked.len() - passed);
    if passed == picked.len() && !picked.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// As much of a line as a console is good for.
fn cut(line: &str) -> String {
    const MOST: usize = 600;
    if line.chars().count() <= MOST {
        return line.to_owned();
    }
    line.chars().take(MOST).chain(['…']).collect()
}

/// One probe serves all scenarios that share, as a daemon serves all connections; one that fails gets the next a new one.
fn hold(probe: &mut Option<Probe>, scenario: &Scenario) -> Result<()> {
    let _turn = take_turn()?;
    device::set_up("lo", true)?;
    match scenario.run {
        Question::Shared(ask) => {
            let probe = match probe {
                Some(probe) => probe,
                None => probe.insert(Probe::start()?),
            };
            ask(probe).with_context(|| probe.troubles())
        }
        Question::Alone(ask) => {
            probe.take().map_or(Ok(()), Probe::stop)?;
            let _patched = keep_patched()?;
            ask()
        }
    }
}

/// The kernel patches its code when the first program is attached to a place and when the last one goes, and for a
/// tracepoint also when a second one comes (tracepoint_update_call). Emulators up to QEMU 8.0 sometimes let a CPU run
/// into a half-patched instruction that is long whole, which ends the guest ("Oops: int3"). With programs that do nothing in
/// all places, a daemon that comes and goes under load patches nothing.
fn keep_patched() -> Result<Vec<Tiny>> {
    let mut programs = vec![Tiny::empty(Point::SockOps, "patched")?];
    for tracepoint in ["tcp_destroy_sock", "tcp_cong_state_set", "tcp_retransmit_synack"] {
        for _ in 0..2 {
            programs.push(Tiny::empty(Point::Tracepoint(tracepoint), "patched")?);
        }
    }
    Ok(programs)
}
