//! Out of a virtual network: to a client, or to the health checker.

use super::{
    PipelineAddress, drop,
    fragment::later_reply,
    refuse::refuse,
    transmit::{out_of, to_host},
};
use crate::{
    abi::{FragmentKey, FragmentValue, Host, NODE_HAS_VLANS, NODE_TRACKS, PeerKey},
    bytes::Be16,
    decap::{self, ECN},
    ip::{Fragment, Ip, IpAddress},
    link, mss,
    nat::{Delta, End, Header, Rewrite, Socket, translate},
    packet::Packet,
    reason::{DropReason, Packed, Stage},
    tables::{Carry, Counted, Direction, Route, RouteQuery, Tables},
    transport::{self, NoTransport, Transport},
};

/// The packet at `at` in a tunnel packet that was admitted; with `FRAGMENT` it may be one.
#[inline(always)]
pub(super) fn reply<A: PipelineAddress, P: Packet, T: Tables, const FRAGMENT: bool>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    at: usize,
) -> Packed {
    let vnet = carry.vnet;
    let Ok(inner): Result<Ip<A>, _> = A::parse(packet, at) else {
        return drop(vnet, DropReason::TunnelMalformed);
    };
    let inner = if A::V6 { inner.settled(tables) } else { inner };
    if inner.at.wrapping_add(usize::from(inner.total_length)) > carry.end as usize {
        return drop(vnet, DropReason::TunnelMalformed);
    }
    let Some(ecn) = decap::ecn_after(carry.ecn, inner.tos & ECN) else {
        return drop(vnet, DropReason::Congested);
    };
    let tos = (inner.tos & !ECN) | ecn;
    if !FRAGMENT && inner.fragment != Fragment::Whole {
        return Packed::go_on(if A::V6 { Stage::FragmentReplyV6 } else { Stage::FragmentReplyV4 });
    }
    if FRAGMENT && inner.fragment == Fragment::Later {
        return later_reply(packet, tables, carry, &inner, tos);
    }
    if inner.protocol == A::ICMP && !FRAGMENT {
        return Packed::go_on(if A::V6 { Stage::IcmpReplyV6 } else { Stage::IcmpReplyV4 });
    }
    let transport = match transport::parse(packet, &inner) {
        Ok(transport) => transport,
        Err(NoTransport::Other) => return drop(vnet, DropReason::ReplyNoService),
        Err(NoTransport::CutOff) => return drop(vnet, DropReason::TunnelMalformed),
    };
    // Neither clients nor the health checker are servers to a virtual network.
    if transport.flags.is_syn() {
        return drop(vnet, DropReason::ReplySyn);
    }
    if !FRAGMENT && is_probe_source(tables, vnet, inner.destination) {
        return match decap::strip(packet, &inner) {
            Some(_) => to_host(packet, tables, vnet, A::ETHER),
            None => drop(vnet, DropReason::Inconsistent),
        };
    }
    if !FRAGMENT
        && transport.flags.has_syn()
        && let Some(tunnel) = tables.tunnel(carry.tunnel)
    {
        mss::clamp(packet, &inner, tunnel.inner_mtu);
    }
    to_client::<A, P, T, FRAGMENT>(packet, tables, carry, &inner, &transport, tos)
}

/// Whether an address is where the network's health checks come from.
#[inline(always)]
pub(super) fn is_probe_source<A: Rewrite, T: Tables>(tables: &T, vnet: u32, address: A) -> bool {
    let Some(entry) = tables.vnet(vnet) else { return false };
    let own = if A::V6 { entry.probe_source_v6 } else { entry.probe_source_v4.0 };
    own != 0 && address.host(tables).is_some_and(|host| host.raw == own)
}

#[inline(always)]
fn to_client<A: PipelineAddress, P: Packet, T: Tables, const FRAGMENT: bool>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    inner: &Ip<A>,
    transport: &Transport,
    tos: u8,
) -> Packed {
    let Carry { vnet, tunnel, .. } = *carry;
    let (source, old_port) = (inner.source, transport.ports.source);
    let reply = source.host(tables).and_then(|host| tables.reply(vnet, host, inner.protocol, old_port));
    let Some(reply) = reply else { return drop(vnet, DropReason::ReplyNoService) };
    let (vip, listener, endpoint) = (reply.vip, reply.listener, u32::from(reply.endpoint));
    if !FRAGMENT && carry.endpoint == 0 && may_prove(tables, listener) {
        return Packed::go_on(if A::V6 { Stage::ConfirmV6 } else { Stage::ConfirmV4 });
    }
    if FRAGMENT {
        let first = FragmentValue { way: vip, listener, endpoint, ..FragmentValue::default() };
        tables.remember(&FragmentKey::of(inner, vnet), first);
    }
    let ports = [old_port, reply.client_port(old_port)];
    let out = Out { vnet, tunnel, vip, listener, endpoint, tos, ports };
    send::<A, P, T, FRAGMENT>(packet, tables, inner, &out)
}

/// Whether flows of a listener may be exceptions that its endpoints' replies prove.
#[inline(always)]
fn may_prove<T: Tables>(tables: &T, listener: u32) -> bool {
    tables.node().is_some_and(|node| node.flags & NODE_TRACKS != 0)
        && tables.tracking(listener).is_some_and(|tracking| tracking.flags != 0)
}

/// What a packet to a client needs.
pub(super) struct Out {
    pub(super) vnet: u32,
    pub(super) tunnel: u32,
    /// Address or id of the VIP.
    pub(super) vip: u32,
    pub(super) listener: u32,
    pub(super) endpoint: u32,
    pub(super) tos: u8,
    /// Port of the endpoint and of the VIP; a later fragment has none.
    pub(super) ports: [Be16; 2],
}

/// Unwraps a packet and sends it to its client as if it came from the VIP.
#[inline(always)]
pub(super) fn send<A: PipelineAddress, P: Packet, T: Tables, const FRAGMENT: bool>(
    packet: &mut P,
    tables: &T,
    inner: &Ip<A>,
    out: &Out,
) -> Packed {
    let vnet = out.vnet;
    if inner.ttl <= 1 {
        return drop(vnet, DropReason::TtlExceeded);
    }
    let host = Host { v6: A::V6, raw: out.vip };
    let Some(vip) = A::from_host(host, tables) else { return drop(vnet, DropReason::Inconsistent) };
    let [old_port, port] = out.ports;
    let old = Socket { address: inner.source, port: old_port };
    let delta = Delta::between(old, Socket { address: vip, port });
    let route = tables.route(&RouteQuery {
        source: host,
        destination: inner.destination,
        protocol: inner.protocol,
        tos: inner.tos & !ECN,
        length: inner.total_length,
    });
    if route == Route::Unreachable {
        return drop(vnet, DropReason::NoRoute);
    }
    if let Route::TooBig { mtu } = route
        && inner.dont_fragment
    {
        let about = (A::TOO_BIG, mtu);
        return refuse::<A, T>(tables, inner.at, (vnet, out.tunnel), DropReason::TooBig, about);
    }
    let Some(ip) = decap::strip(packet, inner) else { return drop(vnet, DropReason::Inconsistent) };
    // Looked up again: the address would take stack in the meantime.
    let Some(vip) = A::from_host(host, tables) else { return drop(vnet, DropReason::Inconsistent) };
    let new = Socket { address: vip, port };
    // On the way through the host the kernel takes its hop off the time to live.
    let direct = matches!(route, Route::Direct { .. });
    let header = Header { ttl: if direct { ip.ttl.wrapping_sub(1) } else { ip.ttl }, tos: out.tos };
    let done = if FRAGMENT && ip.fragment == Fragment::Later {
        A::rewrite(packet, &ip, End::Source, vip, header)
    } else {
        translate(packet, &ip, End::Source, new, delta, header)
    };
    if done.is_none() {
        return drop(vnet, DropReason::Inconsistent);
    }
    let of = Counted { listener: out.listener, endpoint: out.endpoint, tunnel: out.tunnel };
    tables.count(of, Direction::Out, u64::from(ip.total_length));
    by_route::<A, P, T>(packet, tables, vnet, &route)
}

/// A packet behind an Ethernet header that is still to be written, by a route that there is.
#[inline(always)]
pub(super) fn by_route<A: IpAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    vnet: u32,
    route: &Route,
) -> Packed {
    let Route::Direct { ifindex, source, destination } = *route else {
        return to_host(packet, tables, vnet, A::ETHER);
    };
    let (ifindex, vlan) = device_below(tables, ifindex);
    match link::write(packet, source, destination, A::ETHER) {
        Some(()) => out_of(packet, vnet, ifindex, vlan),
        None => drop(vnet, DropReason::Inconsistent),
    }
}

/// The device that frames of a VLAN device leave by, and their tag.
#[inline(always)]
fn device_below<T: Tables>(tables: &T, ifindex: u32) -> (u32, u16) {
    let has_vlans = tables.node().is_some_and(|node| node.flags & NODE_HAS_VLANS != 0);
    if has_vlans && let Some(device) = tables.peer(PeerKey::VlanDevice(ifindex)) {
        #[expect(clippy::cast_possible_truncation, reason = "a VLAN id has twelve bits")]
        return (device.vnet, device.tunnel as u16);
    }
    (ifindex, 0)
}
