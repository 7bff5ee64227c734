//! TCP and UDP packets of both families, made with `etherparse`; and what address translation must make of one,
//! computed over the whole packet by `etherparse` as well, never by lbx's own code.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpDscp, IpEcn, IpFragOffset, IpNumber, IpSlice, Ipv4Header, Ipv6FlowLabel, Ipv6Header, SlicedPacket,
    TcpHeader, TcpOptionElement, TcpSlice, TransportSlice, UdpHeader,
};

use crate::family::Family;

/// MACs of a frame that a peer sends to lbx: destination, then source.
const MACS: [u8; 12] = [0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x77];
/// Flow label of packets in IPv6: nobody may change it.
const FLOW_LABEL: u32 = 0xa_bcde;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl Transport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// `tcp` or `udp`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A packet to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// TCP or UDP.
    pub transport: Transport,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port, of the same family.
    pub destination: SocketAddr,
    /// TCP flags by the letters that tcpdump shows: `S`, `.` (ACK), `P`, `F`, `R`.
    pub flags: &'static str,
    /// What follows the header of layer 4.
    pub data: Vec<u8>,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// The DF bit; without meaning in IPv6.
    pub dont_fragment: bool,
}

impl Packet {
    /// A packet with a little data, time to live 64, without DSCP and ECN, not to be fragmented.
    pub fn new(
        transport: Transport,
        source: impl Into<SocketAddr>,
        destination: impl Into<SocketAddr>,
    ) -> Self {
        Self {
            transport,
            source: source.into(),
            destination: destination.into(),
            flags: "P.",
            data: b"odd data!".to_vec(),
            ttl: 64,
            tos: 0,
            dont_fragment: true,
        }
    }

    /// The IP packet, all checksums right.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (from, to) = (self.source.port(), self.destination.port());
        let mut segment = Vec::new();
        let number = match self.transport {
            Transport::Tcp => {
                let mut header = TcpHeader::new(from, to, 1000, 1024);
                header.syn = self.flags.contains('S');
                header.ack = self.flags.contains('.');
                header.psh = self.flags.contains('P');
                header.fin = self.flags.contains('F');
                header.rst = self.flags.contains('R');
                header.write(&mut segment).unwrap();
                IpNumber::TCP
            }
            Transport::Udp => {
                let mut header = UdpHeader::without_ipv4_checksum(from, to, self.data.len()).unwrap();
                // Says that there shall be one.
                header.checksum = 0xffff;
                header.write(&mut segment).unwrap();
                IpNumber::UDP
            }
        };
        segment.extend(&self.data);
        let length = u16::try_from(segment.len()).unwrap();
        let mut packet = Vec::new();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header =
                    Ipv4Header::new(length, self.ttl, number, from.octets(), to.octets()).unwrap();
                header.dscp = IpDscp::try_new(self.tos >> 2).unwrap();
                header.ecn = IpEcn::try_new(self.tos & 3).unwrap();
                header.dont_fragment = self.dont_fragment;
                header.identification = 0x1234;
                header.write(&mut packet).unwrap();
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => Ipv6Header {
                traffic_class: self.tos,
                flow_label: Ipv6FlowLabel::try_new(FLOW_LABEL).unwrap(),
                payload_length: length,
                next_header: number,
                hop_limit: self.ttl,
                source: from.octets(),
                destination: to.octets(),
            }
            .write(&mut packet)
            .unwrap(),
            (from, to) => panic!("a packet from {from} to {to}: addresses of two families"),
        }
        packet.extend(segment);
        set_checksum(&mut packet);
        packet
    }

    /// The IP packet in an Ethernet frame.
    pub fn to_frame(&self) -> Vec<u8> {
        frame(&self.to_bytes())
    }
}

/// An Ethernet frame around an IP packet, of the type that its first byte says.
pub fn frame(packet: &[u8]) -> Vec<u8> {
    let family = Family::of_packet(packet).unwrap();
    ethernet(family.ethertype(), packet)
}

/// An Ethernet frame of any type.
pub fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&MACS[..], &kind.to_be_bytes(), payload].concat()
}

/// A frame with VLAN tags put in: the type of the tag, and the VLAN.
pub fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let tags = tags.iter().flat_map(|(kind, vlan)| [kind.to_be_bytes(), vlan.to_be_bytes()]).flatten();
    frame[..12].iter().copied().chain(tags).chain(frame[12..].iter().copied()).collect()
}

/// A packet with the bytes at `at` overwritten, and nothing else made right.
pub fn spoiled(packet: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut spoiled = packet.to_vec();
    spoiled[at..at + bytes.len()].copy_from_slice(bytes);
    spoiled
}

/// An IPv4 packet with its header changed; the header checksum is made right again.
pub fn with_ipv4(packet: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let (mut header, rest) = Ipv4Header::from_slice(packet).unwrap();
    change(&mut header);
    header.header_checksum = header.calc_header_checksum();
    let mut changed = Vec::new();
    header.write_raw(&mut changed).unwrap();
    changed.extend(rest);
    changed
}

/// An IPv4 packet with `words` words of options: no-operations up to the last, which ends the list.
pub fn with_options(packet: &[u8], words: u8) -> Vec<u8> {
    let mut options = vec![1; usize::from(words) * 4];
    if let Some(last) = options.last_mut() {
        *last = 0;
    }
    with_ipv4(packet, |header| {
        header.options = options.as_slice().try_into().unwrap();
        header.total_len += u16::from(words) * 4;
    })
}

/// The first fragment of a packet, or one from the middle.
pub fn fragment(packet: &[u8], first: bool) -> Vec<u8> {
    match Family::of_packet(packet).unwrap() {
        Family::V4 => with_ipv4(packet, |header| {
            header.dont_fragment = false;
            header.more_fragments = true;
            header.fragment_offset = IpFragOffset::try_new(if first { 0 } else { 185 }).unwrap();
        }),
        Family::V6 => {
            let offset: u16 = if first { 1 } else { 185 << 3 | 1 };
            let [high, low] = offset.to_be_bytes();
            with_extensions(packet, &[(44, vec![0, high, low, 0, 0, 0, 9])])
        }
    }
}

/// An IPv6 packet with extension headers put in: the number of each, and its bytes behind the first, which
/// names the next header.
pub fn with_extensions(packet: &[u8], extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let upper = packet[6];
    let nexts = extensions.iter().skip(1).map(|(number, _)| *number).chain([upper]);
    let mut chain = Vec::new();
    for ((_, bytes), next) in extensions.iter().zip(nexts) {
        chain.push(next);
        chain.extend(bytes);
    }
    let mut packet = packet.to_vec();
    if let Some((first, _)) = extensions.first() {
        packet[6] = *first;
    }
    let length = u16::try_from(packet.len() - 40 + chain.len()).unwrap();
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet.splice(40..40, chain);
    packet
}

/// An extension header of padding, `8 + 8 * length` bytes long, for [`with_extensions`].
pub fn padding(number: u8, length: u8) -> (u8, Vec<u8>) {
    let bytes = 8 + 8 * usize::from(length);
    let mut body = vec![length];
    // PadN options (RFC 8200 §4.2), each with at most 255 bytes.
    let mut left = bytes - 2;
    while left > 0 {
        let one = left.min(257);
        // No single byte may be left over: Pad1 would do, but PadN alone is simpler.
        let one = if left - one == 1 { one - 2 } else { one };
        body.extend([1, u8::try_from(one - 2).unwrap()]);
        body.extend(vec![0; one - 2]);
        left -= one;
    }
    (number, body)
}

/// Which end of a packet is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The source, in a reply.
    Source,
    /// The destination, in a request.
    Destination,
}

/// A packet with an address and port replaced, `hops` taken off its time to live, and DSCP and ECN as given; all
/// checksums are computed anew over the whole packet, but a UDP checksum of 0 stays. What follows the packet
/// in its frame is left out.
pub fn rewritten(packet: &[u8], end: End, to: SocketAddr, hops: u8, tos: u8) -> Vec<u8> {
    let mut changed = packet[..length_of(packet)].to_vec();
    let at = transport_at(&changed);
    match (Family::of_packet(packet).unwrap(), to.ip()) {
        (Family::V4, IpAddr::V4(address)) => {
            let place = if end == End::Source { 12 } else { 16 };
            changed[place..place + 4].copy_from_slice(&address.octets());
            changed[8] -= hops;
            changed[1] = tos;
            changed = with_ipv4(&changed, |_| {});
        }
        (Family::V6, IpAddr::V6(address)) => {
            let place = if end == End::Source { 8 } else { 24 };
            changed[place..place + 16].copy_from_slice(&address.octets());
            changed[7] -= hops;
            changed[0] = 0x60 | tos >> 4;
            changed[1] = changed[1] & 0x0f | tos << 4;
        }
        (family, address) => panic!("{address} in a packet of {family}"),
    }
    let place = if end == End::Source { at } else { at + 2 };
    changed[place..place + 2].copy_from_slice(&to.port().to_be_bytes());
    set_checksum(&mut changed);
    changed
}

/// The maximum segment size that a SYN announces.
pub fn segment_size(packet: &[u8]) -> Option<usize> {
    let packet = SlicedPacket::from_ip(packet).ok()?;
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return None };
    let mut options = tcp.options_iterator().flatten().filter(|_| tcp.syn());
    options.find_map(|option| {
        if let TcpOptionElement::MaximumSegmentSize(size) = option { Some(size.into()) } else { None }
    })
}

/// Length of an IP packet, as its header says it.
pub fn length_of(packet: &[u8]) -> usize {
    let at = |place: usize| usize::from(u16::from_be_bytes([packet[place], packet[place + 1]]));
    if packet[0] >> 4 == 4 { at(2) } else { 40 + at(4) }
}

/// Offset of the TCP or UDP header in an IP packet.
pub fn transport_at(packet: &[u8]) -> usize {
    let payload = IpSlice::from_slice(packet).unwrap().payload().payload;
    length_of(packet) - payload.len()
}

/// The checksum in the TCP or UDP header of an IP packet.
pub fn checksum_of(packet: &[u8]) -> u16 {
    let at = checksum_at(packet);
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// Offset of the checksum in the TCP or UDP header of an IP packet.
pub fn checksum_at(packet: &[u8]) -> usize {
    let ip = IpSlice::from_slice(packet).unwrap();
    transport_at(packet) + if ip.payload_ip_number() == IpNumber::TCP { 16 } else { 6 }
}

/// Makes the TCP or UDP checksum right; one of 0 in UDP stays.
fn set_checksum(packet: &mut [u8]) {
    let at = transport_at(packet);
    let ip = IpSlice::from_slice(packet).unwrap();
    let (source, destination) = (ip.source_addr(), ip.destination_addr());
    let segment = ip.payload().payload;
    let right = if ip.payload_ip_number() == IpNumber::TCP {
        let tcp = TcpSlice::from_slice(segment).unwrap();
        match (source, destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => tcp.calc_checksum_ipv4(from.octets(), to.octets()),
            (IpAddr::V6(from), IpAddr::V6(to)) => tcp.calc_checksum_ipv6(from.octets(), to.octets()),
            _ => unreachable!("one header has addresses of one family"),
        }
    } else {
        let (udp, data) = UdpHeader::from_slice(segment).unwrap();
        match (source, destination) {
            _ if udp.checksum == 0 => Ok(0),
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                udp.calc_checksum_ipv4_raw(from.octets(), to.octets(), data)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                udp.calc_checksum_ipv6_raw(from.octets(), to.octets(), data)
            }
            _ => unreachable!("one header has addresses of one family"),
        }
    };
    let place = at + if ip.payload_ip_number() == IpNumber::TCP { 16 } else { 6 };
    packet[place..place + 2].copy_from_slice(&right.unwrap().to_be_bytes());
}
