//! The form of a gateway's replies: which outer headers a stock Linux device puts around which inner packet.

use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::Result;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::Ends;
use crate::{family::Family, tunnel::TunnelPacket};

/// First of the ports that outer UDP headers come from.
const FIRST_SOURCE_PORT: u16 = 49_152;

/// What may be configured on a device beyond its defaults, about the packets it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replies {
    /// GRE sequence numbers (`oseq`).
    pub gre_sequence: bool,
    /// GRE checksums (`ocsum`).
    pub gre_checksum: bool,
    /// No outer UDP checksum over IPv6 (`udp6zerocsumtx`).
    pub udp6_zero_checksum: bool,
}

impl Replies {
    /// A device with nothing but a key.
    pub const STOCK: Self = Self { gre_sequence: false, gre_checksum: false, udp6_zero_checksum: false };

    /// The packet that leaves for `inner`, the `number`th one.
    pub fn wrap(self, ends: Ends, number: u32, inner: &[u8]) -> Result<Vec<u8>> {
        let Ends { encap, local, remote, key } = ends;
        let mut packet = TunnelPacket::stock(encap, local, remote, key, inner)?;
        packet.outer.tos = outer_ecn(inner);
        if let Some(dont_fragment) = &mut packet.outer.dont_fragment {
            // `pmtudisc` is on in gre devices, and `df unset` in vxlan and geneve ones.
            *dont_fragment = encap.has_gre();
        }
        if let Some(udp) = &mut packet.udp {
            udp.source = source_port(inner);
        }
        if encap.has_gre() && self.gre_sequence {
            packet = packet.with_gre_sequence(number);
        }
        if encap.has_gre() && self.gre_checksum {
            packet = packet.with_gre_checksum();
        }
        if self.udp6_zero_checksum && Family::of(local) == Family::V6 {
            packet = packet.with_udp_checksum(false);
        }
        packet.to_bytes()
    }
}

/// ECN of the outer header: the inner one, where that is not "congestion experienced" (Linux,
/// `INET_ECN_encapsulate`). DSCP is 0 unless configured.
fn outer_ecn(inner: &[u8]) -> u8 {
    let tos = match (Family::of_packet(inner), inner) {
        (Some(Family::V4), [_, tos, ..]) => *tos,
        (Some(Family::V6), [first, second, ..]) => first << 4 | second >> 4,
        _ => 0,
    };
    match tos & 3 {
        3 => 2,
        ecn => ecn,
    }
}

/// One source port a flow, so that the way in between spreads flows (RFC 7348 §5).
fn source_port(inner: &[u8]) -> u16 {
    let mut hash = DefaultHasher::new();
    if let Ok(packet) = SlicedPacket::from_ip(inner) {
        match &packet.net {
            Some(NetSlice::Ipv4(ip)) => (ip.header().source(), ip.header().destination()).hash(&mut hash),
            Some(NetSlice::Ipv6(ip)) => (ip.header().source(), ip.header().destination()).hash(&mut hash),
            Some(NetSlice::Arp(_)) | None => {}
        }
        match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()).hash(&mut hash),
            Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()).hash(&mut hash),
            Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_)) | None => {}
        }
    }
    let [low, high, ..] = hash.finish().to_le_bytes();
    FIRST_SOURCE_PORT | u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use etherparse::PacketBuilder;

    use super::*;
    use crate::tunnel::{self, Encap};

    fn datagram(source_port: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4([10, 0, 0, 10], [192, 0, 2, 2], 64).udp(source_port, 53);
        builder.write(&mut packet, payload).unwrap();
        packet
    }

    fn ends(encap: Encap, over_ipv6: bool) -> Ends {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (local, remote) =
            if over_ipv6 { ("fd64::7", "fd64::1") } else { ("198.51.100.7", "198.51.100.1") };
        Ends { encap, local: address(local), remote: address(remote), key: 42 }
    }

    fn reply(replies: Replies, ends: Ends, inner: &[u8]) -> TunnelPacket {
        tunnel::unwrap_ip(&replies.wrap(ends, 9, inner).unwrap()).unwrap().unwrap()
    }

    #[test]
    fn a_flow_keeps_its_source_port_and_flows_differ() {
        for encap in [Encap::GreUdp, Encap::Vxlan, Encap::GeneveIp, Encap::GeneveEthernet] {
            let port = |flow, payload| {
                reply(Replies::STOCK, ends(encap, false), &datagram(flow, payload)).udp.unwrap().source
            };
            assert_eq!(port(1, b"one"), port(1, b"another"));
            let ports: std::collections::BTreeSet<u16> = (1..50).map(|flow| port(flow, b"")).collect();
            assert!(ports.len() > 40 && ports.iter().all(|port| *port >= FIRST_SOURCE_PORT), "{ports:?}");
        }
    }

    #[test]
    fn what_is_configured_is_in_the_replies_and_nothing_else() {
        let all = Replies { gre_sequence: true, gre_checksum: true, udp6_zero_checksum: true };
        for over_ipv6 in [false, true] {
            for encap in Encap::ALL {
                let ends = ends(encap, over_ipv6);
                let stock = reply(Replies::STOCK, ends, &datagram(1, b"x"));
                assert_eq!((stock.extras.gre_checksum, stock.extras.gre_sequence), (false, None));
                let configured = reply(all, ends, &datagram(1, b"x"));
                let extras = (configured.extras.gre_checksum, configured.extras.gre_sequence);
                assert_eq!(extras, if encap.has_gre() { (true, Some(9)) } else { (false, None) });
                if over_ipv6 {
                    assert_ne!(stock.udp.map(|udp| udp.checksummed), Some(false));
                    assert_ne!(configured.udp.map(|udp| udp.checksummed), Some(true));
                } else {
                    assert_eq!(configured.udp, stock.udp);
                }
            }
        }
    }

    #[test]
    fn ecn_is_copied_but_for_congestion_and_dscp_is_not() {
        for (inner, outer) in [(0, 0), (1, 1), (2, 2), (3, 2), (0xb8, 0), (0xb9, 1)] {
            let mut packet = datagram(1, b"");
            packet[1] = inner;
            assert_eq!(reply(Replies::STOCK, ends(Encap::Vxlan, true), &packet).outer.tos, outer);
        }
    }
}
