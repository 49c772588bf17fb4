//! The load generator: the same traffic for everything that is compared, and an account of what it cost.
//!
//! * [`crr`], [`rr`], [`bulk`] keep the CPUs busy for a time; [`window`] says what came of it.
//! * [`hold`] keeps many connections open, in several processes; [`hold_part`] is one of them.
//! * [`dump`] reads all sockets by inet_diag, as cheaply as can be, [`walk`] shows them to a program that does nothing: the
//!   measures for a sweep. Of both [`look`] tells the cost.
//! * [`cpu`] CPU time of the machine, of processes and of threads.
//!
//! All of it is on loopback in a network namespace of its own, so that nothing is left of a load and no two share ports.

mod arguments;
mod bulk;
pub mod cpu;
mod crr;
mod dump;
mod hold;
mod hold_part;
mod look;
mod pairs;
mod place;
mod rr;
mod walk;
mod window;

pub use arguments::run_as_program;
pub use hold::{Held, Touched};
pub use hold_part::TOUCH;
pub use look::Looked;
pub use window::{CLOSE, Latency, OPEN, Outcome};

/// Bytes of a request, and of a response.
const MESSAGE: usize = 64;
