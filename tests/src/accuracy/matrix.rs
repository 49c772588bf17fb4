//! Which cells there are: one axis at a time around the base case, then single causes, mixtures and reordering.

use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::cell::{Cell, Fault};
use crate::link::Gso;

/// How much of the matrix; each form has the cells of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// In the tests: under 30 s.
    Short,
    /// In an emulated machine, where time is slow.
    Vm,
    /// About a minute.
    Quick,
    /// Some minutes.
    Full,
}

impl Form {
    /// Whether times mean something: not in an emulated machine.
    #[must_use]
    pub fn timed(self) -> bool {
        self != Self::Vm
    }

    /// As the command line names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Vm => "vm",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

impl std::str::FromStr for Form {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, anyhow::Error> {
        let all = [Self::Short, Self::Vm, Self::Quick, Self::Full];
        let found = all.into_iter().find(|form| form.name() == name);
        found.with_context(|| format!("there is no form `{name}`: it is short, vm, quick or full"))
    }
}

const MB: usize = 1_000_000;
const KB: usize = 1000;

/// The matrix as it grows.
struct Plan {
    form: Form,
    cells: Vec<Cell>,
}

impl Plan {
    /// Add a cell to this form and the larger ones.
    fn add(&mut self, least: Form, cell: Cell) {
        if least <= self.form {
            self.cells.push(cell);
        }
    }

    /// The full form sends more.
    fn bytes(&self, full: usize, less: usize) -> usize {
        if self.form == Form::Full { full } else { less }
    }
}

/// The cells of a form, in the order they are run.
#[must_use]
pub fn cells(form: Form) -> Vec<Cell> {
    let mut plan = Plan { form, cells: Vec::new() };
    axes(&mut plan);
    single_causes(&mut plan);
    several_causes(&mut plan);
    reordering(&mut plan);
    plan.cells
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn axes(plan: &mut Plan) {
    for (seed, least) in [(1, Form::Vm), (2, Form::Vm), (3, Form::Vm), (4, Form::Full), (5, Form::Full)] {
        let base = Cell::base("seed", "the base case");
        plan.add(least, Cell { seed, bytes: plan.bytes(3 * MB, 2 * MB), ..base });
    }
    // Where data was lost, the kernel measures by the echoed timestamp, in whole milliseconds: so not only those.
    for (delay_us, full, less, least) in [
        (2000, 15 * MB, 15 * MB, Form::Short),
        (2600, 3 * MB, 3 * MB, Form::Short),
        (20_000, 15 * MB, 2 * MB, Form::Quick),
        (20_600, 3 * MB, 2 * MB, Form::Full),
        (100_000, 3 * MB, 400 * KB, Form::Vm),
        (300_000, MB, 100 * KB, Form::Quick),
    ] {
        let base = Cell::base("round trip", &format!("{} ms", delay_us as f64 / 1e3));
        let round_trip = Duration::from_micros(delay_us);
        plan.add(least, Cell { round_trip, bytes: plan.bytes(full, less), ..base });
    }
    for (delay, least) in [(2, Form::Short), (20, Form::Short), (100, Form::Short), (300, Form::Short)] {
        let base = Cell::base("round trip, no loss", &format!("{delay} ms"));
        let bytes = plan.bytes(MB, 300 * KB);
        plan.add(least, Cell { round_trip: ms(delay), loss: 0.0, bytes, ..base });
    }
    for (loss, full, less, least) in [
        (0.0, 3 * MB, MB, Form::Quick),
        (0.001, 30 * MB, 5 * MB, Form::Vm),
        (0.01, 15 * MB, 2 * MB, Form::Quick),
        (0.05, 4 * MB, 600 * KB, Form::Vm),
    ] {
        let base = Cell::base("loss", &format!("{} %", loss * 100.0));
        // In a machine whose times are not judged, the fewest bytes that make a hundred drops.
        let less = if plan.form == Form::Vm && loss == 0.05 { full } else { less };
        plan.add(least, Cell { loss, bytes: plan.bytes(full, less), ..base });
    }
    for (length, share, full, least) in [(4, 0.005, 10 * MB, Form::Vm), (12, 0.001, 15 * MB, Form::Quick)] {
        let base = Cell::base("bursts", &format!("{length} in a row, {} % begin one", share * 100.0));
        let bytes = if plan.form == Form::Quick { 2 * MB } else { full };
        plan.add(least, Cell { loss: 0.0, fault: Fault::Bursts { share, length }, bytes, ..base });
    }
    for congestion in ["cubic", "bbr"] {
        let base = Cell::base("congestion control", congestion);
        plan.add(Form::Vm, Cell { congestion, bytes: plan.bytes(3 * MB, MB), ..base });
    }
    for (name, v6) in [("IPv4", false), ("IPv6", true)] {
        let base = Cell::base("family", name);
        plan.add(Form::Vm, Cell { v6, bytes: plan.bytes(3 * MB, MB), ..base });
    }
    for (name, gso) in [("off", Gso::Off), ("on", Gso::On)] {
        let base = Cell::base("GSO", name);
        plan.add(Form::Vm, Cell { gso, bytes: plan.bytes(3 * MB, MB), ..base });
    }
    for (flows, full, less, least) in [
        (1, 300 * KB, 200 * KB, Form::Full),
        (5, 300 * KB, 200 * KB, Form::Vm),
        (20, 300 * KB, 200 * KB, Form::Quick),
        (50, 300 * KB, 100 * KB, Form::Vm),
        (100, 200 * KB, 100 * KB, Form::Full),
        (200, 100 * KB, 100 * KB, Form::Vm),
    ] {
        let base = Cell::base("flows at once", &format!("{flows}"));
        let bytes = plan.bytes(full, less);
        // All in one moment they would send more than the link's thread can read, and wait where it cannot see.
        let (round_trip, apart, bytes) = match plan.form {
            Form::Vm => (ms(300), ms(7), bytes.min(4 * MB / flows)),
            _ => (ms(100), ms(2), bytes),
        };
        plan.add(least, Cell { flows, bytes, round_trip, apart, ..base });
    }
}

fn single_causes(plan: &mut Plan) {
    let axis = "single cause";
    let flows = if matches!(plan.form, Form::Full | Form::Vm) { 5 } else { 1 };
    // An emulated processor carries one at a time.
    let apart = if plan.form == Form::Vm { ms(100) } else { Duration::ZERO };
    let quiet = |name: &str| Cell { loss: 0.0, flows, apart, ..Cell::base(axis, name) };
    for (suffix, gso) in [("", Gso::Off), (", GSO", Gso::On)] {
        // The 40th segment is in the flight of forty that follows ten and twenty.
        for (count, least) in [(1, Form::Short), (2, Form::Quick), (5, Form::Quick), (10, Form::Vm)] {
            let fault = Fault::Burst { first: 40, count };
            let cell = quiet(&format!("{count} lost in the window{suffix}"));
            plan.add(least, Cell { fault, cause: Some("fast"), gso, bytes: 200 * KB, ..cell });
        }
        let cell = quiet(&format!("last segment lost{suffix}"));
        let (fault, bytes) = (Fault::Tail { count: 1 }, 20 * 1448);
        plan.add(Form::Short, Cell { fault, cause: Some("tlp"), gso, bytes, ..cell });
        let cell = quiet(&format!("blackout of 1.5 s, no tail loss probes{suffix}"));
        let fault = Fault::Blackout { from: 40, length: ms(1500) };
        let least = if gso == Gso::Off { Form::Short } else { Form::Vm };
        plan.add(least, Cell { fault, cause: Some("rto"), tail_probes: false, gso, bytes: 100 * KB, ..cell });
    }
    for (count, least) in [(1, Form::Short), (2, Form::Full)] {
        let cell = quiet(&format!("{count} SYN lost"));
        plan.add(least, Cell { fault: Fault::Syn(count), cause: Some("syn"), bytes: 20 * KB, ..cell });
        let cell = quiet(&format!("{count} SYN-ACK lost"));
        plan.add(least, Cell { fault: Fault::SynAck(count), cause: Some("synack"), bytes: 20 * KB, ..cell });
    }
}

fn several_causes(plan: &mut Plan) {
    let axis = "several causes";
    for (count, least) in [(3, Form::Vm), (8, Form::Quick)] {
        let base = Cell::base(axis, &format!("last {count} segments lost"));
        plan.add(least, Cell { loss: 0.0, fault: Fault::Tail { count }, bytes: 40 * 1448, ..base });
    }
    let base = Cell::base(axis, "blackout of 2 s, tail loss probes on");
    let fault = Fault::Blackout { from: 40, length: ms(2000) };
    plan.add(Form::Vm, Cell { loss: 0.0, fault, bytes: 100 * KB, ..base });
    let base = Cell::base(axis, "3 % lost, 2 % held 45 ms");
    let fault = Fault::Hold { share: 0.02, by: ms(45) };
    plan.add(Form::Quick, Cell { loss: 0.03, fault, bytes: plan.bytes(3 * MB, 600 * KB), ..base });
}

/// The seeds of cells that are pooled, and the least form that has each.
const SEEDS: &[(u64, Form)] =
    &[(7, Form::Short), (1, Form::Vm), (2, Form::Vm), (3, Form::Full), (4, Form::Full)];

fn reordering(plan: &mut Plan) {
    // How many are found needless changes much with which segments are held, so that several seeds are pooled.
    for (held, seeds) in [(5, [(7, Form::Full)].as_slice()), (45, SEEDS), (70, SEEDS)] {
        let base = Cell::base("reordering only", &format!("2 % held {held} ms"));
        let fault = Fault::Hold { share: 0.02, by: ms(held) };
        let base = Cell { round_trip: ms(40), loss: 0.0, fault, flows: 10, bytes: 300 * KB, ..base };
        for &(seed, least) in seeds {
            plan.add(least, Cell { seed, ..base.clone() });
        }
    }
}
