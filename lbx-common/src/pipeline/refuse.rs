//! Packets that are dropped, and whose senders are told: too big, at the end of their hops, or for nobody, where a
//! service says that it refuses.

use super::{PipelineAddress, drop, transmit::into_tunnel};
use crate::{
    bytes::Be32,
    encap::encapsulate,
    icmp::{answer, echo::TTL, reset},
    ip::{Ip, TCP},
    link::{ETHERNET_LEN, Kept},
    packet::Packet,
    reason::{DropReason, Packed, Stage},
    tables::{Carry, Tables},
    transport,
};

/// Ends the way of a client's packet at `at`, or of one at `at` in a packet out of `tunnel`; its sender is told in
/// a stage of its own.
#[inline(always)]
pub(super) fn refuse<A: PipelineAddress, T: Tables>(
    tables: &T,
    at: usize,
    (vnet, tunnel): (u32, u32),
    reason: DropReason,
    (kind, rest): ((u8, u8), u16),
) -> Packed {
    #[expect(clippy::cast_possible_truncation, reason = "an offset below 8192")]
    let at = at as u16;
    let (kind, rest, reason) = (kind.into(), Be32::new(rest.into()), reason as u8);
    tables.keep(Carry { at, vnet, tunnel, kind, rest, ttl: TTL, reason, ..Carry::default() });
    Packed::go_on(if A::V6 { Stage::RefuseV6 } else { Stage::RefuseV4 })
}

/// Tells the sender of the packet at `at`.
#[inline(always)]
pub(super) fn tell<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    carry: &Carry,
    at: usize,
) -> Packed {
    let dropped = Packed::drop_number(carry.vnet, carry.reason);
    let Ok(ip): Result<Ip<A>, _> = A::parse(packet, at) else { return dropped };
    let ip = if A::V6 { ip.settled(tables) } else { ip };
    if !ip.source.is_host_address() || !tables.may_answer() {
        return dropped;
    }
    let sent =
        if carry.tunnel == 0 { to_client(packet, &ip, carry) } else { to_origin(packet, tables, &ip, carry) };
    match sent {
        Some(verdict) => {
            // The packet itself was dropped all the same.
            tables.count_drop(carry.vnet, carry.reason);
            verdict
        }
        None => dropped,
    }
}

#[inline(always)]
fn to_client<A: PipelineAddress, P: Packet>(packet: &mut P, ip: &Ip<A>, carry: &Carry) -> Option<Packed> {
    let link = Kept::take(packet, ip.at)?;
    let nobody_listens = [DropReason::NoEndpoint, DropReason::VipNoService].map(|reason| reason as u8);
    if nobody_listens.contains(&carry.reason) && ip.protocol == TCP {
        let header = transport::parse(packet, ip).ok()?;
        reset::compose(packet, ip, &header)?;
    } else {
        answer::compose(packet, ip, ip.at, ip.destination, carry.answer())?;
    }
    link.put_back(packet)?;
    Some(Packed::BACK)
}

/// The error comes from where the packet was to go, which is an address that the origin has a route to.
#[inline(always)]
fn to_origin<A: PipelineAddress, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
    carry: &Carry,
) -> Option<Packed> {
    let tunnel = tables.tunnel(carry.tunnel)?;
    let error = answer::compose(packet, ip, ETHERNET_LEN, ip.destination, carry.answer())?;
    match encapsulate(packet, tunnel, &error, 0) {
        Ok(()) => Some(into_tunnel(packet, tables, tunnel, error.total_length <= tunnel.inner_mtu)),
        Err(reason) => Some(drop(carry.vnet, reason)),
    }
}
