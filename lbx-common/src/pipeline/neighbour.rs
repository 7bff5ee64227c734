//! Questions for a MAC in tunnels that carry Ethernet: ARP (RFC 826) and neighbour solicitations (RFC 4861). lbx has
//! one address in a virtual network, of either family: where its health checks come from. So a gateway can have it as
//! its next hop.

use super::{drop, transmit::into_tunnel};
use crate::{
    abi::{INNER_SOURCE_MAC, TunnelEntry},
    bytes::{Address, Be16, Be32},
    checksum::Sum,
    encap::{Encap, encapsulate_neighbour},
    icmp::NEIGHBOUR_SOLICITATION,
    ip::{ETHER_ARP, ETHER_IPV6, ICMPV6, v6},
    packet::Packet,
    reason::{DropReason, Packed},
    tables::{Carry, Tables},
};

/// Bytes of ARP for IPv4 over Ethernet.
const ARP_LEN: usize = 28;
/// Hardware Ethernet, protocol IPv4; lengths of their addresses, request.
const ARP_FOR_IPV4: Be32 = Be32::new(0x0001_0800);
const ARP_REQUEST: Be32 = Be32::new(0x0604_0001);
const ARP_REPLY: Be16 = Be16::new(2);

/// Bytes of a solicitation with the option that says the sender's MAC, and of the answer (RFC 4861 §4.3, §4.4).
const ND_LEN: u16 = 32;
const PACKET_LEN: usize = v6::LEN + ND_LEN as usize;
/// Type, code; flags: solicited, override; option: target's link-layer address, eight bytes.
const ADVERTISEMENT: Be16 = Be16::new(0x8800);
const FLAGS: Be32 = Be32::new(0x6000_0000);
const TARGET_ADDRESS: Be16 = Be16::new(0x0201);
/// What neighbours send has not passed any router.
const HOP_LIMIT: u8 = 255;

/// The ARP packet at `at` in a tunnel packet that was admitted.
#[inline(always)]
pub(super) fn answer_arp<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    at: usize,
) -> Packed {
    let unanswered = drop(carry.vnet, DropReason::NeighbourUnanswered);
    let Some(tunnel) = ethernet_tunnel(tables, carry) else { return unanswered };
    let Some(own) = tables.vnet(carry.vnet).map(|vnet| vnet.probe_source_v4) else { return unanswered };
    let Some(mut arp) = packet.window_mut::<ARP_LEN>(at) else { return unanswered };
    let read = arp.read();
    let is_request = read.be32::<0>() == ARP_FOR_IPV4 && read.be32::<4>() == ARP_REQUEST;
    if !is_request || read.be32::<24>() != own || own.0 == 0 || !tables.may_answer() {
        return unanswered;
    }
    let sender = (read.be32::<8>(), read.be16::<12>(), read.be32::<14>());
    arp.set_be16::<6>(ARP_REPLY);
    arp.set_mac::<8>(INNER_SOURCE_MAC);
    arp.set_be32::<14>(own);
    arp.set_be32::<18>(sender.0);
    arp.set_be16::<22>(sender.1);
    arp.set_be32::<24>(sender.2);
    send(packet, tables, tunnel, (at, ARP_LEN), ETHER_ARP)
}

/// The neighbour solicitation at `at` in a tunnel packet that was admitted.
#[inline(always)]
pub(super) fn answer_solicitation<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    at: usize,
) -> Packed {
    let unanswered = drop(carry.vnet, DropReason::NeighbourUnanswered);
    let Some(tunnel) = ethernet_tunnel(tables, carry) else { return unanswered };
    let Some(vnet) = tables.vnet(carry.vnet) else { return unanswered };
    let Some(&own) = tables.address(vnet.probe_source_v6) else { return unanswered };
    let Some(mut all) = packet.window_mut::<PACKET_LEN>(at) else { return unanswered };
    let read = all.read();
    let (source, target) = (read.address::<8>(), read.address::<48>());
    // Extension headers have no place here.
    let is_solicitation = read.byte::<6>() == ICMPV6
        && read.byte::<7>() == HOP_LIMIT
        && read.byte::<{ v6::LEN }>() == NEIGHBOUR_SOLICITATION;
    // From no address: somebody asks whether he may have ours (RFC 4862 §5.4).
    if !is_solicitation || target != own || own.is_unset() || source.is_unset() || !tables.may_answer() {
        return unanswered;
    }
    all.set_be32::<0>(Be32::new(0x6000_0000));
    all.set_be16::<4>(Be16::new(ND_LEN));
    all.set_address::<8>(own);
    all.set_address::<24>(source);
    all.set_be16::<{ v6::LEN }>(ADVERTISEMENT);
    all.set_be16::<{ v6::LEN + 2 }>(checksum(own, source));
    all.set_be32::<{ v6::LEN + 4 }>(FLAGS);
    all.set_address::<{ v6::LEN + 8 }>(own);
    all.set_be16::<{ v6::LEN + 24 }>(TARGET_ADDRESS);
    all.set_mac::<{ v6::LEN + 26 }>(INNER_SOURCE_MAC);
    send(packet, tables, tunnel, (at, PACKET_LEN), ETHER_IPV6)
}

/// The tunnel that a packet came by, where it carries Ethernet.
#[inline(always)]
fn ethernet_tunnel<'a, T: Tables>(tables: &'a T, carry: &Carry) -> Option<&'a TunnelEntry> {
    let tunnel = tables.tunnel(carry.tunnel)?;
    Encap::from_number(tunnel.encap.into())?.has_ethernet().then_some(tunnel)
}

/// Of the advertisement and its pseudo header (RFC 8200 §8.1).
#[inline(always)]
fn checksum(own: Address, to: Address) -> Be16 {
    let [m0, m1, m2, m3, m4, m5] = INNER_SOURCE_MAC;
    let mut sum = Sum::default()
        .add16(Be16::new(ND_LEN).0)
        .add16(Be16::new(ICMPV6.into()).0)
        .add16(ADVERTISEMENT.0)
        .add32(FLAGS.0)
        .add16(TARGET_ADDRESS.0)
        .add16(u16::from_ne_bytes([m0, m1]))
        .add16(u16::from_ne_bytes([m2, m3]))
        .add16(u16::from_ne_bytes([m4, m5]));
    let [own, to] = [own.quads(), to.quads()];
    // The own address is the source and the target.
    for quad in own.into_iter().chain(own).chain(to) {
        sum = sum.add32(quad);
    }
    Be16(sum.checksum())
}

#[inline(always)]
fn send<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    tunnel: &TunnelEntry,
    (at, length): (usize, usize),
    ether: Be16,
) -> Packed {
    if !packet.truncate(at.wrapping_add(length)) {
        return drop(tunnel.vnet, DropReason::Inconsistent);
    }
    #[expect(clippy::cast_possible_truncation, reason = "28 or 72")]
    match encapsulate_neighbour(packet, tunnel, (at, length as u16), ether) {
        Ok(()) => into_tunnel(packet, tables, tunnel, true),
        Err(reason) => drop(tunnel.vnet, reason),
    }
}
