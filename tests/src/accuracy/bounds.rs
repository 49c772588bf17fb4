//! What a cell has to hold, what a run has to hold over its cells, and which exceptions are inherent, each with its reason.

use super::figures::{Figures, FlowFigures, Loss, Measurement, NEEDLESS, Outcome};

/// Drops from which the estimate is judged: below, one segment is more than the bound.
pub(super) const JUDGED_DROPS: u64 = 100;
/// How far the estimate of losses may be from the drops.
const LOSS_ERROR: f64 = 0.05;
/// Which share of the needless retransmissions of a run may be taken for losses, where nothing was lost.
const TAKEN_FOR_LOSS: f64 = 0.1;
/// How often a cell may be measured until its times hold: another program on the machine may be in the way. What is wrong
/// in itself is wrong each time. Counts have one chance.
pub(super) const ATTEMPTS: u32 = 3;
/// How many `rtt_samples` may be outside of what the ledger allows.
const SAMPLES_OFF: f64 = 1.0;

/// How far a round trip may be from the true one: 0.5 ms and 1 % of the link's.
fn tolerance_us(measurement: &Measurement) -> u64 {
    500 + measurement.round_trip_us / 100
}

/// Why a cell need not hold a bound: no figure that a kernel gives could hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Inherent {
    /// Times in an emulated machine.
    EmulatedTime,
    /// Repeated SYNs and SYN-ACKs that were not needed.
    RepeatedHandshake,
}

impl Inherent {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::EmulatedTime, Self::RepeatedHandshake];

    /// Its letter in the tables.
    pub(super) fn letter(self) -> char {
        match self {
            Self::EmulatedTime => 't',
            Self::RepeatedHandshake => 'h',
        }
    }

    /// What is excepted, in which direction it is wrong, and why.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::EmulatedTime => {
                "times are reported and not judged: the machine's processor is emulated, so that a packet waits for the \
                 processor below the link and above it, which the link's clock does not see, and timers fire on packets \
                 that are only late. Counts are judged"
            }
            Self::RepeatedHandshake => {
                "lost_segs_estimate is too high by each SYN or SYN-ACK that was repeated without need, and may be by so \
                 many: the answer to a repeated SYN or SYN-ACK is the answer to the first, no DSACK reports it, and the \
                 kernel takes no episode back before the connection is established"
            }
        }
    }
}

/// What became of a cell's bounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// What is exceeded, one sentence each.
    pub(super) exceeded: Vec<String>,
    /// Whether only times are.
    pub(super) only_times: bool,
    /// What would be, were it not inherent.
    pub(super) excepted: Vec<Inherent>,
}

/// What a measurement exceeds, one sentence each; empty when it holds.
#[must_use]
pub fn exceeded(measurement: &Measurement) -> Vec<String> {
    judge(measurement).exceeded
}

/// Judge one cell.
pub(super) fn judge(measurement: &Measurement) -> Verdict {
    let mut verdict = Verdict::default();
    let figures = match &measurement.outcome {
        Outcome::Measured(figures) => figures,
        Outcome::Skipped(_) => return verdict,
        Outcome::Failed(reason) => {
            verdict.exceeded.push(format!("it was not measured: {reason}"));
            return verdict;
        }
    };
    counts(figures, &mut verdict.exceeded);
    let timers: u64 = figures.confusion.get(NEEDLESS).into_iter().flat_map(|row| row.values()).sum();
    let mut late: Vec<String> = times(measurement, figures);
    if timers > 0 {
        late.push(format!("{timers} segments were sent again by a timer, without need"));
    }
    let loss = figures.loss;
    if !measurement.reordering_only {
        verdict.exceeded.extend(estimate(loss));
        if loss.needless_handshake > 0 && loss.estimate > loss.dropped {
            verdict.excepted.push(Inherent::RepeatedHandshake);
        }
    }
    if measurement.form.timed() {
        verdict.only_times = verdict.exceeded.is_empty() && !late.is_empty();
        verdict.exceeded.extend(late);
    } else if !late.is_empty() {
        verdict.excepted.push(Inherent::EmulatedTime);
    }
    verdict
}

fn counts(figures: &Figures, broken: &mut Vec<String>) {
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
    for (truth, row) in figures.confusion.iter().filter(|(truth, _)| *truth != NEEDLESS) {
        for (reported, count) in row.iter().filter(|(reported, _)| *reported != truth) {
            broken.push(format!("{count} segments of the cause {truth} were reported as {reported}"));
        }
    }
}

/// The estimate against the drops; it may be higher by the repeated handshakes that were not needed.
fn estimate(loss: Loss) -> Option<String> {
    if loss.dropped < JUDGED_DROPS {
        return None;
    }
    let dropped = loss.dropped as f64;
    let allowed =
        dropped * (1.0 - LOSS_ERROR)..=dropped * (1.0 + LOSS_ERROR) + loss.needless_handshake as f64;
    let held = allowed.contains(&(loss.estimate as f64));
    (!held).then(|| format!("{} segments were lost, the estimate is {}", loss.dropped, loss.estimate))
}

fn times(measurement: &Measurement, figures: &Figures) -> Vec<String> {
    figures.per_flow.iter().flat_map(|flow| times_of(measurement, flow)).collect()
}

fn times_of(measurement: &Measurement, flow: &FlowFigures) -> Vec<String> {
    let (link_us, tolerance_us) = (measurement.round_trip_us, tolerance_us(measurement));
    let mut broken = Vec::new();
    if flow.min_rtt_us.abs_diff(link_us) > tolerance_us {
        broken.push(format!("min_rtt_us is {} on a link of {link_us} µs", flow.min_rtt_us));
    }
    if flow.median.beyond_us > tolerance_us as f64 {
        broken.push(format!(
            "the median of rtt_histogram is {} buckets from that of the true median, {:.0} µs, and {:.0} µs from the \
             true values beside it",
            flow.median.off, flow.median.true_us, flow.median.beyond_us
        ));
    }
    if flow.samples_off().abs() > SAMPLES_OFF {
        broken.push(format!(
            "rtt_samples is {}, the link saw {} to {} round trips",
            flow.samples, flow.round_trips_least, flow.round_trips
        ));
    }
    broken
}

/// Needless retransmissions where nothing was lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reordered {
    /// By the ledger.
    pub(super) needless: u64,
    /// Of these, how many flowprobe takes for losses.
    pub(super) taken_for_loss: u64,
}

impl Reordered {
    pub(super) fn of(figures: &Figures) -> Self {
        let Loss { needless, found_needless, .. } = figures.loss;
        Self { needless, taken_for_loss: needless.saturating_sub(found_needless) }
    }

    pub(super) fn share(self) -> Option<f64> {
        (self.needless > 0).then(|| self.taken_for_loss as f64 / self.needless as f64)
    }
}

impl std::iter::Sum for Reordered {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            needless: sum.needless + one.needless,
            taken_for_loss: sum.taken_for_loss + one.taken_for_loss,
        })
    }
}

/// What the cells of one run exceed together, one sentence each: what is judged only over several seeds.
#[must_use]
pub fn exceeded_together<'a>(run: impl IntoIterator<Item = &'a Measurement>) -> Vec<String> {
    let (mut reordered, mut loss) = (Vec::new(), Loss::default());
    for one in run {
        let Outcome::Measured(figures) = &one.outcome else { continue };
        if one.reordering_only {
            reordered.push(Reordered::of(figures));
        } else {
            loss.dropped += figures.loss.dropped;
            loss.estimate += figures.loss.estimate;
            loss.needless_handshake += figures.loss.needless_handshake;
        }
    }
    let pooled: Reordered = reordered.into_iter().sum();
    let mut broken: Vec<String> =
        estimate(loss).map(|sentence| format!("over all cells, {sentence}")).into_iter().collect();
    if let Some(share) = pooled.share()
        && share > TAKEN_FOR_LOSS
    {
        broken.push(format!(
            "of {} needless retransmissions where nothing was lost, {} ({:.1} %) are taken for losses",
            pooled.needless,
            pooled.taken_for_loss,
            share * 100.0
        ));
    }
    broken
}

/// The bounds, as the document states them.
pub(super) fn stated() -> String {
    let percent = |share: f64| share * 100.0;
    format!(
        "* counts: Σ causes = retrans_segs = the ledger = RetransSegs = TCP_INFO, difference 0; none without a cause; in \
         cells with one possible cause, no other;\n\
         * lost_segs_estimate within {} % of the drops, in each cell with {JUDGED_DROPS} or more and over all;\n\
         * where nothing was lost, at most {} % of the needless retransmissions of all seeds taken for losses;\n\
         * min_rtt_us within 0.5 ms and 1 % of the link's round trip, for every flow;\n\
         * the bucket of the histogram's median not farther than that from the true median, whose rank may be one off;\n\
         * rtt_samples at most {SAMPLES_OFF} outside of what the ledger allows.\n\n\
         A cell of which only times exceed a bound is measured again, up to {ATTEMPTS} times in all, because another \
         program may have been in the way; the last one is kept, and the tables say so. Counts have one chance.\n",
        percent(LOSS_ERROR),
        percent(TAKEN_FOR_LOSS),
    )
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Quantile, Segments};
    use super::super::matrix::Form;
    use super::*;

    fn sound() -> (Measurement, Figures) {
        let quantile = Quantile { true_us: 20_100.0, bucket: -22, off: 0, beyond_us: 0.0 };
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
            seed: 1,
            cells: 1,
            kernel: "6".into(),
            form: Form::Full,
            round_trip_us: 20_000,
            flows: 1,
            bytes: 1,
            reordering_only: false,
            attempts: 1,
            seconds: 0.0,
            outcome: Outcome::Measured(Box::new(figures.clone())),
        };
        (measurement, figures)
    }

    /// A cell after a change.
    fn changed(form: Form, change: impl FnOnce(&mut Figures)) -> Measurement {
        let (mut measurement, mut figures) = sound();
        change(&mut figures);
        measurement.form = form;
        measurement.outcome = Outcome::Measured(Box::new(figures));
        measurement
    }

    /// How many bounds are exceeded after it.
    fn broken_by(change: impl FnOnce(&mut Figures)) -> usize {
        exceeded(&changed(Form::Short, change)).len()
    }

    #[test]
    fn each_bound_is_judged() {
        assert_eq!(broken_by(|_| {}), 0);
        assert_eq!(broken_by(|figures| figures.segments.difference = 1), 1);
        assert_eq!(broken_by(|figures| figures.segments.unexplained = 1), 1);
        assert_eq!(broken_by(|figures| figures.loss.estimate = 106), 1);
        assert_eq!(broken_by(|figures| figures.loss.estimate = 94), 1);
        assert_eq!(broken_by(|figures| figures.per_flow[0].min_rtt_us = 20_701), 1);
        assert_eq!(broken_by(|figures| figures.per_flow[0].min_rtt_us = 19_299), 1);
        assert_eq!(broken_by(|figures| figures.per_flow[0].median.beyond_us = 701.0), 1);
        assert_eq!(broken_by(|figures| figures.per_flow[0].samples = 11), 1);
        assert_eq!(broken_by(|figures| figures.per_flow[0].samples = 7), 1);
        let wrong = |figures: &mut Figures| {
            figures.confusion.entry("fast".into()).or_default().insert("rto".into(), 1);
        };
        assert_eq!(broken_by(wrong), 1);
        let timer = |figures: &mut Figures| {
            figures.confusion.insert(NEEDLESS.into(), [("tlp".into(), 1)].into());
        };
        assert_eq!(broken_by(timer), 1);
        assert_eq!(judge(&changed(Form::Vm, timer)).excepted, [Inherent::EmulatedTime]);
        let (mut measurement, _) = sound();
        measurement.outcome = Outcome::Failed("it broke".into());
        assert_eq!(exceeded(&measurement).len(), 1);
    }

    #[test]
    fn only_times_are_measured_again() {
        let late = |figures: &mut Figures| figures.per_flow[0].min_rtt_us = 30_000;
        assert!(judge(&changed(Form::Short, late)).only_times);
        let both = judge(&changed(Form::Short, |figures| {
            late(figures);
            figures.segments.difference = 1;
        }));
        assert_eq!((both.only_times, both.exceeded.len()), (false, 2));
        assert!(!judge(&changed(Form::Short, |_| {})).only_times);
        assert!(!judge(&changed(Form::Vm, late)).only_times);
    }

    #[test]
    fn inherent_exceptions_are_named_and_hide_nothing_else() {
        let late = judge(&changed(Form::Vm, |figures| figures.per_flow[0].min_rtt_us = 30_000));
        assert_eq!((late.exceeded.len(), late.excepted), (0, vec![Inherent::EmulatedTime]));
        let counts = judge(&changed(Form::Vm, |figures| figures.segments.difference = 1));
        assert_eq!((counts.exceeded.len(), counts.excepted), (1, vec![]));
        let repeated = |estimate| {
            judge(&changed(Form::Short, |figures| {
                (figures.loss.needless_handshake, figures.loss.estimate) = (100, estimate);
            }))
        };
        assert_eq!(
            (repeated(205).exceeded.len(), repeated(205).excepted),
            (0, vec![Inherent::RepeatedHandshake])
        );
        assert_eq!(repeated(206).exceeded.len(), 1);
    }

    #[test]
    fn the_share_taken_for_loss_is_judged_over_all_seeds() {
        let cell = |needless, taken| {
            let mut cell = changed(Form::Short, |figures| {
                figures.loss = Loss { needless, found_needless: needless - taken, ..Loss::default() };
            });
            cell.reordering_only = true;
            cell
        };
        let run = [cell(40, 8), cell(60, 2)];
        assert!(run.iter().all(|one| exceeded(one).is_empty()));
        assert_eq!(exceeded_together(&run).len(), 0);
        assert_eq!(exceeded_together(&[cell(40, 8), cell(60, 3)]).len(), 1);
        let lost = |estimate| changed(Form::Short, |figures| figures.loss.estimate = estimate);
        assert_eq!(exceeded_together(&[lost(104), lost(106)]).len(), 0);
        assert_eq!(exceeded_together(&[lost(105), lost(106)]).len(), 1);
    }
}
