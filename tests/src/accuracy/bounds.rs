//! What a cell has to hold. Counts hold on every machine; times only where time is not emulated.

use super::figures::{Measurement, Outcome};

/// Drops from which the estimate is judged: below, one segment is more than the bound.
pub(super) const JUDGED_DROPS: u64 = 100;

/// What a measurement exceeds, one sentence each; empty when it holds.
#[must_use]
pub fn exceeded(measurement: &Measurement) -> Vec<String> {
    let figures = match &measurement.outcome {
        Outcome::Measured(figures) => figures,
        Outcome::Skipped(_) => return Vec::new(),
        Outcome::Failed(reason) => return vec![format!("it was not measured: {reason}")],
    };
    let mut broken = Vec::new();
    let segments = figures.segments;
    if segments.difference != 0 {
        broken.push(format!(
            "the counts of retransmitted segments differ by {}: {segments:?}",
            segments.difference
        ));
    }
    if segments.unexplained != 0 {
        broken.push(format!("{} retransmitted segments have no cause", segments.unexplained));
    }
    for (truth, row) in &figures.confusion {
        for (reported, count) in row.iter().filter(|(reported, _)| *reported != truth) {
            broken.push(format!("{count} segments of the cause {truth} were reported as {reported}"));
        }
    }
    let loss = figures.loss;
    if loss.dropped >= JUDGED_DROPS && loss.estimate.abs_diff(loss.dropped) * 20 > loss.dropped {
        broken.push(format!("{} segments were lost, the estimate is {}", loss.dropped, loss.estimate));
    }
    if measurement.form.timed() {
        times(measurement, &mut broken);
    }
    broken
}

fn times(measurement: &Measurement, broken: &mut Vec<String>) {
    let Outcome::Measured(figures) = &measurement.outcome else { return };
    let link_us = measurement.round_trip_us;
    for flow in &figures.per_flow {
        if flow.min_rtt_us.abs_diff(link_us) > 500 + link_us / 100 {
            broken.push(format!("min_rtt_us is {} on a link of {link_us} µs", flow.min_rtt_us));
        }
        if flow.median.off.abs() > 1 {
            broken.push(format!(
                "the median of rtt_histogram is {} buckets from that of the true median, {:.0} µs",
                flow.median.off, flow.median.true_us
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Figures, FlowFigures, Loss, Quantile, Segments};
    use super::super::matrix::Form;
    use super::*;

    fn sound() -> (Measurement, Figures) {
        let quantile = Quantile { true_us: 20_100.0, bucket: -22, off: 0 };
        let flow = FlowFigures {
            min_rtt_us: 20_100,
            ledger_min_us: 20_050.0,
            tcp_info_min_us: Some(20_100),
            median: quantile,
            p99: quantile,
            samples: 9,
            round_trips: 9,
            round_trips_least: 9,
            receiver_samples: 1,
            receiver_round_trips: 1,
        };
        let figures = Figures {
            segments: Segments::default(),
            loss: Loss { dropped: 100, estimate: 105, ..Loss::default() },
            confusion: [("fast".into(), [("fast".into(), 1)].into())].into(),
            per_flow: vec![flow],
        };
        let measurement = Measurement {
            axis: "a".into(),
            cell: "b".into(),
            cells: 1,
            kernel: "6".into(),
            form: Form::Full,
            seed: 1,
            round_trip_us: 20_000,
            flows: 1,
            bytes: 1,
            reordering_only: false,
            seconds: 0.0,
            outcome: Outcome::Measured(Box::new(figures.clone())),
        };
        (measurement, figures)
    }

    /// How many bounds are exceeded after a change.
    fn broken_by(form: Form, change: impl FnOnce(&mut Figures)) -> usize {
        let (mut measurement, mut figures) = sound();
        change(&mut figures);
        measurement.form = form;
        measurement.outcome = Outcome::Measured(Box::new(figures));
        exceeded(&measurement).len()
    }

    #[test]
    fn each_bound_is_judged() {
        assert_eq!(broken_by(Form::Short, |_| {}), 0);
        assert_eq!(broken_by(Form::Short, |figures| figures.segments.difference = 1), 1);
        assert_eq!(broken_by(Form::Short, |figures| figures.segments.unexplained = 1), 1);
        assert_eq!(broken_by(Form::Short, |figures| figures.loss.estimate = 106), 1);
        assert_eq!(broken_by(Form::Short, |figures| figures.loss.estimate = 94), 1);
        assert_eq!(broken_by(Form::Short, |figures| figures.per_flow[0].min_rtt_us = 20_701), 1);
        assert_eq!(broken_by(Form::Short, |figures| figures.per_flow[0].median.off = -2), 1);
        assert_eq!(broken_by(Form::Vm, |figures| figures.per_flow[0].median.off = -2), 0);
        let wrong = |figures: &mut Figures| {
            figures.confusion.entry("fast".into()).or_default().insert("rto".into(), 1);
        };
        assert_eq!(broken_by(Form::Short, wrong), 1);
        let (mut measurement, _) = sound();
        measurement.outcome = Outcome::Failed("it broke".into());
        assert_eq!(exceeded(&measurement).len(), 1);
    }
}
