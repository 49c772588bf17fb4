//! What is said of each counter after two readings: both sums, their difference, and why there is one.
//!
//! Counters and sockets cannot be read at one instant while connections work. Each reading therefore takes the counters
//! before and after the sockets; the kernel's growth is known between two bounds, which are equal when nothing happened
//! in between.

use std::collections::{BTreeMap, HashMap};

use super::{COUNTERS, Counter, Counters, counters::OlderConnect, growth_since};
use crate::aggregate::NamespaceSums;

/// Counters and sums of all namespaces, by inode.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The kernel's counters before the sockets were looked at.
    pub before: HashMap<u32, Counters>,
    /// … and after the last record of that moment had come.
    pub after: HashMap<u32, Counters>,
    /// Our sums, with what connects under way have added so far.
    pub sums: BTreeMap<u32, NamespaceSums>,
    /// Connects under way that began before the probe came.
    pub older_connects: BTreeMap<u32, u64>,
}

/// What holds for all counters of a comparison.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances {
    /// Whole seconds between the readings, rounded up.
    pub seconds: u64,
    /// Repeated SYN-ACKs come as records of their own.
    pub synack_hook: bool,
    /// Runs of the synack hook that the kernel skipped (re-entry).
    pub synacks_missed: u64,
    /// Records and states of connections that were lost, for whatever reason.
    pub lost: u64,
}

/// One counter's comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The kernel's name of it.
    pub counter: &'static str,
    /// What we counted.
    pub flowprobe: u64,
    /// What the kernel counted: of the values that the readings allow the one nearest to ours.
    pub kernel: u64,
    /// Our records determine the counter.
    pub exact: bool,
    /// Nothing is left that the reasons do not explain; always so where the two differ by nature.
    pub agrees: bool,
    /// Why there is a difference, or may be one.
    pub why: Vec<String>,
}

/// A comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All namespaces together.
    pub total: Vec<Row>,
    /// Each by itself, by inode.
    pub namespaces: BTreeMap<u32, Vec<Row>>,
    /// Namespaces that ended meanwhile; they are not compared.
    pub gone: u64,
}

impl Row {
    /// Ours less the kernel's.
    #[must_use]
    pub const fn difference(&self) -> i64 {
        self.flowprobe.wrapping_sub(self.kernel).cast_signed()
    }
}

impl Report {
    /// Whether every exact counter agrees in every namespace.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.total.iter().chain(self.namespaces.values().flatten()).all(|row| row.agrees)
    }
}

/// Growth between two readings of one namespace, or of several together.
#[derive(Clone, Debug, Default)]
struct Growth {
    ours: NamespaceSums,
    older_connects: u64,
    /// Least and most of each of [`COUNTERS`].
    kernel: [(u64, u64); COUNTERS.len()],
}

/// Compares two readings.
#[must_use]
pub fn compare(begin: &Reading, end: &Reading, circumstances: &Circumstances) -> Report {
    let mut report = Report::default();
    let mut all = Growth::default();
    for inode in begin.after.keys().chain(end.after.keys().filter(|i| !begin.after.contains_key(i))) {
        let Some(growth) = growth(begin, end, *inode) else {
            report.gone += 1;
            continue;
        };
        all.add(&growth);
        let rows = growth.rows(circumstances);
        if rows.iter().any(|row| row.flowprobe > 0 || row.kernel > 0) {
            report.namespaces.insert(*inode, rows);
        }
    }
    report.total = all.rows(circumstances);
    // Differences of two namespaces can cancel in the sum.
    for (at, row) in report.total.iter_mut().enumerate() {
        row.agrees = report.namespaces.values().all(|rows| rows[at].agrees);
        if !row.agrees && row.why.is_empty() {
            row.why.push(UNKNOWN.to_owned());
        }
    }
    report
}

const UNKNOWN: &str = "no reason is known: one of the two sums is wrong";

/// `None` when the namespace is gone, or its number belongs to another one now.
fn growth(begin: &Reading, end: &Reading, inode: u32) -> Option<Growth> {
    let last = end.after.get(&inode)?;
    let replaced = |counters: &Counters| {
        COUNTERS.iter().any(|counter| counter.of(Some(last)) < counter.of(Some(counters)))
    };
    if begin.before.get(&inode).is_some_and(replaced) {
        return None;
    }
    let kernel = COUNTERS.each_ref().map(|counter| {
        let of = |counters: &HashMap<u32, Counters>| counter.of(counters.get(&inode));
        (of(&end.before).saturating_sub(of(&begin.after)), of(&end.after).saturating_sub(of(&begin.before)))
    });
    let sums = |reading: &Reading| reading.sums.get(&inode).copied().unwrap_or_default();
    Some(Growth {
        ours: growth_since(&sums(begin), &sums(end)),
        older_connects: begin.older_connects.get(&inode).copied().unwrap_or(0),
        kernel,
    })
}

impl Growth {
    fn add(&mut self, other: &Self) {
        self.ours = self.ours.plus(&other.ours);
        self.older_connects += other.older_connects;
        for (sum, part) in self.kernel.iter_mut().zip(other.kernel) {
            *sum = (sum.0 + part.0, sum.1 + part.1);
        }
    }

    fn rows(&self, circumstances: &Circumstances) -> Vec<Row> {
        COUNTERS
            .iter()
            .zip(self.kernel)
            .map(|(counter, kernel)| self.row(counter, kernel, circumstances))
            .collect()
    }

    fn row(&self, counter: &Counter, (least, most): (u64, u64), circumstances: &Circumstances) -> Row {
        let ours = counter.ours(&self.ours);
        let exact = counter.is_exact(circumstances.synack_hook);
        let (from, to) = counter.bounds(&self.ours);
        let to =
            to.saturating_add(self.older_connects * unseen_of(counter.older_connect, circumstances.seconds));
        let mut row = Row {
            counter: counter.name,
            flowprobe: ours,
            kernel: ours.clamp(least, most.max(least)),
            exact,
            agrees: !exact || (from <= most && least <= to),
            why: Vec::new(),
        };
        row.why = self.reasons(counter, &row, most.saturating_sub(least), circumstances);
        row
    }

    /// Reasons of a counter that is exact are given where it differs, or where the readings leave it open.
    fn reasons(&self, counter: &Counter, row: &Row, while_reading: u64, now: &Circumstances) -> Vec<String> {
        let mut why = Vec::new();
        let mut say = |if_so: bool, text: String| {
            if if_so {
                why.push(text);
            }
        };
        say(counter.inherent.is_some(), counter.inherent.unwrap_or_default().to_owned());
        say(
            counter.synacks && !now.synack_hook,
            "the hook on repeated SYN-ACKs is down; those of requests that never complete are not seen"
                .to_owned(),
        );
        say(
            row.exact && while_reading > 0,
            format!("the kernel's count is known to {while_reading}: it grew while it was being read"),
        );
        if row.difference() == 0 || counter.inherent.is_some() {
            return why;
        }
        let n = self.ours.retransmissions_failed;
        say(
            counter.name == "TCPFastRetrans" && n > 0,
            format!("the kernel leaves out sends that failed, of which there were {n} for all causes"),
        );
        let n = self.ours.retransmitted_unattributed;
        say(
            matches!(counter.name, "TCPFastRetrans" | "TCPRetransFail") && n > 0,
            format!(
                "{n} segments were sent again on connections older than the probe, whose causes this kernel \
                 (before 6.12) does not tell"
            ),
        );
        let n = self.ours.without_callbacks;
        say(
            counter.name == "EstabResets" && n > 0,
            format!(
                "connections older than the probe: {n}; on this kernel (before 6.12) it does not see how they end"
            ),
        );
        let n = self.older_connects;
        say(
            counter.older_connect != OlderConnect::Nothing && n > 0,
            format!(
                "connects under way when the probe came: {n}; it sees them from the end of their handshake"
            ),
        );
        let n = now.synacks_missed;
        say(
            counter.synacks && n > 0,
            format!("the kernel skipped the hook on repeated SYN-ACKs {n} times (re-entry)"),
        );
        let n = now.lost;
        say(
            n > 0,
            format!(
                "records or states of connections that were lost: {n} (a ring buffer was full, or the kernel refused memory)"
            ),
        );
        if why.is_empty() && !row.agrees {
            why.push(UNKNOWN.to_owned());
        }
        why
    }
}

/// How often one connect can at most have raised the counter unseen. A SYN is repeated once a second at most
/// (TCP_TIMEOUT_INIT; tcp_syn_linear_timeouts keeps that pace).
const fn unseen_of(older_connect: OlderConnect, seconds: u64) -> u64 {
    match older_connect {
        OlderConnect::Nothing => 0,
        OlderConnect::RepeatSyn => seconds + 1,
        OlderConnect::BeReset => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: u32 = 7;
    const CALM: Circumstances = Circumstances { seconds: 10, synack_hook: true, synacks_missed: 0, lost: 0 };

    fn kernel(name: &str, count: u64) -> HashMap<u32, Counters> {
        HashMap::from([(HERE, HashMap::from([(name.to_owned(), count)]))])
    }

    /// Two readings with the kernel's counter before and after each.
    fn readings(name: &str, counts: [u64; 4], sums: NamespaceSums) -> (Reading, Reading) {
        let [a, b, c, d] = counts.map(|count| kernel(name, count));
        let begin = Reading { before: a, after: b, ..Reading::default() };
        (begin, Reading { before: c, after: d, sums: BTreeMap::from([(HERE, sums)]), ..Reading::default() })
    }

    fn row(report: &Report, name: &str) -> Row {
        report.total.iter().find(|row| row.counter == name).unwrap().clone()
    }

    fn resets(resets: u64) -> NamespaceSums {
        NamespaceSums { resets, ..NamespaceSums::default() }
    }

    #[test]
    fn a_quiet_counter_is_compared_to_the_unit() {
        for (ours, difference, agrees) in [(5, 0, true), (4, -1, false), (6, 1, false)] {
            let (begin, end) = readings("EstabResets", [10, 10, 15, 15], resets(ours));
            let report = compare(&begin, &end, &CALM);
            let row = row(&report, "EstabResets");
            assert_eq!((row.flowprobe, row.kernel, row.difference()), (ours, 5, difference));
            assert_eq!((row.agrees, report.agrees()), (agrees, agrees));
            assert_eq!(row.why.is_empty(), agrees, "{:?}", row.why);
        }
    }

    #[test]
    fn what_grows_while_it_is_read_is_known_between_bounds() {
        // Between 4 (12 to 16) and 8 (10 to 18).
        for (ours, kernel, agrees) in [(3, 4, false), (4, 4, true), (6, 6, true), (8, 8, true), (9, 8, false)]
        {
            let (begin, end) = readings("EstabResets", [10, 12, 16, 18], resets(ours));
            let row = row(&compare(&begin, &end, &CALM), "EstabResets");
            assert_eq!((row.kernel, row.agrees), (kernel, agrees));
            assert!(row.why[0].contains("known to 4"), "{:?}", row.why);
        }
    }

    #[test]
    fn differences_that_cancel_are_found() {
        let (mut begin, mut end) = readings("EstabResets", [0, 0, 5, 5], resets(6));
        for (reading, count) in [(&mut begin, 0), (&mut end, 5)] {
            for counters in [&mut reading.before, &mut reading.after] {
                counters.insert(8, HashMap::from([("EstabResets".to_owned(), count)]));
            }
        }
        end.sums.insert(8, resets(4));
        let report = compare(&begin, &end, &CALM);
        assert_eq!(row(&report, "EstabResets").difference(), 0);
        assert!(!report.agrees());
        assert_eq!(report.namespaces.len(), 2);
    }

    #[test]
    fn what_differs_by_nature_is_no_failure() {
        let sums = NamespaceSums { timeouts: 2, ..NamespaceSums::default() };
        let (begin, end) = readings("TCPTimeouts", [0, 0, 5, 5], sums);
        let report = compare(&begin, &end, &CALM);
        let row = row(&report, "TCPTimeouts");
        assert_eq!((row.difference(), row.exact, row.agrees), (-3, false, true));
        assert!(row.why[0].contains("requests"), "{:?}", row.why);
        assert!(report.agrees());
    }

    #[test]
    fn a_difference_is_put_into_words() {
        let blind = NamespaceSums { resets: 1, without_callbacks: 2, ..NamespaceSums::default() };
        for (kernel, agrees) in [(3, true), (4, false)] {
            let (begin, end) = readings("EstabResets", [0, 0, kernel, kernel], blind);
            let row = row(&compare(&begin, &end, &CALM), "EstabResets");
            assert_eq!(row.agrees, agrees);
            assert!(row.why[0].contains("older than the probe: 2"), "{:?}", row.why);
        }
        let (mut begin, end) = readings("TCPSynRetrans", [0, 0, 11, 11], NamespaceSums::default());
        begin.older_connects.insert(HERE, 1);
        let syns = row(&compare(&begin, &end, &CALM), "TCPSynRetrans");
        assert!(syns.agrees && syns.why[0].contains("under way when the probe came: 1"), "{:?}", syns.why);
        begin.older_connects.clear();
        assert!(!row(&compare(&begin, &end, &CALM), "TCPSynRetrans").agrees);
        let missed = Circumstances { synacks_missed: 11, ..CALM };
        let syns = row(&compare(&begin, &end, &missed), "TCPSynRetrans");
        assert!(!syns.agrees && syns.why[0].contains("skipped"), "{:?}", syns.why);
        let down = Circumstances { synack_hook: false, ..CALM };
        let syns = row(&compare(&begin, &end, &down), "TCPSynRetrans");
        assert!(!syns.exact && syns.agrees && syns.why[0].contains("is down"), "{:?}", syns.why);
    }

    #[test]
    fn a_namespace_that_ended_is_not_compared() {
        let (begin, mut end) = readings("EstabResets", [9, 9, 5, 5], resets(5));
        let replaced = compare(&begin, &end, &CALM);
        assert_eq!((replaced.gone, replaced.namespaces.len(), replaced.agrees()), (1, 0, true));
        end.after.clear();
        assert_eq!(compare(&begin, &end, &CALM).gone, 1);
    }

    #[test]
    fn a_namespace_that_came_later_starts_from_nothing() {
        let (_, end) = readings("EstabResets", [0, 0, 5, 5], resets(5));
        let report = compare(&Reading::default(), &end, &CALM);
        assert_eq!(row(&report, "EstabResets").difference(), 0);
        assert!(report.agrees());
    }
}
