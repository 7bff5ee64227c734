//! The outer IP and UDP headers, in both families.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use etherparse::{
    IpDscp, IpEcn, IpNumber, Ipv4Header, Ipv4HeaderSlice, Ipv4Slice, Ipv6FlowLabel, Ipv6Header,
    Ipv6HeaderSlice, Ipv6RawExtHeader, Ipv6RawExtHeaderSlice, UdpHeader, UdpSlice,
};

use super::Encap;
use crate::family::Family;

/// RFC 2473 §4.1.1
const OPTION_ENCAPSULATION_LIMIT: u8 = 4;
/// RFC 8200 §4.2
const OPTION_PADN: u8 = 1;

/// An outer IP header: IPv4 without options, not fragmented, or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// DSCP and ECN: type of service or traffic class.
    pub tos: u8,
    /// The DF bit; `None` over IPv6, where nobody fragments on the way.
    pub dont_fragment: Option<bool>,
    /// Length of the packet, all headers included, as the header says it.
    pub packet_bytes: usize,
}

/// An outer UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterUdp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Whether there is a checksum (a wrong one is an error); false where the field is 0.
    pub checksummed: bool,
}

/// What carries the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// IP protocol 47.
    IpGre,
    /// The UDP port of GRE.
    UdpGre,
    /// The UDP port of VXLAN.
    UdpVxlan,
    /// The UDP port of Geneve.
    UdpGeneve,
}

impl Carrier {
    /// What carries an encapsulation.
    pub const fn of(encap: Encap) -> Self {
        match encap {
            Encap::Gre => Self::IpGre,
            Encap::GreUdp => Self::UdpGre,
            Encap::Vxlan => Self::UdpVxlan,
            Encap::GeneveIp | Encap::GeneveEthernet => Self::UdpGeneve,
        }
    }

    fn of_port(port: u16) -> Option<Self> {
        let encap = Encap::ALL.into_iter().find(|encap| encap.udp_port() == Some(port));
        encap.map(Self::of)
    }
}

/// An outer packet, taken apart up to the shim.
pub struct Opened<'a> {
    pub outer: Outer,
    pub encapsulation_limit: Option<u8>,
    pub udp: Option<OuterUdp>,
    pub carrier: Carrier,
    pub payload: &'a [u8],
}

/// Takes an IP packet apart; `Ok(None)` = it carries no tunnel protocol, or is a fragment.
pub fn read(packet: &[u8]) -> Result<Option<Opened<'_>>> {
    let ip = match Family::of_packet(packet) {
        Some(Family::V4) => ipv4(packet)?,
        Some(Family::V6) => ipv6(packet)?,
        None => return Ok(None),
    };
    let Some(Ip { outer, encapsulation_limit, protocol, payload }) = ip else { return Ok(None) };
    let opened = |udp, carrier, payload| Some(Opened { outer, encapsulation_limit, udp, carrier, payload });
    if protocol == IpNumber::GRE {
        return Ok(opened(None, Carrier::IpGre, payload));
    }
    if protocol != IpNumber::UDP {
        return Ok(None);
    }
    let Ok(udp) = UdpSlice::from_slice(payload) else { return Ok(None) };
    let Some(carrier) = Carrier::of_port(udp.destination_port()) else { return Ok(None) };
    ensure!(
        usize::from(udp.length()) == payload.len(),
        "outer UDP length {} in a payload of {} bytes",
        udp.length(),
        payload.len()
    );
    let checksummed = udp.checksum() != 0;
    if checksummed {
        let right = checksum(&outer, &udp.to_header(), udp.payload())?;
        ensure!(udp.checksum() == right, "outer UDP checksum {:#06x}, right is {right:#06x}", udp.checksum());
    }
    let header = OuterUdp { source: udp.source_port(), destination: udp.destination_port(), checksummed };
    Ok(opened(Some(header), carrier, udp.payload()))
}

/// Whether an IP packet is a fragment.
pub fn is_fragment(packet: &[u8]) -> bool {
    match Family::of_packet(packet) {
        Some(Family::V4) => {
            Ipv4HeaderSlice::from_slice(packet).is_ok_and(|header| header.is_fragmenting_payload())
        }
        Some(Family::V6) => Ipv6HeaderSlice::from_slice(packet)
            .is_ok_and(|header| header.next_header() == IpNumber::IPV6_FRAGMENTATION_HEADER),
        None => false,
    }
}

struct Ip<'a> {
    outer: Outer,
    encapsulation_limit: Option<u8>,
    protocol: IpNumber,
    payload: &'a [u8],
}

fn ipv4(packet: &[u8]) -> Result<Option<Ip<'_>>> {
    let Ok(ip) = Ipv4Slice::from_slice(packet) else { return Ok(None) };
    let header = ip.header().to_header();
    let carries = [IpNumber::GRE, IpNumber::UDP].contains(&header.protocol);
    if !carries || ip.is_payload_fragmented() {
        return Ok(None);
    }
    let right = header.calc_header_checksum();
    let found = header.header_checksum;
    ensure!(found == right, "outer IPv4 header checksum {found:#06x}, right is {right:#06x}");
    if header.protocol == IpNumber::GRE {
        ensure!(header.options.is_empty(), "the outer IPv4 header has options");
    }
    let outer = Outer {
        source: header.source.into(),
        destination: header.destination.into(),
        ttl: header.time_to_live,
        tos: header.dscp.value() << 2 | header.ecn.value(),
        dont_fragment: Some(header.dont_fragment),
        packet_bytes: header.total_len.into(),
    };
    let payload = ip.payload().payload;
    Ok(Some(Ip { outer, encapsulation_limit: None, protocol: header.protocol, payload }))
}

fn ipv6(packet: &[u8]) -> Result<Option<Ip<'_>>> {
    let Ok(header) = Ipv6HeaderSlice::from_slice(packet) else { return Ok(None) };
    let header = header.to_header();
    let packet_bytes = Family::V6.header_bytes() + usize::from(header.payload_length);
    let Some(mut payload) = packet.get(Family::V6.header_bytes()..packet_bytes) else { return Ok(None) };
    let (mut protocol, mut encapsulation_limit) = (header.next_header, None);
    if protocol == IpNumber::IPV6_DESTINATION_OPTIONS {
        let options = Ipv6RawExtHeaderSlice::from_slice(payload).context("outer destination options")?;
        protocol = options.next_header();
        encapsulation_limit = find_encapsulation_limit(options.payload())?;
        payload = payload.get(options.slice().len()..).unwrap_or_default();
    }
    if protocol != IpNumber::GRE && protocol != IpNumber::UDP {
        return Ok(None);
    }
    let outer = Outer {
        source: header.source.into(),
        destination: header.destination.into(),
        ttl: header.hop_limit,
        tos: header.traffic_class,
        dont_fragment: None,
        packet_bytes,
    };
    Ok(Some(Ip { outer, encapsulation_limit, protocol, payload }))
}

/// Walks the options of a destination-options header (RFC 8200 §4.2).
fn find_encapsulation_limit(mut options: &[u8]) -> Result<Option<u8>> {
    loop {
        match *options {
            [] => return Ok(None),
            // Pad1 has no length.
            [0, ref rest @ ..] => options = rest,
            [OPTION_ENCAPSULATION_LIMIT, 1, limit, ..] => return Ok(Some(limit)),
            [OPTION_PADN, length, ref rest @ ..] => {
                options = rest.get(usize::from(length)..).context("outer padding is cut off")?;
            }
            [option, ..] => bail!("outer destination option {option}"),
        }
    }
}

/// An IP packet around `shim`.
pub fn write(
    outer: &Outer,
    encapsulation_limit: Option<u8>,
    udp: Option<OuterUdp>,
    shim: &[u8],
) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    let mut protocol = IpNumber::GRE;
    if let Some(OuterUdp { source, destination, checksummed }) = udp {
        protocol = IpNumber::UDP;
        let mut header = UdpHeader::without_ipv4_checksum(source, destination, shim.len())?;
        if checksummed {
            header.checksum = checksum(outer, &header, shim)?;
        }
        header.write(&mut payload)?;
    }
    payload.extend(shim);
    if let Some(limit) = encapsulation_limit {
        let options = [OPTION_ENCAPSULATION_LIMIT, 1, limit, OPTION_PADN, 1, 0];
        let mut extended = Vec::new();
        Ipv6RawExtHeader::new_raw(protocol, &options)?.write(&mut extended)?;
        extended.append(&mut payload);
        (protocol, payload) = (IpNumber::IPV6_DESTINATION_OPTIONS, extended);
    }
    let mut packet = Vec::new();
    let length = payload.len().try_into().context("the packet is too large")?;
    match (outer.source, outer.destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            ensure!(encapsulation_limit.is_none(), "an encapsulation limit over IPv4");
            let mut header = Ipv4Header::new(length, outer.ttl, protocol, from.octets(), to.octets())?;
            header.dscp = IpDscp::try_new(outer.tos >> 2)?;
            header.ecn = IpEcn::try_new(outer.tos & 3)?;
            header.dont_fragment = outer.dont_fragment.unwrap_or(false);
            header.write(&mut packet)?;
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => Ipv6Header {
            traffic_class: outer.tos,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: length,
            next_header: protocol,
            hop_limit: outer.ttl,
            source: from.octets(),
            destination: to.octets(),
        }
        .write(&mut packet)?,
        (from, to) => bail!("a tunnel from {from} to {to}: addresses of two families"),
    }
    packet.extend(payload);
    Ok(packet)
}

fn checksum(outer: &Outer, udp: &UdpHeader, payload: &[u8]) -> Result<u16> {
    Ok(match (outer.source, outer.destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            udp.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload)?
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            udp.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload)?
        }
        (from, to) => bail!("a tunnel from {from} to {to}: addresses of two families"),
    })
}
