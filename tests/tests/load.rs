//! Does the load generator make what it says? Counts only: how fast it is depends on the machine.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::kit::{Process, wait_until};
use tests::load::{Held, Looked, Outcome, Touched};

const LONG: Duration = Duration::from_secs(60);

fn load(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
    command.args(words);
    command
}

fn printed<T: serde::de::DeserializeOwned>(words: &[&str]) -> Result<T> {
    let done = Process::run(load(words), LONG)?;
    ensure!(done.code == Some(0), "load {words:?} ended with {:?}: {}", done.code, done.err);
    serde_json::from_str(&done.out).with_context(|| format!("load {words:?} printed {}", done.out))
}

#[test]
fn every_load_has_operations_before_and_in_its_window() {
    for (name, latency) in [("crr", true), ("rr", true), ("bulk", false)] {
        let outcome: Outcome = printed(&[name, "--seconds", "0.2", "--warm-up", "0.1"]).unwrap();
        assert_eq!(outcome.load, name);
        assert!(outcome.operations > 0 && outcome.operations < outcome.all_operations, "{outcome:?}");
        assert!(outcome.seconds >= 0.2, "{outcome:?}");
        assert_eq!(outcome.latency.is_some(), latency, "{outcome:?}");
        assert!(outcome.own_cpu_seconds > 0.0, "{outcome:?}");
    }
}

#[test]
fn held_connections_are_there_until_the_end_and_no_longer() {
    const CONNECTIONS: u64 = 600;
    let mut hold = load(&["hold", "--connections", "600", "--active", "0.5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut commands = hold.stdin.take().unwrap();
    let mut answers = BufReader::new(hold.stdout.take().unwrap()).lines();
    let mut answer = || answers.next().unwrap().unwrap();
    let held: Held = serde_json::from_str(&answer()).unwrap();
    assert_eq!(held.connections, CONNECTIONS);
    commands.write_all(b"t").unwrap();
    let touched: Touched = serde_json::from_str(&answer()).unwrap();
    assert_eq!(touched.touched, CONNECTIONS / 2);
    let id = hold.id().to_string();
    for look in [&["dump", "--info"][..], &["dump"], &["walk"]] {
        let looked: Looked = printed(&[look, &["--of", &id]].concat()).unwrap();
        // Both ends; the listener is closed when all are open.
        assert_eq!(looked.sockets, CONNECTIONS * 2, "{look:?}");
    }
    drop(commands);
    wait_until(LONG, "the holding process has ended", || Ok(hold.try_wait()?.is_some())).unwrap();
}
