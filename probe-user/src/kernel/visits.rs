//! Which connections may a sweep pass by? Those at rest whose socket's clock stands where it stood two sweeps ago.
//!
//! The kernel sets a socket's clock (`tcp_mstamp`, tcp_mstamp_refresh) when it works on a packet or a timer, and when the application
//! sends or reads. So a connection whose clock is older than the beginning of the sweep before last has done nothing since, and was
//! looked at twice: twice, because an iterator may miss a socket while others of its hash bucket come and go. Should a kernel count
//! a segment without setting the clock, it is found all the same: each sixteenth sweep passes nothing by.
//!
//! Nothing is passed by in a namespace whose last two walks did not come to their end, or met a connection that the kernel refused
//! storage for.

use std::{collections::HashMap, mem};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, Map},
};
use probe_common::visit::Visit;

/// Sweeps from one that passes nothing by to the next.
const WHOLE_EVERY: u32 = 16;

/// A map's value as aya takes it.
type Words = [u64; size_of::<Visit>() / 8];

/// What is known of the sweeps so far.
#[derive(Debug)]
pub(super) struct Visits {
    map: Map,
    quiet: Quiet,
}

impl Visits {
    /// # Errors
    /// The object has no such map, or it was taken before.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let map = ebpf.take_map("VISIT").context("the object cannot be told what to pass by")?;
        Ok(Self { map, quiet: Quiet::default() })
    }

    /// A sweep over all namespaces begins.
    pub(super) fn begin_sweep(&mut self) {
        self.quiet.begin_sweep();
    }

    /// Walks over one namespace; gives what the walk gives, and the number of connections that it met.
    ///
    /// # Errors
    /// The walk's, and the map's.
    pub(super) fn visit<T>(&mut self, namespace: u32, walk: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
        let before = Visit::new(self.quiet.before_us(namespace));
        let mut map = Array::<_, Words>::try_from(&mut self.map)?;
        map.set(0, bytemuck::cast::<_, Words>(before), 0)?;
        let result = walk()?;
        let visit: Visit = bytemuck::cast(map.get(&0, 0)?);
        self.quiet.came_to_its_end(namespace, visit);
        Ok((result, visit.connections))
    }
}

/// When the walks over each namespace began, µs of CLOCK_MONOTONIC; 0 is not known.
#[derive(Debug, Default)]
struct Quiet {
    sweeps: u32,
    /// Of this sweep.
    now: HashMap<u32, Begins>,
    /// Of the one before.
    last: HashMap<u32, Begins>,
}

#[derive(Clone, Copy, Debug)]
struct Begins {
    own: u64,
    of_the_one_before: u64,
}

impl Quiet {
    fn begin_sweep(&mut self) {
        self.sweeps = self.sweeps.wrapping_add(1);
        self.last = mem::take(&mut self.now);
    }

    fn before_us(&self, namespace: u32) -> u64 {
        if self.sweeps.is_multiple_of(WHOLE_EVERY) {
            return 0;
        }
        self.last.get(&namespace).map_or(0, |last| last.of_the_one_before)
    }

    fn came_to_its_end(&mut self, namespace: u32, visit: Visit) {
        if visit.refused == 0 {
            let of_the_one_before = self.last.get(&namespace).map_or(0, |last| last.own);
            self.now.insert(namespace, Begins { own: visit.began_us, of_the_one_before });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: u32 = 7;

    fn sweep(quiet: &mut Quiet, began_us: u64, refused: u64) -> u64 {
        quiet.begin_sweep();
        let before = quiet.before_us(NAMESPACE);
        quiet.came_to_its_end(NAMESPACE, Visit { began_us, refused, ..Visit::new(before) });
        before
    }

    #[test]
    fn what_two_sweeps_saw_at_rest_is_passed_by() {
        let mut quiet = Quiet::default();
        let before: Vec<_> = (1..=5).map(|n| sweep(&mut quiet, n * 100, 0)).collect();
        assert_eq!(before, [0, 0, 100, 200, 300]);
        // Another namespace was never walked.
        assert_eq!(quiet.before_us(NAMESPACE + 1), 0);
    }

    #[test]
    fn a_walk_that_left_something_counts_for_nothing() {
        let mut quiet = Quiet::default();
        let refused = [0, 0, 0, 1, 0, 0, 0];
        let before: Vec<_> =
            (1..).zip(refused).map(|(n, refused)| sweep(&mut quiet, n * 100, refused)).collect();
        assert_eq!(before, [0, 0, 100, 200, 0, 0, 500]);
        // One that broke off.
        quiet.begin_sweep();
        assert_eq!(sweep(&mut quiet, 900, 0), 0);
        assert_eq!(sweep(&mut quiet, 1000, 0), 0);
        assert_eq!(sweep(&mut quiet, 1100, 0), 900);
    }

    #[test]
    fn a_walk_that_met_nobody_says_nothing_of_those_who_come() {
        let mut quiet = Quiet::default();
        assert_eq!([0, 0, 300, 400, 500].map(|began| sweep(&mut quiet, began, 0)), [0, 0, 0, 0, 300]);
    }

    #[test]
    fn each_sixteenth_sweep_passes_nothing_by() {
        let mut quiet = Quiet::default();
        let whole: Vec<_> = (1..=40).filter(|n| sweep(&mut quiet, n * 100, 0) == 0).collect();
        assert_eq!(whole, [1, 2, 16, 32]);
    }
}
