//! The first table of the document: one row a question, one column a kernel.

use super::bounds::{JUDGED_DROPS, Reordered, exceeded, exceeded_together};
use super::figures::{Figures, FlowFigures, NEEDLESS, Quantile, Segments};
use super::report::Run;
use super::tables::{difference, error_percent, grid, seeds, spread};

type Question = (&'static str, fn(&Run<'_>) -> String);

const QUESTIONS: [Question; 16] = [
    ("run", |run| {
        let form = run.all.first().map_or("", |one| one.form.name());
        let asked = run.all.iter().map(|one| one.cells).max().unwrap_or(0);
        let seconds: f64 = run.all.iter().map(|one| one.seconds).sum();
        format!("{form}: {} of {asked} cells, {seconds:.0} s", run.measured().count())
    }),
    ("seeds", |run| seeds(run.all.iter().map(|one| one.seed))),
    ("**bounds**", |run| {
        match run.all.iter().map(|one| exceeded(one).len()).sum::<usize>()
            + exceeded_together(run.all.iter().copied()).len()
        {
            0 => "**all held**".to_owned(),
            count => format!("**{count} exceeded**"),
        }
    }),
    ("segments sent again, by the ledger", |run| all_segments(run).ledger.to_string()),
    ("Σ causes, retrans_segs, RetransSegs, TCP_INFO: difference to it", |run| {
        all_segments(run).difference.to_string()
    }),
    ("segments without a cause", |run| all_segments(run).unexplained.to_string()),
    ("segments under a wrong cause, where one is possible", |run| {
        let (mut wrong, mut all) = (0, 0);
        let rows = run.measured().flat_map(|(_, figures)| &figures.confusion);
        for (truth, row) in rows.filter(|(truth, _)| *truth != NEEDLESS) {
            for (reported, count) in row {
                all += count;
                wrong += if reported == truth { 0 } else { *count };
            }
        }
        format!("{wrong} of {all}")
    }),
    ("lost_segs_estimate, all lossy cells", |run| {
        let (estimate, dropped, _) = losses(run);
        format!("{} of {dropped} drops", error_percent(estimate, dropped))
    }),
    ("the same, but for handshakes repeated without need (h)", |run| {
        let (estimate, dropped, repeated) = losses(run);
        error_percent(estimate - repeated, dropped)
    }),
    ("so, the worst cell of those with 100 drops or more", |run| {
        let judged: Vec<(u64, u64)> = run
            .lossy()
            .map(|(_, figures)| figures.loss)
            .filter(|loss| loss.dropped >= JUDGED_DROPS)
            .map(|loss| (loss.estimate - loss.needless_handshake.min(loss.estimate), loss.dropped))
            .collect();
        let error = |(estimate, dropped): &(u64, u64)| difference(*estimate, *dropped) / *dropped as f64;
        let worst = judged.iter().max_by(|a, b| error(a).abs().total_cmp(&error(b).abs()));
        worst.map_or("–".to_owned(), |(estimate, dropped)| {
            format!("{} (of {} cells)", error_percent(*estimate, *dropped), judged.len())
        })
    }),
    ("needless segments taken for lost, reordering only (over the seeds)", |run| {
        let cells: Vec<Reordered> = run.reordered().map(|(_, figures)| Reordered::of(figures)).collect();
        shares(&cells)
    }),
    ("min_rtt_us − link, µs: min / median / max", |run| {
        spread(run.flows().map(|(one, _, flow)| difference(flow.min_rtt_us, one.round_trip_us)))
    }),
    ("TCP_INFO's min_rtt − link, µs, the same", |run| {
        spread(
            run.flows()
                .filter_map(|(one, _, flow)| Some(difference(flow.tcp_info_min_us?, one.round_trip_us))),
        )
    }),
    ("median of rtt_histogram in the true bucket", |run| in_bucket(run, |flow| flow.median)),
    ("p99 of rtt_histogram in the true bucket", |run| in_bucket(run, |flow| flow.p99)),
    ("rtt_samples at most 1 outside of the ledger's round trips", |run| {
        let close = run.flows().filter(|(_, _, flow)| flow.samples_off().abs() <= 1.0).count();
        format!("{close} of {} flows", run.flows().count())
    }),
];

/// The table, and under it how the figures spread over the seeds of the base case.
pub(super) fn table(runs: &[Run<'_>]) -> String {
    let mut head = vec![String::new()];
    head.extend(runs.iter().map(|run| format!("Linux {}", run.kernel)));
    let rows: Vec<Vec<String>> = QUESTIONS
        .iter()
        .map(|(question, answer)| {
            std::iter::once((*question).to_owned()).chain(runs.iter().map(answer)).collect()
        })
        .collect();
    let base = |run: &Run<'_>| -> String {
        let of_axis = || run.measured().filter(|(one, _)| one.axis == "seed");
        let loss = of_axis().map(|(_, figures)| difference(figures.loss.estimate, figures.loss.dropped));
        let flows =
            || of_axis().flat_map(|(one, figures)| figures.per_flow.iter().map(move |flow| (one, flow)));
        let min_rtt = flows().map(|(one, flow)| difference(flow.min_rtt_us, one.round_trip_us));
        let samples = flows().map(|(_, flow)| flow.samples_off());
        format!("{}; {}; {}", spread(loss), spread(min_rtt), spread(samples))
    };
    let question =
        "base case over its seeds: estimate − drops; min_rtt_us − link, µs; samples off".to_owned();
    let spreads: Vec<String> = std::iter::once(question).chain(runs.iter().map(base)).collect();
    grid(&head, &rows.into_iter().chain([spreads]).collect::<Vec<_>>())
}

/// Estimate, drops, and needlessly repeated handshake segments (no more than the estimate) of all lossy cells.
fn losses(run: &Run<'_>) -> (u64, u64, u64) {
    run.lossy().map(|(_, figures)| figures.loss).fold((0, 0, 0), |(estimate, dropped, repeated), loss| {
        let here = loss.needless_handshake.min(loss.estimate);
        (estimate + loss.estimate, dropped + loss.dropped, repeated + here)
    })
}

fn all_segments(run: &Run<'_>) -> Segments {
    let mut sum = Segments::default();
    for (_, Figures { segments, .. }) in run.measured() {
        sum.ledger += segments.ledger;
        sum.difference += segments.difference;
        sum.unexplained += segments.unexplained;
    }
    sum
}

/// The pooled share of needless retransmissions taken for losses, and its range over the cells.
pub(super) fn shares(cells: &[Reordered]) -> String {
    let pooled: Reordered = cells.iter().copied().sum();
    let Some(share) = pooled.share() else { return "–".to_owned() };
    let mut each: Vec<f64> = cells.iter().filter_map(|one| one.share()).collect();
    each.sort_by(f64::total_cmp);
    let percent = |share: Option<&f64>| share.map_or(String::new(), |share| format!("{:.1}", share * 100.0));
    format!(
        "{:.1} % of {} ({}–{})",
        share * 100.0,
        pooled.needless,
        percent(each.first()),
        percent(each.last())
    )
}

fn in_bucket(run: &Run<'_>, of: fn(&FlowFigures) -> Quantile) -> String {
    let flows = run.flows().count();
    let there = run.flows().filter(|(_, _, flow)| of(flow).off == 0).count();
    let near = run.flows().filter(|(_, _, flow)| of(flow).off.abs() <= 1).count();
    format!("{there} of {flows}; within one bucket {near}")
}
