//! What a sweep tells its program before a walk over a network namespace's sockets, and what the program tells after it.

use bytemuck::{Pod, Zeroable};

/// One walk of the iterator `account`, in a map of one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Visit {
    /// A connection at rest is passed by when its socket's clock (`tcp_mstamp`) is before this, µs of CLOCK_MONOTONIC; 0: none is.
    pub quiet_before_us: u64,
    /// When the program saw the first connection, µs of CLOCK_MONOTONIC; 0 before that.
    pub began_us: u64,
    /// Connections that it saw, passed by or not.
    pub connections: u64,
    /// … and could not account for, because the kernel refused storage.
    pub refused: u64,
}

impl Visit {
    /// Before a walk that passes by what is older than this.
    #[must_use]
    pub const fn new(quiet_before_us: u64) -> Self {
        Self { quiet_before_us, began_us: 0, connections: 0, refused: 0 }
    }
}
