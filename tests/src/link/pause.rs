//! How long did a sender wait with data outstanding, as the link saw it? From the moment an acknowledgement advanced (or from
//! the first segment sent after all was acknowledged) until the next one that does. Pure.

use super::packet::ACK;
use super::{Direction, Entry, Kind, Ledger};

/// Data was outstanding, or the peer's window closed, and nothing was acknowledged. Times are CLOCK_MONOTONIC in nanoseconds,
/// at the sender's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The last progress.
    pub from_ns: u64,
    /// The next one.
    pub to_ns: u64,
    /// For how long of it the window that the sender knew was zero.
    pub closed_ns: u64,
}

impl Pause {
    /// Its length in microseconds.
    #[must_use]
    pub fn us(&self) -> u64 {
        (self.to_ns - self.from_ns) / 1000
    }
}

/// What reached or left the sender.
enum Event {
    Sent { end: u32 },
    Acknowledged { to: u32, window: u16 },
}

impl Ledger {
    /// The pauses of the end that sent in this direction, in order. A last one that nothing ended is left out.
    #[must_use]
    pub fn pauses(&self, flow: usize, sender: Direction) -> Vec<Pause> {
        let mut events: Vec<(u64, Event)> =
            self.packets_of(flow).filter_map(|entry| event(entry, sender)).collect();
        events.sort_by_key(|(at_ns, _)| *at_ns);
        let mut watch = Watch::default();
        for (at_ns, event) in events {
            watch.note(at_ns, &event);
        }
        watch.pauses
    }
}

fn event(entry: &Entry, sender: Direction) -> Option<(u64, Event)> {
    if entry.direction == sender {
        let begins = u32::from(matches!(entry.kind, Kind::Syn | Kind::SynAck));
        let ends = u32::from(entry.flags & super::packet::FIN != 0);
        let length = begins + entry.payload_len + ends;
        (length > 0).then(|| (entry.entered_ns, Event::Sent { end: entry.seq.wrapping_add(length) }))
    } else {
        let at_ns = entry.left_ns?;
        (entry.flags & ACK != 0)
            .then_some((at_ns, Event::Acknowledged { to: entry.ack, window: entry.window }))
    }
}

#[derive(Default)]
struct Watch {
    /// First sequence number that is not acknowledged, and the first that was never sent.
    una: Option<u32>,
    next: Option<u32>,
    since_ns: Option<u64>,
    closed_since_ns: Option<u64>,
    closed_ns: u64,
    pauses: Vec<Pause>,
}

/// True when `a` comes after `b` in sequence space.
fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

impl Watch {
    fn note(&mut self, at_ns: u64, event: &Event) {
        match *event {
            Event::Sent { end } => {
                if self.next.is_none_or(|next| after(end, next)) {
                    self.next = Some(end);
                    self.since_ns.get_or_insert(at_ns);
                }
            }
            Event::Acknowledged { to, window } => {
                if let Some(closed_since_ns) = self.closed_since_ns.take() {
                    self.closed_ns += at_ns - closed_since_ns;
                }
                self.closed_since_ns = (window == 0).then_some(at_ns);
                if self.una.is_none_or(|una| after(to, una)) {
                    self.una = Some(to);
                    if let Some(from_ns) = self.since_ns.take() {
                        self.pauses.push(Pause { from_ns, to_ns: at_ns, closed_ns: self.closed_ns });
                    }
                    self.closed_ns = 0;
                    self.since_ns = self.next.is_some_and(|next| after(next, to)).then_some(at_ns);
                }
                if window == 0 {
                    self.since_ns.get_or_insert(at_ns);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_runs_from_progress_to_progress() {
        let mut watch = Watch::default();
        watch.note(10, &Event::Sent { end: u32::MAX });
        watch.note(15, &Event::Sent { end: 99 });
        watch.note(30, &Event::Acknowledged { to: u32::MAX, window: 9 });
        watch.note(40, &Event::Acknowledged { to: u32::MAX, window: 9 });
        watch.note(70, &Event::Acknowledged { to: 99, window: 9 });
        // Idle, then a request: the idle time is no pause.
        watch.note(500, &Event::Sent { end: 199 });
        watch.note(520, &Event::Acknowledged { to: 199, window: 0 });
        // The window is closed, with nothing outstanding; a repetition is no progress.
        watch.note(560, &Event::Sent { end: 199 });
        watch.note(580, &Event::Acknowledged { to: 199, window: 5 });
        watch.note(590, &Event::Sent { end: 299 });
        watch.note(600, &Event::Acknowledged { to: 299, window: 5 });
        let pauses: Vec<_> = watch.pauses.iter().map(|p| (p.from_ns, p.to_ns, p.closed_ns)).collect();
        assert_eq!(pauses, [(10, 30, 0), (30, 70, 0), (500, 520, 0), (520, 600, 60)]);
    }
}
