//! What time is it, and how long is a jiffy?

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_getres, clock_gettime};

use crate::flow::from_record::wall_offset_ns as wall_offset;

/// CLOCK_MONOTONIC, the programs' clock.
#[must_use]
pub fn monotonic() -> SignedDuration {
    let now = clock_gettime(ClockId::Monotonic);
    SignedDuration::new(now.tv_sec, i32::try_from(now.tv_nsec).unwrap_or(0))
}

/// CLOCK_REALTIME, for what people and Prometheus are told of the daemon itself.
#[must_use]
pub fn wall() -> Timestamp {
    let now = clock_gettime(ClockId::Realtime);
    Timestamp::new(now.tv_sec, i32::try_from(now.tv_nsec).unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Wall time less monotonic time, ns, as of now: after a step of the wall clock, times are shown by the new one.
/// The tightest of three readings, for this thread may be held up between the two clocks.
#[must_use]
pub fn wall_offset_ns() -> i64 {
    let reading = |_| {
        let before = monotonic();
        let now = wall();
        let took = monotonic() - before;
        (took, wall_offset(now, before + took / 2))
    };
    (0..3).map(reading).min_by_key(|(took, _)| *took).map_or(0, |(_, offset)| offset)
}

/// CONFIG_HZ: the coarse clock ticks once a jiffy, and says so as its resolution (TICK_NSEC).
#[must_use]
pub fn jiffies_per_second() -> u32 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    let ns = tick.tv_sec.max(0).unsigned_abs() * 1_000_000_000 + tick.tv_nsec.max(0).unsigned_abs();
    u32::try_from((1_000_000_000 + ns / 2) / ns.max(1)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_jiffy_is_one_that_kernels_are_built_with() {
        assert!([100, 250, 300, 1000].contains(&super::jiffies_per_second()));
    }
}
