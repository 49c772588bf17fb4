//! What the kernel itself says about the same traffic: counters and structures that flowprobe does not read.

mod bpf;
mod snmp;
mod tcp_info;
mod witness;

pub use bpf::{Objects, hook_misses};
pub use snmp::Counters;
pub use tcp_info::{Raw, TcpInfo};
pub use witness::Witness;
