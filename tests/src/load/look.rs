//! One look at all sockets of a namespace: how many there were and what it cost.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::cpu;

/// The line of `dump` and of `walk`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Looked {
    /// Sockets of both families, TIME_WAIT and listening ones among them.
    pub sockets: u64,
    /// Wall time.
    pub seconds: f64,
    /// CPU time of this process, the kernel's work for it included.
    pub cpu_seconds: f64,
}

impl Looked {
    /// What `look` costs, which says how many it saw.
    pub(super) fn measured(look: impl FnOnce() -> Result<u64>) -> Result<Self> {
        let (begun, cpu_begun) = (Instant::now(), cpu::own()?);
        let sockets = look()?;
        let cpu: Duration = cpu::own()?.saturating_sub(cpu_begun);
        Ok(Self { sockets, seconds: begun.elapsed().as_secs_f64(), cpu_seconds: cpu.as_secs_f64() })
    }
}
