//! Is every socket end recorded exactly once, while the kernel skips tracing programs on re-entry?
//!
//! FLOWPROBE_CHURN sets the number of connections, 20,000 otherwise.

use anyhow::Result;
use tests::scenario::{alone, churn};

#[test]
fn every_end_is_recorded_exactly_once() -> Result<()> {
    alone(churn::every_end_once)
}
