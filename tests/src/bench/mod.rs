//! What flowprobe and its peers cost: every condition under the same load, in turn, in one run.
//!
//! * [`program`] the program `bench`: what to run, what is kept of an earlier run, what is written.
//! * [`plan`] how long and how often; [`parts`] the questions, each in the file of its name.
//! * [`condition`] what runs beside a load: nothing, empty programs, flowprobe, peers; [`peers`] which these are.
//! * [`driver`] starts loads; [`child`] processes that end with their guard; [`daemon`] a flowprobe and its sweeps.
//! * [`sheet`] the figures; [`budgets`], [`report`], [`plot`], [`fit`], [`compare`] what is made of them.

mod budgets;
mod child;
mod compare;
mod condition;
mod cpus;
mod daemon;
mod delay;
mod driver;
mod fit;
mod highest;
mod kernel_time;
mod latency;
mod library;
mod lines;
mod machine;
mod memory;
mod open;
mod parts;
mod peers;
mod plan;
mod plot;
mod program;
mod rates;
mod report;
mod scrape;
mod sheet;
mod start;
mod sweep;
mod table;

pub use program::run_as_program;
