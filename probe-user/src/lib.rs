//! flowprobe's user side as a library: what the binary is made of.
//!
//! One data flow: kernel ─► [`flow`] ─► [`aggregate`] ─► [`export`]; [`cli`] prints flows. Only [`kernel`] touches
//! the machine.

pub mod aggregate;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod export;
pub mod flow;
pub mod kernel;
pub mod networks;
pub mod reconcile;
pub mod source;
mod stop;
