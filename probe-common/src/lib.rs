//! The contract between the kernel side and the user side of flowprobe.
//!
//! Everything that crosses the border stands here once: the records, the list of kernel fields that the programs
//! read, the round-trip histogram, TCP's states, the causes of a retransmission, and the reasons for a loss of
//! our own. Integers and arrays only; both sides compile this crate, and the record carries [`ABI_VERSION`].
#![no_std]

pub mod decode;
pub mod fields;
pub mod histogram;
pub mod loss;
pub mod record;
pub mod tcp;
pub mod visit;

/// Version of the records' layout. Raise it with every change to [`record`] or [`fields`].
pub const ABI_VERSION: u16 = 5;
