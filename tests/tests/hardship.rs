//! What is kept, and what is said, when the machine gives less than is needed or clients want more than is sane?

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use tests::kit::take_turn;
use tests::scenario::{Daemon, alone, hardship, hold};

#[test]
fn what_a_full_ring_loses_is_counted() -> Result<()> {
    alone(hardship::full_ring)
}

#[test]
fn a_connection_without_storage_is_counted_and_taken_over_later() -> Result<()> {
    hold(hardship::refused_state)
}

#[test]
fn a_flood_of_spoofed_syns_leaves_nothing() -> Result<()> {
    alone(hardship::spoofed_syns)
}

/// Where CPUs are short; the reader of the rings and the answers to scrapes get theirs as before.
#[test]
fn only_the_sweeping_thread_stands_back() -> Result<()> {
    let _turn = take_turn()?;
    let mut daemon = Daemon::start()?;
    let threads = nice_of_threads(daemon.process().id())?;
    let (sweeper, others): (Vec<_>, Vec<_>) = threads.into_iter().partition(|(name, _)| name == "sweeper");
    let [(_, sweeper)] = sweeper[..] else { bail!("{} threads sweep", sweeper.len()) };
    ensure!(others.iter().any(|(name, _)| name == "flowprobe"), "there is no main thread among {others:?}");
    for (name, nice) in others {
        ensure!(nice < sweeper, "{name} has nice {nice}, the sweeping thread {sweeper}");
    }
    daemon.stop()?;
    Ok(())
}

/// By the threads' names, of one process (proc_pid_stat(5), field 19).
fn nice_of_threads(process: u32) -> Result<Vec<(String, i32)>> {
    let nice = |stat: &str| -> Option<(String, i32)> {
        // A name may have spaces and parentheses.
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(") ")?;
        Some((name.to_owned(), fields.split(' ').nth(16)?.parse().ok()?))
    };
    let mut threads = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may have ended since the listing.
        let Ok(stat) = fs::read_to_string(thread?.path().join("stat")) else { continue };
        threads.push(nice(&stat).with_context(|| format!("{stat:?} has no nice value"))?);
    }
    Ok(threads)
}
