//! The tables of the document, in Markdown.

use std::collections::BTreeSet;

use super::bounds::{JUDGED_DROPS, Reordered, judge};
use super::figures::{Figures, FlowFigures, Measurement, Outcome};
use super::report::Run;
use super::summary::shares;

/// What stands where there is nothing to say.
const NONE: &str = "–";

/// A table, or nothing when it has no row. The first column is text, the others are figures.
pub(super) fn grid(head: &[impl AsRef<str>], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<&str> = head.iter().map(AsRef::as_ref).collect();
    let rule: Vec<&str> = (0..head.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect();
    let mut text = line(&head) + &line(&rule);
    for row in rows {
        text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}

/// Smallest, median and largest of some signed figures, without decimals.
pub(super) fn spread(figures: impl Iterator<Item = f64>) -> String {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    match (sorted.first(), sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(min), Some(median), Some(max)) => {
            format!("{} / {} / {}", signed(*min), signed(*median), signed(*max))
        }
        _ => NONE.to_owned(),
    }
}

/// A whole number with its sign; 0 has none.
pub(super) fn signed(figure: f64) -> String {
    if figure.round() == 0.0 { "0".to_owned() } else { format!("{figure:+.0}") }
}

/// A difference of two counts.
pub(super) fn difference(is: u64, should: u64) -> f64 {
    is as f64 - should as f64
}

/// Estimate against drops in percent, where there are enough drops to judge.
pub(super) fn error_percent(estimate: u64, dropped: u64) -> String {
    if dropped < JUDGED_DROPS {
        return NONE.to_owned();
    }
    format!("{:+.1} %", difference(estimate, dropped) / dropped as f64 * 100.0)
}

/// Seeds in order, each once.
pub(super) fn seeds(seeds: impl Iterator<Item = u64>) -> String {
    let all: Vec<String> = seeds.collect::<BTreeSet<u64>>().iter().map(u64::to_string).collect();
    all.join(", ")
}

/// The confusion matrix of the cells with a single cause; in each place one figure a kernel.
pub(super) fn confusion(runs: &[Run<'_>]) -> String {
    let matrices: Vec<Vec<_>> =
        runs.iter().map(|run| run.measured().map(|(_, figures)| &figures.confusion).collect()).collect();
    let truths: BTreeSet<&String> = matrices.iter().flatten().flat_map(|matrix| matrix.keys()).collect();
    let mut columns = vec!["fast", "rto", "tlp", "syn", "synack", "other", "unattributed"];
    if matrices.iter().flatten().flat_map(|matrix| matrix.values()).any(|row| row.contains_key("missing")) {
        columns.push("missing");
    }
    let count = |truth: &String, reported: &str| -> String {
        let each = matrices.iter().map(|run| {
            run.iter().filter_map(|matrix| matrix.get(truth)?.get(reported)).sum::<u64>().to_string()
        });
        each.collect::<Vec<_>>().join(" / ")
    };
    let rows: Vec<Vec<String>> = truths
        .into_iter()
        .map(|truth| {
            std::iter::once(truth.clone())
                .chain(columns.iter().map(|reported| count(truth, reported)))
                .collect()
        })
        .collect();
    columns.insert(0, "true cause");
    let table = grid(&columns, &rows);
    if table.is_empty() {
        return table;
    }
    let kernels: Vec<&str> = runs.iter().map(|run| run.kernel).collect();
    format!(
        "Segments sent again in the cells with one possible cause, on {}.\n\n{table}",
        kernels.join(" / ")
    )
}

/// Errors of the round trips, by the link's round trip.
pub(super) fn round_trips(runs: &[Run<'_>]) -> String {
    let mut rows = Vec::new();
    for run in runs {
        // Where times are not judged, all links together: their differences are the machine's.
        let timed = run.all.iter().all(|one| one.form.timed());
        let links: BTreeSet<Option<u64>> =
            run.measured().map(|(one, _)| timed.then_some(one.round_trip_us)).collect();
        for link_us in links {
            let flows: Vec<(u64, &FlowFigures)> = run
                .flows()
                .filter(|(one, ..)| link_us.is_none_or(|us| us == one.round_trip_us))
                .map(|(one, _, flow)| (one.round_trip_us, flow))
                .collect();
            let over = |figure: &dyn Fn(u64, &FlowFigures) -> f64| {
                spread(flows.iter().map(|(link_us, flow)| figure(*link_us, flow)))
            };
            let link = link_us.map_or("all".to_owned(), |us| format!("{} ms", us as f64 / 1e3));
            rows.push(vec![
                format!("{link}, {}", run.kernel),
                flows.len().to_string(),
                over(&|link_us, flow| difference(flow.min_rtt_us, link_us)),
                over(&|link_us, flow| flow.ledger_min_us - link_us as f64),
                over(&|_, flow| f64::from(flow.median.off)),
                over(&|_, flow| f64::from(flow.p99.off)),
                over(&|_, flow| difference(flow.samples, flow.round_trips)),
                over(&|_, flow| flow.samples_off()),
                over(&|_, flow| difference(flow.receiver_samples, flow.receiver_round_trips)),
            ]);
        }
    }
    let head = [
        "min / median / max over the flows",
        "flows",
        "min_rtt_us − link, µs",
        "ledger's smallest − link, µs",
        "median off, buckets",
        "p99 off, buckets",
        "sender: rtt_samples − round trips",
        "sender: outside of the allowed",
        "receiver: rtt_samples − round trips",
    ];
    grid(&head, &rows)
}

/// What was taken for loss where nothing was dropped, pooled over the seeds.
pub(super) fn reordering(runs: &[Run<'_>]) -> String {
    let mut rows = Vec::new();
    for run in runs {
        for group in run.by_name() {
            let cells: Vec<&Figures> = run
                .reordered()
                .filter(|(one, _)| (&one.axis, &one.cell) == (&group[0].axis, &group[0].cell))
                .map(|(_, figures)| figures)
                .collect();
            if cells.is_empty() {
                continue;
            }
            let sum =
                |of: fn(&Figures) -> u64| cells.iter().map(|figures| of(figures)).sum::<u64>().to_string();
            rows.push(vec![
                format!("{}, {}", group[0].cell, run.kernel),
                format!("{} ms", group[0].round_trip_us / 1000),
                seeds(group.iter().map(|one| one.seed)),
                sum(|figures| figures.segments.ledger),
                sum(|figures| figures.loss.refused_needed),
                sum(|figures| figures.loss.needless),
                sum(|figures| figures.loss.found_needless),
                sum(|figures| figures.loss.spurious),
                shares(&cells.iter().map(|figures| Reordered::of(figures)).collect::<Vec<_>>()),
            ]);
        }
    }
    let head = [
        "cell",
        "round trip",
        "seeds",
        "sent again",
        "needed: the receiver threw the first away",
        "needless",
        "found needless",
        "of these by DSACK (spurious_segs)",
        "taken for lost (over the seeds)",
    ];
    grid(&head, &rows)
}

/// One row a cell, over its seeds, with its worst flow.
pub(super) fn every_cell(run: &Run<'_>) -> String {
    let rows: Vec<Vec<String>> = run.by_name().iter().map(|group| row(group)).collect();
    let head = [
        "cell",
        "seeds",
        "flows × kB",
        "sent again",
        "difference",
        "lost",
        "estimate",
        "needless",
        "found",
        "min_rtt_us − link, µs",
        "median off",
        "p99 off",
        "samples off",
        "bounds",
    ];
    grid(&head, &rows)
}

fn row(group: &[&Measurement]) -> Vec<String> {
    let first = group[0];
    let figures: Vec<(&Measurement, &Figures)> = group
        .iter()
        .filter_map(|one| match &one.outcome {
            Outcome::Measured(figures) => Some((*one, &**figures)),
            Outcome::Skipped(_) | Outcome::Failed(_) => None,
        })
        .collect();
    let mut row = vec![
        format!("{}: {}", first.axis, first.cell),
        seeds(group.iter().map(|one| one.seed)),
        format!("{} × {}", first.flows, first.bytes / 1000),
    ];
    if figures.is_empty() {
        row.extend(std::iter::repeat_n(NONE.to_owned(), 10));
    } else {
        let sum = |of: fn(&Figures) -> u64| figures.iter().map(|(_, one)| of(one)).sum::<u64>().to_string();
        let worst = |figure: &dyn Fn(&FlowFigures) -> f64| {
            let each = figures.iter().flat_map(|(_, one)| one.per_flow.iter().map(figure));
            each.max_by(|a, b| a.abs().total_cmp(&b.abs())).map_or(NONE.to_owned(), signed)
        };
        row.extend([
            sum(|one| one.segments.ledger),
            sum(|one| one.segments.difference),
            sum(|one| one.loss.dropped),
            sum(|one| one.loss.estimate),
            sum(|one| one.loss.needless),
            sum(|one| one.loss.found_needless),
            worst(&|flow| difference(flow.min_rtt_us, first.round_trip_us)),
            worst(&|flow| f64::from(flow.median.off)),
            worst(&|flow| f64::from(flow.p99.off)),
            worst(&FlowFigures::samples_off),
        ]);
    }
    row.push(verdict(group));
    row
}

fn verdict(group: &[&Measurement]) -> String {
    if group.iter().all(|one| matches!(one.outcome, Outcome::Skipped(_))) {
        return "skipped".to_owned();
    }
    let verdicts: Vec<_> = group.iter().map(|one| judge(one)).collect();
    if verdicts.iter().any(|one| !one.exceeded.is_empty()) {
        return "**exceeded**".to_owned();
    }
    let excepted: BTreeSet<_> = verdicts.iter().flat_map(|one| &one.excepted).collect();
    let letters: Vec<String> = excepted.iter().map(|one| one.letter().to_string()).collect();
    let held = if letters.is_empty() { "held".to_owned() } else { format!("but for {}", letters.join(", ")) };
    match group.iter().map(|one| one.attempts).max() {
        Some(attempts @ 2..) => format!("{held}, at attempt {attempts}"),
        _ => held,
    }
}
