//! What ran, and which cells are worst, in sentences. A reason is given only where the cell's own figures show it.

use std::fmt::Write as _;

use super::bounds::{JUDGED_DROPS, exceeded};
use super::figures::{Figures, FlowFigures, Measurement, Outcome, Quantile, bucket_of};
use super::report::Run;
use super::tables::{difference, signed};

/// How much of the matrix was run, and what could not be.
pub(super) fn what_ran(run: &Run<'_>) -> String {
    let measured = run.measured().count();
    let asked = run.all.iter().map(|one| one.cells).max().unwrap_or(0);
    let seconds: f64 = run.all.iter().map(|one| one.seconds).sum();
    let mut seeds: Vec<u64> = run.all.iter().map(|one| one.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let mut forms: Vec<&str> = run.all.iter().map(|one| one.form.name()).collect();
    forms.dedup();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let mut text = format!(
        "The {} form: {measured} of {asked} cells were measured, in {seconds:.0} s; seeds {}, each cell's in the last \
         table.\n",
        forms.join(" and "),
        seeds.join(", ")
    );
    if run.all.iter().any(|one| !one.form.timed()) {
        text += "The processor was emulated, so time was slow and uneven: counts are judged here, times only \
                 reported.\n";
    }
    for one in run.all {
        match &one.outcome {
            Outcome::Measured(_) => {}
            Outcome::Skipped(why) => text += &format!("Left out: {} ({why}).\n", name(one)),
            Outcome::Failed(why) => text += &format!("Not measured: {} ({}).\n", name(one), first_line(why)),
        }
    }
    text
}

/// The worst cells, one list item a question.
pub(super) fn worst(run: &Run<'_>) -> String {
    let items = [
        bounds(run),
        segments(run),
        min_rtt(run),
        median(run),
        p99(run),
        samples(run),
        loss(run),
        needless(run),
    ];
    items.into_iter().flatten().map(|item| format!("* {item}\n")).collect()
}

fn name(one: &Measurement) -> String {
    format!("\"{}: {}\"", one.axis, one.cell)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Every flow of every measured cell.
fn flows<'a>(run: &Run<'a>) -> impl Iterator<Item = (&'a Measurement, &'a Figures, &'a FlowFigures)> {
    run.measured().flat_map(|(one, figures)| figures.per_flow.iter().map(move |flow| (one, figures, flow)))
}

fn bounds(run: &Run<'_>) -> Option<String> {
    let broken: Vec<String> = run
        .all
        .iter()
        .filter_map(|one| {
            let sentence = exceeded(one).into_iter().next()?;
            Some(format!("{} ({})", name(one), first_line(&sentence)))
        })
        .collect();
    Some(match broken.as_slice() {
        [] => "Bounds: every measured cell holds them.".to_owned(),
        several => format!("Bounds exceeded in {} cells: {}.", several.len(), several.join("; ")),
    })
}

fn segments(run: &Run<'_>) -> Option<String> {
    let (mut cells, mut all, mut unexplained) = (0, 0, 0);
    let mut differing = Vec::new();
    for (one, figures) in run.measured() {
        cells += 1;
        all += figures.segments.ledger;
        unexplained += figures.segments.unexplained;
        if figures.segments.difference > 0 {
            differing.push(format!("{} by {}", name(one), figures.segments.difference));
        }
    }
    let verdict = match differing.as_slice() {
        [] => "difference 0 in every one".to_owned(),
        several => format!("they differ in {}", several.join(", ")),
    };
    Some(format!(
        "Retransmitted segments, {cells} cells, {all} by the ledger: Σ causes, retrans_segs, the ledger, RetransSegs and \
         TCP_INFO: {verdict}. Unexplained (other or unattributed): {unexplained}."
    ))
}

fn min_rtt(run: &Run<'_>) -> Option<String> {
    let error = |one: &Measurement, flow: &FlowFigures| difference(flow.min_rtt_us, one.round_trip_us);
    let (one, _, flow) = flows(run).max_by(|a, b| error(a.0, a.2).abs().total_cmp(&error(b.0, b.2).abs()))?;
    let late = flow.ledger_min_us - one.round_trip_us as f64;
    let unlike = flows(run)
        .filter(|(_, _, flow)| flow.tcp_info_min_us.is_some_and(|us| us != flow.min_rtt_us))
        .count();
    let whole = |clean: bool| {
        let part = flows(run).filter(|(_, figures, _)| (figures.segments.ledger == 0) == clean);
        let (mut whole, mut all) = (0, 0);
        for (_, _, flow) in part {
            all += 1;
            whole += u64::from(flow.min_rtt_us % 1000 == 0);
        }
        format!("{whole} of {all}")
    };
    let tcp_info = flow.tcp_info_min_us.map_or("none".to_owned(), |us| format!("{us} µs"));
    Some(format!(
        "min_rtt_us, furthest from the link: {}, {} µs on {} µs; TCP_INFO's min_rtt just before close was {tcp_info}, \
         the smallest round trip that the ledger holds of that flow is {} µs from the link's. A whole number of \
         milliseconds, as the echoed timestamp has it, is min_rtt_us of {} flows in cells with retransmissions and of {} \
         in cells without. {unlike} of {} flows differ from TCP_INFO.",
        name(one),
        signed(error(one, flow)),
        one.round_trip_us,
        signed(late),
        whole(false),
        whole(true),
        flows(run).count(),
    ))
}

/// How a quantile came to another bucket: where the true value lies in its own.
fn place(quantile: &Quantile) -> String {
    let bucket = bucket_of(quantile.true_us);
    let bound = |bucket: i32| 2_f64.powf(f64::from(bucket) / 4.0) * 1e6;
    let edge = if quantile.off > 0 { bound(bucket) } else { bound(bucket - 1) };
    format!(
        "the true value, {:.0} µs, is {:.1} % away from the bound of its bucket on that side ({edge:.0} µs)",
        quantile.true_us,
        (quantile.true_us - edge).abs() / edge * 100.0
    )
}

fn quantile(run: &Run<'_>, what: &str, of: fn(&FlowFigures) -> Quantile) -> Option<String> {
    let all = flows(run).count();
    let off = flows(run).filter(|(_, _, flow)| of(flow).off != 0).count();
    let (one, _, flow) = flows(run).max_by_key(|(_, _, flow)| of(flow).off.abs())?;
    let quantile = of(flow);
    if off == 0 {
        return Some(format!("{what}: in the true bucket for all {all} flows."));
    }
    Some(format!(
        "{what}: {} of {all} flows in the true bucket. Worst: {}, {} buckets off; {}; {} samples, {} round trips.",
        all - off,
        name(one),
        signed(f64::from(quantile.off)),
        place(&quantile),
        flow.samples,
        flow.round_trips,
    ))
}

fn median(run: &Run<'_>) -> Option<String> {
    quantile(run, "Median of rtt_histogram", |flow| flow.median)
}

fn p99(run: &Run<'_>) -> Option<String> {
    quantile(run, "p99 of rtt_histogram", |flow| flow.p99)
}

fn samples(run: &Run<'_>) -> Option<String> {
    let off = |flow: &FlowFigures| flow.samples_off();
    let raw = |flow: &FlowFigures| difference(flow.samples, flow.round_trips);
    let (one, figures, flow) = flows(run).max_by(|a, b| off(a.2).abs().total_cmp(&off(b.2).abs()))?;
    let all = flows(run).count();
    let counted = |figure: &dyn Fn(&FlowFigures) -> f64, most: f64| {
        flows(run).filter(|(_, _, flow)| figure(flow).abs() <= most).count()
    };
    let mut text = format!(
        "rtt_samples of the sender: within 1 of the ledger's round trips for {} of {all} flows; in the range that the \
         ledger allows for {}, and within 1 of it for {}.",
        counted(&raw, 1.0),
        counted(&off, 0.0),
        counted(&off, 1.0),
    );
    if off(flow) != 0.0 {
        let _ = write!(
            text,
            " Worst: {}, {} samples where the ledger allows {} to {}, with {} segments sent again in that cell.",
            name(one),
            flow.samples,
            flow.round_trips_least,
            flow.round_trips,
            figures.segments.ledger,
        );
    }
    Some(text)
}

fn loss(run: &Run<'_>) -> Option<String> {
    let error = |figures: &Figures| difference(figures.loss.estimate, figures.loss.dropped);
    let share = |figures: &Figures| error(figures) / figures.loss.dropped as f64;
    let judged = |figures: &Figures| figures.loss.dropped >= JUDGED_DROPS;
    let lossy = || run.measured().filter(|(one, figures)| figures.loss.dropped > 0 && !one.reordering_only);
    let (one, figures) = lossy().max_by(|a, b| error(a.1).abs().total_cmp(&error(b.1).abs()))?;
    let mut text = String::new();
    let worst_judged = lossy()
        .filter(|(_, figures)| judged(figures))
        .max_by(|a, b| share(a.1).abs().total_cmp(&share(b.1).abs()));
    if let Some((one, figures)) = worst_judged {
        let cells = lossy().filter(|(_, figures)| judged(figures)).count();
        let _ = write!(
            text,
            "lost_segs_estimate where {JUDGED_DROPS} or more were dropped (cells: {cells}): worst {}, {:+.1} % of {} drops. ",
            name(one),
            share(figures) * 100.0,
            figures.loss.dropped
        );
    }
    let exact = lossy().filter(|(_, figures)| error(figures) == 0.0).count();
    let _ = write!(text, "lost_segs_estimate equals the drops in {exact} of {} lossy cells", lossy().count());
    if error(figures) != 0.0 {
        let unseen = difference(figures.loss.needless, figures.loss.spurious);
        let _ = write!(
            text,
            "; furthest in segments: {}, {} of {} drops, where {} of {} needless retransmissions are not in spurious_segs",
            name(one),
            signed(error(figures)),
            figures.loss.dropped,
            signed(unseen),
            figures.loss.needless,
        );
    }
    Some(text + ".")
}

fn needless(run: &Run<'_>) -> Option<String> {
    let share = |figures: &Figures| figures.loss.estimate as f64 / figures.segments.ledger.max(1) as f64;
    let (one, figures) = run
        .measured()
        .filter(|(one, _)| one.reordering_only)
        .max_by(|a, b| share(a.1).total_cmp(&share(b.1)))?;
    Some(format!(
        "Reordering only, worst: {}, {} of {} needless retransmissions taken for loss ({:.1} %): spurious_segs has {} of \
         them. The bias is towards loss.",
        name(one),
        figures.loss.estimate,
        figures.segments.ledger,
        share(figures) * 100.0,
        figures.loss.spurious,
    ))
}
