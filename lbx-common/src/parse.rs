//! From bytes to what the pipeline decides on: IPv4 (RFC 791), TCP (RFC 9293), UDP (RFC 768).
//!
//! Nothing here looks at state: whether a malformed packet is dropped or passed is the pipeline's business.

use core::mem::offset_of;

use network_types::{ip::Ipv4Hdr, tcp::TcpHdr, udp::UdpHdr};

use crate::{
    bytes::{Be16, Be32},
    flow::FlowV4,
    packet::{Packet, Window},
};

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = Ipv4Hdr::LEN;
/// Ethernet type of IPv4.
pub const ETHER_IPV4: Be16 = Be16::new(0x0800);

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of GRE.
pub const GRE: u8 = 47;

/// More fragments, or a fragment offset that is not 0.
const FRAGMENT_BITS: Be16 = Be16::new(0x3fff);
/// Don't fragment.
pub const DONT_FRAGMENT: Be16 = Be16::new(0x4000);

/// What an IPv4 header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4 {
    /// Offset of the header in the frame.
    pub at: usize,
    /// Offset of what follows the header and its options.
    pub payload_at: usize,
    /// Length of the packet, header included; the frame holds at least as much.
    pub total_length: u16,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: Be16,
    /// Whether the packet may not be fragmented.
    pub dont_fragment: bool,
    /// Whether the packet is a fragment.
    pub fragment: bool,
    /// Time to live.
    pub ttl: u8,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Be32,
    /// Destination address.
    pub destination: Be32,
}

impl Ipv4 {
    /// Bytes after the header.
    #[inline(always)]
    pub fn payload_length(&self) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "a header has at most 60 bytes")]
        let header = self.payload_at.wrapping_sub(self.at) as u16;
        self.total_length.wrapping_sub(header)
    }
}

/// Why there is no [`Ipv4`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotIpv4 {
    /// Another protocol, or too short to tell.
    Other,
    /// IPv4 with a header that contradicts itself or the frame; the destination could still be read.
    Malformed {
        /// Where it was to go.
        destination: Be32,
    },
}

/// The IPv4 header behind an untagged Ethernet header.
#[inline(always)]
pub fn ethernet_ipv4<P: Packet>(packet: &P) -> Result<Ipv4, NotIpv4> {
    let ethernet = packet.window::<ETHERNET_LEN>(0).ok_or(NotIpv4::Other)?;
    if ethernet.be16::<12>() != ETHER_IPV4 {
        return Err(NotIpv4::Other);
    }
    ipv4(packet, ETHERNET_LEN)
}

/// The IPv4 header at `at`. The header checksum is not verified: NICs do that before XDP, and a router that
/// forwards by it would drop the packet as well.
#[inline(always)]
pub fn ipv4<P: Packet>(packet: &P, at: usize) -> Result<Ipv4, NotIpv4> {
    let header = packet.window::<IPV4_LEN>(at).ok_or(NotIpv4::Other)?;
    let version_and_length = header.byte::<{ offset_of!(Ipv4Hdr, vihl) }>();
    let destination = header.be32::<{ offset_of!(Ipv4Hdr, dst_addr) }>();
    let malformed = NotIpv4::Malformed { destination };
    if version_and_length >> 4 != 4 {
        return Err(NotIpv4::Other);
    }
    let header_length = usize::from(version_and_length & 0xf).wrapping_mul(4);
    let total_length = header.be16::<{ offset_of!(Ipv4Hdr, tot_len) }>().to_host();
    let payload_at = at.wrapping_add(header_length);
    if header_length < IPV4_LEN
        || usize::from(total_length) < header_length
        || !packet.holds(at.wrapping_add(usize::from(total_length)))
    {
        return Err(malformed);
    }
    let fragments = header.be16::<{ offset_of!(Ipv4Hdr, frags) }>();
    Ok(Ipv4 {
        at,
        payload_at,
        total_length,
        tos: header.byte::<{ offset_of!(Ipv4Hdr, tos) }>(),
        id: header.be16::<{ offset_of!(Ipv4Hdr, id) }>(),
        dont_fragment: fragments.0 & DONT_FRAGMENT.0 != 0,
        fragment: fragments.0 & FRAGMENT_BITS.0 != 0,
        ttl: header.byte::<{ offset_of!(Ipv4Hdr, ttl) }>(),
        protocol: header.byte::<{ offset_of!(Ipv4Hdr, proto) }>(),
        source: header.be32::<{ offset_of!(Ipv4Hdr, src_addr) }>(),
        destination,
    })
}

/// Flags of a TCP header that the pipeline looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// A connection attempt: SYN without ACK.
    #[inline(always)]
    pub const fn is_syn(self) -> bool {
        self.0 & 0x12 == 0x02
    }
}

/// What the header of TCP or UDP says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// The 5-tuple.
    pub flow: FlowV4,
    /// TCP flags; none for UDP.
    pub flags: TcpFlags,
}

/// Why there is no [`Transport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTransport {
    /// Another protocol.
    Other,
    /// The packet ends within the header.
    CutOff,
}

/// The TCP or UDP header of an unfragmented packet.
#[inline(always)]
pub fn transport<P: Packet>(packet: &P, ip: &Ipv4) -> Result<Transport, NoTransport> {
    let (source_port, destination_port, flags) = match ip.protocol {
        TCP => {
            let header = header::<P, { TcpHdr::LEN }>(packet, ip).ok_or(NoTransport::CutOff)?;
            (header.be16::<0>(), header.be16::<2>(), TcpFlags(header.byte::<13>()))
        }
        UDP => {
            let header = header::<P, { UdpHdr::LEN }>(packet, ip).ok_or(NoTransport::CutOff)?;
            (header.be16::<0>(), header.be16::<2>(), TcpFlags(0))
        }
        _ => return Err(NoTransport::Other),
    };
    let flow = FlowV4 {
        source: ip.source,
        destination: ip.destination,
        source_port,
        destination_port,
        protocol: ip.protocol,
    };
    Ok(Transport { flow, flags })
}

/// The first `N` bytes of the payload, where the packet's length covers them.
#[inline(always)]
fn header<'a, P: Packet, const N: usize>(packet: &'a P, ip: &Ipv4) -> Option<Window<'a, N>> {
    if usize::from(ip.payload_length()) < N {
        return None;
    }
    packet.window::<N>(ip.payload_at)
}
