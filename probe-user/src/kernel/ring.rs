//! Takes records out of the ring buffers, of which each CPU has one.
//!
//! The programs wake the reader only when a ring is filling up; otherwise it looks every [`LOOK_EVERY`]. An idle
//! machine pays twenty looks a second, a busy one no wake-up a record. Records of different CPUs come in no order.

use std::{
    future::poll_fn,
    os::fd::AsFd as _,
    task::{Context as TaskContext, Poll},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use aya::{
    Ebpf,
    maps::{ArrayOfMaps, Map, MapData, RingBuf},
    util::online_cpus,
};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF;
use tokio::io::unix::AsyncFd;

/// How late a record can be.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where there is less for each CPU, bytes, several share one: what ends at once on one CPU wants room for some 600 records.
const SMALLEST: u32 = 1 << 18;
/// And no more than these, each of which is a descriptor.
const MOST: u32 = 256;
/// A record takes no less of a ring: of a repeated SYN-ACK, with the kernel's 8 bytes before it.
const SMALLEST_RECORD: u32 = 64;

/// For all rings together where nothing else is asked for: at least this, …
const USUAL: u32 = 4 << 20;
/// … and for each CPU.
const USUAL_A_CPU: u32 = 256 << 10;

/// Bytes for all rings together, a power of two, where nothing else is asked for.
#[must_use]
pub fn usual_bytes() -> u32 {
    cpus().map_or(USUAL, usual)
}

fn usual(cpus: u32) -> u32 {
    USUAL_A_CPU.saturating_mul(cpus.next_power_of_two()).clamp(USUAL, 1 << 30)
}

/// Makes a ring and puts it in its place. The kernel then waits until no program runs that may not see it
/// (maybe_wait_bpf_programs, kernel/bpf/syscall.c), so rings that are made at once are waited for once.
fn ring(places: MapData, place: u32, bytes: u32) -> Result<RingBuf<MapData>> {
    let ring = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF as u32, 0, 0, bytes, 0);
    let ring = RingBuf::try_from(Map::RingBuf(MapData::create(ring, "records", None)?))?;
    ArrayOfMaps::try_from(Map::ArrayOfMaps(places))?.set(place, &ring, 0)?;
    Ok(ring)
}

/// CPUs by their numbers, those between that are offline among them: the programs go by the number.
fn cpus() -> Result<u32> {
    let online =
        online_cpus().map_err(|(file, error)| Error::new(error).context(format!("cannot read {file}")))?;
    Ok(online.last().map_or(1, |last| last + 1))
}

/// How many rings there are, and how large each is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// A power of two: the programs take a CPU's number modulo this.
    pub(super) rings: u32,
    /// A power of two.
    pub(super) bytes: u32,
}

impl Shape {
    /// `total` bytes, a power of two, shared out among the CPUs. One that comes later shares a ring.
    pub(super) fn of(total: u32) -> Result<Self> {
        Ok(Self::shared(total, cpus()?))
    }

    fn shared(total: u32, cpus: u32) -> Self {
        let rings = cpus.next_power_of_two().min(total / SMALLEST).clamp(1, MOST);
        Self { rings, bytes: total / rings }
    }
}

/// The reading ends of the ring buffers.
pub struct Rings {
    rings: Vec<RingBuf<MapData>>,
    shape: Shape,
}

/// The same inside a tokio runtime.
pub struct AsyncRings {
    rings: Vec<AsyncFd<RingBuf<MapData>>>,
    shape: Shape,
}

impl Rings {
    /// Makes the rings and gives them to the programs.
    pub(super) fn new(ebpf: &mut Ebpf, shape: Shape) -> Result<Self> {
        let Some(Map::ArrayOfMaps(places)) = ebpf.map("RECORDS") else {
            bail!("the object has no places for ring buffers")
        };
        let places = places.fd().as_fd();
        let rings = thread::scope(|scope| -> Result<_> {
            let making: Vec<_> = (0..shape.rings)
                .map(|place| -> Result<_> {
                    let places = MapData::from_fd(places.try_clone_to_owned()?)?;
                    Ok(scope.spawn(move || ring(places, place, shape.bytes)))
                })
                .collect::<Result<_>>()?;
            making
                .into_iter()
                .map(|made| made.join().map_err(|_| anyhow!("its thread broke down"))?)
                .collect()
        });
        let rings = rings.context("cannot make the ring buffers")?;
        Ok(Self { rings, shape })
    }

    /// Registers with the runtime.
    ///
    /// # Errors
    /// A descriptor cannot be watched.
    pub fn into_async(self) -> Result<AsyncRings> {
        let rings = self.rings.into_iter().map(|ring| {
            // SAFETY: the ring owns its descriptor and gives the same one as long as it lives.
            let ring = unsafe { AsyncFd::register(ring) };
            ring.context("cannot watch a ring buffer")
        });
        Ok(AsyncRings { rings: rings.collect::<Result<_>>()?, shape: self.shape })
    }
}

impl AsyncRings {
    /// Waits until it is time to look.
    pub async fn wait(&mut self) {
        // An error is that the time is over.
        let _ = tokio::time::timeout(LOOK_EVERY, poll_fn(|context| self.poll_filling(context))).await;
    }

    fn poll_filling(&self, context: &mut TaskContext<'_>) -> Poll<()> {
        let mut filling = Poll::Pending;
        for ring in &self.rings {
            if let Poll::Ready(Ok(mut guard)) = ring.poll_read_ready(context) {
                guard.clear_ready();
                filling = Poll::Ready(());
            }
        }
        filling
    }

    /// Hands out all that is there when it is called; returns the number of records. Of what comes meanwhile no more than fits a
    /// ring, so that none is kept waiting for another that fills as fast.
    pub fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> u64 {
        let mut records = 0;
        for ring in &mut self.rings {
            for _ in 0..self.shape.bytes / SMALLEST_RECORD {
                let Some(item) = ring.get_mut().next() else { break };
                each(&item);
                records += 1;
            }
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_shared_out_and_no_ring_is_too_small() {
        let shape = |total, cpus| {
            let Shape { rings, bytes } = Shape::shared(total, cpus);
            (rings, bytes)
        };
        assert_eq!(shape(4 << 20, 1), (1, 4 << 20));
        assert_eq!(shape(4 << 20, 2), (2, 2 << 20));
        assert_eq!(shape(4 << 20, 6), (8, 512 << 10));
        assert_eq!(shape(1 << 20, 128), (4, 256 << 10));
        assert_eq!(shape(64 << 10, 128), (1, 64 << 10));
        assert_eq!(shape(1 << 30, 600), (256, 4 << 20));
    }

    #[test]
    fn many_cpus_have_more() {
        assert_eq!([1, 2, 16, 17, 128].map(|cpus| usual(cpus) >> 20), [4, 4, 4, 8, 32]);
    }
}
