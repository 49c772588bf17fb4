//! Are the figures of a connection those that the kernel tells its owner, while it lives and at its end?

use anyhow::Result;
use tests::scenario::{alone, hold, live, quiet};

#[test]
fn a_live_and_an_ended_flow_agree_with_tcp_info() -> Result<()> {
    hold(live::live_and_ended_agree_with_tcp_info)
}

#[test]
fn records_equal_tcp_info_at_close() -> Result<()> {
    hold(live::records_equal_tcp_info_at_close)
}

#[test]
fn a_connection_that_sweeps_pass_by_is_heard_again() -> Result<()> {
    alone(quiet::heard_again)
}
