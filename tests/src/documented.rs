//! The form that page 2.5 of the design gives to lbx's tunnel packets, asked of captured ones.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use crate::{
    family::Family,
    servers::{HTTP_PORT, UDP_PORT},
    topology::{VnetPlan, client_address, lbx_underlay, origins},
    tunnel::{Extras, GATEWAY_INNER_MAC, LBX_INNER_MAC, TunnelPacket, mac},
};

/// Time to live of what the client sends: the kernel's default, in both families.
const CLIENT_TTL: u8 = 64;
/// Time to live of outer packets.
const OUTER_TTL: u8 = 64;
/// RFC 6335 §6: dynamic ports.
const FIRST_SOURCE_PORT: u16 = 49_152;

/// What a packet of lbx to a gateway carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// A client's packet to an origin.
    Request(Family),
    /// A health check.
    Probe(Family),
    /// No IP packet: an answer about inner MAC addresses.
    Neighbour,
}

/// What the inner IP header says.
struct Inner<'a> {
    family: Family,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    tos: u8,
    /// What the outer DF bit must be; always set where IPv6 is inside.
    dont_fragment: bool,
    transport: Option<TransportSlice<'a>>,
}

/// Checks a packet from lbx to the gateway of `plan`, and says what it carries. An error says what is not as
/// documented.
pub fn check(packet: &TunnelPacket, plan: &VnetPlan) -> Result<Carried> {
    let outer = &packet.outer;
    ensure!(
        (packet.encap, packet.key) == (plan.encap, plan.vni),
        "{:?} with key {}, not {:?} with {}",
        packet.encap,
        packet.key,
        plan.encap,
        plan.vni
    );
    let ends = (lbx_underlay(plan.outer), plan.remote());
    ensure!((outer.source, outer.destination) == ends, "from {} to {}", outer.source, outer.destination);
    ensure!(outer.ttl == OUTER_TTL, "outer TTL {}", outer.ttl);
    ensure!(packet.extras == Extras::default(), "{:?}", packet.extras);
    if let Some(udp) = packet.udp {
        ensure!(udp.source >= FIRST_SOURCE_PORT, "outer source port {}", udp.source);
        ensure!(Some(udp.destination) == plan.encap.udp_port(), "outer destination port {}", udp.destination);
        ensure!(!udp.checksummed, "there is an outer UDP checksum");
    }
    if plan.encap.has_ethernet() {
        let macs = (mac(GATEWAY_INNER_MAC)?, mac(LBX_INNER_MAC)?);
        ensure!(packet.inner_macs == Some(macs), "inner MACs {:02x?}", packet.inner_macs);
    }
    let length = packet.inner.len() + plan.encap.overhead_bytes(plan.outer);
    ensure!(outer.packet_bytes == length, "{} bytes outside, not {length}", outer.packet_bytes);
    if !Family::ALL.iter().any(|family| family.ethertype() == packet.protocol) {
        return Ok(Carried::Neighbour);
    }

    let inner = inner(&packet.inner)?;
    if let Some(dont_fragment) = outer.dont_fragment {
        ensure!(dont_fragment == inner.dont_fragment, "outer DF {dont_fragment}");
    }
    // RFC 6040 §4.1, normal mode: ECN is copied, as DSCP is.
    ensure!(outer.tos == inner.tos, "outer DSCP and ECN {:#04x}, inner {:#04x}", outer.tos, inner.tos);
    let family = inner.family;
    ensure!(
        origins(family).iter().any(|(_, address)| *address == inner.destination),
        "to {}, who is no origin",
        inner.destination
    );
    checksums(&inner)?;
    if inner.source == plan.probe_source_of(family) {
        return Ok(Carried::Probe(family));
    }
    ensure!(inner.source == client_address(family), "{} is neither client nor prober", inner.source);
    ensure!(inner.ttl == CLIENT_TTL - 1, "inner TTL {}", inner.ttl);
    Ok(Carried::Request(family))
}

fn inner(packet: &[u8]) -> Result<Inner<'_>> {
    let sliced = SlicedPacket::from_ip(packet).context("the inner packet")?;
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            let (found, right) = (header.header_checksum, header.calc_header_checksum());
            ensure!(found == right, "inner header checksum {found:#06x}, right is {right:#06x}");
            Ok(Inner {
                family: Family::V4,
                source: header.source.into(),
                destination: header.destination.into(),
                ttl: header.time_to_live,
                tos: header.dscp.value() << 2 | header.ecn.value(),
                dont_fragment: header.dont_fragment,
                transport: sliced.transport,
            })
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            Ok(Inner {
                family: Family::V6,
                source: header.source.into(),
                destination: header.destination.into(),
                ttl: header.hop_limit,
                tos: header.traffic_class,
                dont_fragment: true,
                transport: sliced.transport,
            })
        }
        Some(NetSlice::Arp(_)) | None => bail!("the inner packet is not IP"),
    }
}

/// Ports are the origin's, checksums over the rewritten packet are right.
fn checksums(inner: &Inner<'_>) -> Result<()> {
    let (found, right, port, expected_port) = match (&inner.transport, inner.source, inner.destination) {
        (Some(TransportSlice::Tcp(tcp)), IpAddr::V4(from), IpAddr::V4(to)) => {
            let right = tcp.calc_checksum_ipv4(from.octets(), to.octets())?;
            (tcp.checksum(), right, tcp.destination_port(), HTTP_PORT)
        }
        (Some(TransportSlice::Tcp(tcp)), IpAddr::V6(from), IpAddr::V6(to)) => {
            let right = tcp.calc_checksum_ipv6(from.octets(), to.octets())?;
            (tcp.checksum(), right, tcp.destination_port(), HTTP_PORT)
        }
        (Some(TransportSlice::Udp(udp)), IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = udp.to_header();
            let right = header.calc_checksum_ipv4_raw(from.octets(), to.octets(), udp.payload())?;
            (udp.checksum(), right, udp.destination_port(), UDP_PORT)
        }
        (Some(TransportSlice::Udp(udp)), IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = udp.to_header();
            let right = header.calc_checksum_ipv6_raw(from.octets(), to.octets(), udp.payload())?;
            (udp.checksum(), right, udp.destination_port(), UDP_PORT)
        }
        (other, _, _) => bail!("neither TCP nor UDP inside: {other:?}"),
    };
    ensure!(found == right, "inner TCP or UDP checksum {found:#06x}, right is {right:#06x}");
    ensure!(port == expected_port, "to port {port}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::{topology::EAST, tunnel::Encap};

    fn request(family: Family, source: IpAddr) -> Vec<u8> {
        let (origin, mut packet) = (origins(family)[0].1, Vec::new());
        let builder = match (source, origin) {
            (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 63),
            (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 63),
            _ => panic!("one family"),
        };
        builder.udp(40_000, 53).write(&mut packet, b"what?").unwrap();
        packet
    }

    fn documented(plan: &VnetPlan, inner: &[u8]) -> TunnelPacket {
        TunnelPacket::plain(plan.encap, lbx_underlay(plan.outer), plan.remote(), plan.vni, inner).unwrap()
    }

    #[test]
    fn documented_packets_are_told_apart_in_all_combinations() {
        for encap in Encap::ALL {
            for outer in Family::ALL {
                let plan = EAST.through(encap, outer);
                for family in Family::ALL {
                    let packet = documented(&plan, &request(family, client_address(family)));
                    assert_eq!(check(&packet, &plan).unwrap(), Carried::Request(family));
                    let packet = documented(&plan, &request(family, plan.probe_source_of(family)));
                    assert_eq!(check(&packet, &plan).unwrap(), Carried::Probe(family));
                }
            }
        }
    }

    #[test]
    fn each_departure_is_named() {
        let plan = EAST.through(Encap::GeneveEthernet, Family::V4);
        let good = documented(&plan, &request(Family::V4, client_address(Family::V4)));
        check(&good, &plan).unwrap();
        let wrong = |change: &dyn Fn(&mut TunnelPacket), says: &str| {
            let mut packet = good.clone();
            change(&mut packet);
            let error = check(&packet, &plan).unwrap_err().to_string();
            assert!(error.contains(says), "`{error}` does not say `{says}`");
        };
        wrong(&|packet| packet.key += 1, "key");
        wrong(&|packet| packet.encap = Encap::Vxlan, "Vxlan");
        wrong(&|packet| packet.outer.source = plan.remote(), "from");
        wrong(&|packet| packet.outer.ttl = 63, "TTL");
        wrong(&|packet| packet.outer.tos = 1, "ECN");
        wrong(&|packet| packet.outer.dont_fragment = Some(false), "DF");
        wrong(&|packet| packet.outer.packet_bytes += 1, "bytes outside");
        wrong(&|packet| packet.extras.gre_checksum = true, "gre_checksum");
        wrong(&|packet| packet.udp.as_mut().unwrap().source = 40_000, "source port");
        wrong(&|packet| packet.udp.as_mut().unwrap().destination = 6082, "destination port");
        wrong(&|packet| packet.udp.as_mut().unwrap().checksummed = true, "UDP checksum");
        wrong(&|packet| packet.inner_macs = None, "MACs");
        wrong(&|packet| packet.inner[8] = 64, "header checksum");
        wrong(&|packet| packet.inner[30] ^= 1, "UDP checksum");
    }
}
