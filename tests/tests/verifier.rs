//! Do the programs stay far from what the kernel's verifier is willing to look at?

use anyhow::Result;
use tests::scenario::{alone, verifier};

#[test]
fn the_verifier_processes_no_more_than_was_recorded() -> Result<()> {
    alone(verifier::instructions_are_as_recorded)
}
