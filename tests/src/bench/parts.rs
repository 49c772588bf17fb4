//! The questions, in the order of the document; each is a file of its name.

use anyhow::Result;

use super::condition::Condition;
use super::plan::Plan;
use super::sheet::Samples;
use super::{cpus, delay, highest, kernel_time, latency, library, memory, open, rates, scrape, start, sweep};

/// What a part is measured with.
pub(super) struct Context<'a> {
    pub(super) plan: &'a Plan,
    /// What is compared, in turn.
    pub(super) conditions: Vec<Condition>,
    /// The part's name, for people who wait.
    pub(super) part: &'static str,
}

impl Context<'_> {
    /// The conditions in the order of a round, which begins with another each time: none has a place of its own in what the machine
    /// does meanwhile.
    pub(super) fn turn(&self, round: usize) -> impl Iterator<Item = Condition> + use<'_> {
        let first = round % self.conditions.len().max(1);
        self.conditions.iter().cycle().skip(first).take(self.conditions.len()).copied()
    }

    /// A line of progress.
    pub(super) fn say(&self, text: &str) {
        println!("{}: {text}", self.part);
    }
}

/// A question.
pub(super) struct Question {
    /// Its name on the command line and in the JSON.
    pub(super) name: &'static str,
    /// Its heading.
    pub(super) title: &'static str,
    /// How it is measured, for the document.
    pub(super) method: &'static str,
    /// Columns of its tables, in order.
    pub(super) columns: &'static [&'static str],
    pub(super) measure: fn(&Context<'_>, &mut Samples) -> Result<()>,
}

/// All of them.
pub(super) const ALL: [Question; 12] = [
    Question {
        name: "rates",
        title: "What it does to others",
        method: "A client and a server thread on each CPU, all CPUs busy. `crr`: connect, 64 bytes there and back, close; `rr`: 64 \
                 bytes there and back on open connections; `bulk`: one stream, by mebibyte. Each condition is measured between \
                 two measurements of the bare machine, on a quiet machine each, crr and rr for as long as the daemon's sweeps are apart; ratio and added CPU are against the mean of these two. CPU is the whole \
                 machine's busy time (/proc/stat), which in crr and rr keeps all CPUs busy and so says what the rate does; load CPU what of it the load was \
                 charged with (getrusage), own CPU that of the observing process alone (schedstat), wake-ups how \
                 often it was given a CPU, all of them for one operation. A crr operation has two socket ends here. Resident: the observing process' memory \
                 behind the load. With single hooks a sweep reads counters and looks at no socket.",
        columns: &[
            "rate",
            "ratio",
            "cpu",
            "added cpu",
            "load cpu",
            "added load cpu",
            "own cpu",
            "wake-ups",
            "p50",
            "p99",
            "resident",
        ],
        measure: rates::measure,
    },
    Question {
        name: "kernel-time",
        title: "Time in the kernel",
        method: "run_time_ns and run_cnt of each program, with the kernel's run statistics on, in a run of its own. The \
                 statistics cost each run something: empty programs beside them, on the same sockets, show how much (rows \
                 `statistics`, of each type of program), and net is without it. Programs that walk the sockets are not in `all`.",
        columns: &[
            "a run",
            "net a run",
            "runs an operation",
            "net an operation",
            "net a socket",
            "instructions",
        ],
        measure: kernel_time::measure,
    },
    Question {
        name: "sweep",
        title: "Looking at every socket",
        method: "Sockets are counted, two for each connection, as both ends are on this machine. Of a sweep, CPU is the sweeping \
                 thread's and wall time the daemon's own figure; of `ss` the process' (wait4), output to /dev/null; inet_diag is \
                 a dump of our own that only counts messages; the empty iterator is an iter/tcp program that returns at once, which is what the \
                 kernel's walk costs before a program looks at anything: of the walk is a look's CPU by that of the same round. Active: one exchange on every connection since the last sweep; \
                 newly idle: none since the last, idle: none since the one before that. All day: a daemon that is left alone while all \
                 are idle, from the end of a sweep to the end of a later one. A round goes over all sizes, each of which is opened for it, so a \
                 range holds what the machine did in all of the part's time. The fitted lines, one a round, minimise relative errors; off: how far the \
                 farthest point lies from its line; between the largest two: the slope from one to the other.",
        columns: &[
            "cpu",
            "wall",
            "cpu a socket",
            "of the walk",
            "a socket more",
            "at none",
            "off",
            "between the largest two",
            "resident",
            "of one CPU",
        ],
        measure: sweep::measure,
    },
    Question {
        name: "memory",
        title: "Kernel memory",
        method: "Growth of Slab in /proc/meminfo while sockets are opened, without and with the daemon in turn, for one socket; added: the difference in the kmalloc caches (/proc/slabinfo), which others disturb least; \
                 maps: memlock of the daemon's maps, which does not grow with connections. Every other round begins with the daemon.",
        columns: &["memory"],
        measure: memory::measure,
    },
    Question {
        name: "scrape",
        title: "Scrapes",
        method: "One after the other over HTTP. Of sockets, a tenth of the connections is active each second. Fresh: the sums are \
                 there. Stale: the scrape finds sums older than a second (or a hundred times the dearer of the \
                 last two sweeps) and waits for a sweep; none is made for anything else. 1,000 groups: \
                 a client network each, of which one connection was seen, and none open; the reading of the answer is in the time. Resident with both: after \
                 a sweep. Rendering: what of it \
                 the library does, without HTTP, of groups with forty round trips each; processor time, the fastest of some \
                 runs, with the allocator that counts what it is asked for; gzip is the compression alone.",
        columns: &["p50", "p99", "longest", "time", "size", "series", "allocations", "allocated", "resident"],
        measure: scrape::measure,
    },
    Question {
        name: "networks",
        title: "Networks by routing table, services and groups",
        method: "A synthetic table with the prefix lengths of the Internet's of 2025; processor time, the best of some runs \
                 (of files: one), and what the allocator was asked for. Any: a random prefix each time, so nothing is in the processor's caches; few: \
                 of 10,000 prefixes of unequal weight, as clients are. Of ours: as a multiple of what the library takes \
                 that the daemon uses, in the same round. Why that one: docs/decisions/networks.md. \
                 A look-up of a service: any port, of which most have none. A record: the opening of a server's connection is added \
                 to the sums, a million times, without tables of networks and with 1,000 places for groups \
                 (docs/decisions/groups.md).",
        columns: &[
            "file",
            "load",
            "load, shuffled",
            "load, sorted",
            "memory",
            "peak",
            "IPv4, any",
            "IPv4, few",
            "IPv6, any",
            "a look-up",
            "a record",
        ],
        measure: library::networks,
    },
    Question {
        name: "start",
        title: "Starting",
        method: "From the start of the process; attached when the kernel's list of BPF links no longer changes, ready when \
                 /-/ready answers 200, which is after the first sweep. `flows` with 1,000 connections, both ends here.",
        columns: &["after"],
        measure: start::measure,
    },
    Question {
        name: "delay",
        title: "How late a record is",
        method: "Single connections on an idle machine, from close() to the line of `flowprobe watch`.",
        columns: &["after"],
        measure: delay::measure,
    },
    Question {
        name: "latency",
        title: "Latency that others feel during sweeps",
        method: "The `rr` load on one CPU and on all, beside many open sockets in another namespace (200,000 in the full form), in windows of 200 ms. The \
                 daemon sweeps in those that say so, and each socket was active since the sweep before: they are open from the \
                 scrape that brings the sweep about to its answer, which comes with the sweep's end or after 200 ms. \
                 flowprobe's CPU: what of one CPU it had meanwhile. Ratio and p99.9 of the bare: beside the bare window of the same round.",
        columns: &["rate", "ratio", "p50", "p99", "p99.9", "p99.9 of the bare", "longest", "flowprobe's CPU"],
        measure: latency::measure,
    },
    Question {
        name: "highest",
        title: "The highest rate of connections",
        method: "The `crr` load on all CPUs, each size in turn; what is unbroken for a minute has more TIME_WAIT sockets beside it. Socket ends: what the load made; closed: what the daemon counted in that time, a \
                 few connections of the scrapes among them; lost: records lost for any reason. Of the daemon's CPU, sweeps: the thread that sweeps, over the \
                 TIME_WAIT sockets too.",
        columns: &[
            "seconds",
            "rate",
            "socket ends",
            "closed",
            "lost",
            "daemon's cpu a record",
            "of it sweeps",
            "wake-ups a record",
        ],
        measure: highest::measure,
    },
    Question {
        name: "cpus",
        title: "Growth with CPUs",
        method: "Load and daemon on the first one, two, four … CPUs; the bare machine before and after, each for as long as sweeps are apart.",
        columns: &["rate", "ratio"],
        measure: cpus::measure,
    },
    Question {
        name: "open",
        title: "Growth with open sockets",
        method: "The loads beside so many sockets of another namespace that are open and idle; the bare machine before and after.",
        columns: &["rate", "ratio"],
        measure: open::measure,
    },
];
