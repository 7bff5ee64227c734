//! ICMP to a VIP and out of a virtual network: echo requests are answered, errors go to the other side of the flow
//! that they are about, the rest is dropped.
//!
//! An error is not translated but made again, with no more of the packet that it is about than its headers and
//! eight bytes: whatever else its sender put in would need to be looked at for private addresses.

use super::{
    PipelineAddress, drop,
    inbound::{endpoint_socket, tunnel_of},
    outbound::{by_route, is_probe_source},
    tracked::{ask, key},
    transmit::{into_tunnel, to_host},
};
use crate::{
    abi::{Host, LISTENER_BY_REGION, LISTENER_DSR, ListenerKey, VIP_ECHO, VipValue, Words},
    decap,
    encap::encapsulate,
    hash::flow_hash,
    icmp::{
        ICMP_LEN, NEIGHBOUR_SOLICITATION, answer,
        answer::Answer,
        echo, is_host_matter,
        quoted::{self, Quoted},
    },
    ip::{Fragment, Ip},
    link::{self, ETHERNET_LEN},
    nat::{End, Socket},
    packet::Packet,
    pins::Flow,
    reason::{DropReason, Packed, Stage},
    region::Place,
    select::{steady, table_hash},
    tables::{Carry, Counted, Direction, Route, RouteQuery, Tables},
    transport::{self, Ports},
};

/// An ICMP packet for a VIP.
#[inline(always)]
pub(super) fn from_client<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    at: usize,
) -> Packed {
    let Ok(ip): Result<Ip<A>, _> = A::parse(packet, at) else { return drop(0, DropReason::Malformed) };
    let ip = if A::V6 { ip.settled(tables) } else { ip };
    let Some(vip) = ip.destination.host(tables) else { return Packed::PASS };
    let Some(header) = transport::header::<A, P, ICMP_LEN>(packet, &ip) else {
        return drop(0, DropReason::Malformed);
    };
    let kind = header.byte::<0>();
    if A::V6 && is_host_matter(kind) {
        return Packed::PASS;
    }
    if kind == A::ECHO_REQUEST {
        return answer_echo(packet, tables, &ip, vip);
    }
    if !A::is_error(kind) {
        return drop(0, DropReason::VipNoService);
    }
    let kind = (kind, header.byte::<1>());
    let answer = Answer { kind, rest: header.be32::<4>(), ttl: ip.ttl.wrapping_sub(1) };
    to_endpoint(packet, tables, carry, &ip, vip, answer)
}

#[inline(always)]
fn answer_echo<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
    vip: Host,
) -> Packed {
    let flags = tables.listener(ListenerKey::Vip(vip)).map_or(0, |words| VipValue::from_words(words).flags);
    if flags & VIP_ECHO == 0 {
        return drop(0, DropReason::VipNoService);
    }
    if !tables.may_answer() {
        return drop(0, DropReason::EchoLimited);
    }
    match echo::reply(packet, ip).and_then(|()| link::turn(packet)) {
        Some(()) => Packed::BACK,
        None => drop(0, DropReason::Malformed),
    }
}

/// An error about a packet that came from the VIP: to the endpoint that sent it.
#[inline(always)]
fn to_endpoint<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    error: &Ip<A>,
    vip: Host,
    answer: Answer,
) -> Packed {
    let unrelated = drop(0, DropReason::IcmpUnrelated);
    let Some(quoted) = quoted::parse(packet, error) else { return unrelated };
    let Quoted { ip, ports } = quoted;
    if ip.source != error.destination {
        return unrelated;
    }
    let Some(listener) = tables.listener_on(vip, ip.protocol, ports.source) else { return unrelated };
    let Some(node) = tables.node() else { return drop(0, DropReason::Inconsistent) };
    // The flow as the client's packets have it.
    let ports_in = Ports { source: ports.destination, destination: ports.source };
    let hash = flow_hash(ip.destination, ip.source, ports_in, ip.protocol, &node.seed);
    let by = table_hash(listener.target, ip.destination, hash, &node.seed);
    let place = Place { target: listener.target, tracking: listener.id, before: 0 };
    let id = if carry.endpoint != 0 {
        carry.endpoint
    } else if listener.flags & LISTENER_BY_REGION == 0
        && let Some((id, _)) = steady(tables, &place, by)
    {
        u32::from(id)
    } else {
        let ports = [ports_in.source, ports_in.destination];
        let key = key(ip.destination, vip.raw, ports, ip.protocol);
        // This comes again then, with the endpoint.
        return ask::<A, T>(
            tables,
            &Flow { key, listener, more: hash, quoted: 1, ..Flow::default() },
            *carry,
        );
    };
    let Some(endpoint) = tables.endpoint(id) else {
        return drop(0, DropReason::NoEndpoint);
    };
    let vnet = endpoint.vnet;
    if error.ttl <= 1 {
        return drop(vnet, DropReason::TtlExceeded);
    }
    let Some(tunnel) = tunnel_of(endpoint, hash) else {
        return drop(vnet, DropReason::NoTunnel);
    };
    let old = Socket { address: ip.source, port: ports.source };
    if listener.flags & LISTENER_DSR == 0 {
        let new = endpoint_socket(endpoint, &listener, old.port);
        if quoted::rewrite(packet, &quoted, End::Source, [old, new]).is_none() {
            return drop(vnet, DropReason::Inconsistent);
        }
    }
    let direction = Direction::In { syn: false };
    let of = Counted { listener: listener.id, endpoint: id, tunnel };
    tables.count(of, direction, u64::from(error.total_length));
    go_on::<A, T>(tables, &ip, (vnet, tunnel), answer)
}

/// Hands an error over to [`relay`].
#[inline(always)]
fn go_on<A: PipelineAddress, T: Tables>(
    tables: &T,
    about: &Ip<A>,
    (vnet, tunnel): (u32, u32),
    answer: Answer,
) -> Packed {
    #[expect(clippy::cast_possible_truncation, reason = "an offset below 8192 and what is behind it")]
    let at = about.at as u16;
    let Answer { kind, rest, ttl } = answer;
    tables.keep(Carry { at, vnet, tunnel, kind: kind.into(), rest, ttl, ..Carry::default() });
    Packed::go_on(if A::V6 { Stage::RelayV6 } else { Stage::RelayV4 })
}

/// An ICMP packet at `at` in a tunnel packet that was admitted.
#[inline(always)]
pub(super) fn from_vnet<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    at: usize,
) -> Packed {
    let vnet = carry.vnet;
    let Ok(ip): Result<Ip<A>, _> = A::parse(packet, at) else {
        return drop(vnet, DropReason::TunnelMalformed);
    };
    let ip = if A::V6 { ip.settled(tables) } else { ip };
    let Some(header) = transport::header::<A, P, ICMP_LEN>(packet, &ip) else {
        return drop(vnet, DropReason::TunnelMalformed);
    };
    let kind = (header.byte::<0>(), header.byte::<1>());
    if A::V6 && kind.0 == NEIGHBOUR_SOLICITATION {
        return Packed::go_on(Stage::NeighbourV6);
    }
    let is_answer = A::is_error(kind.0) || kind.0 == A::ECHO_REPLY;
    if ip.fragment != Fragment::Whole || !is_answer {
        return drop(vnet, DropReason::IcmpUnrelated);
    }
    if is_probe_source(tables, vnet, ip.destination) {
        return match decap::strip(packet, &ip) {
            Some(_) => to_host(packet, tables, vnet, A::ETHER),
            None => drop(vnet, DropReason::Inconsistent),
        };
    }
    // Clients' echo requests end here: nobody in a virtual network can have one to answer.
    if kind.0 == A::ECHO_REPLY {
        return drop(vnet, DropReason::IcmpUnrelated);
    }
    let answer = Answer { kind, rest: header.be32::<4>(), ttl: ip.ttl.wrapping_sub(1) };
    to_client(packet, tables, (vnet, carry.tunnel), &ip, answer)
}

/// An error about a packet that came from a client: to that client, as if the VIP had sent it.
#[inline(always)]
fn to_client<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    (vnet, tunnel): (u32, u32),
    error: &Ip<A>,
    answer: Answer,
) -> Packed {
    let unrelated = drop(vnet, DropReason::IcmpUnrelated);
    let Some(quoted) = quoted::parse(packet, error) else { return unrelated };
    let Quoted { ip, ports } = quoted;
    if ip.source != error.destination {
        return unrelated;
    }
    let old = Socket { address: ip.destination, port: ports.destination };
    let reply = old.address.host(tables).and_then(|host| tables.reply(vnet, host, ip.protocol, old.port));
    let Some(reply) = reply else { return unrelated };
    if error.ttl <= 1 {
        return drop(vnet, DropReason::TtlExceeded);
    }
    let host = Host { v6: A::V6, raw: reply.vip };
    let Some(vip) = A::from_host(host, tables) else { return drop(vnet, DropReason::Inconsistent) };
    let new = Socket { address: vip, port: reply.client_port(old.port) };
    if quoted::rewrite(packet, &quoted, End::Destination, [old, new]).is_none() {
        return drop(vnet, DropReason::Inconsistent);
    }
    let of = Counted { listener: reply.listener, endpoint: u32::from(reply.endpoint), tunnel };
    tables.count(of, Direction::Out, u64::from(error.total_length));
    go_on::<A, T>(tables, &ip, (vnet, 0), answer)
}

/// Makes the error about the packet at `at`, from where that packet was to go to where it came from. What the error
/// that lbx got had as its source is not told: to a client it may be private, and an origin has no route there.
#[inline(always)]
pub(super) fn relay<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    at: usize,
) -> Packed {
    let vnet = carry.vnet;
    let Some(about) = A::parse_quoted(packet, at) else { return drop(vnet, DropReason::Inconsistent) };
    let answer = carry.answer();
    let Some(error) = answer::compose(packet, &about, ETHERNET_LEN, about.destination, answer) else {
        return drop(vnet, DropReason::Inconsistent);
    };
    if carry.tunnel != 0 {
        let Some(tunnel) = tables.tunnel(carry.tunnel) else { return drop(vnet, DropReason::Inconsistent) };
        return match encapsulate(packet, tunnel, &error, 0) {
            Ok(()) => into_tunnel(packet, tables, tunnel, error.total_length <= tunnel.inner_mtu),
            Err(reason) => drop(vnet, reason),
        };
    }
    let Some(source) = error.source.host(tables) else { return drop(vnet, DropReason::Inconsistent) };
    let route = tables.route(&RouteQuery {
        source,
        destination: error.destination,
        protocol: A::ICMP,
        tos: 0,
        length: error.total_length,
    });
    if route == Route::Unreachable {
        return drop(vnet, DropReason::NoRoute);
    }
    by_route::<A, P, T>(packet, tables, vnet, &route)
}
