//! Are the situations that packetdrill plays to a kernel recorded as they were, on both ends, and to the segment?

use anyhow::Result;
use tests::scenario::{alone, hold, rival, situation_loss, situation_open, situation_socket};

#[test]
fn fast_open_is_one_connection() -> Result<()> {
    hold(situation_open::fast_open)
}

#[test]
fn fast_open_whose_answer_is_lost() -> Result<()> {
    hold(situation_open::fast_open_synack_lost)
}

#[test]
fn fast_open_child_that_closes_before_the_handshake_ends() -> Result<()> {
    hold(situation_open::fast_open_child_closes_early)
}

#[test]
fn fast_open_whose_syn_is_lost() -> Result<()> {
    hold(situation_open::fast_open_syn_lost)
}

#[test]
fn fast_open_that_the_server_refuses() -> Result<()> {
    hold(situation_open::fast_open_refused)
}

#[test]
fn lost_syn_acks_are_the_servers() -> Result<()> {
    hold(situation_open::synacks_lost)
}

#[test]
fn crossed_syns_are_one_client_an_end() -> Result<()> {
    hold(situation_open::simultaneous_open)
}

#[test]
fn a_probe_with_new_data_sends_nothing_again() -> Result<()> {
    hold(situation_loss::probe_with_new_data)
}

#[test]
fn a_probe_with_new_data_finds_a_lost_flight() -> Result<()> {
    hold(situation_loss::probe_with_new_data_finds_a_loss)
}

#[test]
fn a_probe_without_new_data_is_the_tail_again() -> Result<()> {
    hold(situation_loss::probe_without_new_data)
}

#[test]
fn a_late_segment_is_no_loss() -> Result<()> {
    hold(situation_loss::late_segment_is_undone)
}

#[test]
fn a_late_flight_is_no_loss() -> Result<()> {
    hold(situation_loss::late_flight_is_undone)
}

#[test]
fn timeouts_that_back_off_are_counted_each() -> Result<()> {
    hold(situation_loss::timeouts_back_off)
}

#[test]
fn busy_time_is_not_inherited() -> Result<()> {
    hold(situation_socket::busy_time_is_of_one_connection)
}

#[test]
fn an_older_connection_may_be_reset() -> Result<()> {
    alone(situation_socket::adopted_is_reset)
}

#[test]
fn an_older_connection_may_be_connected_again() -> Result<()> {
    alone(situation_socket::adopted_is_connected_again)
}

#[test]
fn callbacks_may_be_taken_by_another_program() -> Result<()> {
    alone(rival::takes_callbacks_of_a_handshake)
}
