//! Shows that the kernel did skip tracing programs on re-entry: a small program on tp_btf/inet_sock_set_state, which is
//! called in process context with softirqs on, so that a steered packet's softirq calls it again on the same CPU.
//!
//! It counts to a thousand (about a microsecond) to be met at it; it reads and keeps nothing.

use anyhow::{Context as _, Result};

use super::bpf::misses_of;
use super::tiny::{Point, Tiny, instruction};

/// r0 = 0; r1 = 1000; do r1 -= 1 while r1 != 0; return r0.
const PROGRAM: [u64; 5] = [
    instruction(0xb7, 0, 0, 0),
    instruction(0xb7, 1, 0, 1000),
    instruction(0x17, 1, 0, 1),
    instruction(0x55, 1, -2, 0),
    instruction(0x95, 0, 0, 0),
];

/// The attached program; it goes when dropped.
#[derive(Debug)]
pub struct Witness(Tiny);

impl Witness {
    /// Load and attach it.
    ///
    /// # Errors
    /// When the kernel has no BTF, or refuses.
    pub fn start() -> Result<Self> {
        let tiny = Tiny::start(Point::Tracepoint("inet_sock_set_state"), "witness", &PROGRAM);
        Ok(Self(tiny.context("cannot start the witness of re-entry")?))
    }

    /// How often the kernel skipped it.
    ///
    /// # Errors
    /// When the kernel does not say (before 5.12).
    pub fn misses(&self) -> Result<u64> {
        misses_of(&self.0.program)
    }
}
