//! The way of a packet: parse → classify → select → rewrite → encapsulate → transmit, and back.
//!
//! Pure but for what `Tables` counts: a packet and tables in, a changed packet and a verdict out.

mod fragment;
mod icmp;
mod inbound;
mod neighbour;
mod outbound;
mod refuse;
mod tracked;
mod transmit;

use self::{inbound::to_endpoint, refuse::refuse};
use crate::{
    abi::{Host, ListenerKey, PeerKey, VIP_REJECTS, VipValue, Words},
    bytes::{Address, Be32},
    decap::{self, Admitted, ECN},
    encap::encapsulate,
    icmp::{Messages, answer::Compose, reset::Shorten},
    ip::{ETHER_ARP, ETHER_IPV4, ETHER_IPV6, Fragment, Ip, IpAddress, MAX_OFFSET, NoIp, UDP},
    link::{self, ETHERNET_LEN},
    nat::{End, Header, Rewrite},
    packet::Packet,
    reason::{DropReason, Packed, Stage},
    tables::{Carry, Tables},
    transport::{self, NoTransport},
};

/// What may arrive on an interface: clients' packets.
pub const PUBLIC: u8 = 1;
/// Gateways' tunnel packets.
pub const UNDERLAY: u8 = 2;

/// A family of addresses whose packets take the way.
trait PipelineAddress: Rewrite + Messages + Compose + Shorten {}

impl PipelineAddress for Be32 {}
impl PipelineAddress for Address {}

/// A packet that arrived on an interface of the node, with the bits of its role.
#[inline(always)]
pub fn ingress<P: Packet, T: Tables>(packet: &mut P, tables: &T, roles: u8) -> Packed {
    let Some(ethernet) = link::parse(packet) else { return Packed::PASS };
    if ethernet.kind == ETHER_IPV4 && ethernet.payload_at == ETHERNET_LEN {
        return counted(tables, classify::<Be32, P, T>(packet, tables, roles, ETHERNET_LEN));
    }
    let stage = if ethernet.kind == ETHER_IPV4 {
        Stage::V4
    } else if ethernet.kind == ETHER_IPV6 {
        Stage::V6
    } else {
        return Packed::PASS;
    };
    #[expect(clippy::cast_possible_truncation, reason = "at most 22")]
    tables.keep(Carry { roles, at: ethernet.payload_at as u16, ..Carry::default() });
    Packed::go_on(stage)
}

/// A later stage, with what the one before kept.
#[inline(always)]
pub fn stage<P: Packet, T: Tables>(packet: &mut P, tables: &T, stage: Stage) -> Packed {
    let carry = tables.kept();
    // Masked, so that the verifier knows how far into the packet it may lead.
    let at = usize::from(carry.at) & MAX_OFFSET;
    let verdict = match stage {
        Stage::V4 => classify::<Be32, P, T>(packet, tables, carry.roles, at),
        Stage::V6 => classify::<Address, P, T>(packet, tables, carry.roles, at),
        Stage::ReplyV4 => outbound::reply::<Be32, P, T, false>(packet, tables, &carry, at),
        Stage::ReplyV6 => outbound::reply::<Address, P, T, false>(packet, tables, &carry, at),
        Stage::FragmentV4 => fragment::from_client::<Be32, P, T>(packet, tables, at),
        Stage::FragmentV6 => fragment::from_client::<Address, P, T>(packet, tables, at),
        Stage::FragmentReplyV4 => outbound::reply::<Be32, P, T, true>(packet, tables, &carry, at),
        Stage::FragmentReplyV6 => outbound::reply::<Address, P, T, true>(packet, tables, &carry, at),
        Stage::IcmpV4 => icmp::from_client::<Be32, P, T>(packet, tables, &carry, at),
        Stage::IcmpV6 => icmp::from_client::<Address, P, T>(packet, tables, &carry, at),
        Stage::IcmpReplyV4 => icmp::from_vnet::<Be32, P, T>(packet, tables, &carry, at),
        Stage::IcmpReplyV6 => icmp::from_vnet::<Address, P, T>(packet, tables, &carry, at),
        Stage::RelayV4 => icmp::relay::<Be32, P, T>(packet, tables, &carry, at),
        Stage::RelayV6 => icmp::relay::<Address, P, T>(packet, tables, &carry, at),
        Stage::NeighbourV4 => neighbour::answer_arp(packet, tables, &carry, at),
        Stage::NeighbourV6 => neighbour::answer_solicitation(packet, tables, &carry, at),
        Stage::RefuseV4 => refuse::tell::<Be32, P, T>(packet, tables, &carry, at),
        Stage::RefuseV6 => refuse::tell::<Address, P, T>(packet, tables, &carry, at),
        Stage::TrackedV4 => tracked::find_owner::<Be32, T>(tables, &carry),
        Stage::TrackedV6 => tracked::find_owner::<Address, T>(tables, &carry),
        Stage::DeliverV4 => tracked::to_endpoint::<Be32, P, T>(packet, tables, &carry, at),
        Stage::DeliverV6 => tracked::to_endpoint::<Address, P, T>(packet, tables, &carry, at),
        Stage::ConfirmV4 => tracked::confirm::<Be32, P, T>(packet, tables, &carry, at),
        Stage::ConfirmV6 => tracked::confirm::<Address, P, T>(packet, tables, &carry, at),
    };
    counted(tables, verdict)
}

/// A packet that came out of `lbx1`: a health check on its way to its endpoint.
#[inline(always)]
pub fn probe<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Packed {
    let verdict = match link::parse(packet) {
        Some(ethernet) if ethernet.kind == ETHER_IPV4 => send_probe::<Be32, P, T>(packet, tables),
        Some(ethernet) if ethernet.kind == ETHER_IPV6 => send_probe::<Address, P, T>(packet, tables),
        _ => drop(0, DropReason::ProbeSourceUnknown),
    };
    counted(tables, verdict)
}

/// A packet that arrives on `lbx0`: the answer to a health check, or one for the kernel to finish.
///
/// The kernel gives datagrams to any socket of the host that listens on their port. Those out of a virtual network are
/// for the health checks' own sockets alone.
#[inline(always)]
pub fn arrival<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Packed {
    let verdict = match link::parse(packet) {
        Some(ethernet) if ethernet.kind == ETHER_IPV4 => arrive::<Be32, P, T>(packet, tables),
        Some(ethernet) if ethernet.kind == ETHER_IPV6 => arrive::<Address, P, T>(packet, tables),
        _ => Packed::PASS,
    };
    counted(tables, verdict)
}

#[inline(always)]
fn counted<T: Tables>(tables: &T, verdict: Packed) -> Packed {
    if let Some((vnet, reason)) = verdict.dropped() {
        tables.count_drop(vnet, reason);
    }
    verdict
}

const fn drop(vnet: u32, reason: DropReason) -> Packed {
    Packed::drop(vnet, reason)
}

#[inline(always)]
fn classify<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    roles: u8,
    at: usize,
) -> Packed {
    let ip = match A::parse(packet, at) {
        // Without options, IPv4 has but one form.
        Ok(ip) if A::V6 => ip.settled(tables),
        Ok(ip) => ip,
        Err(NoIp::Other) => return Packed::PASS,
        Err(NoIp::Malformed { destination }) => {
            let Some(host) = destination.host(tables) else { return Packed::PASS };
            return unserved(tables, roles, host, DropReason::Malformed);
        }
    };
    // An IPv6 address that no table knows is nobody's business here.
    let Some(destination) = ip.destination.host(tables) else { return Packed::PASS };
    if roles & UNDERLAY != 0 {
        let Some(node) = tables.node() else { return Packed::PASS };
        let own = if A::V6 { node.tunnel_source_v6 } else { node.tunnel_source_v4.0 };
        if own == destination.raw && own != 0 {
            return match decap::admit(packet, tables, &ip) {
                Ok(admitted) => from_vnet::<A, P, T>(packet, tables, &admitted),
                Err(verdict) => verdict,
            };
        }
    }
    if roles & PUBLIC == 0 {
        return Packed::PASS;
    }
    from_client(packet, tables, &ip, destination, roles)
}

/// A tunnel packet that may enter. IPv4 over IPv4 goes on at once, the rest in a stage of its own.
#[inline(always)]
fn from_vnet<A: IpAddress, P: Packet, T: Tables>(packet: &mut P, tables: &T, admitted: &Admitted) -> Packed {
    if usize::from(admitted.carry.at) > MAX_OFFSET {
        return drop(admitted.carry.vnet, DropReason::TunnelMalformed);
    }
    tables.keep(admitted.carry);
    if !A::V6 && admitted.kind == ETHER_IPV4 {
        // Through the map as well: all encapsulations meet here.
        let carry = tables.kept();
        let at = usize::from(carry.at) & MAX_OFFSET;
        return outbound::reply::<Be32, P, T, false>(packet, tables, &carry, at);
    }
    Packed::go_on(if admitted.kind == ETHER_IPV4 {
        Stage::ReplyV4
    } else if admitted.kind == ETHER_ARP {
        Stage::NeighbourV4
    } else {
        Stage::ReplyV6
    })
}

#[inline(always)]
fn from_client<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
    vip: Host,
    roles: u8,
) -> Packed {
    let is_whole = ip.fragment == Fragment::Whole;
    if !is_whole || ip.protocol == A::ICMP {
        if tables.listener(ListenerKey::Vip(vip)).is_none() {
            return Packed::PASS;
        }
        #[expect(clippy::cast_possible_truncation, reason = "an offset below 8192")]
        tables.keep(Carry { at: ip.at as u16, ..Carry::default() });
        return Packed::go_on(match (A::V6, is_whole) {
            (false, true) => Stage::IcmpV4,
            (true, true) => Stage::IcmpV6,
            (false, false) => Stage::FragmentV4,
            (true, false) => Stage::FragmentV6,
        });
    }
    let transport = match transport::parse(packet, ip) {
        Ok(transport) => transport,
        Err(NoTransport::Other) => return unserved(tables, roles, vip, DropReason::VipNoService),
        Err(NoTransport::CutOff) => return unserved(tables, roles, vip, DropReason::Malformed),
    };
    match tables.listener_on(vip, ip.protocol, transport.ports.destination) {
        Some(listener) => to_endpoint::<A, P, T, false>(packet, tables, ip, &transport, &listener),
        None => closed::<A, T>(tables, ip, vip),
    }
}

/// A packet that no listener serves: dropped if it came to a VIP, else not ours. Passed on, a host that
/// forwards would bounce it between itself and the router.
#[inline(always)]
fn unserved<T: Tables>(tables: &T, roles: u8, destination: Host, reason: DropReason) -> Packed {
    if roles & PUBLIC != 0 && tables.listener(ListenerKey::Vip(destination)).is_some() {
        drop(0, reason)
    } else {
        Packed::PASS
    }
}

/// A packet of TCP or UDP to a port that nobody listens on.
#[inline(always)]
fn closed<A: PipelineAddress, T: Tables>(tables: &T, ip: &Ip<A>, vip: Host) -> Packed {
    let Some(value) = tables.listener(ListenerKey::Vip(vip)) else { return Packed::PASS };
    let (reason, kind) = if VipValue::from_words(value).flags & VIP_REJECTS != 0 {
        (DropReason::VipNoService, A::PORT_UNREACHABLE)
    } else if ip.ttl <= 1 {
        // A traceroute goes to ports that nobody has.
        (DropReason::TtlExceeded, A::TIME_EXCEEDED)
    } else {
        return drop(0, DropReason::VipNoService);
    };
    refuse::<A, T>(tables, ip.at, (0, 0), reason, (kind, 0))
}

#[inline(always)]
fn arrive<A: IpAddress, P: Packet, T: Tables>(packet: &P, tables: &T) -> Packed {
    let Ok(ip): Result<Ip<A>, _> = A::parse(packet, ETHERNET_LEN) else { return Packed::PASS };
    if ip.protocol != UDP {
        return Packed::PASS;
    }
    // Every probe source has a way by place 0.
    let vnet_of = |source| tables.peer(PeerKey::ProbeSource { source, place: 0 });
    let Some(peer) = ip.destination.host(tables).and_then(vnet_of) else { return Packed::PASS };
    match transport::parse(packet, &ip) {
        Ok(transport) if tables.is_asked(ip.source, ip.destination, transport.ports) => Packed::PASS,
        _ => drop(peer.vnet, DropReason::ProbeUnasked),
    }
}

#[inline(always)]
fn send_probe<A: Rewrite, P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Packed {
    let unknown = drop(0, DropReason::ProbeSourceUnknown);
    // What lbx0 sends has no tags.
    let Ok(ip) = A::parse(packet, ETHERNET_LEN) else { return unknown };
    let Some(source) = ip.source.host(tables) else { return unknown };
    // The kernel answers some packets without a socket and with their own DSCP: these go by the first tunnel.
    let way = |place| tables.peer(PeerKey::ProbeSource { source, place });
    let Some(peer) = way(ip.tos >> 2).or_else(|| way(0)) else { return unknown };
    let Some(tunnel) = tables.tunnel(peer.tunnel) else { return drop(peer.vnet, DropReason::Inconsistent) };
    // Entropy for the outer flow: a connection of the health checker stays on one path.
    let ports = packet.window::<4>(ip.payload_at()).map_or(0, |ports| ports.be32::<0>().0);
    // The DSCP was meant for here alone.
    let header = Header { ttl: ip.ttl, tos: ip.tos & ECN };
    if A::rewrite(packet, &ip, End::Destination, ip.destination, header).is_none() {
        return drop(peer.vnet, DropReason::Inconsistent);
    }
    let ip = Ip { tos: header.tos, ..ip };
    match encapsulate(packet, tunnel, &ip, ports) {
        Ok(()) => transmit::into_tunnel(packet, tables, tunnel, ip.total_length <= tunnel.inner_mtu),
        Err(reason) => drop(peer.vnet, reason),
    }
}
