//! The questions of the end-to-end tests, as functions of a running flowprobe.
//!
//! A scenario makes namespaces and traffic of its own, and looks only at flows of those namespaces: connections of
//! anyone else never disturb it. The tests of this machine and the program in the VMs call the same functions.

mod check;
mod daemon;
mod download;
mod in_vm;
mod probe;
mod watch;

pub mod adopted;
pub mod churn;
pub mod connect;
pub mod lifecycle;
pub mod live;
pub mod namespaces;
pub mod reconcile;
pub mod refusal;
pub mod retransmit;
pub mod rtt;

pub use check::{Causes, causes, expect, expect_received, local_port, median_bound};
pub use daemon::{Daemon, command, flows};
pub use download::{Download, Run};
pub use in_vm::run_in_vm;
pub use probe::{Probe, hold};
pub use watch::Watch;

/// Patience with anything that has to happen: generous, because an emulated machine is slow.
pub const LONG: std::time::Duration = std::time::Duration::from_secs(120);

/// A scenario for the VMs: counts and orders, no times.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name: room and function.
    pub name: &'static str,
    /// The question; fails with what was wrong.
    pub run: fn(&Probe) -> anyhow::Result<()>,
}

macro_rules! scenarios {
    ($($room:ident :: $name:ident),* $(,)?) => {
        &[$(Scenario { name: concat!(stringify!($room), "::", stringify!($name)), run: $room::$name }),*]
    };
}

/// What runs in the VMs, in this order.
pub const IN_VM: &[Scenario] = scenarios![
    connect::refused,
    connect::timed_out,
    connect::unreachable,
    connect::reset_while_connecting,
    lifecycle::listener_is_untouched,
    lifecycle::server_that_closes_first_is_no_failure,
    lifecycle::resets_name_their_side,
    lifecycle::reset_before_accept,
    lifecycle::tuple_reused_at_once,
    lifecycle::disconnect_and_reconnect,
    lifecycle::established_timeout,
    namespaces::mapped_clients_are_ipv4,
    namespaces::equal_addresses_are_not_mixed,
    rtt::samples_are_the_round_trips,
    rtt::draining_data_is_measured,
    rtt::no_sample_is_null,
    rtt::no_sample_is_null_with_syncookies,
    retransmit::one_drop_is_fast,
    retransmit::tail_drop_is_tlp,
    retransmit::blackout_is_rto,
    retransmit::dropped_syn_is_syn,
    retransmit::dropped_synack_is_synack,
    retransmit::mixed_faults,
    retransmit::conservation,
    retransmit::unplugged_cable,
    reconcile::counters_agree,
    reconcile::older_connections_agree,
    adopted::older_than_the_daemon,
    churn::every_end_once,
    refusal::without_btf,
    refusal::without_capabilities,
    refusal::without_cgroup_mount,
];
