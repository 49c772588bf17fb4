//! The tables of one kernel's part of the document, in Markdown.

use std::collections::BTreeSet;

use super::bounds::{JUDGED_DROPS, exceeded};
use super::figures::{FlowFigures, Measurement, Outcome, Segments};
use super::report::Run;

/// A table, or nothing when it has no row.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    // The first column is text, the others are figures.
    let rule: Vec<String> =
        (0..head.len()).map(|column| if column == 0 { "---" } else { "---:" }.to_owned()).collect();
    let mut text = line(&head) + &line(&rule);
    for row in rows {
        text += &line(row);
    }
    text
}

/// Smallest, median and the largest in size of some signed figures, without decimals.
fn spread(figures: impl Iterator<Item = f64>) -> String {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    let worst = sorted.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
    match (sorted.first(), sorted.get(sorted.len() / 2), worst) {
        (Some(min), Some(median), Some(worst)) => {
            format!("{} / {} / {}", signed(*min), signed(*median), signed(worst))
        }
        _ => "–".to_owned(),
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
fn percent(estimate: u64, dropped: u64) -> String {
    if dropped < JUDGED_DROPS {
        return "–".to_owned();
    }
    format!("{:+.1} %", difference(estimate, dropped) / dropped as f64 * 100.0)
}

/// Retransmitted segments, by axis.
pub(super) fn segments(run: &Run<'_>) -> String {
    let mut rows = Vec::new();
    let mut total = (0, Segments::default());
    for axis in run.axes() {
        let (mut cells, mut sum) = (0, Segments::default());
        for (_, figures) in run.of(axis) {
            cells += 1;
            add(&mut sum, &figures.segments);
        }
        total.0 += cells;
        add(&mut total.1, &sum);
        rows.push(segments_row(axis, cells, &sum));
    }
    rows.push(segments_row("**all**", total.0, &total.1));
    let head = [
        "axis",
        "cells",
        "ledger",
        "Σ causes",
        "retrans_segs",
        "RetransSegs",
        "senders: retrans_segs",
        "senders: TCP_INFO",
        "difference",
        "unexplained",
    ];
    table(&head, &rows)
}

fn add(sum: &mut Segments, part: &Segments) {
    sum.ledger += part.ledger;
    sum.causes += part.causes;
    sum.retrans_segs += part.retrans_segs;
    sum.kernel += part.kernel;
    sum.tcp_info += part.tcp_info;
    sum.senders += part.senders;
    sum.unexplained += part.unexplained;
    sum.difference += part.difference;
}

fn segments_row(name: &str, cells: u64, sum: &Segments) -> Vec<String> {
    let figures = [
        cells,
        sum.ledger,
        sum.causes,
        sum.retrans_segs,
        sum.kernel,
        sum.senders,
        sum.tcp_info,
        sum.difference,
        sum.unexplained,
    ];
    std::iter::once(name.to_owned()).chain(figures.iter().map(u64::to_string)).collect()
}

/// The confusion matrix of the cells with a single cause.
pub(super) fn confusion(run: &Run<'_>) -> String {
    let matrices: Vec<_> = run.measured().map(|(_, figures)| &figures.confusion).collect();
    let truths: BTreeSet<&String> = matrices.iter().flat_map(|matrix| matrix.keys()).collect();
    let mut columns = vec!["fast", "rto", "tlp", "syn", "synack", "other", "unattributed"];
    if matrices.iter().flat_map(|matrix| matrix.values()).any(|row| row.contains_key("missing")) {
        columns.push("missing");
    }
    let count = |truth: &String, reported: &str| -> u64 {
        matrices.iter().filter_map(|matrix| matrix.get(truth)?.get(reported)).sum()
    };
    let rows: Vec<Vec<String>> = truths
        .into_iter()
        .map(|truth| {
            let figures = columns.iter().map(|reported| count(truth, reported).to_string());
            std::iter::once(truth.clone()).chain(figures).collect()
        })
        .collect();
    columns.insert(0, "true cause");
    table(&columns, &rows)
}

/// Errors of the round trips, by axis.
pub(super) fn round_trips(run: &Run<'_>) -> String {
    let rows: Vec<Vec<String>> = run
        .axes()
        .into_iter()
        .map(|axis| {
            let flows: Vec<(&Measurement, &FlowFigures)> = run
                .of(axis)
                .flat_map(|(one, figures)| figures.per_flow.iter().map(move |flow| (one, flow)))
                .collect();
            let over = |figure: fn(&Measurement, &FlowFigures) -> f64| {
                spread(flows.iter().map(|(one, flow)| figure(one, flow)))
            };
            vec![
                axis.to_owned(),
                flows.len().to_string(),
                over(|one, flow| difference(flow.min_rtt_us, one.round_trip_us)),
                over(|_, flow| flow.min_rtt_us as f64 - flow.ledger_min_us),
                over(|_, flow| f64::from(flow.median.off)),
                over(|_, flow| f64::from(flow.p99.off)),
                over(|_, flow| difference(flow.samples, flow.round_trips)),
                over(|_, flow| flow.samples_off()),
                over(|_, flow| difference(flow.receiver_samples, flow.receiver_round_trips)),
            ]
        })
        .collect();
    let head = [
        "axis (each: min / median / worst)",
        "flows",
        "min_rtt_us − link, µs",
        "min_rtt_us − ledger's, µs",
        "median, buckets off",
        "p99, buckets off",
        "sender: rtt_samples − round trips",
        "sender: samples off",
        "receiver: rtt_samples − round trips",
    ];
    table(&head, &rows)
}

/// Estimate of losses against drops, for each cell with drops.
pub(super) fn losses(run: &Run<'_>) -> String {
    let rows: Vec<Vec<String>> = run
        .measured()
        .filter(|(_, figures)| figures.loss.dropped > 0)
        .map(|(one, figures)| {
            let loss = figures.loss;
            vec![
                format!("{}: {}", one.axis, one.cell),
                loss.dropped.to_string(),
                loss.estimate.to_string(),
                signed(difference(loss.estimate, loss.dropped)),
                percent(loss.estimate, loss.dropped),
                loss.needless.to_string(),
                loss.spurious.to_string(),
            ]
        })
        .collect();
    let error = format!("error (from {JUDGED_DROPS} drops)");
    let head = [
        "cell",
        "dropped",
        "lost_segs_estimate",
        "difference",
        &error,
        "needless by the ledger",
        "spurious_segs",
    ];
    table(&head, &rows)
}

/// What was taken for loss where nothing was lost.
pub(super) fn reordering(run: &Run<'_>) -> String {
    let rows: Vec<Vec<String>> = run
        .measured()
        .filter(|(one, _)| one.reordering_only)
        .map(|(one, figures)| {
            let (again, loss) = (figures.segments.ledger, figures.loss);
            let share = match again {
                0 => "–".to_owned(),
                again => format!("{:.1} %", loss.estimate as f64 / again as f64 * 100.0),
            };
            vec![
                one.cell.clone(),
                format!("{} ms", one.round_trip_us / 1000),
                again.to_string(),
                loss.needless.to_string(),
                loss.spurious.to_string(),
                loss.estimate.to_string(),
                share,
            ]
        })
        .collect();
    let head = [
        "cell",
        "round trip",
        "retransmitted",
        "needless by the ledger",
        "spurious_segs",
        "lost_segs_estimate",
        "share taken for loss",
    ];
    table(&head, &rows)
}

/// One row a cell, with its worst flow.
pub(super) fn every_cell(run: &Run<'_>) -> String {
    let rows: Vec<Vec<String>> = run.all.iter().map(|one| row(one)).collect();
    let head = [
        "cell",
        "seed",
        "flows × kB",
        "retransmitted",
        "difference",
        "min_rtt_us − link, µs, worst",
        "median off, worst",
        "p99 off, worst",
        "samples off, worst",
        "s",
        "bounds",
    ];
    table(&head, &rows)
}

fn row(one: &Measurement) -> Vec<String> {
    let mut row = vec![
        format!("{}: {}", one.axis, one.cell),
        one.seed.to_string(),
        format!("{} × {}", one.flows, one.bytes / 1000),
    ];
    if let Outcome::Measured(figures) = &one.outcome {
        let worst = |figure: &dyn Fn(&FlowFigures) -> f64| {
            let largest = figures.per_flow.iter().map(figure).max_by(|a, b| a.abs().total_cmp(&b.abs()));
            largest.map_or("–".to_owned(), signed)
        };
        row.extend([
            figures.segments.retrans_segs.to_string(),
            figures.segments.difference.to_string(),
            worst(&|flow| difference(flow.min_rtt_us, one.round_trip_us)),
            worst(&|flow| f64::from(flow.median.off)),
            worst(&|flow| f64::from(flow.p99.off)),
            worst(&FlowFigures::samples_off),
        ]);
    } else {
        row.extend(std::iter::repeat_n("–".to_owned(), 6));
    }
    row.push(format!("{:.1}", one.seconds));
    row.push(match &one.outcome {
        Outcome::Skipped(_) => "skipped".to_owned(),
        _ if exceeded(one).is_empty() => "held".to_owned(),
        _ => "**exceeded**".to_owned(),
    });
    row
}
