//! What the kernel itself says about the same traffic: counters and structures that flowprobe does not read.

mod bpf;
mod snmp;
mod sockets;
mod statistics;
mod storage;
mod tcp_info;
mod thief;
mod tiny;
mod witness;

pub use bpf::{Objects, hook_misses};
pub use snmp::Counters;
pub use sockets::connected_v6;
pub use statistics::{RunStatistics, Runs, SOCK_OPS};
pub use tcp_info::{Raw, TcpInfo};
pub use thief::Thief;
pub use tiny::{Point, Tiny};
pub use witness::Witness;
