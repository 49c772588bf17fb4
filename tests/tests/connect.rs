//! Does a connect that fails say why, with the right local port and errno?

use anyhow::Result;
use tests::scenario::{connect, hold};

#[test]
fn a_refused_connect_is_connect_refused() -> Result<()> {
    hold(connect::refused)
}

#[test]
fn a_connect_without_answer_is_connect_timeout() -> Result<()> {
    hold(connect::timed_out)
}

#[test]
fn a_connect_without_route_is_connect_unreachable() -> Result<()> {
    hold(connect::unreachable)
}

#[test]
fn a_reset_of_the_handshake_is_connect_reset() -> Result<()> {
    hold(connect::reset_while_connecting)
}
