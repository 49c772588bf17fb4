//! What ran, and which cells are worst, in sentences. A cause is given only where the cell's own figures show it.

use std::fmt::Write as _;

use super::bounds::{JUDGED_DROPS, Reordered, exceeded, exceeded_together};
use super::figures::{
    Figures, FlowFigures, Measurement, Outcome, Quantile, bucket_of, lower_bound_us, upper_bound_us,
};
use super::report::Run;
use super::tables::{difference, error_percent, signed};

/// What the run leaves out, and what each letter of the form means; one paragraph.
pub(super) fn what_ran(run: &Run<'_>) -> String {
    let mut text = "\"lost\" is what did not get through, \"found\" how many of the needless ones flowprobe found; times and \
                    quantiles are those of the worst flow.\n"
        .to_owned();
    for one in &run.all {
        match &one.outcome {
            Outcome::Measured(_) => {}
            Outcome::Skipped(why) => text += &format!("Left out: {} ({why}).\n", name(one)),
            Outcome::Failed(why) => text += &format!("Not measured: {} ({}).\n", name(one), first_line(why)),
        }
    }
    text
}

/// The worst cells of each kernel, one list item a question.
pub(super) fn worst(runs: &[Run<'_>]) -> String {
    let mut parts = Vec::new();
    for run in runs {
        let items = [
            bounds(run),
            min_rtt(run),
            median(run),
            p99(run),
            samples(run),
            loss(run),
            needless(run),
            refused(run),
        ];
        let items: String = items.into_iter().flatten().map(|item| format!("* {item}\n")).collect();
        parts.push(format!("Linux {}:\n\n{items}", run.kernel));
    }
    parts.join("\n")
}

fn name(one: &Measurement) -> String {
    format!("\"{}: {}\"", one.axis, one.cell)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The one that is largest in size.
fn largest<T>(all: impl Iterator<Item = T>, size: impl Fn(&T) -> f64) -> Option<T> {
    all.max_by(|a, b| size(a).abs().total_cmp(&size(b).abs()))
}

fn bounds(run: &Run<'_>) -> Option<String> {
    let of_cells = run.all.iter().filter_map(|one| {
        let sentence = exceeded(one).into_iter().next()?;
        Some(format!("{} ({})", name(one), first_line(&sentence)))
    });
    let broken: Vec<String> = of_cells.chain(exceeded_together(run.all.iter().copied())).collect();
    (!broken.is_empty()).then(|| format!("**Bounds exceeded**: {}.", broken.join("; ")))
}

fn min_rtt(run: &Run<'_>) -> Option<String> {
    let error = |one: &Measurement, flow: &FlowFigures| difference(flow.min_rtt_us, one.round_trip_us);
    let (one, figures, flow) = largest(run.flows(), |(one, _, flow)| error(one, flow))?;
    let late = flow.ledger_min_us - one.round_trip_us as f64;
    let whole = |us: u64, figures: &Figures| us.is_multiple_of(1000) && figures.segments.ledger > 0;
    let why = if whole(flow.min_rtt_us, figures) {
        "a whole number of milliseconds, as the echoed timestamp has it, and no sample in µs within one of it"
            .to_owned()
    } else if one.form.timed() {
        format!(
            "{} µs of it were in the link itself, the rest is the way through the device and the sender's TCP",
            signed(late)
        )
    } else {
        format!(
            "the processor is emulated; the smallest round trip in the link itself is {} µs from it",
            signed(late)
        )
    };
    let mut text = format!(
        "min_rtt_us: {}, {} µs on {} µs: {why}.",
        name(one),
        signed(error(one, flow)),
        one.round_trip_us
    );
    let kernel = |one: &Measurement, us: u64| difference(us, one.round_trip_us);
    let echoed: Vec<f64> = run
        .flows()
        .filter_map(|(one, figures, flow)| {
            let us = flow.tcp_info_min_us.filter(|us| whole(*us, figures))?;
            Some(kernel(one, us))
        })
        .collect();
    if let Some(least) = echoed.iter().copied().min_by(f64::total_cmp)
        && one.form.timed()
    {
        let again = run.flows().filter(|(_, figures, _)| figures.segments.ledger > 0).count();
        let _ = write!(
            text,
            " TCP_INFO's own minimum is a whole number of milliseconds in {} of {again} flows of cells with \
             retransmissions, up to {} µs from the link: where data that was sent again is acknowledged, \
             tcp_ack_update_rtt measures by the echoed timestamp, whose clock ticks once a millisecond.",
            echoed.len(),
            signed(least)
        );
    }
    Some(text)
}

/// How a quantile came to another bucket.
fn why_off(one: &Measurement, flow: &FlowFigures, quantile: &Quantile) -> String {
    let bucket = bucket_of(quantile.true_us);
    let edge = if quantile.off > 0 { upper_bound_us(bucket) } else { lower_bound_us(bucket) };
    let mut text = format!(
        "the true value, {:.0} µs, is {:.1} % from its bucket's bound",
        quantile.true_us,
        (quantile.true_us - edge).abs() / edge.max(1.0) * 100.0
    );
    if quantile.beyond_us == 0.0 {
        text += ", and the true value one rank beside it is in flowprobe's bucket";
    } else {
        let _ =
            write!(text, ", flowprobe's bucket {:.0} µs from the true values beside it", quantile.beyond_us);
    }
    let _ = write!(text, "; {} samples of {} round trips", flow.samples, flow.round_trips);
    if !one.form.timed() {
        text += ", on an emulated processor";
    }
    text
}

fn quantile(run: &Run<'_>, what: &str, of: fn(&FlowFigures) -> Quantile, why: &str) -> Option<String> {
    // Of those as many buckets off, the farthest.
    let far = |flow: &FlowFigures| f64::from(of(flow).off.abs()) * 1e9 + of(flow).beyond_us.min(1e8);
    let (one, _, flow) = largest(run.flows(), |(_, _, flow)| far(flow))?;
    let quantile = of(flow);
    if quantile.off == 0 {
        return Some(format!("{what}: in the true bucket for every flow."));
    }
    Some(format!(
        "{what}: {}, {} buckets off: {}.{why}",
        name(one),
        signed(f64::from(quantile.off)),
        why_off(one, flow, &quantile)
    ))
}

fn median(run: &Run<'_>) -> Option<String> {
    quantile(run, "median of rtt_histogram", |flow| flow.median, "")
}

fn p99(run: &Run<'_>) -> Option<String> {
    let why = " Of less than a hundred samples it is the largest, and one round that ends at another acknowledgement \
               ([below](#how-it-is-measured)) moves it.";
    quantile(run, "p99 of rtt_histogram", |flow| flow.p99, why)
}

fn samples(run: &Run<'_>) -> Option<String> {
    let (one, _, flow) = largest(run.flows(), |(_, _, flow)| flow.samples_off())?;
    if flow.samples_off() == 0.0 {
        return Some("rtt_samples: as many as the ledger allows for every flow.".to_owned());
    }
    let why = if one.form.timed() {
        "a segment waited in the device for longer than the 0.5 ms that the range allows for, or the kernel took no \
         sample from an acknowledgement"
    } else {
        "on the emulated processor segments wait in the device for longer than the 0.5 ms that the range allows for"
    };
    Some(format!(
        "rtt_samples: {}, {} where the ledger allows {} to {}: {why}.",
        name(one),
        flow.samples,
        flow.round_trips_least,
        flow.round_trips
    ))
}

fn loss(run: &Run<'_>) -> Option<String> {
    let error = |figures: &Figures| difference(figures.loss.estimate, figures.loss.dropped);
    let exact = run.lossy().filter(|(_, figures)| error(figures) == 0.0).count();
    let mut text =
        format!("lost_segs_estimate equals the drops in {exact} of {} lossy cells", run.lossy().count());
    let repeated = |figures: &Figures| figures.loss.needless_handshake > 0;
    let judged = |figures: &Figures| figures.loss.dropped >= JUDGED_DROPS;
    // What a repeated handshake adds is the same for every connection: its cells would hide the others.
    for (what, has_repeated, is_judged) in [
        ("furthest", false, None),
        ("with repeated handshakes", true, Some(false)),
        ("with repeated handshakes and 100 drops or more", true, Some(true)),
    ] {
        let cells = run.lossy().filter(|(_, figures)| {
            repeated(figures) == has_repeated && is_judged.is_none_or(|is| is == judged(figures))
        });
        let Some((one, figures)) = largest(cells, |(_, figures)| error(figures)) else { continue };
        if error(figures) != 0.0 {
            let _ = write!(text, "; {what}: {}", loss_of(one, figures));
        }
    }
    Some(text + ".")
}

fn loss_of(one: &Measurement, figures: &Figures) -> String {
    let loss = figures.loss;
    let error = difference(loss.estimate, loss.dropped);
    let share = if loss.dropped < JUDGED_DROPS {
        String::new()
    } else {
        format!(" ({})", error_percent(loss.estimate, loss.dropped))
    };
    let why = if loss.needless_handshake > 0 {
        format!(
            "{} needless SYNs or SYN-ACKs, of which nothing tells, and {} other needless segments that left no evidence",
            loss.needless_handshake,
            loss.needless.saturating_sub(loss.needless_handshake + loss.found_needless)
        )
    } else if error > 0.0 {
        format!(
            "{} of {} needless retransmissions left no evidence: no DSACK came, and no episode was taken back",
            loss.needless.saturating_sub(loss.found_needless),
            loss.needless
        )
    } else {
        format!(
            "{} needless retransmissions were found where there were {}: episodes that the kernel took back also held \
             real losses",
            loss.found_needless, loss.needless
        )
    };
    format!("{}, {} on {}{share}: {why}", name(one), signed(error), loss.dropped)
}

fn needless(run: &Run<'_>) -> Option<String> {
    let all: Vec<Reordered> = run.reordered().map(|(_, figures)| Reordered::of(figures)).collect();
    let spurious: u64 = run.reordered().map(|(_, figures)| figures.loss.spurious).sum();
    if !all.is_empty() && all.iter().all(|one| one.taken_for_loss == 0) {
        let needless: u64 = all.iter().map(|one| one.needless).sum();
        return Some(format!(
            "reordering only: none of {needless} needless retransmissions is taken for lost; DSACK alone tells of {spurious}."
        ));
    }
    let (one, figures, share) = run
        .reordered()
        .filter_map(|(one, figures)| Some((one, figures, Reordered::of(figures).share()?)))
        .max_by(|a, b| a.2.total_cmp(&b.2))?;
    let loss = figures.loss;
    Some(format!(
        "reordering only: {}, seed {}, {} of {} needless retransmissions taken for lost ({:.1} %); DSACK alone tells of {}. \
         The bias is towards loss: an episode that ends before the evidence comes is not taken back.",
        name(one),
        one.seed,
        Reordered::of(figures).taken_for_loss,
        loss.needless,
        share * 100.0,
        loss.spurious,
    ))
}

fn refused(run: &Run<'_>) -> Option<String> {
    let of = |figures: &Figures| difference(figures.loss.refused, figures.loss.refused_by_receivers);
    let (mut ledger, mut receivers, mut needed) = (0, 0, 0);
    for (_, Figures { loss, .. }) in run.measured() {
        ledger += loss.refused;
        receivers += loss.refused_by_receivers;
        needed += loss.refused_needed;
    }
    if ledger + receivers == 0 {
        return None;
    }
    let (one, figures) = largest(run.measured(), |(_, figures)| of(figures))?;
    let worst = match of(figures) {
        0.0 => String::new(),
        off => format!(", worst: {}, {}", name(one), signed(off)),
    };
    Some(format!(
        "segments thrown away for their timestamps: {ledger} by the ledger, {receivers} by the receivers' \
         PAWSEstab{worst}; {needed} of them had to be sent again and count as lost."
    ))
}
