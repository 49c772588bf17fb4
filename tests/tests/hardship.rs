//! What is kept, and what is said, when the machine gives less than is needed or clients want more than is sane?

use anyhow::Result;
use tests::scenario::{alone, hardship, hold};

#[test]
fn what_a_full_ring_loses_is_counted() -> Result<()> {
    alone(hardship::full_ring)
}

#[test]
fn a_connection_without_storage_is_counted_and_taken_over_later() -> Result<()> {
    hold(hardship::refused_state)
}

#[test]
fn a_flood_of_spoofed_syns_leaves_nothing() -> Result<()> {
    alone(hardship::spoofed_syns)
}
