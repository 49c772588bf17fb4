//! The judge of the situations: two ends, everything that crossed between them, and every count of what was sent again.
//!
//! The situations themselves are those that Google's packetdrill plays to a kernel, here between two kernels over the link:
//! [`super::situation_open`] how connections begin, [`super::situation_loss`] how losses are repaired,
//! [`super::situation_socket`] what a program may do to a socket.

use anyhow::{Context as _, Result, ensure};

use super::{LONG, Probe, causes, expect};
use crate::kit::{Line, Namespace};
use crate::link::{Direction, Ledger, Link};
use crate::truth::Counters;

/// A link with the counters of both namespaces as they were before the traffic.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) link: Link,
    before: [Counters; 2],
}

/// What everyone saw, and agreed on.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) ledger: Ledger,
    /// flowprobe's records of the client's namespace and of the server's, in the order of [`Direction::index`].
    lines: [Vec<Line>; 2],
}

impl Stage {
    /// Remember the counters of a fresh link.
    pub(super) fn new(link: Link) -> Result<Self> {
        let before = [Counters::of(&link.client)?, Counters::of(&link.server)?];
        Ok(Self { link, before })
    }

    /// How much a counter of a namespace grew.
    pub(super) fn grew(&self, sender: Direction, counter: &str) -> Result<u64> {
        let before = &self.before[sender.index()];
        Counters::of(self.link.end(sender))?.since(before, counter)
    }

    /// Wait for the records of so many ended connections of each namespace. On each side the sum of the causes, the sum of
    /// `retrans_segs`, the ledger and RetransSegs have to be the same number, and no segment without a cause.
    pub(super) fn judge(&self, probe: &Probe, connections: usize) -> Result<Seen> {
        let ended = |end: &Namespace| probe.ended(end, connections);
        let lines = [
            ended(&self.link.client).context("the client's namespace")?,
            ended(&self.link.server).context("the server's namespace")?,
        ];
        let ledger = self.link.settled(LONG)?;
        expect("the number of connections on the link", ledger.flows.len(), connections)?;
        for sender in Direction::BOTH {
            let side = if sender == Direction::ToServer { "client" } else { "server" };
            let (mut all, mut syns, mut bytes) = (0, 0, 0);
            for line in &lines[sender.index()] {
                // Adds them up, too.
                let causes = causes(line).with_context(|| format!("the {side}'s causes"))?;
                expect(&format!("the {side}'s retrans_unattributed"), causes.unattributed, 0)
                    .with_context(|| format!("{line:?}"))?;
                if line.text("role")? == "client" {
                    expect("the retrans_synack of an end that connected", causes.synack, 0)?;
                } else {
                    expect("the retrans_syn of an end that was connected to", causes.syn, 0)?;
                }
                all += causes.all;
                syns += causes.syn + causes.synack;
                bytes += line.u64("retrans_bytes")?;
            }
            let sent = ledger.retransmitted(sender);
            expect(
                &format!("the {side}'s RetransSegs"),
                self.grew(sender, "Tcp.RetransSegs")?,
                sent.total(),
            )?;
            expect(&format!("the {side}'s retrans_segs"), all, sent.total())?;
            expect(&format!("the {side}'s retrans_syn and retrans_synack"), syns, sent.syn + sent.synack)?;
            let sent: u64 = ledger.flows.iter().map(|flow| flow.sent(sender).retransmitted_bytes).sum();
            expect(&format!("the {side}'s retrans_bytes"), bytes, sent)?;
        }
        Ok(Seen { ledger, lines })
    }
}

impl Seen {
    /// The record of the end that sent in this direction, of the connection from this port of the client.
    pub(super) fn line(&self, sender: Direction, client_port: u16) -> Result<&Line> {
        let field = if sender == Direction::ToServer { "local_port" } else { "remote_port" };
        let mut of_port = self.lines[sender.index()]
            .iter()
            .filter(|line| line.u64(field).is_ok_and(|port| port == u64::from(client_port)));
        let line = of_port.next().with_context(|| format!("no record has the {field} {client_port}"))?;
        ensure!(of_port.next().is_none(), "two records have the {field} {client_port}");
        Ok(line)
    }

    /// The only record of the end that sent in this direction.
    pub(super) fn only_line(&self, sender: Direction) -> Result<&Line> {
        let lines = &self.lines[sender.index()];
        ensure!(lines.len() == 1, "{} connections ended, not one", lines.len());
        Ok(&lines[0])
    }
}

/// The handshake's round trip is null or that of the path: not below it by more than a tick of the echoed timestamp's clock,
/// and not measured from a SYN that was lost, which is repeated after a second.
pub(super) fn sane_handshake(line: &Line, path_us: u64) -> Result<()> {
    if let Some(us) = line.maybe_u64("handshake_rtt_us")? {
        ensure!(
            (path_us - 1000..1_000_000).contains(&us),
            "the {}'s handshake_rtt_us is {us} on a path of {path_us} µs",
            line.text("role")?
        );
    }
    Ok(())
}
