//! Time inside each program, by the kernel's run statistics, in a run of their own: they cost every run themselves. Empty
//! programs run beside, on a tracepoint and in sock_ops, and what they take is that cost; it is subtracted.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::condition::{Condition, floor};
use super::driver::{self, Load};
use super::parts::Context;
use super::sheet::Samples;
use crate::truth::{Objects, Point, RunStatistics, Runs, SOCK_OPS, Tiny};

/// Called only when someone walks the sockets: no part of a connection's life.
const WALKS: [&str; 2] = ["account", "flows"];
/// Ends of a connection on this machine.
const ENDS: f64 = 2.0;

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for round in 1..=context.plan.long_rounds {
        for condition in context.turn(round).filter(|condition| *condition != Condition::Floor) {
            let name = condition.name();
            if samples.is_absent(&name) {
                continue;
            }
            context.say(&format!("round {round} of {}: {name}", context.plan.long_rounds));
            if let Err(error) = beside(context, condition, samples) {
                samples.absent(name, format!("{error:#}"));
            }
        }
    }
    Ok(())
}

fn beside(context: &Context<'_>, condition: Condition, samples: &mut Samples) -> Result<()> {
    let running = condition.start()?;
    let before = Objects::now()?;
    let mut empty = floor()?;
    empty.push(Tiny::empty(Point::SockOps, "empty_sock_ops")?);
    let empty_objects = Objects::now()?.added_since(&before);
    for load in [Load::Crr, Load::Rr] {
        driver::settle(context.plan)?;
        let statistics = RunStatistics::enable()?;
        let [was, empty_was] = [running.objects.runs()?, empty_objects.runs()?];
        let outcome = driver::run(load, context.plan.run, context.plan, &[], &[])?;
        let [is, empty_is] = [running.objects.runs()?, empty_objects.runs()?];
        drop(statistics);
        let own_cost = OwnCost::of(&added(&empty_was, &empty_is))?;
        let row = format!("{}/{}", load.name(), condition.name());
        add(samples, &row, &added(&was, &is), own_cost, outcome.all_operations as f64);
    }
    for program in running.objects.runs()?.values() {
        let name = format!("verifier/{}: {}/instructions", condition.name(), program.name);
        samples.add(name, "", f64::from(program.verified_instructions));
    }
    drop(empty);
    running.stop()
}

/// Runs and nanoseconds of programs of one name and type.
type Added = BTreeMap<(String, u32), (f64, f64)>;

fn added(before: &BTreeMap<u32, Runs>, after: &BTreeMap<u32, Runs>) -> Added {
    let mut all = Added::new();
    for (id, program) in after {
        let (runs, time) = before.get(id).map_or((0, 0), |was| (was.runs, was.time_ns));
        let sum = all.entry((program.name.clone(), program.kind)).or_default();
        sum.0 += program.runs.saturating_sub(runs) as f64;
        sum.1 += program.time_ns.saturating_sub(time) as f64;
    }
    all
}

/// Nanoseconds of a run of a program that does nothing.
#[derive(Clone, Copy)]
struct OwnCost {
    /// `None`: none was called, so that it is not known.
    sock_ops: Option<f64>,
    tracing: f64,
}

impl OwnCost {
    fn of(empty: &Added) -> Result<Self> {
        let sum = |kind: fn(u32) -> bool| -> Option<f64> {
            let of_kind = empty.iter().filter(|((_, of), _)| kind(*of)).map(|(_, sum)| *sum);
            let (runs, time) = of_kind.reduce(|left, right| (left.0 + right.0, left.1 + right.1))?;
            (runs > 0.0).then(|| time / runs)
        };
        let tracing = sum(|kind| kind != SOCK_OPS).context("the empty programs were not called")?;
        Ok(Self { sock_ops: sum(|kind| kind == SOCK_OPS), tracing })
    }

    /// Without a program that sets the flags hardly a callback comes to a sock_ops program: then it is taken to cost the same.
    fn of_kind(self, kind: u32) -> f64 {
        self.sock_ops.filter(|_| kind == SOCK_OPS).unwrap_or(self.tracing)
    }
}

fn add(samples: &mut Samples, row: &str, programs: &Added, own_cost: OwnCost, operations: f64) {
    let mut total = 0.0;
    for ((name, kind), (runs, time)) in programs.iter().filter(|(_, (runs, _))| *runs > 0.0) {
        let own = own_cost.of_kind(*kind);
        let net = time / runs - own;
        samples.add(format!("{row}: {name}/a run"), "ns", time / runs);
        samples.add(format!("{row}: {name}/net a run"), "ns", net);
        if !WALKS.contains(&name.as_str()) {
            samples.add(format!("{row}: {name}/runs an operation"), "", runs / operations);
            samples.add(format!("{row}: {name}/net an operation"), "ns", net * runs / operations);
            total += net * runs / operations;
        }
    }
    samples.add(format!("{row}: all/net an operation"), "ns", total);
    if row.starts_with(Load::Crr.name()) {
        samples.add(format!("{row}: all/net a socket"), "ns", total / ENDS);
    }
    samples.add(format!("{row}: statistics, tracing/a run"), "ns", own_cost.tracing);
    if let Some(sock_ops) = own_cost.sock_ops {
        samples.add(format!("{row}: statistics, sock_ops/a run"), "ns", sock_ops);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(name: &str, kind: u32, runs: u64, time_ns: u64) -> Runs {
        Runs { name: name.to_owned(), kind, runs, time_ns, verified_instructions: 1 }
    }

    #[test]
    fn the_statistics_own_cost_is_taken_away() {
        let before = BTreeMap::from([(1, runs("a", SOCK_OPS, 10, 1_000))]);
        let after = BTreeMap::from([(1, runs("a", SOCK_OPS, 30, 5_000))]);
        let empty = BTreeMap::from([(7, runs("e", 26, 10, 300)), (8, runs("s", SOCK_OPS, 10, 500))]);
        let own_cost = OwnCost::of(&added(&BTreeMap::new(), &empty)).unwrap();
        let mut samples = Samples::default();
        add(&mut samples, "crr/x", &added(&before, &after), own_cost, 10.0);
        // 20 runs of 200 ns, 50 of them the statistics', are 2 runs an operation of two sockets.
        assert_eq!(samples.values("crr/x: a/net a run"), [150.0]);
        assert_eq!(samples.values("crr/x: all/net a socket"), [150.0]);
        assert_eq!(samples.values("crr/x: statistics, tracing/a run"), [30.0]);
        assert_eq!(samples.values("crr/x: statistics, sock_ops/a run"), [50.0]);
        assert!(OwnCost::of(&Added::new()).is_err());
    }
}
