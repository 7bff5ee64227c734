//! The headers of layer 4 that a flow is known by: TCP (RFC 9293) and UDP (RFC 768).

use network_types::{tcp::TcpHdr, udp::UdpHdr};

use crate::{
    bytes::Be16,
    ip::{Ip, TCP, UDP},
    packet::{Packet, Window},
};

/// Flags of a TCP header that the pipeline looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN, SYN, RST, ACK.
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;

    /// A connection attempt: SYN without ACK.
    #[inline(always)]
    pub const fn is_syn(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN
    }

    /// The first packet of either side, which says its maximum segment size.
    #[inline(always)]
    pub const fn has_syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Ends the connection at once.
    #[inline(always)]
    pub const fn has_rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Ends the connection, or one direction of it: FIN or RST.
    #[inline(always)]
    pub const fn ends(self) -> bool {
        self.0 & (Self::FIN | Self::RST) != 0
    }

    /// Acknowledges.
    #[inline(always)]
    pub const fn has_ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// How many sequence numbers the flags take: SYN and FIN one each.
    #[inline(always)]
    pub const fn sequence_numbers(self) -> u8 {
        (self.0 & Self::FIN) + ((self.0 & Self::SYN) >> 1)
    }

    /// No packet of a real connection has these (RFC 9293 §3.10.7): no flag at all, SYN with FIN or RST, FIN
    /// without ACK.
    #[inline(always)]
    pub const fn is_absurd(self) -> bool {
        let bits = self.0 & (Self::FIN | Self::SYN | Self::RST | Self::ACK);
        bits == 0
            || bits & Self::SYN != 0 && bits & (Self::FIN | Self::RST) != 0
            || bits & (Self::FIN | Self::ACK) == Self::FIN
    }
}

/// What the header of TCP or UDP says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// The ports.
    pub ports: Ports,
    /// TCP flags; none for UDP.
    pub flags: TcpFlags,
}

/// The ports of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
}

/// Why there is no [`Transport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTransport {
    /// Another protocol.
    Other,
    /// The packet ends within the header.
    CutOff,
}

/// The TCP or UDP header of a packet that is whole, or of the first fragment of one.
#[inline(always)]
pub fn parse<A, P: Packet>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport> {
    let (source, destination, flags) = match ip.protocol {
        TCP => {
            let header = header::<A, P, { TcpHdr::LEN }>(packet, ip).ok_or(NoTransport::CutOff)?;
            (header.be16::<0>(), header.be16::<2>(), TcpFlags(header.byte::<13>()))
        }
        UDP => {
            let header = header::<A, P, { UdpHdr::LEN }>(packet, ip).ok_or(NoTransport::CutOff)?;
            (header.be16::<0>(), header.be16::<2>(), TcpFlags(0))
        }
        _ => return Err(NoTransport::Other),
    };
    Ok(Transport { ports: Ports { source, destination }, flags })
}

/// The first `N` bytes of the payload, where the packet's length covers them.
#[inline(always)]
pub fn header<'a, A, P: Packet, const N: usize>(packet: &'a P, ip: &Ip<A>) -> Option<Window<'a, N>> {
    if usize::from(ip.payload_length()) < N {
        return None;
    }
    packet.window::<N>(ip.payload_at())
}
