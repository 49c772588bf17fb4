//! One download over a link, seen by everyone: the ledger, both ends' TCP_INFO, the namespaces' counters, flowprobe.

use anyhow::{Context as _, Result};

use super::{LONG, Probe, expect};
use crate::kit::Line;
use crate::link::{Direction, Half, Ledger, Link};
use crate::traffic::{Behaviour, Conversation, Options, Server, connect, receive_all};
use crate::truth::{Counters, TcpInfo};

/// Port of the downloads' server.
pub(super) const PORT: u16 = 8080;

/// What to download.
#[derive(Clone, Debug)]
pub struct Download {
    /// What the server does: [`Behaviour::Send`] or [`Behaviour::SendAndLeave`] of so many bytes.
    pub behaviour: Behaviour,
    /// Over IPv6.
    pub v6: bool,
}

/// What everyone saw.
#[derive(Debug)]
pub struct Run {
    /// The link's ledger after the connection's end.
    pub ledger: Ledger,
    /// The server just before its close.
    pub served: Conversation,
    /// The client just before its close.
    pub client_info: TcpInfo,
    /// flowprobe's record of the client's end.
    pub client: Line,
    /// flowprobe's record of the server's end.
    pub server: Line,
    /// What RetransSegs of the client's and the server's namespace grew by.
    pub retrans_segs: [u64; 2],
}

impl Download {
    /// The server waits for the last acknowledgement before it closes.
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        Self { behaviour: Behaviour::Send(bytes), v6: false }
    }

    /// Do it, and wait until everyone has seen its end. The link must be fresh: no connection before this one.
    ///
    /// # Errors
    /// When the download fails or flowprobe does not report exactly one connection on each side.
    pub fn run(&self, probe: &Probe, link: &Link) -> Result<Run> {
        let before = [Counters::of(&link.client)?, Counters::of(&link.server)?];
        let address = if self.v6 { link.server_v6(PORT) } else { link.server_v4(PORT) };
        let server = Server::start(&link.server, address, self.behaviour, &Options::default())?;
        let mut stream = connect(&link.client, server.address, &Options::default())??;
        let bytes = receive_all(&mut stream)?;
        if let Behaviour::Send(sent) | Behaviour::SendAndLeave(sent) = self.behaviour {
            expect("the number of bytes that arrived", bytes, sent)?;
        }
        let client_info = TcpInfo::of(&stream)?;
        drop(stream);
        let served = *server.served(1, LONG)?.first().context("nothing was served")?;
        let client = probe.ended_one(&link.client).context("the client's end")?;
        let server = probe.ended_one(&link.server).context("the server's end")?;
        let ledger = link.settled(LONG)?;
        let retrans_segs = [
            Counters::of(&link.client)?.since(&before[0], "Tcp.RetransSegs")?,
            Counters::of(&link.server)?.since(&before[1], "Tcp.RetransSegs")?,
        ];
        Ok(Run { ledger, served, client_info, client, server, retrans_segs })
    }
}

impl Run {
    /// What the server sent, by the ledger.
    ///
    /// # Errors
    /// When not exactly one connection crossed the link.
    pub fn down(&self) -> Result<&Half> {
        Ok(self.ledger.only_flow()?.sent(Direction::ToClient))
    }

    /// What the client sent, by the ledger.
    ///
    /// # Errors
    /// When not exactly one connection crossed the link.
    pub fn up(&self) -> Result<&Half> {
        Ok(self.ledger.only_flow()?.sent(Direction::ToServer))
    }

    /// flowprobe's retransmissions are those of the ledger and of the kernel, on both sides.
    ///
    /// # Errors
    /// When one differs.
    pub fn retransmissions_agree(&self) -> Result<()> {
        let sides = [("client", &self.client, self.up()?), ("server", &self.server, self.down()?)];
        for ((side, line, half), counted) in sides.into_iter().zip(self.retrans_segs) {
            let causes = super::causes(line).with_context(|| format!("the {side}'s causes"))?;
            expect(&format!("the {side}'s RetransSegs"), counted, half.retransmitted.total())?;
            expect(&format!("the {side}'s retrans_segs"), causes.all, half.retransmitted.total())?;
            expect(&format!("the {side}'s retrans_syn"), causes.syn, half.retransmitted.syn)?;
            expect(&format!("the {side}'s retrans_synack"), causes.synack, half.retransmitted.synack)?;
            expect(&format!("the {side}'s retrans_unattributed"), causes.unattributed, 0)?;
            expect(
                &format!("the {side}'s retrans_bytes"),
                line.u64("retrans_bytes")?,
                half.retransmitted_bytes,
            )?;
        }
        Ok(())
    }
}
