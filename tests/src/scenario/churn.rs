//! Many short connections with receive packet steering, so that a softirq interrupts a hook in its own work: every
//! socket end is recorded exactly once, although the kernel skips tracing programs on re-entry (CASE 1). A tracing program of the
//! test's own, on a hook that can be re-entered, shows that it did.

use anyhow::{Context as _, Result, ensure};

use super::start::LOST;
use super::{LONG, Probe, expect};
use crate::kit::{Namespace, wait_until};
use crate::traffic::{Churn, Ends, churn};
use crate::truth::{Counters, Witness};

/// Connections of a run when FLOWPROBE_CHURN says nothing.
const DEFAULT: u64 = 20_000;
/// The churn is all of the namespace's IPv6, and nobody else here speaks it.
const FAMILY: [(&str, &str); 1] = [("family", "ipv6")];
/// Further runs at most, until the kernel has skipped a program.
const MORE_RUNS: usize = 9;

fn connections() -> Result<u64> {
    match std::env::var("FLOWPROBE_CHURN") {
        Ok(text) => text.parse().with_context(|| format!("FLOWPROBE_CHURN is {text}, not a number")),
        Err(_) => Ok(DEFAULT),
    }
}

/// Churn until programs were skipped, and account for every end, in records and in metrics.
///
/// # Errors
/// When an end is lost or doubled, or no program was ever skipped: then nothing is proved.
pub fn every_end_once() -> Result<()> {
    let probe = Probe::counting()?;
    let namespace = Namespace::new()?;
    namespace.spread_loopback()?;
    probe.only_count(&namespace);
    let connections = connections()?;
    let before = probe.scrape()?;
    let counted_before = Counters::of(&namespace)?;
    let mut made = Ends { connected: 0, accepted: 0 };
    let witness = Witness::start()?;
    for _ in 0..=MORE_RUNS {
        let ends = churn(&namespace, Churn { connections, workers: 4, resets: true })?;
        expect("connections accepted", ends.accepted, ends.connected)?;
        made.connected += ends.connected;
        made.accepted += ends.accepted;
        if witness.misses()? > 0 {
            break;
        }
    }
    let missed = witness.misses()?;
    drop(witness);
    let opens = Counters::of(&namespace)?.since(&counted_before, "Tcp.ActiveOpens")?;
    expect("the kernel's own count of connects", opens, made.connected)?;

    // The records name every end once; where the watch could not follow, it says how many it left out.
    probe.pass_fence()?;
    let left_out = probe.watch_lost();
    let seen = [probe.count(&namespace, "client")?, probe.count(&namespace, "server")?];
    let ends = [made.connected, made.accepted];
    let evidence = probe.evidence(&namespace)?;
    ensure!(
        seen[0] <= ends[0] && seen[1] <= ends[1],
        "{seen:?} records of client and server for {ends:?} ends; suspicious: {evidence:?}"
    );
    let came: u64 = seen.iter().sum();
    ensure!(came + left_out >= ends.iter().sum(), "{came} records came, {left_out} were said to be lost");
    if left_out == 0 {
        expect("the numbers of records of client and server", seen, ends)?;
    }

    // The metrics count every end.
    let closed = "flowprobe_tcp_connections_closed_total";
    let mut after = probe.scrape()?;
    let all = (made.connected + made.accepted) as f64;
    let arrived = wait_until(LONG, "all ends are counted", || {
        after = probe.scrape()?;
        Ok(after.sum(closed, &FAMILY) - before.sum(closed, &FAMILY) >= all)
    });
    arrived.with_context(|| {
        format!("{} of {all} are", after.sum(closed, &FAMILY) - before.sum(closed, &FAMILY))
    })?;
    for name in ["flowprobe_tcp_connections_opened_total", closed] {
        let grown = ["client", "server"].map(|role| {
            let labels = [FAMILY[0], ("role", role)];
            after.sum(name, &labels) - before.sum(name, &labels)
        });
        expect(&format!("{name} of client and server"), grown, ends.map(|ends| ends as f64))?;
    }

    // A sample is no record.
    for reason in after.label_values(LOST, "reason").iter().filter(|reason| *reason != "rtt_unknown") {
        let [then, now] = [&before, &after].map(|scrape| scrape.sum(LOST, &[("reason", reason)]));
        expect(&format!("records lost for {reason}"), now - then, 0.0)?;
    }
    ensure!(
        missed > 0,
        "no tracing program was skipped in {} connections: nothing is proved",
        made.connected
    );
    // How often its own hooks were skipped is said, whatever it is.
    ensure!(
        after.count("flowprobe_hook_missed_total", &[]) > 0,
        "flowprobe_hook_missed_total is not exported"
    );
    println!(
        "# {} connections, {missed} skipped runs of the witness, {left_out} records not followed",
        made.connected
    );
    probe.stop()
}
