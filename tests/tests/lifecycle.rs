//! Does every connection begin and end once, with the right reason?

use anyhow::Result;
use tests::scenario::{adopted, alone, hold, lifecycle};

#[test]
fn a_listener_is_untouched_by_its_children() -> Result<()> {
    hold(lifecycle::listener_is_untouched)
}

#[test]
fn a_server_that_closes_first_is_no_failure() -> Result<()> {
    hold(lifecycle::server_that_closes_first_is_no_failure)
}

#[test]
fn a_reset_names_the_side_that_sent_it() -> Result<()> {
    hold(lifecycle::resets_name_their_side)
}

#[test]
fn data_sent_again_after_close_is_no_reset() -> Result<()> {
    hold(lifecycle::only_new_data_after_close_resets)
}

#[test]
fn connections_reset_before_accept_end_once() -> Result<()> {
    hold(lifecycle::reset_before_accept)
}

#[test]
fn a_tuple_used_again_at_once_is_a_new_flow() -> Result<()> {
    hold(lifecycle::tuple_reused_at_once)
}

#[test]
fn a_socket_connected_again_is_a_new_flow() -> Result<()> {
    hold(lifecycle::disconnect_and_reconnect)
}

#[test]
fn round_trips_of_a_sockets_lives_are_apart() -> Result<()> {
    hold(lifecycle::lives_keep_their_round_trips)
}

#[test]
fn a_vanished_peer_is_a_timeout() -> Result<()> {
    hold(lifecycle::established_timeout)
}

#[test]
fn many_listeners_on_one_port_have_one_flow_a_connection() -> Result<()> {
    hold(lifecycle::many_listeners_on_one_port)
}

#[test]
fn a_half_closed_connection_lives_on() -> Result<()> {
    hold(lifecycle::half_close_is_one_flow)
}

#[test]
fn a_connection_older_than_the_daemon_is_adopted_once() -> Result<()> {
    alone(adopted::older_than_the_daemon)
}
