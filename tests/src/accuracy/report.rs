//! docs/accuracy.md from the lines of one or more runs. Pure: every number in it is in the lines.

use super::bounds::{self, Inherent};
use super::figures::{Figures, FlowFigures, Measurement, Outcome};
use super::{summary, tables, words};

const HEAD: &str = "\
# How far the figures are from the truth

Written by `cargo xtask accuracy` from its own runs: no number here was typed. Each cell is a link between two network
namespaces with a programmed delay, loss or fault; the server sends, and flowprobe's record of each connection is put
beside what four others saw of it. How is said [below](#how-it-is-measured).
";

const METHOD: &str = "\
The witnesses:

* the **ledger** of the link, which sees every packet enter and leave, and knows why one did not;
* **RetransSegs** of both namespaces' /proc/net/snmp, over the cell;
* **TCP_INFO** of the sending socket just before its close (a FIN sent again after that is added from the ledger);
* the link's **programmed round trip**.

A true round trip runs from the entry of a packet into the link, in the transmission that arrived first, to the arrival
of the acknowledgement that covers it; one is counted each time something is acknowledged that was sent after the last
one ended, the handshake apart. It holds the receiver's delay of acknowledgements. A segment may wait in the sender's
device before the link reads it: then the kernel's round ends at a later acknowledgement, perhaps a delayed one or that
of a segment held up, and there are fewer of them. The ledger allows as many round trips as it counted, and as few as if
each packet had been sent 0.5 ms before it was read.

A segment counts as lost when it did not get through: the link dropped it, or its receiver threw it away because its
timestamp was older than that of a segment sent again that had filled a gap before it (PAWS, RFC 7323 section 5). The
ledger plays that rule through; the receivers' own count of it, TcpExt.PAWSEstab, is put beside.

Quantiles are by nearest rank. The histogram's buckets are a factor of 2^(1/4), 19 %, wide; \"off\" is the number of
buckets between the one that holds flowprobe's quantile and the one that holds the true one.

Cells run one axis at a time around a base case: round trip 20 ms, 1 % random loss towards the client, CUBIC, IPv4, GSO
off, one flow; several flows at once have 100 ms (300 ms in a machine with an emulated processor) and begin 2 ms (7 ms)
after each other. Each cell's seed is in the last tables; the same seed drops or holds the same segments as long as the
kernel sends the same.
";

/// The document.
#[must_use]
pub fn report(measurements: &[Measurement]) -> String {
    let runs = runs(measurements);
    let mut text = HEAD.to_owned();
    let mut section = |title: &str, body: &str| {
        if !body.is_empty() {
            text += &format!("\n## {title}\n\n{body}");
        }
    };
    section("Summary", &summary::table(&runs));
    section("Worst cells, and what causes them", &words::worst(&runs));
    section("What is judged", &judged());
    section("How it is measured", METHOD);
    section(
        "Causes: what the fault can cause (rows), what was reported (columns)",
        &tables::confusion(&runs),
    );
    section("Round trips, by the link's", &tables::round_trips(&runs));
    section("Reordering only: nothing was dropped", &tables::reordering(&runs));
    for run in &runs {
        let body = words::what_ran(run) + "\n" + &tables::every_cell(run);
        section(&format!("Every cell on Linux {}", run.kernel), &body);
    }
    text
}

fn judged() -> String {
    let mut text =
        format!("`cargo xtask accuracy` fails when one of these does not hold:\n\n{}", bounds::stated());
    text += "\nExceptions, by their letter in the last tables; nothing else is excepted:\n\n";
    for one in Inherent::ALL {
        text += &format!("* **{}**: {}.\n", one.letter(), one.reason());
    }
    text
}

/// The lines of one kernel.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) kernel: &'a str,
    pub(super) all: Vec<&'a Measurement>,
}

/// One for each kernel, in the order of the lines.
fn runs(measurements: &[Measurement]) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for one in measurements {
        match runs.iter_mut().find(|run| run.kernel == one.kernel) {
            Some(run) => run.all.push(one),
            None => runs.push(Run { kernel: &one.kernel, all: vec![one] }),
        }
    }
    runs
}

impl<'a> Run<'a> {
    /// The cells that were measured.
    pub(super) fn measured(&self) -> impl Iterator<Item = (&'a Measurement, &'a Figures)> {
        self.all.iter().filter_map(|one| match &one.outcome {
            Outcome::Measured(figures) => Some((*one, &**figures)),
            Outcome::Skipped(_) | Outcome::Failed(_) => None,
        })
    }

    /// Those where something was lost: what got not through was not only delayed.
    pub(super) fn lossy(&self) -> impl Iterator<Item = (&'a Measurement, &'a Figures)> {
        self.measured().filter(|(one, figures)| figures.loss.dropped > 0 && !one.reordering_only)
    }

    /// Those where segments were only delayed.
    pub(super) fn reordered(&self) -> impl Iterator<Item = (&'a Measurement, &'a Figures)> {
        self.measured().filter(|(one, _)| one.reordering_only)
    }

    /// Every flow of every measured cell.
    pub(super) fn flows(&self) -> impl Iterator<Item = (&'a Measurement, &'a Figures, &'a FlowFigures)> {
        self.measured()
            .flat_map(|(one, figures)| figures.per_flow.iter().map(move |flow| (one, figures, flow)))
    }

    /// All cells, those that differ only in their seed together, in the order of their first.
    pub(super) fn by_name(&self) -> Vec<Vec<&'a Measurement>> {
        let mut groups: Vec<Vec<&Measurement>> = Vec::new();
        for one in &self.all {
            match groups.iter_mut().find(|group| (&group[0].axis, &group[0].cell) == (&one.axis, &one.cell)) {
                Some(group) => group.push(one),
                None => groups.push(vec![one]),
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Loss, Quantile, Segments};
    use super::super::matrix::Form;
    use super::*;

    fn measurement(cell: &str, seed: u64, outcome: Outcome) -> Measurement {
        Measurement {
            axis: "loss".into(),
            cell: cell.into(),
            seed,
            cells: 3,
            kernel: "6.1.0-test".into(),
            form: Form::Full,
            round_trip_us: 20_000,
            flows: 1,
            bytes: 1000,
            reordering_only: false,
            attempts: 1,
            seconds: 1.25,
            outcome,
        }
    }

    #[test]
    fn the_document_has_what_was_measured_and_says_what_was_not() {
        let quantile = Quantile { true_us: 20_100.0, bucket: -22, off: 0, beyond_us: 0.0 };
        let flow = FlowFigures {
            min_rtt_us: 20_123,
            ledger_min_us: 20_050.0,
            tcp_info_min_us: Some(20_000),
            median: quantile,
            p99: Quantile { true_us: 22_090.0, bucket: -21, off: 1, beyond_us: 7.0 },
            samples: 90,
            round_trips: 91,
            round_trips_least: 9,
            receiver_samples: 1,
            receiver_round_trips: 1,
        };
        let figures = Figures {
            segments: Segments { ledger: 4, causes: 4, retrans_segs: 4, kernel: 4, ..Segments::default() },
            loss: Loss { dropped: 120, estimate: 123, needless: 4, found_needless: 1, ..Loss::default() },
            confusion: [("fast".into(), [("fast".into(), 4)].into())].into(),
            per_flow: vec![flow],
        };
        let mut held = measurement("2 % held", 2, Outcome::Measured(Box::new(figures.clone())));
        held.reordering_only = true;
        let measured = Outcome::Measured(Box::new(figures));
        let text = report(&[
            measurement("1 %", 1, measured.clone()),
            measurement("1 %", 5, measured),
            held,
            measurement("bbr", 1, Outcome::Skipped("this kernel does not offer bbr".into())),
        ]);
        for needle in [
            "Linux 6.1.0-test",
            "3 of 3 cells",
            "does not offer bbr",
            "+123 / +123 / +123",
            "+2.5 %",
            "| fast |",
            "75.0 %",
            "| loss: 1 % | 1, 5 |",
            "TCP_INFO",
        ] {
            assert!(text.contains(needle), "`{needle}` is not in:\n{text}");
        }
        assert!(!text.contains("NaN"));
    }
}
