//! Does a connection's end say who closed, why, and what the peer never got?

use anyhow::Result;
use tests::scenario::{close_ledger, hold};

#[test]
fn an_orderly_end_is_no_failure_whoever_closes_first() -> Result<()> {
    hold(close_ledger::orderly_ends)
}

#[test]
fn a_client_that_leaves_with_a_part_unsent() -> Result<()> {
    hold(close_ledger::client_leaves_unsent)
}

#[test]
fn a_client_that_leaves_with_a_part_unacknowledged() -> Result<()> {
    hold(close_ledger::client_leaves_unacked)
}

#[test]
fn a_client_that_leaves_a_server_that_closed() -> Result<()> {
    hold(close_ledger::client_leaves_a_server_that_closed)
}

#[test]
fn a_client_that_vanishes() -> Result<()> {
    hold(close_ledger::client_vanishes)
}

#[test]
fn a_server_that_leaves_data_unread() -> Result<()> {
    hold(close_ledger::server_leaves_data_unread)
}
