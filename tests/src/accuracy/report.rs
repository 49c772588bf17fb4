//! docs/accuracy.md from the lines of one or more runs. Pure: every number in it is in the lines.

use super::figures::{Figures, Measurement, Outcome};
use super::{tables, words};

const HEAD: &str = "\
# How far the figures are from the truth

Written by `cargo xtask accuracy` from its own runs: no number here was typed. Each cell is one link between two network
namespaces with a programmed delay, loss or fault; the server sends, and flowprobe's record of each connection is put
beside four other witnesses:

* the **ledger** of the link, which sees every packet enter and leave, and knows why one did not;
* **RetransSegs** of both namespaces' /proc/net/snmp, over the cell;
* **TCP_INFO** of the sending socket just before its close (a FIN sent again after that is added from the ledger);
* the link's **programmed round trip**.

A true round trip is the time from the entry of a packet into the link, in the transmission that arrived first, to the
arrival of the acknowledgement that covers it; one is counted each time something is acknowledged that was sent after
the last one ended, the handshake apart. It holds the receiver's delay of acknowledgements. A segment may wait in the
sender's device before the link reads it, so that the kernel's round may end some segments later than the ledger's:
then another acknowledgement ends it (perhaps a delayed one), and over many rounds there are fewer. The ledger
therefore allows a range of round trips, from as many as if each packet had been sent 0.5 ms before it was read to as
many as it counted; \"samples off\" is the distance from that range.

Quantiles are by nearest rank; the histogram's buckets are a factor of 2^(1/4), 19 %, wide, and \"off\" is the number of
buckets between the one that holds flowprobe's quantile and the one that holds the true one. \"min / median / worst\"
are over the flows of the axis; worst is the largest in size, with its sign.

All cells run one axis at a time around a base case: round trip 20 ms, 1 % random loss towards the client, CUBIC,
IPv4, GSO off, one flow.
";

/// The document.
#[must_use]
pub fn report(measurements: &[Measurement]) -> String {
    let mut text = HEAD.to_owned();
    let mut kernels: Vec<&str> = Vec::new();
    for one in measurements {
        if !kernels.contains(&one.kernel.as_str()) {
            kernels.push(&one.kernel);
        }
    }
    for kernel in kernels {
        let of_kernel: Vec<&Measurement> = measurements.iter().filter(|one| one.kernel == kernel).collect();
        text += &section(kernel, &of_kernel);
    }
    text
}

fn section(kernel: &str, all: &[&Measurement]) -> String {
    let run = Run { all };
    let mut text = format!("\n## Linux {kernel}\n\n");
    text += &words::what_ran(&run);
    text += "\n### Worst cells\n\n";
    text += &words::worst(&run);
    for (title, table) in [
        ("Retransmitted segments", tables::segments(&run)),
        ("Causes: what the fault can cause (rows), what was reported (columns)", tables::confusion(&run)),
        ("Round trips", tables::round_trips(&run)),
        ("Lost segments", tables::losses(&run)),
        ("Reordering only: nothing was lost, every retransmission was needless", tables::reordering(&run)),
        ("Every cell", tables::every_cell(&run)),
    ] {
        if !table.is_empty() {
            text += &format!("\n### {title}\n\n{table}");
        }
    }
    text
}

/// The lines of one kernel.
pub(super) struct Run<'a> {
    pub(super) all: &'a [&'a Measurement],
}

impl<'a> Run<'a> {
    /// The cells that were measured.
    pub(super) fn measured(&self) -> impl Iterator<Item = (&'a Measurement, &'a Figures)> {
        self.all.iter().filter_map(|one| match &one.outcome {
            Outcome::Measured(figures) => Some((*one, &**figures)),
            Outcome::Skipped(_) | Outcome::Failed(_) => None,
        })
    }

    /// The axes that were measured, in order.
    pub(super) fn axes(&self) -> Vec<&'a str> {
        let mut axes = Vec::new();
        for (one, _) in self.measured() {
            if !axes.contains(&one.axis.as_str()) {
                axes.push(&one.axis);
            }
        }
        axes
    }

    /// The measured cells of an axis.
    pub(super) fn of(&self, axis: &str) -> impl Iterator<Item = (&'a Measurement, &'a Figures)> {
        self.measured().filter(move |(one, _)| one.axis == axis)
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{FlowFigures, Loss, Quantile, Segments};
    use super::super::matrix::Form;
    use super::*;

    fn measurement(cell: &str, outcome: Outcome) -> Measurement {
        Measurement {
            axis: "loss".into(),
            cell: cell.into(),
            cells: 3,
            kernel: "6.1.0-test".into(),
            form: Form::Full,
            seed: 7,
            round_trip_us: 20_000,
            flows: 1,
            bytes: 1000,
            reordering_only: false,
            seconds: 1.25,
            outcome,
        }
    }

    #[test]
    fn the_document_has_what_was_measured_and_says_what_was_not() {
        let quantile = Quantile { true_us: 20_100.0, bucket: -22, off: 0 };
        let flow = FlowFigures {
            min_rtt_us: 20_123,
            ledger_min_us: 20_050.0,
            tcp_info_min_us: Some(20_123),
            median: quantile,
            p99: Quantile { true_us: 22_090.0, bucket: -21, off: 1 },
            samples: 90,
            round_trips: 91,
            round_trips_least: 9,
            receiver_samples: 1,
            receiver_round_trips: 1,
        };
        let figures = Figures {
            segments: Segments { ledger: 4, causes: 4, retrans_segs: 4, kernel: 4, ..Segments::default() },
            loss: Loss { dropped: 120, estimate: 123, needless: 4, spurious: 1 },
            confusion: [("fast".into(), [("fast".into(), 4)].into())].into(),
            per_flow: vec![flow],
        };
        let text = report(&[
            measurement("1 %", Outcome::Measured(Box::new(figures))),
            measurement("bbr", Outcome::Skipped("this kernel does not offer bbr".into())),
        ]);
        for needle in [
            "## Linux 6.1.0-test",
            "1 of 3 cells",
            "does not offer bbr",
            "| +123 / +123 / +123 |",
            "+2.5 %",
            "| fast |",
        ] {
            assert!(text.contains(needle), "`{needle}` is not in:\n{text}");
        }
        assert!(!text.contains("NaN"));
    }
}
