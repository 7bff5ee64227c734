//! What a router says of a packet that it could not forward: fragmentation needed (RFC 1191) or packet too big
//! (RFC 8201). Reads bytes that anybody may have sent; decides nothing.

use std::net::IpAddr;

use etherparse::{
    Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, IpNumber, Ipv4HeaderSlice, LaxIpSlice,
    checksum::Sum16BitWords, icmpv4::DestUnreachableHeader,
};
use lbx_common::api::Encap;

use crate::config::model::TunnelPath;

/// RFC 1191 §7.1: links' MTUs, for routers that do not say theirs.
const PLATEAUS: [u16; 9] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296];
/// A key is present (RFC 2890 §2).
const GRE_KEY: u8 = 0x20;

/// A packet of lbx's was too big for a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooBig {
    /// Largest packet that the link takes, in bytes.
    pub mtu: u16,
    /// Source of the packet.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    carrier: Carrier,
    /// The first bytes of the tunnel header; routers may leave them out behind UDP (RFC 792).
    shim: Option<[u8; 8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Gre,
    Udp { destination: u16 },
}

impl TooBig {
    /// Reads an IPv4 packet with an ICMP message, as a raw socket gives it; `None` = it is about something else.
    pub fn read_v4(packet: &[u8]) -> Option<Self> {
        let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
        let icmp = packet.get(header.slice().len()..usize::from(header.total_len()))?;
        // A raw socket gets the message before the kernel has looked at it.
        if Sum16BitWords::new().add_slice(icmp).ones_complement() != 0 {
            return None;
        }
        let icmp = Icmpv4Slice::from_slice(icmp).ok()?;
        let Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu }) =
            icmp.icmp_type()
        else {
            return None;
        };
        Self::about(icmp.payload(), next_hop_mtu)
    }

    /// The same for a message of `ICMPv6`, whose checksum the kernel has seen to.
    pub fn read_v6(message: &[u8]) -> Option<Self> {
        let icmp = Icmpv6Slice::from_slice(message).ok()?;
        let Icmpv6Type::PacketTooBig { mtu } = icmp.icmp_type() else { return None };
        Self::about(icmp.payload(), u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    /// With the packet that the message quotes the beginning of.
    fn about(quoted: &[u8], mtu: u16) -> Option<Self> {
        let (ip, _) = LaxIpSlice::from_slice(quoted).ok()?;
        let length = match &ip {
            LaxIpSlice::Ipv4(ip) => ip.header().total_len(),
            LaxIpSlice::Ipv6(ip) => ip.header().payload_length().saturating_add(40),
        };
        let mtu = if mtu == 0 { *PLATEAUS.iter().find(|plateau| **plateau < length)? } else { mtu };
        if mtu >= length {
            // It would have fitted.
            return None;
        }
        let payload = ip.payload();
        let (carrier, shim) = match payload.ip_number {
            IpNumber::GRE => (Carrier::Gre, payload.payload),
            IpNumber::UDP => {
                let destination = u16::from_be_bytes(*payload.payload.get(2..)?.first_chunk()?);
                (Carrier::Udp { destination }, payload.payload.get(8..).unwrap_or_default())
            }
            _ => return None,
        };
        let shim = shim.first_chunk().copied();
        let (source, destination) = match &ip {
            LaxIpSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            LaxIpSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        };
        Some(Self { mtu, source, destination, carrier, shim })
    }

    /// Whether the packet was one of a tunnel, as far as the message quotes it.
    pub fn is_about(&self, local: IpAddr, path: &TunnelPath) -> bool {
        let carrier = match path.encap {
            Encap::Gre => Carrier::Gre,
            Encap::GreUdp | Encap::Vxlan | Encap::Geneve => Carrier::Udp { destination: path.port },
        };
        let key = self.shim.is_none_or(|shim| key(path.encap, shim) == Some(path.vni));
        (self.source, self.destination, self.carrier) == (local, path.remote, carrier) && key
    }
}

/// The key of a virtual network in a tunnel header.
fn key(encap: Encap, shim: [u8; 8]) -> Option<u32> {
    let [flags, _, _, _, a, b, c, d] = shim;
    match encap {
        Encap::Gre | Encap::GreUdp => (flags & GRE_KEY != 0).then(|| u32::from_be_bytes([a, b, c, d])),
        Encap::Vxlan | Encap::Geneve => Some(u32::from_be_bytes([0, a, b, c])),
    }
}
