//! Recognising tunnel packets that are ours, and taking the outer headers off.
//!
//! Ours is what comes to the tunnel address in an encapsulation that some tunnel uses, and either carries a
//! configured key or comes from a configured gateway. Of that, only (gateway, key, encapsulation) as
//! configured may enter; the rest is dropped. Everything else passes to the kernel untouched.

use crate::{
    abi::{Host, PeerKey},
    bytes::Be16,
    encap::{
        Encap, UDP_LEN,
        geneve::{self, Header},
        gre, vxlan,
    },
    ip::{ETHER_ARP, ETHER_IPV4, ETHER_IPV6, Fragment, GRE, Ip, IpAddress, UDP},
    link::ETHERNET_LEN,
    packet::Packet,
    reason::{DropReason, Packed},
    tables::{Carry, Tables},
};

/// A tunnel packet that may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Vnet and tunnel it came through, and where its inner packet is.
    pub carry: Carry,
    /// Ethernet type of the inner packet: IPv4, IPv6 or ARP.
    pub kind: Be16,
}

/// Admits a packet to the tunnel address, or says what becomes of it.
#[inline(always)]
pub fn admit<A: IpAddress, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    ip: &Ip<A>,
) -> Result<Admitted, Packed> {
    if ip.protocol != GRE && ip.protocol != UDP {
        return Err(Packed::PASS);
    }
    let Some(carrier) = carrier(packet, tables, ip) else { return Err(Packed::PASS) };
    let remote = ip.source.host(tables);
    let parsed = if ip.fragment == Fragment::Whole { outer(packet, &carrier) } else { None };
    let Some(outer) = parsed else { return Err(refuse_broken(tables, ip, &carrier, remote)) };
    let (encap, port) = (outer.encap.number(), carrier.port);
    let peer = remote.and_then(|remote| tables.peer(PeerKey::Peer { remote, encap, port, vni: outer.vni }));
    let Some(peer) = peer else { return Err(refuse_stranger(tables, remote, &carrier, &outer)) };
    let is_arp = outer.kind == ETHER_ARP && outer.encap.has_ethernet();
    if outer.kind != ETHER_IPV4 && outer.kind != ETHER_IPV6 && !is_arp {
        return Err(Packed::drop(peer.vnet, DropReason::TunnelMalformed));
    }
    // Options may push the inner packet far out, but not behind the outer one's 64 KiB.
    let Ok(at) = u16::try_from(outer.inner_at) else { return Err(Packed::PASS) };
    let end = ip.at.wrapping_add(usize::from(ip.total_length));
    let carry = Carry {
        roles: 0,
        ecn: ip.tos & ECN,
        at,
        #[expect(clippy::cast_possible_truncation, reason = "a frame is shorter than 128 KiB")]
        end: end as u32,
        vnet: peer.vnet,
        tunnel: peer.tunnel,
        ..Carry::default()
    };
    Ok(Admitted { carry, kind: outer.kind })
}

/// The ECN bits of a type of service.
pub const ECN: u8 = 0x03;
/// Congestion was experienced (RFC 3168 §5).
const CONGESTED: u8 = 0x03;

/// The ECN bits of an inner packet that arrives in an outer one (RFC 6040 §4.2); `None` where it must be dropped,
/// because its sender would not understand the congestion that the tunnel has seen.
#[inline(always)]
pub const fn ecn_after(outer: u8, inner: u8) -> Option<u8> {
    match (outer, inner) {
        (CONGESTED, 0) => None,
        (CONGESTED, _) => Some(CONGESTED),
        // ECT(1) outside overrides ECT(0) inside.
        (1, 2) => Some(1),
        _ => Some(inner),
    }
}

/// What a packet to the tunnel address may be by its protocol and port.
struct Carrier {
    encap: Encap,
    /// UDP destination port; 0 for GRE.
    port: Be16,
    /// Offset of the header of the encapsulation.
    at: usize,
}

/// `None` where no tunnel comes in like that.
#[inline(always)]
fn carrier<A: IpAddress, P: Packet, T: Tables>(packet: &P, tables: &T, ip: &Ip<A>) -> Option<Carrier> {
    if ip.protocol == GRE {
        return Some(Carrier { encap: Encap::Gre, port: Be16(0), at: ip.payload_at() });
    }
    // Of a later fragment these bytes are data, and it belongs to nobody.
    if ip.fragment == Fragment::Later {
        return None;
    }
    let port = packet.window::<UDP_LEN>(ip.payload_at())?.be16::<2>();
    let encap = Encap::from_number(tables.peer(PeerKey::UdpPort(port))?.vnet)?;
    Some(Carrier { encap, port, at: ip.payload_at().wrapping_add(UDP_LEN) })
}

/// What the headers of the encapsulation say.
struct Outer {
    encap: Encap,
    vni: u32,
    inner_at: usize,
    kind: Be16,
}

#[inline(always)]
fn outer<P: Packet>(packet: &P, carrier: &Carrier) -> Option<Outer> {
    let Carrier { encap, at, .. } = *carrier;
    match encap {
        Encap::Gre | Encap::GreUdp => {
            let header = gre::parse(packet, at)?;
            Some(Outer { encap, vni: header.key, inner_at: header.payload_at, kind: header.kind })
        }
        Encap::Vxlan => {
            let vni = vxlan::parse(packet, at)?;
            framed(packet, encap, vni, at.wrapping_add(vxlan::VXLAN_LEN))
        }
        Encap::Geneve | Encap::GeneveEthernet => {
            let header = geneve::parse(packet, at)?;
            if header.kind == geneve::ETHERNET_INSIDE {
                return framed(packet, Encap::GeneveEthernet, header.vni, header.payload_at);
            }
            let Header { vni, kind, payload_at } = header;
            Some(Outer { encap: Encap::Geneve, vni, inner_at: payload_at, kind })
        }
    }
}

/// An inner Ethernet frame at `at`.
#[inline(always)]
fn framed<P: Packet>(packet: &P, encap: Encap, vni: u32, at: usize) -> Option<Outer> {
    let kind = packet.window::<ETHERNET_LEN>(at)?.be16::<12>();
    Some(Outer { encap, vni, inner_at: at.wrapping_add(ETHERNET_LEN), kind })
}

/// A well-formed tunnel packet of no configured (gateway, key): dropped if either of them is ours.
#[inline(always)]
fn refuse_stranger<T: Tables>(tables: &T, remote: Option<Host>, carrier: &Carrier, outer: &Outer) -> Packed {
    let (encap, port) = (outer.encap.number(), carrier.port);
    if let Some(vnet) = tables.peer(PeerKey::KnownVni { encap, port, vni: outer.vni }) {
        return Packed::drop(vnet.vnet, DropReason::TunnelUnknownPeer);
    }
    if is_gateway(tables, remote, encap, port) {
        return Packed::drop(0, DropReason::TunnelUnknownKey);
    }
    Packed::PASS
}

/// A fragment or a broken header: ours if it comes from a gateway in that gateway's encapsulation.
#[inline(always)]
fn refuse_broken<A, T: Tables>(tables: &T, ip: &Ip<A>, carrier: &Carrier, remote: Option<Host>) -> Packed {
    let forms = match carrier.encap {
        Encap::Geneve | Encap::GeneveEthernet => [Encap::Geneve, Encap::GeneveEthernet],
        encap @ (Encap::Gre | Encap::Vxlan | Encap::GreUdp) => [encap, encap],
    };
    if !forms.into_iter().any(|encap| is_gateway(tables, remote, encap.number(), carrier.port)) {
        return Packed::PASS;
    }
    let broken = ip.fragment == Fragment::Whole;
    let reason = if broken { DropReason::TunnelMalformed } else { DropReason::TunnelFragmented };
    Packed::drop(0, reason)
}

#[inline(always)]
fn is_gateway<T: Tables>(tables: &T, remote: Option<Host>, encap: u8, port: Be16) -> bool {
    remote.is_some_and(|remote| tables.peer(PeerKey::KnownRemote { remote, encap, port }).is_some())
}

/// Takes off everything before the inner IP packet but room for an Ethernet header. Returns the inner
/// header with its new offsets.
#[inline(always)]
pub fn strip<A: Copy, P: Packet>(packet: &mut P, inner: &Ip<A>) -> Option<Ip<A>> {
    let cut = inner.at.wrapping_sub(ETHERNET_LEN);
    if !packet.move_head(i32::try_from(cut).ok()?.wrapping_neg()) {
        return None;
    }
    Some(Ip { at: ETHERNET_LEN, ..*inner })
}

#[cfg(test)]
mod tests {
    use super::ecn_after;

    #[test]
    fn congestion_outside_is_told_inside_or_the_packet_is_dropped() {
        // RFC 6040 §4.2, figure 4; rows: inner Not-ECT, ECT(0), ECT(1), CE. Outer Not-ECT, ECT(0), ECT(1), CE.
        let rows = [0, 2, 1, 3].map(|inner| [0, 2, 1, 3].map(|outer| ecn_after(outer, inner)));
        assert_eq!(rows[0], [Some(0), Some(0), Some(0), None]);
        assert_eq!(rows[1], [Some(2), Some(2), Some(1), Some(3)]);
        assert_eq!(rows[2], [Some(1), Some(1), Some(1), Some(3)]);
        assert_eq!(rows[3], [Some(3); 4]);
    }
}
