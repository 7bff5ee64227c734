//! The way of a packet: parse → classify → select → rewrite → encapsulate → transmit, and back.
//!
//! Pure but for what `Tables` counts: a packet and tables in, a changed packet and a verdict out.

use crate::{
    abi::{ListenerKey, ListenerValue, PeerKey, ReplyKey, TUNNEL_RESOLVED, TunnelEntry},
    bytes::Be32,
    decap,
    encap::encapsulate,
    hash::flow_hash_v4,
    nat::{End, Socket, translate},
    packet::Packet,
    parse::{self, ETHER_IPV4, ETHERNET_LEN, Ipv4, NoTransport, NotIpv4, TCP, Transport, ethernet_ipv4},
    reason::{DropReason, Verdict},
    select::select,
    tables::{Direction, Route, RouteQuery, Tables},
};

/// What may arrive on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Packets of clients.
    pub public: bool,
    /// Tunnel packets of gateways.
    pub underlay: bool,
}

/// A packet that arrived on an interface of the node.
#[inline(always)]
pub fn ingress<P: Packet, T: Tables>(packet: &mut P, tables: &T, roles: Roles) -> Verdict {
    counted(tables, classify(packet, tables, roles))
}

/// A packet that came out of `lbx1`: a health check on its way to its endpoint.
#[inline(always)]
pub fn probe<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    counted(tables, send_probe(packet, tables))
}

#[inline(always)]
fn counted<T: Tables>(tables: &T, verdict: Verdict) -> Verdict {
    if let Verdict::Drop { vnet, reason } = verdict {
        tables.count_drop(vnet, reason);
    }
    verdict
}

const fn drop(vnet: u32, reason: DropReason) -> Verdict {
    Verdict::Drop { vnet, reason }
}

#[inline(always)]
fn classify<P: Packet, T: Tables>(packet: &mut P, tables: &T, roles: Roles) -> Verdict {
    let ip = match ethernet_ipv4(packet) {
        Ok(ip) => ip,
        Err(NotIpv4::Other) => return Verdict::Pass,
        Err(NotIpv4::Malformed { destination }) => {
            return unserved(tables, roles, destination, DropReason::Malformed);
        }
    };
    if roles.underlay {
        let Some(node) = tables.node() else { return Verdict::Pass };
        if node.tunnel_source.v4() == ip.destination {
            return match decap::admit(packet, tables, &ip) {
                Ok(admitted) => from_vnet(packet, tables, &admitted),
                Err(verdict) => verdict,
            };
        }
    }
    if !roles.public {
        return Verdict::Pass;
    }
    if ip.fragment {
        return unserved(tables, roles, ip.destination, DropReason::FragmentUnknown);
    }
    let transport = match parse::transport(packet, &ip) {
        Ok(transport) => transport,
        Err(NoTransport::Other) => return unserved(tables, roles, ip.destination, DropReason::VipNoService),
        Err(NoTransport::CutOff) => return unserved(tables, roles, ip.destination, DropReason::Malformed),
    };
    let flow = &transport.flow;
    let key =
        ListenerKey::Exact { vip: flow.destination, protocol: flow.protocol, port: flow.destination_port };
    match tables.listener(key) {
        Some(listener) => to_endpoint(packet, tables, &ip, &transport, &listener),
        None => unserved(tables, roles, ip.destination, DropReason::VipNoService),
    }
}

/// A packet that no listener serves: dropped if it came to a VIP, else not ours. Passed on, a host that
/// forwards would bounce it between itself and the router.
#[inline(always)]
fn unserved<T: Tables>(tables: &T, roles: Roles, destination: Be32, reason: DropReason) -> Verdict {
    if roles.public && tables.listener(ListenerKey::Vip(destination)).is_some() {
        drop(0, reason)
    } else {
        Verdict::Pass
    }
}

#[inline(always)]
fn to_endpoint<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ipv4,
    transport: &Transport,
    listener: &ListenerValue,
) -> Verdict {
    let Some(node) = tables.node() else { return drop(0, DropReason::Inconsistent) };
    let hash = flow_hash_v4(&transport.flow, &node.seed);
    let Some((id, endpoint)) = select(tables, listener.target, hash) else {
        return drop(0, DropReason::NoEndpoint);
    };
    let vnet = endpoint.vnet;
    if ip.ttl <= 1 {
        return drop(vnet, DropReason::TtlExceeded);
    }
    let Some(tunnel) = tables.tunnel(u32::from(endpoint.tunnel)) else {
        return drop(vnet, DropReason::Inconsistent);
    };
    let fits = ip.total_length <= tunnel.inner_mtu;
    if !fits && ip.dont_fragment {
        return drop(vnet, DropReason::TooBig);
    }
    let old = Socket { address: transport.flow.destination, port: transport.flow.destination_port };
    let new = Socket {
        address: endpoint.address.v4(),
        port: if endpoint.port.0 == 0 { old.port } else { endpoint.port },
    };
    if translate(packet, ip, End::Destination, old, new, true).is_none() {
        return drop(vnet, DropReason::Inconsistent);
    }
    if let Err(reason) = encapsulate(packet, tunnel, ip, hash) {
        return drop(vnet, reason);
    }
    let direction = Direction::In { syn: transport.flags.is_syn() };
    tables.count_listener(listener.id, direction, u64::from(ip.total_length));
    tables.count_endpoint(u32::from(id), direction, u64::from(ip.total_length));
    into_tunnel(packet, tables, tunnel, fits)
}

/// Sends a wrapped packet on its way: directly where the next hop is known and the packet fits, else
/// through the host, which resolves and fragments.
#[inline(always)]
fn into_tunnel<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    tunnel: &TunnelEntry,
    fits: bool,
) -> Verdict {
    if fits && tunnel.flags & TUNNEL_RESOLVED != 0 {
        return Verdict::Transmit { ifindex: tunnel.ifindex };
    }
    to_host(packet, tables, tunnel.vnet)
}

/// Addresses the frame to `lbx0`, as if `lbx1` had sent it.
#[inline(always)]
fn to_host<P: Packet, T: Tables>(packet: &mut P, tables: &T, vnet: u32) -> Verdict {
    let Some(node) = tables.node() else { return drop(vnet, DropReason::Inconsistent) };
    let [lbx0, lbx1] = node.lbx_macs.map(|[a, b, c, d, e, f, ..]| [a, b, c, d, e, f]);
    match set_ethernet(packet, lbx1, lbx0) {
        Some(()) => Verdict::ToHost,
        None => drop(vnet, DropReason::Inconsistent),
    }
}

#[inline(always)]
fn set_ethernet<P: Packet>(packet: &mut P, source: [u8; 6], destination: [u8; 6]) -> Option<()> {
    let mut ethernet = packet.window_mut::<ETHERNET_LEN>(0)?;
    ethernet.set_mac::<0>(destination);
    ethernet.set_mac::<6>(source);
    ethernet.set_be16::<12>(ETHER_IPV4);
    Some(())
}

#[inline(always)]
fn from_vnet<P: Packet, T: Tables>(packet: &mut P, tables: &T, admitted: &decap::Admitted) -> Verdict {
    let vnet = admitted.peer.vnet;
    let Ok(inner) = parse::ipv4(packet, admitted.inner_at) else {
        return drop(vnet, DropReason::TunnelMalformed);
    };
    if inner.at.wrapping_add(usize::from(inner.total_length)) > admitted.end {
        return drop(vnet, DropReason::TunnelMalformed);
    }
    if inner.fragment {
        return drop(vnet, DropReason::FragmentUnknown);
    }
    let transport = match parse::transport(packet, &inner) {
        Ok(transport) => transport,
        Err(NoTransport::Other) => return drop(vnet, DropReason::ReplyNoService),
        Err(NoTransport::CutOff) => return drop(vnet, DropReason::TunnelMalformed),
    };
    // Neither clients nor the health checker are servers to a virtual network.
    if transport.flags.is_syn() {
        return drop(vnet, DropReason::ReplySyn);
    }
    let Some(entry) = tables.vnet(vnet) else { return drop(vnet, DropReason::Inconsistent) };
    let probe_source = entry.probe_source.v4();
    if inner.destination == probe_source && probe_source.0 != 0 && inner.protocol == TCP {
        return match decap::strip(packet, &inner) {
            Some(_) => to_host(packet, tables, vnet),
            None => drop(vnet, DropReason::Inconsistent),
        };
    }
    to_client(packet, tables, vnet, &inner, &transport)
}

#[inline(always)]
fn to_client<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    vnet: u32,
    inner: &Ipv4,
    transport: &Transport,
) -> Verdict {
    let old = Socket { address: transport.flow.source, port: transport.flow.source_port };
    let key = ReplyKey { vnet, address: old.address, protocol: inner.protocol, port: old.port };
    let Some(reply) = tables.reply(key) else { return drop(vnet, DropReason::ReplyNoService) };
    if inner.ttl <= 1 {
        return drop(vnet, DropReason::TtlExceeded);
    }
    let route = tables.route(&RouteQuery {
        source: reply.vip,
        destination: inner.destination,
        protocol: inner.protocol,
        tos: inner.tos,
        length: inner.total_length,
    });
    if route == Route::Unreachable {
        return drop(vnet, DropReason::NoRoute);
    }
    let Some(ip) = decap::strip(packet, inner) else { return drop(vnet, DropReason::Inconsistent) };
    let new = Socket { address: reply.vip, port: reply.port };
    // On the way through the host the kernel takes its hop off the time to live.
    let hop = route != Route::ByHost;
    if translate(packet, &ip, End::Source, old, new, hop).is_none() {
        return drop(vnet, DropReason::Inconsistent);
    }
    tables.count_listener(reply.listener, Direction::Out, u64::from(ip.total_length));
    tables.count_endpoint(u32::from(reply.endpoint), Direction::Out, u64::from(ip.total_length));
    match route {
        Route::Direct { ifindex, source, destination } => match set_ethernet(packet, source, destination) {
            Some(()) => Verdict::Transmit { ifindex },
            None => drop(vnet, DropReason::Inconsistent),
        },
        Route::ByHost | Route::Unreachable => to_host(packet, tables, vnet),
    }
}

#[inline(always)]
fn send_probe<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let unknown = drop(0, DropReason::ProbeSourceUnknown);
    let Ok(ip) = ethernet_ipv4(packet) else { return unknown };
    let Some(peer) = tables.peer(PeerKey::ProbeSource(ip.source)) else { return unknown };
    let Some(tunnel) = tables.tunnel(peer.tunnel) else { return drop(peer.vnet, DropReason::Inconsistent) };
    // Entropy for UDP tunnels: a connection of the health checker stays on one path.
    let hash = packet
        .window::<4>(ip.payload_at)
        .map_or(ip.destination.0, |ports| ip.destination.0 ^ ports.be32::<0>().0);
    match encapsulate(packet, tunnel, &ip, hash) {
        Ok(()) => into_tunnel(packet, tables, tunnel, ip.total_length <= tunnel.inner_mtu),
        Err(reason) => drop(peer.vnet, reason),
    }
}
