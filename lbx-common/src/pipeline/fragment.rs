//! Fragments: the first one has the ports, is treated as any packet, and leaves an entry by which the later ones
//! find their way. A later one without an entry, because it overtook the first or came too late, is dropped.

use super::{
    PipelineAddress, drop,
    inbound::to_endpoint,
    outbound::{Out, send},
    refuse::refuse,
    transmit::into_tunnel,
};
use crate::{
    abi::{FragmentKey, FragmentValue, LISTENER_DSR},
    bytes::Be16,
    encap::encapsulate,
    ip::{Fragment, Ip},
    nat::{End, Header},
    packet::Packet,
    reason::{DropReason, Packed},
    tables::{Carry, Counted, Direction, Tables},
    transport::{self, NoTransport},
};

impl FragmentKey {
    /// Of the packet that `ip` is a fragment of; `vnet` 0 stands for clients.
    #[inline(always)]
    pub(super) fn of<A: PipelineAddress>(ip: &Ip<A>, vnet: u32) -> Self {
        Self {
            source: ip.source.words(),
            destination: ip.destination.words(),
            id: ip.id,
            vnet,
            protocol: u32::from(ip.protocol),
            v6: u32::from(A::V6),
        }
    }
}

/// A fragment for a VIP.
#[inline(always)]
pub(super) fn from_client<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    at: usize,
) -> Packed {
    let Ok(ip): Result<Ip<A>, _> = A::parse(packet, at) else { return drop(0, DropReason::Malformed) };
    let ip = if A::V6 { ip.settled(tables) } else { ip };
    if ip.fragment == Fragment::Later {
        return later(packet, tables, &ip);
    }
    let transport = match transport::parse(packet, &ip) {
        Ok(transport) => transport,
        // Echo requests in pieces, for one.
        Err(NoTransport::Other) => return drop(0, DropReason::FragmentUnknown),
        Err(NoTransport::CutOff) => return drop(0, DropReason::Malformed),
    };
    let Some(vip) = ip.destination.host(tables) else { return Packed::PASS };
    match tables.listener_on(vip, ip.protocol, transport.ports.destination) {
        Some(listener) => to_endpoint::<A, P, T, true>(packet, tables, &ip, &transport, &listener),
        None => drop(0, DropReason::VipNoService),
    }
}

/// A later fragment to the endpoint of its first one.
#[inline(always)]
fn later<A: PipelineAddress, P: Packet, T: Tables>(packet: &mut P, tables: &T, ip: &Ip<A>) -> Packed {
    let Some(first) = tables.recall(&FragmentKey::of(ip, 0)) else {
        return drop(0, DropReason::FragmentUnknown);
    };
    let Some(endpoint) = tables.endpoint(first.endpoint) else { return drop(0, DropReason::Inconsistent) };
    let vnet = endpoint.vnet;
    let Some(tunnel) = tables.tunnel(first.way) else { return drop(vnet, DropReason::NoTunnel) };
    if ip.ttl <= 1 {
        return drop(vnet, DropReason::TtlExceeded);
    }
    let fits = ip.total_length <= tunnel.inner_mtu;
    if !fits && ip.dont_fragment {
        let about = (A::TOO_BIG, tunnel.inner_mtu);
        return refuse::<A, T>(tables, ip.at, (vnet, 0), DropReason::TooBig, about);
    }
    let address = if first.flags & u32::from(LISTENER_DSR) == 0 {
        A::from_entry(&endpoint.address)
    } else {
        ip.destination
    };
    let header = Header { ttl: ip.ttl.wrapping_sub(1), tos: ip.tos };
    if A::rewrite(packet, ip, End::Destination, address, header).is_none() {
        return drop(vnet, DropReason::Inconsistent);
    }
    if let Err(reason) = encapsulate(packet, tunnel, ip, first.hash) {
        return drop(vnet, reason);
    }
    let direction = Direction::In { syn: false };
    let of = Counted { listener: first.listener, endpoint: first.endpoint, tunnel: first.way };
    tables.count(of, direction, u64::from(ip.total_length));
    into_tunnel(packet, tables, tunnel, fits)
}

/// A later fragment of a reply, to the client of its first one.
#[inline(always)]
pub(super) fn later_reply<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    inner: &Ip<A>,
    tos: u8,
) -> Packed {
    let Some(first) = tables.recall(&FragmentKey::of(inner, carry.vnet)) else {
        return drop(carry.vnet, DropReason::FragmentUnknown);
    };
    let FragmentValue { way: vip, listener, endpoint, .. } = first;
    let Carry { vnet, tunnel, .. } = *carry;
    let out = Out { vnet, tunnel, vip, listener, endpoint, tos, ports: [Be16(0); 2] };
    send::<A, P, T, true>(packet, tables, inner, &out)
}
