//! Do our sums agree with the kernel's own counters at run time?

use anyhow::Result;
use tests::scenario::{hold, reconcile};

#[test]
fn all_exact_counters_agree() -> Result<()> {
    hold(reconcile::counters_agree)
}

#[test]
fn connections_older_than_the_comparison_agree() -> Result<()> {
    hold(reconcile::older_connections_agree)
}
