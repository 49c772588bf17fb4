//! Is every retransmission counted once, with its cause, and is what was needless told from what was lost?

use anyhow::Result;
use tests::scenario::{hold, retransmit};

#[test]
fn chosen_drops_are_counted_to_the_segment() -> Result<()> {
    hold(retransmit::chosen_drops)
}

#[test]
fn a_drop_in_the_window_is_fast() -> Result<()> {
    hold(retransmit::one_drop_is_fast)
}

#[test]
fn a_drop_of_the_tail_is_tlp() -> Result<()> {
    hold(retransmit::tail_drop_is_tlp)
}

#[test]
fn a_blackout_is_rto() -> Result<()> {
    hold(retransmit::blackout_is_rto)
}

#[test]
fn a_dropped_syn_is_syn() -> Result<()> {
    hold(retransmit::dropped_syn_is_syn)
}

#[test]
fn a_dropped_synack_is_synack() -> Result<()> {
    hold(retransmit::dropped_synack_is_synack)
}

#[test]
fn mixed_faults_have_one_cause_each() -> Result<()> {
    hold(retransmit::mixed_faults)
}

#[test]
fn copies_of_the_network_are_not_spurious() -> Result<()> {
    hold(retransmit::copies_of_the_network_are_not_spurious)
}

#[test]
fn reordering_is_spurious_and_no_loss() -> Result<()> {
    hold(retransmit::reordering_is_spurious)
}

#[test]
fn three_megabytes_with_one_percent_loss() -> Result<()> {
    hold(retransmit::three_megabytes_with_one_percent)
}

#[test]
fn the_estimate_follows_random_loss() -> Result<()> {
    hold(retransmit::estimate_under_random_loss)
}

#[test]
fn flows_sum_up_to_the_namespaces_counters() -> Result<()> {
    hold(retransmit::conservation)
}

#[test]
fn an_unplugged_cable_is_counted_as_the_kernel_counts() -> Result<()> {
    hold(retransmit::unplugged_cable)
}
