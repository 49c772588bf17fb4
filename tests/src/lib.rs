//! What the end-to-end tests of flowprobe stand on: a link emulator that knows every packet, the kernel's own
//! counters, TCP actors, and the guards that clean up after them.
//!
//! * [`kit`] waits, namespaces, child processes, HTTP, the exposition format.
//! * [`link`] two network namespaces and a programmable link between them, with a ledger.
//! * [`truth`] what the kernel itself says: `/proc/net/snmp`, `/proc/net/netstat`, `TCP_INFO`, BPF objects.
//! * [`load`] traffic that keeps the machine busy, for comparing costs.
//! * [`traffic`] sockets that connect, serve, close and reset as a scenario asks.
//! * [`accuracy`] how far flowprobe's figures are from the truth, cell by cell.
//! * [`bench`] what flowprobe and its peers cost, side by side.
//! * [`scenario`] the questions, as functions, shared by the tests of this machine and the program in the VMs.
//!
//! Everything here needs root, `/dev/net/tun` and `/proc`; but for the peers in [`bench`] no other program is called,
//! so that it also runs in a VM that holds nothing but this binary.

pub mod accuracy;
pub mod bench;
pub mod kit;
pub mod link;
pub mod load;
pub mod scenario;
pub mod traffic;
pub mod truth;
