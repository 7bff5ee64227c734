//! Packets of services where a flow may live elsewhere than its hash says: on their way to an endpoint, and back.

use super::{
    PipelineAddress, drop,
    inbound::{deliver, tunnel_of},
    refuse::refuse,
};
use crate::{
    abi::{FlowKey, LISTENER_BY_REGION, LISTENER_REJECTS, ListenerValue, REPLY_BY_REGION},
    bytes::Be16,
    ip::{Ip, IpAddress, TCP},
    packet::Packet,
    pins::Flow,
    reason::{DropReason, Packed, Stage},
    region::place,
    select::NOBODY,
    tables::{Carry, Tables},
    track,
    transport::{self, Transport},
};

/// Stands for "no endpoint" where 0 is "not looked for"; there is no such entry.
const NO_ENTRY: u32 = u32::MAX;

/// Sequence and acknowledgement number of TCP; 0 of UDP.
#[inline(always)]
fn numbers<A, P: Packet>(packet: &P, ip: &Ip<A>) -> [u32; 2] {
    if ip.protocol != TCP {
        return [0; 2];
    }
    let header = transport::header::<A, P, 12>(packet, ip);
    header.map_or([0; 2], |header| [header.be32::<4>().to_host(), header.be32::<8>().to_host()])
}

/// The key of a flow.
#[inline(always)]
pub(super) fn key<A: IpAddress>(
    client: A,
    vip: u32,
    [client_port, vip_port]: [Be16; 2],
    protocol: u8,
) -> FlowKey {
    let ports = [client_port.0, vip_port.0];
    FlowKey { client: client.words(), vip, ports, protocol: u32::from(protocol), v6: u32::from(A::V6) }
}

/// Has the endpoint found of a flow whose hash does not say it. `carry` is kept for the stage that gets it.
#[inline(always)]
pub(super) fn ask<A: PipelineAddress, T: Tables>(tables: &T, flow: &Flow, carry: Carry) -> Packed {
    if tables.look_into(flow).is_none() {
        return drop(0, DropReason::Inconsistent);
    }
    tables.keep(carry);
    Packed::go_on(if A::V6 { Stage::TrackedV6 } else { Stage::TrackedV4 })
}

/// The same for a client's packet.
#[inline(always)]
pub(super) fn ask_for_packet<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    ip: &Ip<A>,
    transport: &Transport,
    (listener, hash): (&ListenerValue, u32),
    sampled: bool,
) -> Packed {
    let Some(vip) = ip.destination.host(tables) else { return drop(0, DropReason::Inconsistent) };
    let flow = Flow {
        key: key(ip.source, vip.raw, [transport.ports.source, transport.ports.destination], ip.protocol),
        numbers: numbers(packet, ip),
        listener: *listener,
        more: hash,
        flags: transport.flags.0.into(),
        sampled: sampled.into(),
        ..Flow::default()
    };
    #[expect(clippy::cast_possible_truncation, reason = "an offset below 8192")]
    let carry = Carry { at: ip.at as u16, ..Carry::default() };
    ask::<A, T>(tables, &flow, carry)
}

/// Finds it.
#[inline(always)]
pub(super) fn find_owner<A: PipelineAddress, T: Tables>(tables: &T, carry: &Carry) -> Packed {
    let Some(flow) = tables.looked_into() else { return drop(0, DropReason::Inconsistent) };
    tables.place_flow(place(tables, &flow.listener, track::client::<A>(flow)));
    let Some(flow) = tables.looked_into() else { return drop(0, DropReason::Inconsistent) };
    let id = track::owner::<A, T>(tables, flow);
    if flow.quoted != 0 {
        tables.keep(Carry { endpoint: if id == NOBODY { NO_ENTRY } else { id }, ..*carry });
        return Packed::go_on(if A::V6 { Stage::IcmpV6 } else { Stage::IcmpV4 });
    }
    if id != NOBODY {
        tables.keep(Carry { endpoint: id, ..*carry });
        return Packed::go_on(if A::V6 { Stage::DeliverV6 } else { Stage::DeliverV4 });
    }
    if flow.listener.flags & LISTENER_REJECTS == 0 {
        return drop(0, DropReason::NoEndpoint);
    }
    let about = (A::PORT_UNREACHABLE, 0);
    refuse::<A, T>(tables, usize::from(carry.at), (0, 0), DropReason::NoEndpoint, about)
}

/// The packet at `at`, to the endpoint that was found for it.
#[inline(always)]
pub(super) fn to_endpoint<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    at: usize,
) -> Packed {
    let Some((ip, transport)) = settled::<A, P, T>(packet, tables, at) else {
        return drop(0, DropReason::Malformed);
    };
    let Some(flow) = tables.looked_into() else { return drop(0, DropReason::Inconsistent) };
    let id = carry.endpoint;
    let verdict = deliver::<A, P, T, true>(packet, tables, &ip, &transport, &flow.listener, flow.more, id);
    if flow.sampled != 0 && verdict.is_sent() {
        tell(tables, &ip, &transport, flow, id);
    }
    verdict
}

/// Tells the agent of a packet that was sent to an endpoint.
#[inline(always)]
fn tell<A: PipelineAddress, T: Tables>(tables: &T, ip: &Ip<A>, transport: &Transport, flow: &Flow, id: u32) {
    let Some(endpoint) = tables.endpoint(id) else { return };
    let Some(tunnel) = tunnel_of(endpoint, flow.more) else { return };
    let vnet = endpoint.vnet;
    tables.tell_sample(|record| {
        record.client = ip.source.words();
        record.vip = ip.destination.words();
        record.ports = [transport.ports.source.0, transport.ports.destination.0];
        record.length = ip.total_length;
        (record.protocol, record.v6) = (ip.protocol, u8::from(A::V6));
        (record.listener, record.endpoint) = (flow.listener.id, id);
        (record.tunnel, record.vnet) = (tunnel, vnet);
    });
}

/// A reply at `at` in a tunnel packet that was admitted: what it proves is learned, then it goes its way.
#[inline(always)]
pub(super) fn confirm<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    at: usize,
) -> Packed {
    if let Some((inner, transport)) = settled::<A, P, T>(packet, tables, at)
        && let Some(host) = inner.source.host(tables)
        && let Some(reply) = tables.reply(carry.vnet, host, inner.protocol, transport.ports.source)
    {
        let vip_port = reply.client_port(transport.ports.source);
        let flags = if reply.flags & REPLY_BY_REGION == 0 { 0 } else { LISTENER_BY_REGION };
        let flow = Flow {
            key: key(inner.destination, reply.vip, [transport.ports.destination, vip_port], inner.protocol),
            numbers: numbers(packet, &inner),
            listener: ListenerValue { id: reply.listener, flags, ..ListenerValue::default() },
            more: carry.vnet,
            flags: u32::from(transport.flags.0),
            ..Flow::default()
        };
        if tables.look_into(&flow).is_some() {
            tables.place_flow(place(tables, &flow.listener, inner.destination));
        }
        if let Some(flow) = tables.looked_into() {
            track::confirm(tables, flow, inner.source);
        }
    }
    tables.keep(Carry { endpoint: 1, ..*carry });
    Packed::go_on(if A::V6 { Stage::ReplyV6 } else { Stage::ReplyV4 })
}

/// The headers at `at`, which a stage before found good.
#[inline(always)]
fn settled<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    at: usize,
) -> Option<(Ip<A>, Transport)> {
    let ip = A::parse(packet, at).ok()?;
    let ip = if A::V6 { ip.settled(tables) } else { ip };
    let transport = transport::parse(packet, &ip).ok()?;
    Some((ip, transport))
}
