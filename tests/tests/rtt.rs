//! Are round trips right, one sample each, and null without one?

use std::time::Duration;

use anyhow::Result;
use tests::scenario::{hold, rtt};

#[test]
fn one_millisecond() -> Result<()> {
    hold(|probe| rtt::known_path(probe, Duration::from_millis(1), 200))
}

#[test]
fn ten_milliseconds() -> Result<()> {
    hold(|probe| rtt::known_path(probe, Duration::from_millis(10), 50))
}

#[test]
fn a_hundred_milliseconds() -> Result<()> {
    hold(|probe| rtt::known_path(probe, Duration::from_millis(100), 20))
}

#[test]
fn three_hundred_milliseconds() -> Result<()> {
    hold(|probe| rtt::known_path(probe, Duration::from_millis(300), 10))
}

#[test]
fn a_path_that_gets_longer_shows_both_round_trips() -> Result<()> {
    hold(rtt::path_change_shows_both)
}

#[test]
fn there_are_as_many_samples_as_round_trips() -> Result<()> {
    hold(rtt::samples_are_the_round_trips)
}

#[test]
fn data_that_drains_after_close_is_measured() -> Result<()> {
    hold(rtt::draining_data_is_measured)
}

#[test]
fn a_repeated_synack_leaves_no_round_trip() -> Result<()> {
    hold(rtt::no_sample_is_null)
}

#[test]
fn syncookies_leave_no_round_trip() -> Result<()> {
    hold(rtt::no_sample_is_null_with_syncookies)
}
