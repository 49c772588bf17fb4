//! The ledger: every packet that entered the link, what became of it, and the sums per connection and direction.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};

use super::flow::{Place, Sender};
use super::packet::{self, Tcp};
use super::{Direction, DropReason, Kind, Seen};

/// One packet. Times are CLOCK_MONOTONIC in nanoseconds.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which way it went.
    pub direction: Direction,
    /// When it was read from the sender's device.
    pub entered_ns: u64,
    /// When it was written to the receiver's device; `None` while on its way or when dropped.
    pub left_ns: Option<u64>,
    /// 4 or 6; 0 for what is not IP.
    pub ip_version: u8,
    /// Bytes including the IP header.
    pub length: u32,
    /// What it is for.
    pub kind: Kind,
    /// Index of its connection in [`Ledger::flows`]; `None` for what is not TCP.
    pub flow: Option<usize>,
    /// TCP sequence number.
    pub seq: u32,
    /// TCP acknowledgement number.
    pub ack: u32,
    /// TCP flags, FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub flags: u8,
    /// The receive window as written, before scaling: 0 is a closed window at any scale.
    pub window: u16,
    /// Payload bytes.
    pub payload_len: u32,
    /// Its bytes (or this SYN, SYN-ACK, FIN) were sent before.
    pub retransmission: bool,
    /// How often they were sent, this time included.
    pub transmission: u32,
    /// Why it did not arrive.
    pub dropped: Option<DropReason>,
    /// It arrived, and all its bytes had arrived before: a needless retransmission was made.
    pub duplicate: bool,
    /// It arrived, and the receiver threw it away: its timestamp was older than what it had seen in order (RFC 7323, 5.3).
    pub refused: bool,
}

/// Retransmitted segments by what was sent again. Each dropped retransmission counts too: it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retransmissions {
    /// SYN.
    pub syn: u64,
    /// SYN-ACK.
    pub synack: u64,
    /// Segments with payload.
    pub data: u64,
    /// FIN without payload.
    pub fin: u64,
}

impl Retransmissions {
    /// All of them: what `RetransSegs` counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.syn + self.synack + self.data + self.fin
    }
}

/// What one end of a connection sent.
#[derive(Clone, Debug, Default)]
pub struct Half {
    /// All packets.
    pub packets: u64,
    /// Segments with payload, retransmissions counted.
    pub data_segments: u64,
    /// Retransmissions by class.
    pub retransmitted: Retransmissions,
    /// Payload bytes sent again.
    pub retransmitted_bytes: u64,
    /// Data segments that arrived although all their bytes had arrived before: needless retransmissions.
    pub duplicates_arrived: u64,
    /// Data segments that the receiver threw away for their timestamps: what its `TcpExt.PAWSEstab` counts.
    pub refused: u64,
    /// Those of them whose bytes had not all arrived before: as good as lost, so that sending them again was needed.
    pub refused_needed: u64,
    /// Round trips this end could measure: one for the handshake, then one each time something is acknowledged that
    /// was sent after the last one ended.
    pub round_trips: u64,
    dropped: HashMap<Kind, u64>,
}

impl Half {
    /// Packets of this kind that the link dropped.
    #[must_use]
    pub fn dropped(&self, kind: Kind) -> u64 {
        self.dropped.get(&kind).copied().unwrap_or(0)
    }

    /// Dropped packets that take part in loss recovery: SYN, SYN-ACK, data, FIN.
    #[must_use]
    pub fn dropped_recoverable(&self) -> u64 {
        [Kind::Syn, Kind::SynAck, Kind::Data, Kind::Fin].into_iter().map(|kind| self.dropped(kind)).sum()
    }
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The end in the client's namespace.
    pub client: SocketAddr,
    /// The end in the server's namespace.
    pub server: SocketAddr,
    halves: [Half; 2],
}

impl Flow {
    /// What was sent in this direction.
    #[must_use]
    pub fn sent(&self, direction: Direction) -> &Half {
        &self.halves[direction.index()]
    }

    /// Retransmissions of both directions, all classes.
    #[must_use]
    pub fn retransmissions(&self) -> u64 {
        self.halves.iter().map(|half| half.retransmitted.total()).sum()
    }
}

/// A snapshot of the ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// All packets, in the order they entered.
    pub entries: Vec<Entry>,
    /// All connections, in the order they began. The same addresses with a new initial sequence number are a new one.
    pub flows: Vec<Flow>,
}

impl Ledger {
    /// The connection from this port of the client; the last one when the port was used again.
    ///
    /// # Errors
    /// When no packet of it was seen.
    pub fn flow_from(&self, client_port: u16) -> Result<&Flow> {
        self.flows
            .iter()
            .rfind(|flow| flow.client.port() == client_port)
            .with_context(|| format!("no packet from or to client port {client_port} crossed the link"))
    }

    /// The only connection that crossed the link.
    ///
    /// # Errors
    /// When there was none, or several.
    pub fn only_flow(&self) -> Result<&Flow> {
        match self.flows.as_slice() {
            [flow] => Ok(flow),
            flows => bail!("{} connections crossed the link, not one", flows.len()),
        }
    }

    /// Retransmissions of all connections that entered the link in this direction.
    #[must_use]
    pub fn retransmitted(&self, direction: Direction) -> Retransmissions {
        let mut sum = Retransmissions::default();
        for flow in &self.flows {
            let part = flow.sent(direction).retransmitted;
            sum.syn += part.syn;
            sum.synack += part.synack;
            sum.data += part.data;
            sum.fin += part.fin;
        }
        sum
    }

    /// Packets of a connection, in the order they entered.
    pub fn packets_of(&self, flow: usize) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.flow == Some(flow))
    }
}

/// The ledger as the engine writes it.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: Vec<Entry>,
    flows: Vec<Track>,
    /// The newest connection of each pair (client, server).
    newest: HashMap<(SocketAddr, SocketAddr), usize>,
    /// Packets that arrived or were dropped.
    finished: usize,
}

#[derive(Debug)]
struct Track {
    client: SocketAddr,
    server: SocketAddr,
    senders: [Sender; 2],
}

impl Book {
    /// Note a packet that entered; its index, and for TCP what rules may know.
    pub(super) fn enter(&mut self, now_ns: u64, direction: Direction, bytes: &[u8]) -> (usize, Option<Seen>) {
        let mut entry = Entry {
            direction,
            entered_ns: now_ns,
            left_ns: None,
            ip_version: packet::addresses(bytes).map_or(0, |(version, ..)| version),
            length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            kind: Kind::Other,
            flow: None,
            seq: 0,
            ack: 0,
            flags: 0,
            window: 0,
            payload_len: 0,
            retransmission: false,
            transmission: 1,
            dropped: None,
            duplicate: false,
            refused: false,
        };
        let seen = packet::parse_tcp(bytes).map(|tcp| {
            let flow = self.flow_of(direction, &tcp);
            let track = &mut self.flows[flow];
            let place = track.senders[direction.index()].send(&tcp);
            entry.kind = tcp.kind();
            entry.flow = Some(flow);
            entry.seq = tcp.seq;
            entry.ack = tcp.ack;
            entry.flags = tcp.flags;
            entry.window = tcp.window;
            entry.payload_len = tcp.payload_len;
            entry.retransmission = place.retransmission;
            entry.transmission = place.transmission;
            seen_of(direction, &tcp, track, place)
        });
        self.entries.push(entry);
        (self.entries.len() - 1, seen)
    }

    /// Note that a packet was dropped.
    pub(super) fn drop(&mut self, index: usize, reason: DropReason) {
        self.finished += 1;
        let entry = &mut self.entries[index];
        entry.dropped = Some(reason);
        if let Some(flow) = entry.flow {
            *self.flows[flow].senders[entry.direction.index()].half.dropped.entry(entry.kind).or_default() +=
                1;
        }
    }

    /// Note that a packet arrived.
    pub(super) fn leave(&mut self, index: usize, now_ns: u64, bytes: &[u8]) {
        self.finished += 1;
        let entry = &mut self.entries[index];
        entry.left_ns = Some(now_ns);
        let (Some(flow), Some(tcp)) = (entry.flow, packet::parse_tcp(bytes)) else { return };
        let [to_server, to_client] = &mut self.flows[flow].senders;
        let (sender, receiver) = match entry.direction {
            Direction::ToServer => (to_server, to_client),
            Direction::ToClient => (to_client, to_server),
        };
        let arrival = sender.arrive(&tcp);
        (entry.duplicate, entry.refused) = (arrival.duplicate, arrival.refused);
        receiver.acknowledged(&tcp);
    }

    /// Packets that entered, and those of them that are on their way.
    pub(super) fn progress(&self) -> (usize, usize) {
        (self.entries.len(), self.entries.len() - self.finished)
    }

    pub(super) fn snapshot(&self) -> Ledger {
        let flows = self.flows.iter().map(|track| Flow {
            client: track.client,
            server: track.server,
            halves: [track.senders[0].half.clone(), track.senders[1].half.clone()],
        });
        Ledger { entries: self.entries.clone(), flows: flows.collect() }
    }

    fn flow_of(&mut self, direction: Direction, tcp: &Tcp) -> usize {
        let (client, server) = match direction {
            Direction::ToServer => (tcp.source, tcp.destination),
            Direction::ToClient => (tcp.destination, tcp.source),
        };
        if let Some(index) = self.newest.get(&(client, server)) {
            let known = &self.flows[*index].senders[direction.index()];
            if tcp.kind() != Kind::Syn || !known.begins_another(tcp) {
                return *index;
            }
        }
        self.flows.push(Track { client, server, senders: Default::default() });
        self.newest.insert((client, server), self.flows.len() - 1);
        self.flows.len() - 1
    }
}

fn seen_of(direction: Direction, tcp: &Tcp, track: &Track, place: Place) -> Seen {
    Seen {
        direction,
        kind: tcp.kind(),
        client_port: track.client.port(),
        server_port: track.server.port(),
        nth_of_kind: place.nth_of_kind,
        nth_data: place.nth_data,
        transmission: place.transmission,
        offset: place.offset,
        payload_len: tcp.payload_len,
    }
}
