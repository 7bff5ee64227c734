//! What an endpoint's packets say of the flows that they are of.

use super::{client, guess, owner_in, prove};
use crate::{
    abi::{EndpointEntry, HALF_OPEN_ANSWERED, HalfOpen, Host, Pin, TRACKING_ALWAYS},
    bytes::Be16,
    hash::{flow_hash, scale},
    ip::{IpAddress, TCP},
    pins::{self, Flow, NOWHERE},
    select::table_hash,
    tables::Tables,
    transport::{Ports, TcpFlags},
};

/// An endpoint has forgotten a SYN that nobody acknowledged: Linux does after some 180 s (tcp(7), `tcp_synack_retries`).
const HANDSHAKE_NS: u64 = 256_000_000_000;

/// Learns from a reply of a listener: a half-open flow has proved real, or a pinned one is alive.
#[inline(always)]
pub fn confirm<A: IpAddress, T: Tables>(tables: &T, flow: &Flow, source: A) {
    let flags = flow.flags();
    if !flags.has_syn() {
        let place = pins::find(tables, flow.udp(), flow.hash);
        let pin = pins::at(tables, flow.udp(), place);
        if !pin.has(Pin::CONTESTED) && is_at(tables, u32::from(pin.endpoint()), flow.more, source) {
            let pin = pin.with(ended(flags)).touched(flow.udp(), flow.now_ns);
            pins::put(tables, flow.udp(), place, pin);
            return;
        }
        if !flow.udp() {
            if place == NOWHERE && !flags.ends() {
                keep(tables, flow, source);
            }
            return;
        }
    }
    let (Some(half), Some(tracking)) = (tables.half_open(&flow.key), tables.tracking(flow.tracking)) else {
        return;
    };
    if half.listener != flow.listener.id || !is_at(tables, u32::from(half.endpoint), flow.more, source) {
        return;
    }
    if flags.has_syn() {
        let endpoint_next = flow.numbers[0].wrapping_add(1);
        let flags = half.flags | HALF_OPEN_ANSWERED;
        if (endpoint_next, flags) != (half.endpoint_next, half.flags) {
            tables.set_half_open(&flow.key, HalfOpen { endpoint_next, flags, ..half });
        }
    } else {
        prove(tables, flow, tracking, u32::from(half.endpoint), true);
    }
}

/// Pins a connection that lives where the table before a change says: when its time is over, nothing else will say so.
/// Where every flow has a pin, also one that is older than that.
///
/// That the endpoint sends something is proof enough here. A SYN goes to the owner of new flows, and to what is none an
/// endpoint that knows no such connection answers with a reset. Where the owner of new flows is the same one, there
/// is a half-open flow, and the client has to prove that.
#[inline(never)]
fn keep<A: IpAddress, T: Tables>(tables: &T, flow: &Flow, source: A) {
    let (Some(node), Some(tracking)) = (tables.node(), tables.tracking(flow.tracking)) else { return };
    let Some(vip) = A::from_host(Host { v6: A::V6, raw: flow.key.vip }, tables) else { return };
    let (client, current) = (client::<A>(flow), tracking.current);
    let [source_port, destination] = flow.key.ports.map(Be16);
    let hash = flow_hash(client, vip, Ports { source: source_port, destination }, TCP, &node.seed);
    let slot = scale(table_hash(current, client, hash, &node.seed), current.slots());
    let base = owner_in(tables, current, slot);
    let guess = guess::<A, T>(tables, flow, hash, tracking, base);
    let wanted = guess != base || tracking.flags & TRACKING_ALWAYS != 0;
    if wanted && is_at(tables, guess, flow.more, source) && !is_half_open_on(tables, flow, guess) {
        prove(tables, flow, tracking, guess, true);
    }
}

#[inline(always)]
fn is_half_open_on<T: Tables>(tables: &T, flow: &Flow, endpoint: u32) -> bool {
    let half = tables.half_open(&flow.key);
    let is_young = |half: HalfOpen| flow.now_ns.saturating_sub(half.time) < HANDSHAKE_NS;
    half.is_some_and(|half| u32::from(half.endpoint) == endpoint && is_young(half))
}

/// What the flags of an endpoint's packet say of its end.
#[inline(always)]
const fn ended(flags: TcpFlags) -> u64 {
    if flags.has_rst() {
        Pin::ENDED
    } else if flags.ends() {
        Pin::ENDPOINT_ENDED
    } else {
        0
    }
}

/// Whether an endpoint is where a packet came from. Two pools may have the same one under two ids.
#[inline(always)]
fn is_at<A: IpAddress, T: Tables>(tables: &T, id: u32, vnet: u32, source: A) -> bool {
    let at = |endpoint: &EndpointEntry| endpoint.vnet == vnet && A::from_entry(&endpoint.address) == source;
    tables.endpoint(id).is_some_and(at)
}
