//! The thread that moves the packets.
//!
//! It sleeps in ppoll until a packet comes or until shortly before one is due, then looks at the clock until it is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{read, write};

use super::device::VNET_HEADER_LEN;
use super::ledger::Book;
use super::packet::{self, Offload};
use super::{Action, Direction, DropReason, Rule};
use crate::kit::monotonic_ns;

/// From so long before a packet is due, the clock is watched instead of slept on.
const WATCH_NS: u64 = 150_000;
/// The largest IP packet and the offload header.
const BUFFER_LEN: usize = 65_536 + VNET_HEADER_LEN;

/// What a direction is told to do.
#[derive(Debug, Default)]
pub(super) struct Way {
    pub(super) delay: Duration,
    /// Probability of losing a packet, 0 to 1.
    pub(super) loss: f64,
    pub(super) bits_per_second: Option<u64>,
    pub(super) queue_packets: usize,
}

/// Everything the engine and the scenario share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) ways: [Way; 2],
    pub(super) rules: Vec<Rule>,
    pub(super) blackout: bool,
    pub(super) random: fastrand::Rng,
    pub(super) book: Book,
    pub(super) stop: bool,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// An eventfd that wakes the engine.
    pub(super) wake: OwnedFd,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A packet on its way; the earliest is the greatest. `order` keeps equal times in the order of entry.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    due_ns: u64,
    order: u64,
    index: Option<usize>,
    direction: Direction,
    bytes: Vec<u8>,
}

/// What one direction's line does right now.
#[derive(Default)]
struct Line {
    /// When the last packet will have been put on the line.
    free_ns: u64,
    /// The latest arrival so far: a shorter delay does not let packets overtake.
    last_due_ns: u64,
    /// Times at which the queued packets leave the queue.
    queued: std::collections::VecDeque<u64>,
}

/// The engine's own state. `tuns` are the senders' devices by [`Direction::index`].
pub(super) struct Engine {
    shared: Arc<Shared>,
    tuns: [OwnedFd; 2],
    offload: bool,
    flights: BinaryHeap<Reverse<Flight>>,
    lines: [Line; 2],
    order: u64,
    buffer: Vec<u8>,
}

impl Engine {
    pub(super) fn new(shared: Arc<Shared>, tuns: [OwnedFd; 2], offload: bool) -> Self {
        Self {
            shared,
            tuns,
            offload,
            flights: BinaryHeap::new(),
            lines: Default::default(),
            order: 0,
            buffer: vec![0; BUFFER_LEN],
        }
    }

    /// Move packets until told to stop.
    pub(super) fn run(mut self) {
        favour_this_thread();
        while !self.shared.lock().stop {
            let mut idle = true;
            for direction in Direction::BOTH {
                idle &= !self.take_in(direction);
                self.hand_out();
            }
            if idle {
                self.rest();
            }
        }
    }

    /// Read one packet; false when there is none.
    fn take_in(&mut self, direction: Direction) -> bool {
        let Ok(length) = read(&self.tuns[direction.index()], &mut self.buffer) else { return false };
        let now_ns = monotonic_ns();
        let mut bytes = &self.buffer[..length];
        let mut offload = Offload::default();
        if self.offload {
            let Some((header, rest)) = bytes.split_first_chunk::<VNET_HEADER_LEN>() else { return true };
            offload = Offload::parse(header);
            bytes = rest;
        }
        for segment in packet::segments(bytes.to_vec(), offload) {
            self.admit(now_ns, direction, segment);
        }
        true
    }

    /// Decide about one segment.
    fn admit(&mut self, now_ns: u64, direction: Direction, bytes: Vec<u8>) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let (index, seen) = state.book.enter(now_ns, direction, &bytes);
        let action = seen.and_then(|seen| state.rules.iter_mut().find_map(|rule| rule.decide(&seen)));
        let way = &state.ways[direction.index()];
        let line = &mut self.lines[direction.index()];
        let random = way.loss > 0.0 && seen.is_some() && state.random.f64() < way.loss;
        while line.queued.front().is_some_and(|leaves_ns| *leaves_ns <= now_ns) {
            line.queued.pop_front();
        }
        let dropped = if state.blackout {
            Some(DropReason::Blackout)
        } else if action == Some(Action::Drop) {
            Some(DropReason::Rule)
        } else if random {
            Some(DropReason::Random)
        } else if way.bits_per_second.is_some() && line.queued.len() >= way.queue_packets {
            Some(DropReason::Queue)
        } else {
            None
        };
        if let Some(reason) = dropped {
            state.book.drop(index, reason);
            return;
        }
        let mut sent_ns = now_ns;
        if let Some(bits_per_second) = way.bits_per_second {
            let line_ns = bytes.len() as u64 * 8 * 1_000_000_000 / bits_per_second.max(1);
            line.free_ns = line.free_ns.max(now_ns) + line_ns;
            line.queued.push_back(line.free_ns);
            sent_ns = line.free_ns;
        }
        let mut due_ns = sent_ns + nanos(way.delay);
        if let Some(Action::Hold(extra)) = action {
            due_ns += nanos(extra);
        } else {
            due_ns = due_ns.max(line.last_due_ns);
            line.last_due_ns = due_ns;
        }
        drop(guard);
        if action == Some(Action::Copy) {
            self.send(due_ns, Some(index), direction, bytes.clone());
            self.send(due_ns, None, direction, bytes);
        } else {
            self.send(due_ns, Some(index), direction, bytes);
        }
    }

    /// Behind all that are due at the same time; a copy has no place in the ledger.
    fn send(&mut self, due_ns: u64, index: Option<usize>, direction: Direction, bytes: Vec<u8>) {
        self.order += 1;
        self.flights.push(Reverse(Flight { due_ns, order: self.order, index, direction, bytes }));
    }

    /// Write every packet that is due.
    fn hand_out(&mut self) {
        while self.flights.peek().is_some_and(|Reverse(flight)| flight.due_ns <= monotonic_ns()) {
            let Some(Reverse(flight)) = self.flights.pop() else { return };
            let mut guard = self.shared.lock();
            if guard.blackout {
                if let Some(index) = flight.index {
                    guard.book.drop(index, DropReason::Blackout);
                }
                continue;
            }
            let now_ns = monotonic_ns();
            let tun = &self.tuns[flight.direction.reverse().index()];
            let written = if self.offload {
                let mut framed = vec![0; VNET_HEADER_LEN];
                framed.extend_from_slice(&flight.bytes);
                write(tun, &framed)
            } else {
                write(tun, &flight.bytes)
            };
            match (flight.index, written) {
                (Some(index), Ok(_)) => guard.book.leave(index, now_ns, &flight.bytes),
                (Some(index), Err(_)) => guard.book.drop(index, DropReason::Device),
                (None, _) => {}
            }
        }
    }

    /// Sleep until something can be done.
    fn rest(&self) {
        let now_ns = monotonic_ns();
        let wait_ns = match self.flights.peek() {
            Some(Reverse(flight)) if flight.due_ns < now_ns + WATCH_NS => return,
            Some(Reverse(flight)) => flight.due_ns - now_ns - WATCH_NS,
            None => 100_000_000,
        };
        let mut fds = [
            PollFd::new(&self.tuns[0], PollFlags::IN),
            PollFd::new(&self.tuns[1], PollFlags::IN),
            PollFd::new(&self.shared.wake, PollFlags::IN),
        ];
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(wait_ns.min(100_000_000)).unwrap_or(0) };
        let _ = poll(&mut fds, Some(&timeout));
        if fds[2].revents().contains(PollFlags::IN) {
            let _ = read(&self.shared.wake, &mut [0; 8]);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// Ask for real-time priority, so that a busy machine does not add to the delays. Refused in some containers: the link
/// then still works, with less exact times.
fn favour_this_thread() {
    let parameters = libc::sched_param { sched_priority: 10 };
    // SAFETY: sched_setscheduler reads the structure, which lives through the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}
