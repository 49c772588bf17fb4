//! IPv4 and IPv6 packets as bytes: parse what the ledger needs, cut super-packets into segments, fill in checksums.
//! Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use super::device::VNET_HEADER_LEN;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
const CWR: u8 = 0x80;
const PROTOCOL_TCP: u8 = 6;
/// Bytes of both headers without options.
const IPV4_HEADER: usize = 20;
const TCP_HEADER: usize = 20;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The first packet of a connection.
    Syn,
    /// The answer to it.
    SynAck,
    /// A segment with payload, also when it carries FIN.
    Data,
    /// FIN without payload.
    Fin,
    /// Neither payload nor SYN, FIN or RST.
    Ack,
    /// A reset.
    Rst,
    /// Not TCP.
    Other,
}

/// The TCP header's fields and where the parts are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) payload_len: u32,
    /// TSval of the timestamp option (RFC 7323).
    pub(crate) timestamp: Option<u32>,
    ip_header_len: usize,
    header_len: usize,
}

impl Tcp {
    pub(crate) fn kind(&self) -> Kind {
        if self.flags & RST != 0 {
            Kind::Rst
        } else if self.flags & SYN != 0 {
            if self.flags & ACK == 0 { Kind::Syn } else { Kind::SynAck }
        } else if self.payload_len > 0 {
            Kind::Data
        } else if self.flags & FIN != 0 {
            Kind::Fin
        } else {
            Kind::Ack
        }
    }
}

/// `struct virtio_net_hdr`, as far as it is used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offload {
    needs_checksum: bool,
    /// Payload bytes of each segment; 0 for a plain packet.
    segment_len: usize,
}

impl Offload {
    pub(crate) fn parse(header: &[u8; VNET_HEADER_LEN]) -> Self {
        // flags, gso_type, hdr_len, gso_size, csum_start, csum_offset: little-endian shorts on a little-endian machine.
        let segment_len = usize::from(u16::from_ne_bytes([header[4], header[5]]));
        Self { needs_checksum: header[0] & 1 != 0, segment_len: if header[1] == 0 { 0 } else { segment_len } }
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// IP version, source and destination; `None` when it is no IP packet.
pub(crate) fn addresses(packet: &[u8]) -> Option<(u8, IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => {
            let at = |from: usize| IpAddr::V4(Ipv4Addr::from(be32(packet, from)));
            Some((4, at(12), at(16)))
        }
        6 if packet.len() >= 40 => {
            let at = |from: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&packet[from..from + 16]);
                IpAddr::V6(Ipv6Addr::from(octets))
            };
            Some((6, at(8), at(24)))
        }
        _ => None,
    }
}

/// The TCP header of a packet; `None` when it is not TCP or cut short. Extension headers and fragments do not occur on
/// the link: its ends are two kernels that agree on the MTU.
pub(crate) fn parse_tcp(packet: &[u8]) -> Option<Tcp> {
    let (version, source, destination) = addresses(packet)?;
    let (protocol, ip_header_len) = match version {
        4 => (packet[9], usize::from(packet[0] & 0x0f) * 4),
        _ => (packet[6], 40),
    };
    if protocol != PROTOCOL_TCP || packet.len() < ip_header_len + 20 {
        return None;
    }
    let tcp = &packet[ip_header_len..];
    let header_len = usize::from(tcp[12] >> 4) * 4;
    let payload_len = u32::try_from(tcp.len().checked_sub(header_len)?).ok()?;
    Some(Tcp {
        source: SocketAddr::new(source, be16(tcp, 0)),
        destination: SocketAddr::new(destination, be16(tcp, 2)),
        seq: be32(tcp, 4),
        ack: be32(tcp, 8),
        flags: tcp[13],
        window: be16(tcp, 14),
        payload_len,
        timestamp: timestamp(tcp.get(20..header_len)?),
        ip_header_len,
        header_len,
    })
}

/// TSval among the options: kind, length, value; NOP is a kind alone, END the last.
fn timestamp(mut options: &[u8]) -> Option<u32> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const TIMESTAMPS: u8 = 8;
    loop {
        match options {
            [] | [END, ..] => return None,
            [NOP, rest @ ..] => options = rest,
            [TIMESTAMPS, 10, value @ ..] if value.len() >= 8 => return Some(be32(value, 0)),
            [_, length, ..] => options = options.get(usize::from(*length).max(2)..)?,
            [_] => return None,
        }
    }
}

/// The segments a packet stands for, each with right checksums, in order.
pub(crate) fn segments(packet: Vec<u8>, offload: Offload) -> Vec<Vec<u8>> {
    let Some(tcp) = parse_tcp(&packet) else { return vec![packet] };
    let payload_at = tcp.ip_header_len + tcp.header_len;
    let payload = &packet[payload_at..];
    if offload.segment_len == 0 || payload.len() <= offload.segment_len {
        let mut packet = packet;
        if offload.needs_checksum || offload.segment_len != 0 {
            fill_checksums(&mut packet, tcp.ip_header_len);
        }
        return vec![packet];
    }
    let count = payload.len().div_ceil(offload.segment_len);
    let mut seq = tcp.seq;
    let mut identification = be16(&packet, 4);
    let mut cut = Vec::with_capacity(count);
    for (index, part) in payload.chunks(offload.segment_len).enumerate() {
        let mut segment = Vec::with_capacity(payload_at + part.len());
        segment.extend_from_slice(&packet[..payload_at]);
        segment.extend_from_slice(part);
        let length = segment.len();
        if packet[0] >> 4 == 4 {
            segment[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            segment[4..6].copy_from_slice(&identification.to_be_bytes());
        } else {
            segment[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        }
        let header = &mut segment[tcp.ip_header_len..];
        header[4..8].copy_from_slice(&seq.to_be_bytes());
        if index + 1 < count {
            header[13] &= !(FIN | PSH);
        }
        if index > 0 {
            header[13] &= !CWR;
        }
        fill_checksums(&mut segment, tcp.ip_header_len);
        cut.push(segment);
        seq = seq.wrapping_add(part.len() as u32);
        identification = identification.wrapping_add(1);
    }
    cut
}

/// A SYN without options, in IPv4, as a program writes it to a raw socket.
pub(crate) fn syn(from: SocketAddrV4, to: SocketAddrV4, sequence: u32) -> [u8; IPV4_HEADER + TCP_HEADER] {
    let mut packet = [0; IPV4_HEADER + TCP_HEADER];
    packet[0] = 0x45;
    packet[3] = (IPV4_HEADER + TCP_HEADER) as u8;
    packet[8] = 64;
    packet[9] = PROTOCOL_TCP;
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    let tcp = &mut packet[IPV4_HEADER..];
    tcp[0..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[12] = ((TCP_HEADER / 4) as u8) << 4;
    tcp[13] = SYN;
    tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    fill_checksums(&mut packet, IPV4_HEADER);
    packet
}

/// Internet checksum (RFC 1071) of `bytes`, on top of `sum`.
fn checksum(bytes: &[u8], mut sum: u64) -> u16 {
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn fill_checksums(packet: &mut [u8], ip_header_len: usize) {
    let (addresses_at, addresses_len) = if packet[0] >> 4 == 4 { (12, 8) } else { (8, 32) };
    if addresses_len == 8 {
        packet[10..12].fill(0);
        let sum = checksum(&packet[..ip_header_len], 0);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let tcp_len = packet.len() - ip_header_len;
    let mut pseudo = u64::from(PROTOCOL_TCP) + tcp_len as u64;
    for pair in packet[addresses_at..addresses_at + addresses_len].chunks_exact(2) {
        pseudo += u64::from(be16(pair, 0));
    }
    packet[ip_header_len + 16..ip_header_len + 18].fill(0);
    let sum = checksum(&packet[ip_header_len..], pseudo);
    packet[ip_header_len + 16..ip_header_len + 18].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(payload: usize) -> Vec<u8> {
        let mut packet = vec![0_u8; 40 + payload];
        packet[0] = 0x45;
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[8] = 64;
        packet[9] = PROTOCOL_TCP;
        packet[12..20].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
        packet[20..24].copy_from_slice(&[0x13, 0x88, 0, 80]);
        packet[24..28].copy_from_slice(&0xffff_fff0_u32.to_be_bytes());
        packet[32] = 0x50;
        packet[33] = ACK | PSH | FIN;
        for (index, byte) in packet[40..].iter_mut().enumerate() {
            *byte = index as u8;
        }
        packet
    }

    #[test]
    fn a_super_packet_is_cut_into_segments_with_right_checksums() {
        let cut = segments(sample(2500), Offload { needs_checksum: true, segment_len: 1000 });
        let parsed: Vec<Tcp> = cut.iter().map(|packet| parse_tcp(packet).unwrap()).collect();
        assert_eq!(parsed.iter().map(|tcp| tcp.payload_len).collect::<Vec<_>>(), [1000, 1000, 500]);
        assert_eq!(parsed.iter().map(|tcp| tcp.seq).collect::<Vec<_>>(), [0xffff_fff0, 984, 1984]);
        assert_eq!(parsed.iter().map(|tcp| tcp.flags & FIN).collect::<Vec<_>>(), [0, 0, FIN]);
        for packet in &cut {
            let pseudo = u64::from(PROTOCOL_TCP)
                + (packet.len() - 20) as u64
                + packet[12..20].chunks(2).map(|pair| u64::from(be16(pair, 0))).sum::<u64>();
            assert_eq!(checksum(&packet[20..], pseudo), 0, "a right checksum sums to zero");
            assert_eq!(checksum(&packet[..20], 0), 0);
        }
    }

    #[test]
    fn a_cut_short_packet_is_not_tcp() {
        let packet = sample(0);
        assert!(parse_tcp(&packet).is_some());
        for length in 0..40 {
            assert!(parse_tcp(&packet[..length]).is_none(), "{length} bytes");
        }
    }
}
