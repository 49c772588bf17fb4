//! Takes records out of the ring buffer.
//!
//! The programs wake the reader only when the ring is filling up; otherwise it looks every [`LOOK_EVERY`]. An idle
//! machine pays twenty looks a second, a busy one no wake-up a record.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

/// How late a record can be.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The reading end of the ring buffer.
pub struct Ring(RingBuf<MapData>);

/// The same inside a tokio runtime.
pub struct AsyncRing(AsyncFd<RingBuf<MapData>>);

impl Ring {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }

    /// Registers with the runtime.
    ///
    /// # Errors
    /// The descriptor cannot be watched.
    pub fn into_async(self) -> Result<AsyncRing> {
        // SAFETY: the ring owns its descriptor and gives the same one as long as it lives.
        let ring = unsafe { AsyncFd::register(self.0) };
        Ok(AsyncRing(ring.context("cannot watch the ring buffer")?))
    }
}

impl AsyncRing {
    /// Waits until it is time to look.
    pub async fn wait(&mut self) {
        if let Ok(Ok(mut guard)) = tokio::time::timeout(LOOK_EVERY, self.0.readable()).await {
            guard.clear_ready();
        }
    }

    /// Hands out all that is there; returns the number of records.
    pub fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> u64 {
        let mut records = 0;
        while let Some(item) = self.0.get_mut().next() {
            each(&item);
            records += 1;
        }
        records
    }
}
