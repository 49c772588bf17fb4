//! Files for tests, written by the tests themselves.

pub(crate) mod mmdb;
pub(crate) mod mrt;

use fastrand::Rng;

/// Breaks files, the same way each time.
pub(crate) struct Mangler(Rng);

impl Mangler {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// A copy with some bytes changed, taken out, put in or cut off.
    pub(crate) fn mangle(&mut self, bytes: &[u8]) -> Vec<u8> {
        let random = &mut self.0;
        let mut out = bytes.to_vec();
        for _ in 0..random.usize(1..6) {
            if out.is_empty() {
                break;
            }
            let at = random.usize(..out.len());
            match random.u8(..7) {
                0 | 1 => out[at] ^= 1 << random.u8(..8),
                2 => out[at] = *random.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap_or(&0),
                3 => out[at] = random.u8(..),
                4 => _ = out.remove(at),
                5 => out.insert(at, random.u8(..)),
                _ if random.u8(..4) == 0 => out.truncate(at),
                _ => {
                    let end = (at + random.usize(..64)).min(out.len());
                    let copy = out[at..end].to_vec();
                    out.splice(at..at, copy);
                }
            }
        }
        out
    }
}
