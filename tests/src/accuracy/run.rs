//! Runs one cell: the link, the downloads, and the comparison of what everyone saw of them.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::bounds::{ATTEMPTS, judge};
use super::cell::{Cell, Fault};
use super::figures::{
    Figures, FlowFigures, Loss, Measurement, NEEDLESS, Outcome, Quantile, Segments, histogram,
};
use super::matrix::Form;
use super::truth::{needless, round_trips};
use crate::kit::{Line, Namespace, pause};
use crate::link::{Direction, Half, Ledger, Link};
use crate::scenario::{LONG, Probe, local_port};
use crate::traffic::{Behaviour, Conversation, Options, Server, connect, receive_all};
use crate::truth::Counters;

const PORT: u16 = 8080;
/// The fields that sum up to `retrans_segs`, without `retrans_`.
const CAUSES: [&str; 7] = ["fast", "rto", "tlp", "syn", "synack", "other", "unattributed"];

/// Run a cell, again when only its times exceed a bound. Whatever goes wrong is in the outcome. `form` and `cells` are
/// those of the whole run.
#[must_use]
pub fn measure(probe: &Probe, cell: &Cell, form: Form, cells: usize) -> Measurement {
    let begun = Instant::now();
    let mut attempts = 1;
    loop {
        let mut measurement = measure_once(probe, cell, form, cells);
        (measurement.attempts, measurement.seconds) = (attempts, begun.elapsed().as_secs_f64());
        let verdict = judge(&measurement);
        if !verdict.only_times || attempts == ATTEMPTS {
            return measurement;
        }
        eprintln!("{}, {}: measured again, because {}", cell.axis, cell.name, verdict.exceeded.join("; "));
        attempts += 1;
    }
}

fn measure_once(probe: &Probe, cell: &Cell, form: Form, cells: usize) -> Measurement {
    let outcome = observe(probe, cell).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
    Measurement {
        axis: cell.axis.to_owned(),
        cell: cell.name.clone(),
        seed: cell.seed,
        cells,
        form,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        round_trip_us: u64::try_from(cell.round_trip.as_micros()).unwrap_or(u64::MAX),
        flows: cell.flows,
        bytes: cell.bytes,
        reordering_only: matches!(cell.fault, Fault::Hold { .. }) && cell.loss == 0.0,
        attempts: 1,
        seconds: 0.0,
        outcome,
    }
}

fn observe(probe: &Probe, cell: &Cell) -> Result<Outcome> {
    let link = Link::builder()
        .delay(cell.round_trip / 2)
        .loss(Direction::ToClient, cell.loss)
        .seed(cell.seed)
        .gso(cell.gso)
        .build()?;
    if !congestion_controls(&link.server)?.split_whitespace().any(|name| name == cell.congestion) {
        return Ok(Outcome::Skipped(format!("this kernel does not offer {}", cell.congestion)));
    }
    if !cell.tail_probes {
        link.server.set_sysctl("net/ipv4/tcp_early_retrans", "0")?;
    }
    cell.program(&link);
    let before = [Counters::of(&link.client)?, Counters::of(&link.server)?];
    let served = download(cell, &link)?;
    let ends = [probe.ended(&link.client, cell.flows)?, probe.ended(&link.server, cell.flows)?];
    let ledger = link.settled(LONG)?;
    let after = [Counters::of(&link.client)?, Counters::of(&link.server)?];
    let grown = |end: usize, name| after[end].since(&before[end], name);
    let kernel = [grown(0, "Tcp.RetransSegs")?, grown(1, "Tcp.RetransSegs")?];
    let refused = grown(0, "TcpExt.PAWSEstab")? + grown(1, "TcpExt.PAWSEstab")?;
    let seen = Seen { cell, ledger, served, ends, kernel, refused };
    Ok(Outcome::Measured(Box::new(seen.figures()?)))
}

fn congestion_controls(namespace: &Namespace) -> Result<String> {
    let read = || fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    namespace.run(read)?.context("cannot read which congestion controls there are")
}

/// All flows at once, to their end.
fn download(cell: &Cell, link: &Link) -> Result<Vec<Conversation>> {
    let options = Options { congestion: Some(cell.congestion), ..Options::default() };
    let address = if cell.v6 { link.server_v6(PORT) } else { link.server_v4(PORT) };
    let server = Server::start(&link.server, address, Behaviour::Send(cell.bytes), &options)?;
    let client = || -> Result<()> {
        let mut stream = connect(&link.client, server.address, &options)?.context("cannot connect")?;
        let bytes = receive_all(&mut stream)?;
        ensure!(bytes == cell.bytes, "{bytes} bytes arrived of {}", cell.bytes);
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let begun = Instant::now();
        let begin = |nth: u32| {
            pause((cell.apart * nth).saturating_sub(begun.elapsed()));
            scope.spawn(client)
        };
        let clients: Vec<_> = (0..u32::try_from(cell.flows)?).map(begin).collect();
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    server.served(cell.flows, LONG)
}

/// What everyone saw of a cell. Ends are the client's, then the server's, as [`Direction::index`] has it.
struct Seen<'a> {
    cell: &'a Cell,
    ledger: Ledger,
    served: Vec<Conversation>,
    ends: [Vec<Line>; 2],
    kernel: [u64; 2],
    /// TcpExt.PAWSEstab of both ends.
    refused: u64,
}

impl Seen<'_> {
    fn figures(&self) -> Result<Figures> {
        ensure!(
            self.ledger.flows.len() == self.cell.flows,
            "{} connections crossed the link, {} were made",
            self.ledger.flows.len(),
            self.cell.flows
        );
        Ok(Figures {
            segments: self.segments()?,
            loss: self.loss()?,
            confusion: self.confusion()?,
            per_flow: self.per_flow()?,
        })
    }

    /// The index in the ledger of the flow of a record.
    fn flow_of(&self, line: &Line, direction: Direction) -> Result<usize> {
        let port = match direction {
            Direction::ToServer => local_port(line)?,
            Direction::ToClient => line.u64("remote_port")?.try_into()?,
        };
        let found = self.ledger.flows.iter().position(|flow| flow.client.port() == port);
        found.with_context(|| format!("no packet from or to client port {port} crossed the link"))
    }

    /// Each record with what its end sent by the ledger.
    fn pairs(&self, direction: Direction) -> impl Iterator<Item = Result<(&Line, &Half)>> {
        self.ends[direction.index()].iter().map(move |line| {
            let flow = &self.ledger.flows[self.flow_of(line, direction)?];
            Ok((line, flow.sent(direction)))
        })
    }

    fn segments(&self) -> Result<Segments> {
        let mut sum = Segments::default();
        for direction in Direction::BOTH {
            let (mut ledger, mut causes, mut total) = (0, 0, 0);
            for pair in self.pairs(direction) {
                let (line, half) = pair?;
                let seen = half.retransmitted.total();
                let parts = reported(line)?.values().sum::<u64>();
                let all = line.u64("retrans_segs")?;
                sum.difference += spread(&[seen, parts, all]);
                sum.unexplained += line.u64("retrans_other")? + line.u64("retrans_unattributed")?;
                (ledger, causes, total) = (ledger + seen, causes + parts, total + all);
            }
            let kernel = self.kernel[direction.index()];
            sum.difference += kernel.abs_diff(total);
            sum.ledger += ledger;
            sum.causes += causes;
            sum.retrans_segs += total;
            sum.kernel += kernel;
        }
        for pair in self.pairs(Direction::ToClient) {
            let (line, half) = pair?;
            // TCP_INFO was read before the FIN was sent.
            let kernel = u64::from(self.served_by(line)?.info.total_retrans) + half.retransmitted.fin;
            let all = line.u64("retrans_segs")?;
            sum.tcp_info += kernel;
            sum.senders += all;
            sum.difference += kernel.abs_diff(all);
        }
        Ok(sum)
    }

    fn served_by(&self, line: &Line) -> Result<&Conversation> {
        let port = line.u64("remote_port")?;
        let found = self.served.iter().find(|one| u64::from(one.peer.port()) == port);
        found.with_context(|| format!("the server had no connection to port {port}"))
    }

    fn loss(&self) -> Result<Loss> {
        let mut sum = Loss { refused_by_receivers: self.refused, ..Loss::default() };
        for direction in Direction::BOTH {
            for pair in self.pairs(direction) {
                let (line, half) = pair?;
                sum.dropped += half.dropped_recoverable() + half.refused_needed;
                sum.refused_needed += half.refused_needed;
                sum.refused += half.refused;
                let needless = needless(&self.ledger, self.flow_of(line, direction)?, direction);
                sum.needless += needless.all();
                sum.needless_handshake += needless.handshake;
                let estimate = line.u64("lost_segs_estimate")?;
                sum.estimate += estimate;
                sum.found_needless += line.u64("retrans_segs")?.saturating_sub(estimate);
                sum.spurious += line.u64("spurious_segs")?;
            }
        }
        Ok(sum)
    }

    /// The truth about a SYN or SYN-ACK is in the packet, that about data in what the cell's fault can cause. An end has
    /// one true cause, so that all it reports belongs to that one.
    fn confusion(&self) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
        let mut matrix: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        let Some(cause) = self.cell.cause else { return Ok(matrix) };
        for direction in Direction::BOTH {
            for pair in self.pairs(direction) {
                let (line, half) = pair?;
                let again = half.retransmitted;
                let classes = [("syn", again.syn), ("synack", again.synack), (cause, again.data + again.fin)];
                let present: Vec<_> = classes.into_iter().filter(|(_, count)| *count > 0).collect();
                let (truth, count) = match present.as_slice() {
                    [] => ("none", 0),
                    [one] => *one,
                    several => bail!("one end sent several classes again, so no single cause: {several:?}"),
                };
                let mut reported = reported(line)?;
                let all: u64 = reported.values().sum();
                // What a timer sent that need not have been sent is not the fault's doing.
                let mut needless = needless(&self.ledger, self.flow_of(line, direction)?, direction).data;
                for timer in ["tlp", "rto"].into_iter().filter(|timer| *timer != truth) {
                    let segments = reported.get_mut(timer).context("a cause has no count")?;
                    let late = needless.min(*segments);
                    (needless, *segments) = (needless - late, *segments - late);
                    if late > 0 {
                        *matrix
                            .entry(NEEDLESS.to_owned())
                            .or_default()
                            .entry(timer.to_owned())
                            .or_default() += late;
                    }
                }
                let row = matrix.entry(truth.to_owned()).or_default();
                for (name, segments) in reported.into_iter().chain([("missing", count.saturating_sub(all))]) {
                    if segments > 0 {
                        *row.entry(name.to_owned()).or_default() += segments;
                    }
                }
            }
        }
        matrix.retain(|_, row| !row.is_empty());
        Ok(matrix)
    }

    fn per_flow(&self) -> Result<Vec<FlowFigures>> {
        let [clients, servers] = &self.ends;
        let mut all = Vec::new();
        for line in servers {
            let flow = self.flow_of(line, Direction::ToClient)?;
            let mut client = None;
            for one in clients {
                if self.flow_of(one, Direction::ToServer)? == flow {
                    client = Some(one);
                }
            }
            let client = client.context("the client's end has no record")?;
            let truth = round_trips(&self.ledger, flow, Direction::ToClient)?;
            let receiver = round_trips(&self.ledger, flow, Direction::ToServer)?;
            let histogram = histogram(line)?;
            all.push(FlowFigures {
                min_rtt_us: line.u64("min_rtt_us")?,
                ledger_min_us: truth.smallest_ns.context("the ledger holds no round trip")? as f64 / 1e3,
                tcp_info_min_us: self.served_by(line)?.info.min_rtt_us().map(u64::from),
                median: Quantile::of(0.5, &histogram, &truth.each_ns)?,
                p99: Quantile::of(0.99, &histogram, &truth.each_ns)?,
                samples: line.u64("rtt_samples")?,
                round_trips: truth.each_ns.len() as u64,
                round_trips_least: truth.least,
                receiver_samples: client.u64("rtt_samples")?,
                receiver_round_trips: receiver.each_ns.len() as u64,
            });
        }
        Ok(all)
    }
}

/// flowprobe's causes.
fn reported(line: &Line) -> Result<BTreeMap<&'static str, u64>> {
    CAUSES.into_iter().map(|cause| Ok((cause, line.u64(&format!("retrans_{cause}"))?))).collect()
}

/// Largest minus smallest.
fn spread(counts: &[u64]) -> u64 {
    counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
}
