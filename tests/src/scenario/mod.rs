//! The questions of the end-to-end tests, as functions of a running flowprobe.
//!
//! A scenario makes namespaces and traffic of its own, and looks only at flows of those namespaces: connections of
//! anyone else never disturb it. The tests of this machine and the program in the VMs call the same functions.

mod check;
mod configured;
mod daemon;
mod download;
mod in_vm;
mod probe;
mod prometheus;
mod situation;
mod start;
mod watch;

pub mod adopted;
pub mod churn;
pub mod close_ledger;
pub mod connect;
pub mod hardship;
pub mod lifecycle;
pub mod live;
pub mod namespaces;
pub mod no_stall;
pub mod quiet;
pub mod reconcile;
pub mod refusal;
pub mod retransmit;
pub mod rival;
pub mod rtt;
pub mod situation_loss;
pub mod situation_open;
pub mod situation_socket;
pub mod stall;
pub mod stall_repair;
pub mod stall_window;
pub mod takeover;
pub mod underway;
pub mod verifier;

pub use check::{Causes, causes, expect, expect_received, is_min_rtt, local_port, median_bound};
pub use configured::Configured;
pub use daemon::{Daemon, command, flows};
pub use download::{Download, Run};
pub use in_vm::run_in_vm;
pub use probe::{Probe, alone, hold, hold_times};
pub use prometheus::{Answered, Prometheus};
pub use watch::Watch;

/// Patience with anything that has to happen: generous, because an emulated machine is slow.
pub const LONG: std::time::Duration = std::time::Duration::from_secs(120);

/// A scenario for the VMs: counts and orders, no times.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name: room and function.
    pub name: &'static str,
    /// The question; fails with what was wrong.
    pub run: Question,
}

/// A scenario's function, by the daemon that it needs.
#[derive(Clone, Copy, Debug)]
pub enum Question {
    /// To one that serves others too.
    Shared(fn(&Probe) -> anyhow::Result<()>),
    /// To daemons that it starts itself, with no other beside them: one would switch callbacks on.
    Alone(fn() -> anyhow::Result<()>),
}

macro_rules! scenarios {
    ($($kind:ident: $($room:ident :: $name:ident),* $(,)?);* $(;)?) => {
        &[$($(Scenario {
            name: concat!(stringify!($room), "::", stringify!($name)),
            run: Question::$kind($room::$name),
        }),*),*]
    };
}

/// What runs in the VMs, in this order.
pub const IN_VM: &[Scenario] = scenarios![
    Shared:
    connect::refused,
    connect::timed_out,
    connect::unreachable,
    connect::reset_while_connecting,
    lifecycle::listener_is_untouched,
    lifecycle::server_that_closes_first_is_no_failure,
    lifecycle::resets_name_their_side,
    lifecycle::only_new_data_after_close_resets,
    lifecycle::reset_before_accept,
    lifecycle::tuple_reused_at_once,
    lifecycle::disconnect_and_reconnect,
    lifecycle::lives_keep_their_round_trips,
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
    retransmit::copies_of_the_network_are_not_spurious,
    retransmit::conservation,
    retransmit::unplugged_cable,
    situation_open::fast_open,
    situation_open::fast_open_synack_lost,
    situation_open::fast_open_child_closes_early,
    situation_open::fast_open_syn_lost,
    situation_open::fast_open_refused,
    situation_open::synacks_lost,
    situation_open::simultaneous_open,
    situation_loss::probe_with_new_data,
    situation_loss::probe_with_new_data_finds_a_loss,
    situation_loss::late_segment_is_undone,
    situation_loss::late_flight_is_undone,
    situation_loss::timeouts_back_off,
    situation_socket::busy_time_is_of_one_connection,
    stall::blackout_is_one_stall,
    stall::stall_under_way_is_visible,
    stall::stall_after_close,
    stall_window::closed_window_is_one_stall,
    no_stall::idle_time_is_no_stall,
    no_stall::handshake_is_no_stall,
    reconcile::counters_agree,
    reconcile::older_connections_agree,
    close_ledger::orderly_ends,
    close_ledger::client_leaves_unsent,
    close_ledger::client_leaves_unacked,
    close_ledger::client_leaves_a_server_that_closed,
    close_ledger::client_vanishes,
    close_ledger::server_leaves_data_unread,
    refusal::without_btf,
    refusal::without_capabilities,
    refusal::without_cgroup_mount,
    hardship::refused_state;
    Alone:
    verifier::instructions_are_as_recorded,
    churn::every_end_once,
    hardship::full_ring,
    quiet::heard_again,
    rival::takes_callbacks_of_a_handshake,
    adopted::older_than_the_daemon,
    situation_socket::adopted_is_reset,
    situation_socket::adopted_is_connected_again,
    takeover::churn_is_recorded_once,
    takeover::quiet_connections_are_exact,
    takeover::busy_connections_are_bounded,
    takeover::second_daemon_counts_nothing_twice,
    underway::connect_succeeds_later,
    underway::connect_is_refused_later,
    underway::connect_times_out_later,
];
