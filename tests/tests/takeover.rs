//! Does a daemon that starts in the middle of things lose nothing and count nothing twice?
//!
//! FLOWPROBE_STARTS sets the number of starts, 10 otherwise.

use anyhow::Result;
use tests::scenario::{alone, takeover, underway};

#[test]
fn churn_around_a_start_is_recorded_once() -> Result<()> {
    alone(takeover::churn_is_recorded_once)
}

#[test]
fn a_daemon_killed_amid_churn_leaves_nothing_and_the_next_counts_anew() -> Result<()> {
    alone(takeover::killed_amid_churn)
}

#[test]
fn quiet_connections_are_taken_over_exactly() -> Result<()> {
    alone(takeover::quiet_connections_are_exact)
}

#[test]
fn busy_connections_are_taken_over_within_bounds() -> Result<()> {
    alone(takeover::busy_connections_are_bounded)
}

#[test]
fn a_second_daemon_counts_nothing_twice() -> Result<()> {
    alone(takeover::second_daemon_counts_nothing_twice)
}

#[test]
fn a_connect_under_way_that_succeeds_is_a_clients() -> Result<()> {
    alone(underway::connect_succeeds_later)
}

#[test]
fn a_connect_under_way_that_is_refused_failed_once() -> Result<()> {
    alone(underway::connect_is_refused_later)
}

#[test]
fn a_connect_under_way_that_times_out_failed_once() -> Result<()> {
    alone(underway::connect_times_out_later)
}
