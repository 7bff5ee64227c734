//! From a client to an endpoint.

use super::{PipelineAddress, drop, refuse::refuse, tracked::ask_for_packet, transmit::into_tunnel};
use crate::{
    abi::{
        ENDPOINT_TUNNELS, EndpointEntry, FragmentKey, FragmentValue, LISTENER_DSR, LISTENER_SAMPLED,
        ListenerValue,
    },
    bytes::Be16,
    encap::encapsulate,
    hash::{flow_hash, scale},
    ip::{Fragment, Ip, IpAddress, UDP},
    mss,
    nat::{Delta, End, Header, Socket, translate},
    packet::Packet,
    policy::refusal,
    reason::{DropReason, Packed},
    region::place,
    select::{steady, table_hash},
    tables::{Counted, Direction, Tables},
    transport::Transport,
};

/// Sends a packet of a listener on its way to an endpoint; with `FRAGMENT` it is the first of several.
#[inline(always)]
pub(super) fn to_endpoint<A: PipelineAddress, P: Packet, T: Tables, const FRAGMENT: bool>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
    transport: &Transport,
    listener: &ListenerValue,
) -> Packed {
    if let Some(reason) = refusal(tables, ip, transport, listener) {
        return drop(0, reason);
    }
    let Some(node) = tables.node() else { return drop(0, DropReason::Inconsistent) };
    let hash = flow_hash(ip.source, ip.destination, transport.ports, ip.protocol, &node.seed);
    let place = place(tables, listener, ip.source);
    let by = table_hash(place.target, ip.source, hash, &node.seed);
    // Few are, and what tells of them needs room on the stack, so they go the longer way.
    let sampled = listener.flags & LISTENER_SAMPLED != 0
        && (transport.flags.is_syn() || ip.protocol == UDP)
        && tables.samples();
    let Some((id, _)) = steady(tables, &place, by).filter(|_| !sampled) else {
        return ask_for_packet(packet, tables, ip, transport, (listener, hash), sampled);
    };
    deliver::<A, P, T, FRAGMENT>(packet, tables, ip, transport, listener, hash, u32::from(id))
}

/// Sends a packet of a listener to the endpoint `id`; with `FRAGMENT` it may be the first of several.
#[inline(always)]
pub(super) fn deliver<A: PipelineAddress, P: Packet, T: Tables, const FRAGMENT: bool>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
    transport: &Transport,
    listener: &ListenerValue,
    hash: u32,
    id: u32,
) -> Packed {
    let Some(endpoint) = tables.endpoint(id) else { return drop(0, DropReason::Inconsistent) };
    let vnet = endpoint.vnet;
    if ip.ttl <= 1 {
        return refuse::<A, T>(tables, ip.at, (vnet, 0), DropReason::TtlExceeded, (A::TIME_EXCEEDED, 0));
    }
    let Some(way) = tunnel_of(endpoint, hash) else { return drop(vnet, DropReason::NoTunnel) };
    let Some(tunnel) = tables.tunnel(way) else { return drop(vnet, DropReason::Inconsistent) };
    if FRAGMENT && ip.fragment == Fragment::First {
        let (listener, flags) = (listener.id, u32::from(listener.flags));
        let first = FragmentValue { endpoint: id, way, listener, flags, hash, ..FragmentValue::default() };
        tables.remember(&FragmentKey::of(ip, 0), first);
    }
    let fits = ip.total_length <= tunnel.inner_mtu;
    if !fits && ip.dont_fragment {
        return refuse::<A, T>(tables, ip.at, (vnet, 0), DropReason::TooBig, (A::TOO_BIG, tunnel.inner_mtu));
    }
    if transport.flags.has_syn() {
        mss::clamp(packet, ip, tunnel.inner_mtu);
    }
    let old = Socket { address: ip.destination, port: transport.ports.destination };
    let new =
        if listener.flags & LISTENER_DSR == 0 { endpoint_socket(endpoint, listener, old.port) } else { old };
    let header = Header { ttl: ip.ttl.wrapping_sub(1), tos: ip.tos };
    if translate(packet, ip, End::Destination, new, Delta::between(old, new), header).is_none() {
        return drop(vnet, DropReason::Inconsistent);
    }
    if let Err(reason) = encapsulate(packet, tunnel, ip, hash) {
        return drop(vnet, reason);
    }
    let direction = Direction::In { syn: transport.flags.is_syn() };
    let of = Counted { listener: listener.id, endpoint: id, tunnel: way };
    tables.count(of, direction, u64::from(ip.total_length));
    into_tunnel(packet, tables, tunnel, fits)
}

/// What a socket of the VIP is at the endpoint.
#[inline(always)]
pub(super) fn endpoint_socket<A: IpAddress>(
    endpoint: &EndpointEntry,
    listener: &ListenerValue,
    port: Be16,
) -> Socket<A> {
    Socket { address: A::from_entry(&endpoint.address), port: endpoint.port_for(listener.first_port, port) }
}

/// The id of the tunnel for a flow: one of those that are up.
#[inline(always)]
pub(super) fn tunnel_of(endpoint: &EndpointEntry, hash: u32) -> Option<u32> {
    let place = match endpoint.tunnel_count {
        0 => return None,
        1 => 0,
        // Other bits than those that chose the slot, which are the upper ones.
        count => scale(hash.rotate_left(16), u32::from(count)) as usize,
    };
    endpoint.tunnels.get(place & (ENDPOINT_TUNNELS - 1)).map(|id| u32::from(*id))
}
