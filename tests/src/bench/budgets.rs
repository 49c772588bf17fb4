//! What flowprobe may cost, each with the figure and the distance.

use std::fmt::Write as _;

use super::highest::UNBROKEN;
use super::sheet::{Figure, Sheet};
use super::table::{micro, number};
use crate::scenario::verifier;

struct Budget {
    what: &'static str,
    /// At most, or at least where the figure is a rate beside nothing.
    limit: f64,
    at_least: bool,
    unit: &'static str,
    value: fn(&Sheet) -> Option<f64>,
}

const fn at_most(
    limit: f64,
    unit: &'static str,
    what: &'static str,
    value: fn(&Sheet) -> Option<f64>,
) -> Budget {
    Budget { what, limit, at_least: false, unit, value }
}

const fn at_least(limit: f64, what: &'static str, value: fn(&Sheet) -> Option<f64>) -> Budget {
    Budget { what, limit, at_least: true, unit: "", value }
}

fn median(sheet: &Sheet, part: &str, name: &str) -> Option<f64> {
    sheet.figure(part, name).map(|figure| figure.median)
}

/// Of all runs that the spread tells of.
fn longest(sheet: &Sheet, part: &str, name: &str) -> Option<f64> {
    sheet.figure(part, name).map(|figure| figure.spread().1)
}

/// Of mebibytes.
fn megabytes(mebibytes: f64) -> f64 {
    mebibytes * 1.048_576
}

/// A figure of the sweep's part at the largest number of sockets that was measured.
fn at_largest(sheet: &Sheet, part: &str, name: &str) -> Option<f64> {
    at_sizes(sheet, part, "", name).pop().map(|(_, figure)| figure.median)
}

/// Figures named `GROUPSIZE socketsNAME`, by size.
pub(super) fn at_sizes<'a>(sheet: &'a Sheet, part: &str, group: &str, name: &str) -> Vec<(u64, &'a Figure)> {
    let figures = sheet.parts.get(part).map(|part| part.figures.iter()).into_iter().flatten();
    let mut found: Vec<_> = figures
        .filter_map(|(key, figure)| {
            let (size, rest) = key.strip_prefix(group)?.split_once(" sockets")?;
            (rest == name).then(|| Some((size.parse().ok()?, figure)))?
        })
        .collect();
    found.sort_by_key(|(size, _)| *size);
    found
}

fn sweep_against(sheet: &Sheet, kind: &str, other: &str) -> Option<f64> {
    let cpu = |method: &str| at_largest(sheet, "sweep", &format!(": {method}/cpu"));
    Some(cpu(kind)? / cpu(other)?)
}

/// The verifier's instructions of the program that grew most since they were recorded, of those recorded; nothing on a kernel
/// of which none are.
fn verifier_growth(sheet: &Sheet) -> Option<f64> {
    let part = sheet.parts.get("kernel-time")?;
    let recorded = verifier::recorded(&part.machine.kernel)?.iter();
    let grown = recorded.filter_map(|(program, recorded)| {
        let figure = part.figures.get(&format!("verifier/flowprobe: {program}/instructions"))?;
        Some(figure.median / f64::from(*recorded))
    });
    grown.max_by(f64::total_cmp)
}

const ALL: [Budget; 26] = [
    at_most(1_000.0, "ns", "in-kernel time of a socket's life (crr)", |sheet| {
        median(sheet, "kernel-time", "crr/flowprobe: all/net a socket")
    }),
    at_least(0.97, "crr beside flowprobe, of the bare rate", |sheet| {
        median(sheet, "rates", "crr/flowprobe/ratio")
    }),
    at_most(1.0, "us", "daemon's CPU for the record of a closed connection", |sheet| {
        median(sheet, "highest", &format!("{UNBROKEN}/daemon's cpu a record"))
    }),
    at_most(0.0, "", "records lost at the highest rate in a minute", |sheet| {
        longest(sheet, "highest", &format!("{UNBROKEN}/lost"))
    }),
    at_most(0.1, "", "times that the daemon is given a CPU, for a record, at the highest rate", |sheet| {
        median(sheet, "highest", &format!("{UNBROKEN}/wake-ups a record"))
    }),
    at_most(100.0, "ms", "delay of a record, the longest", |sheet| {
        longest(sheet, "delay", "a record, from close to `flowprobe watch`/after")
    }),
    at_most(120.0, "ns", "in-kernel time of a callback (rr: a round trip)", |sheet| {
        median(sheet, "kernel-time", "rr/flowprobe: connection/net a run")
    }),
    at_least(0.98, "rr beside flowprobe, of the bare rate", |sheet| {
        median(sheet, "rates", "rr/flowprobe/ratio")
    }),
    at_most(0.7, "us", "sweep of an active socket, CPU, fitted", |sheet| {
        median(sheet, "sweep", "fit: sweep, active, cpu/a socket more")
    }),
    at_most(0.7, "us", "sweep of an idle socket, CPU, fitted", |sheet| {
        median(sheet, "sweep", "fit: sweep, idle, cpu/a socket more")
    }),
    at_most(0.125, "", "sweep's CPU, active, of `ss -tinO`'s, at the most sockets", |sheet| {
        sweep_against(sheet, "sweep, active", "ss -tinO")
    }),
    at_most(0.125, "", "the same, idle", |sheet| sweep_against(sheet, "sweep, idle", "ss -tinO")),
    at_most(0.65, "", "sweep's CPU, active, of an inet_diag dump's with TCP_INFO", |sheet| {
        sweep_against(sheet, "sweep, active", "inet_diag with TCP_INFO")
    }),
    at_most(0.65, "", "the same, idle", |sheet| {
        sweep_against(sheet, "sweep, idle", "inet_diag with TCP_INFO")
    }),
    at_most(1.0, "%", "sweeps' share of one CPU, at the most sockets", |sheet| {
        median(sheet, "sweep", "all day: its sweeps/of one CPU")
    }),
    at_most(512.0, "B", "kernel memory that a socket without losses takes more", |sheet| {
        // Nothing or less says that others moved the machine's memory more than the sockets did.
        median(sheet, "memory", "a socket, added/memory").filter(|bytes| *bytes > 0.0)
    }),
    at_most(30.0, "MB", "daemon's resident memory at the most sockets", |sheet| {
        at_largest(sheet, "sweep", ": flowprobe/resident").map(megabytes)
    }),
    at_most(1.0, "B", "daemon's memory for a socket more, fitted", |sheet| {
        median(sheet, "sweep", "fit: daemon's memory/a socket more")
    }),
    at_most(50.0, "ms", "scrape of 1,000 groups, text, p99", |sheet| {
        median(sheet, "scrape", "1,000 groups, text/p99")
    }),
    at_most(50.0, "ms", "scrape of 1,000 groups, protobuf and gzip as Prometheus asks, p99", |sheet| {
        median(sheet, "scrape", "1,000 groups, protobuf, gzip/p99")
    }),
    at_most(30.0, "MB", "daemon's resident memory with 1,000 groups and many sockets", |sheet| {
        at_largest(sheet, "scrape", ", 1,000 groups/resident").map(megabytes)
    }),
    at_most(50.0, "ms", "scrape, p99, at the most sockets", |sheet| {
        at_largest(sheet, "scrape", ", fresh/p99")
    }),
    at_most(250.0, "ms", "scrape that finds old sums (200 ms for the sweep), the longest", |sheet| {
        at_largest(sheet, "scrape", ", stale/longest")
    }),
    at_most(300.0, "ms", "from the start to the last hook attached", |sheet| {
        median(sheet, "start", "daemon, last hook attached/after")
    }),
    at_most(100.0, "ms", "first row of `flows`, 1,000 connections, without daemon", |sheet| {
        median(sheet, "start", "flows, first row, without daemon/after")
    }),
    at_most(
        verifier::MARGIN,
        "",
        "verifier's instructions, of those recorded, the program that grew most",
        verifier_growth,
    ),
];

/// How a row says so.
const MISSED: &str = "**no**";

/// The table; a budget whose figure is not there says so.
pub(super) fn table(sheet: &Sheet) -> String {
    let mut text = String::from("| budget | limit | figure | distance | met |\n|---|--:|--:|--:|---|\n");
    for budget in &ALL {
        let sign = if budget.at_least { "≥" } else { "≤" };
        let (figure, distance, met) = match (budget.value)(sheet) {
            None => ("not measured".to_owned(), String::new(), "?"),
            Some(value) => {
                let met = if budget.at_least { value >= budget.limit } else { value <= budget.limit };
                let distance = if budget.limit == 0.0 {
                    String::new()
                } else {
                    format!("{:+.1} %", (value / budget.limit - 1.0) * 100.0)
                };
                (
                    format!("{} {}", number(value), micro(budget.unit)),
                    distance,
                    if met { "yes" } else { MISSED },
                )
            }
        };
        let limit = format!("{sign} {} {}", number(budget.limit), micro(budget.unit));
        let cells = [budget.what, limit.trim(), figure.trim(), &distance, met];
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    if text.contains(MISSED) {
        text += "\nWhy those that are missed are missed: [where the time goes](decisions/cost.md).\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_without_figure_is_not_met_nor_missed() {
        let text = table(&Sheet::default());
        assert_eq!(text.matches("not measured").count(), ALL.len());
        assert!(!text.contains("yes") && !text.contains(MISSED));
    }
}
