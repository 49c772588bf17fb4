//! How far flowprobe's figures are from the truth: a matrix of links and faults, each cell one run, its figures beside
//! those of the emulator's ledger, of `getsockopt(TCP_INFO)` just before the close, and of the namespaces' counters.
//!
//! * [`cell`] one cell: a link, a fault, the traffic. [`matrix`] which cells there are, for each form.
//! * [`truth`] the true round trips, from the ledger alone.
//! * [`run`] runs a cell; [`figures`] what is kept of it, one JSON line each; [`bounds`] what it must hold.
//! * [`report`] makes the document of the lines.

mod bounds;
mod cell;
mod figures;
mod matrix;
mod program;
mod report;
mod run;
mod summary;
mod tables;
mod truth;
mod words;

pub use bounds::{exceeded, exceeded_together};
pub use cell::{Cell, Fault};
pub use figures::{Figures, FlowFigures, Loss, Measurement, Outcome, Quantile, Segments};
pub use matrix::{Form, cells};
pub use program::run_as_program;
pub use report::report;
pub use run::measure;
