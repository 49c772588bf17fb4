//! A daemon that is started while connections come and go, and the judgement of what it recorded of them.
//!
//! Each end of the churn is known by its cookie. What is certain of an end's records follows from when it lived and
//! when the daemon was started and ready; between the two the daemon attaches, at a moment that only it knows.

use std::collections::HashMap;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Daemon, LONG, Probe, expect};
use crate::kit::{Line, Namespace, Scrape, monotonic_ns, wait_until};
use crate::traffic::Entry;

/// A socket that was closed so long before the daemon was started is gone when its programs are attached.
const SURELY_GONE_NS: u64 = 2_000_000_000;

pub(super) const OPENED: &str = "flowprobe_tcp_connections_opened_total";
pub(super) const CLOSED: &str = "flowprobe_tcp_connections_closed_total";
pub(super) const LIVE: &str = "flowprobe_tcp_connections";
const MISSED: &str = "flowprobe_hook_missed_total";
pub(super) const LOST: &str = "flowprobe_records_lost_total";
pub(super) const ROLES: [&str; 3] = ["client", "server", "unknown"];

/// Connects of the churn that can be under way at a moment, one a worker: the daemon may take them over as clients.
pub(super) const CONNECTING: f64 = 2.0;

/// The metrics of one role in IPv6.
pub(super) fn of_role(scrape: &Scrape, name: &str, role: &str) -> f64 {
    scrape.sum(name, &[("family", "ipv6"), ("role", role)])
}

/// Sweeps often, so that what it counts comes in many increments.
pub(super) fn start_daemon() -> Result<Daemon> {
    Daemon::start_with(sweep_often)
}

pub(super) fn sweep_often(command: &mut Command) {
    command.args(["--sweep-period", "100ms"]);
}

/// A daemon that was started while connections came and went, CLOCK_MONOTONIC in nanoseconds.
pub(super) struct Start {
    pub(super) probe: Probe,
    /// Before its process was made.
    pub(super) spawned_ns: u64,
    /// After it was ready.
    pub(super) ready_ns: u64,
    /// After a watch on it had shown a connection's end.
    pub(super) watched_ns: u64,
}

impl Start {
    pub(super) fn new(meanwhile: impl FnOnce() -> Result<()>) -> Result<Self> {
        Self::by(start_daemon, meanwhile)
    }

    /// A start in which the daemon is made so.
    pub(super) fn by(
        daemon: impl FnOnce() -> Result<Daemon>,
        meanwhile: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let spawned_ns = monotonic_ns();
        let daemon = daemon()?;
        let ready_ns = monotonic_ns();
        meanwhile()?;
        let probe = Probe::on(daemon)?;
        Ok(Self { probe, spawned_ns, ready_ns, watched_ns: monotonic_ns() })
    }

    fn times(&self) -> String {
        let Self { spawned_ns, ready_ns, watched_ns, .. } = self;
        format!("the daemon was started at {spawned_ns}, ready at {ready_ns}, watched at {watched_ns}")
    }

    pub(super) fn nothing_was_lost(&self) -> Result<()> {
        let scrape = self.probe.scrape()?;
        let reasons = scrape.label_values(LOST, "reason");
        // A sample is no record, and a record without counts is one.
        let records =
            reasons.iter().filter(|reason| !["rtt_unknown", "counters_wiped"].contains(&reason.as_str()));
        let lost = records.filter(|reason| scrape.sum(LOST, &[("reason", reason)]) > 0.0);
        let lost: Vec<_> = lost.collect();
        ensure!(lost.is_empty(), "records were lost: {lost:?}");
        expect("discrepancies", scrape.sum("flowprobe_accounting_discrepancies_total", &[]), 0.0)
    }

    /// Both ends of every connection of the churn have the records that they must have, and no others.
    pub(super) fn records_are_right(&self, namespace: &Namespace, entries: &[Entry]) -> Result<()> {
        let ends = Ends::of(entries, self)?;
        let mut missing = ends.must.clone();
        let complete = wait_until(LONG, "all ends that must be recorded are", || {
            let recorded = self.probe.recorded_sockets(namespace)?;
            missing.retain(|cookie| !recorded.contains(cookie));
            Ok(missing.len() as u64 <= self.probe.watch_lost())
        });
        complete.with_context(|| {
            let some: Vec<_> =
                missing.iter().take(4).map(|cookie| (*cookie, ends.by_cookie.get(cookie))).collect();
            let count = missing.len();
            let admitted = self.probe.scrape().map(|scrape| admitted(&scrape));
            format!(
                "{count} of {} are missing, such as {some:?}; {}; the daemon says {admitted:?}",
                ends.must.len(),
                self.times()
            )
        })?;
        self.probe.pass_fence()?;
        let mut seen = HashMap::new();
        for line in self.probe.records(namespace)? {
            let cookie = cookie_of(&line)?;
            let (role, entry) = ends.by_cookie.get(&cookie).context("a record of no connection")?;
            ends.judge(&line, role, entry, self)?;
            *seen.entry(cookie).or_insert(0) += 1;
        }
        let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).take(3).collect();
        ensure!(twice.is_empty(), "ends with several records: {twice:?}");
        Ok(())
    }

    /// The counters of IPv6 have every end of the churn that they must have. All connections must have ended.
    pub(super) fn counters_are_right(&self, entries: &[Entry]) -> Result<()> {
        // What had ended by then was there to be seen only if it began in the window, and not surely.
        let certain = entries.iter().filter(|entry| entry.ending_ns >= self.ready_ns).count();
        let possible =
            entries.iter().filter(|entry| entry.ending_ns + SURELY_GONE_NS >= self.spawned_ns).count();
        let after = entries.iter().filter(|entry| entry.begun_ns >= self.ready_ns).count();
        let maybe_after = entries.iter().filter(|entry| entry.established_ns >= self.spawned_ns).count();
        let mut scrape = self.probe.scrape()?;
        wait_until(LONG, "no connection is live", || {
            scrape = self.probe.scrape()?;
            Ok(ROLES.iter().all(|role| of_role(&scrape, LIVE, role) == 0.0)
                && scrape.sum(CLOSED, &[("family", "ipv6")]) >= 2.0 * certain as f64)
        })
        .with_context(|| format!("live: {:?}", ROLES.map(|role| of_role(&scrape, LIVE, role))))?;
        let within = |what: &str, is: f64, least: usize, most: usize| -> Result<()> {
            ensure!(least as f64 <= is && is <= most as f64, "{what} is {is}, should be {least} to {most}");
            Ok(())
        };
        let closed = ROLES.map(|role| of_role(&scrape, CLOSED, role));
        within("the number of closed", closed.iter().sum(), 2 * certain, 2 * possible)?;
        for (index, role, connecting) in [(0, "client", CONNECTING), (1, "server", 0.0)] {
            let opened = of_role(&scrape, OPENED, role);
            within(&format!("{role}s opened"), opened, after, maybe_after)?;
            let older = closed[index] - opened;
            ensure!((0.0..=connecting).contains(&older), "{opened} {role}s opened, {} closed", closed[index]);
        }
        expect("connections of unknown role opened", of_role(&scrape, OPENED, "unknown"), 0.0)
    }
}

/// What the daemon says that it did not see or lost: skipped runs by hook, records by reason.
fn admitted(scrape: &Scrape) -> Vec<(String, f64)> {
    [(MISSED, "hook"), (LOST, "reason")]
        .into_iter()
        .flat_map(|(name, label)| {
            let values = scrape.label_values(name, label);
            values.into_iter().map(move |value| (scrape.sum(name, &[(label, &value)]), value))
        })
        .filter(|(count, _)| *count > 0.0)
        .map(|(count, value)| (value, count))
        .collect()
}

/// The socket's part of the identity.
pub(super) fn cookie_of(line: &Line) -> Result<u64> {
    let id = line.text("flow_id")?;
    let (cookie, generation) = id.split_once('.').with_context(|| format!("{id} has no generation"))?;
    expect("the generation of a socket that was connected once", generation, "0")?;
    Ok(cookie.parse()?)
}

/// The churn's ends by their cookies.
struct Ends<'a> {
    by_cookie: HashMap<u64, (&'static str, &'a Entry)>,
    /// Ends that live until after the watch was on.
    must: Vec<u64>,
}

impl<'a> Ends<'a> {
    fn of(entries: &'a [Entry], start: &Start) -> Result<Self> {
        let mut by_cookie = HashMap::new();
        let mut must = Vec::new();
        let [mut older, mut between, mut newer] = [0; 3];
        for entry in entries {
            by_cookie.insert(entry.client, ("client", entry));
            by_cookie.insert(entry.server, ("server", entry));
            if entry.ending_ns >= start.watched_ns {
                must.extend([entry.client, entry.server]);
                match entry.begun_ns {
                    begun if begun < start.spawned_ns => older += 1,
                    begun if begun < start.ready_ns => between += 1,
                    _ => newer += 1,
                }
            }
        }
        expect("the number of different cookies", by_cookie.len(), 2 * entries.len())?;
        ensure!(
            older > 0 && between > 0 && newer > 0,
            "{older} older, {between} between, {newer} newer connections: one kind is missing, nothing is proved"
        );
        Ok(Self { by_cookie, must })
    }

    fn judge(&self, line: &Line, role: &str, entry: &Entry, start: &Start) -> Result<()> {
        let adopted = line.flag("adopted")?;
        let what = |what: &str| format!("{what} of {role} {entry:?}, {}", start.times());
        ensure!(entry.ending_ns + SURELY_GONE_NS >= start.spawned_ns, what("a record, though it is older,"));
        if entry.begun_ns >= start.ready_ns {
            expect(&what("adopted"), adopted, false)?;
        } else if entry.established_ns < start.spawned_ns {
            expect(&what("adopted"), adopted, true)?;
        }
        match line.maybe_text("role")? {
            None => ensure!(adopted, what("no role")),
            Some(is) => expect(&what("role"), is, role)?,
        }
        if adopted && line.text("rtt_source")? == "sweep" && line.text("close_reason")? == "reset_sent" {
            // Its end was seen after the kernel had zeroed its totals.
            return expect(&what("bytes_sent"), line.maybe_u64("bytes_sent")?, None);
        }
        // What it sent before the start is in the record's totals too.
        let sent = line.u64("bytes_sent")? - line.u64("retrans_bytes")?;
        expect(&what("bytes_sent less retrans_bytes"), sent, entry.bytes)
    }
}
