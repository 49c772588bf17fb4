//! Is every time in which a connection stood still counted once, with its cause and its length, and nothing else?

use anyhow::Result;
use tests::scenario::{hold_times, no_stall, stall, stall_repair, stall_window};

#[test]
fn a_blackout_is_one_stall_with_its_time() -> Result<()> {
    hold_times(stall::blackout_has_its_time)
}

#[test]
fn a_closed_window_is_one_stall_with_its_time() -> Result<()> {
    hold_times(stall_window::closed_window_has_its_time)
}

#[test]
fn a_slow_reader_is_no_stall() -> Result<()> {
    hold_times(no_stall::slow_reader_is_no_stall)
}

#[test]
fn loss_and_reordering_give_the_stalls_that_the_link_saw() -> Result<()> {
    hold_times(no_stall::loss_and_reordering)
}

#[test]
fn a_stall_under_way_is_visible() -> Result<()> {
    hold_times(stall::stall_under_way_is_visible)
}

#[test]
fn a_stall_may_end_the_connection() -> Result<()> {
    hold_times(stall::stall_that_ends_the_connection)
}

#[test]
fn a_stall_after_close_is_counted() -> Result<()> {
    hold_times(stall::stall_after_close)
}

#[test]
fn idle_time_is_no_stall() -> Result<()> {
    hold_times(no_stall::idle_time_is_no_stall)
}

#[test]
fn a_handshake_is_no_stall() -> Result<()> {
    hold_times(no_stall::handshake_is_no_stall)
}

#[test]
fn a_late_answer_is_a_stall_of_no_other_cause() -> Result<()> {
    hold_times(stall_repair::late_answer_is_other)
}

#[test]
fn a_lone_segments_stall_has_its_cause() -> Result<()> {
    hold_times(stall_repair::lone_segment)
}

#[test]
fn a_hole_is_a_stall_though_the_rest_arrives() -> Result<()> {
    hold_times(stall_repair::hole_is_a_stall)
}

#[test]
fn a_blackout_in_a_closed_window_is_the_windows_stall() -> Result<()> {
    hold_times(stall_window::blackout_in_a_closed_window)
}

#[test]
fn a_blackout_beside_a_small_window_is_no_stall_of_the_window() -> Result<()> {
    hold_times(stall_window::blackout_beside_a_small_window)
}
