//! The last step: out of an interface, or to the host.

use super::drop;
use crate::{
    abi::{TUNNEL_RESOLVED, TUNNEL_V6, TunnelEntry},
    bytes::Be16,
    ip::{ETHER_IPV4, ETHER_IPV6},
    link,
    packet::Packet,
    reason::{DropReason, Packed},
    tables::Tables,
};

/// Sends a wrapped packet on its way: directly where the next hop is known and the packet fits, else
/// through the host, which resolves and fragments.
#[inline(always)]
pub(super) fn into_tunnel<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    tunnel: &TunnelEntry,
    fits: bool,
) -> Packed {
    if fits && tunnel.flags & TUNNEL_RESOLVED != 0 {
        return out_of(packet, tunnel.vnet, tunnel.ifindex, tunnel.vlan);
    }
    let outer = if tunnel.flags & TUNNEL_V6 == 0 { ETHER_IPV4 } else { ETHER_IPV6 };
    // Of IPv6, no router makes fragments (RFC 8200 §4.5), the host as little as any other.
    if !fits && outer == ETHER_IPV6 {
        return drop(tunnel.vnet, DropReason::TooBig);
    }
    to_host(packet, tables, tunnel.vnet, outer)
}

/// A finished frame out of an interface, with a VLAN tag where `vlan` is not 0.
#[inline(always)]
pub(super) fn out_of<P: Packet>(packet: &mut P, vnet: u32, ifindex: u32, vlan: u16) -> Packed {
    if vlan != 0 && link::push_tag(packet, vlan).is_none() {
        return drop(vnet, DropReason::NoHeadroom);
    }
    Packed::transmit(ifindex)
}

/// Addresses the frame to `lbx0`, as if `lbx1` had sent it.
#[inline(always)]
pub(super) fn to_host<P: Packet, T: Tables>(packet: &mut P, tables: &T, vnet: u32, kind: Be16) -> Packed {
    let Some(node) = tables.node() else { return drop(vnet, DropReason::Inconsistent) };
    let [lbx0, lbx1] = node.lbx_macs.map(|[a, b, c, d, e, f, ..]| [a, b, c, d, e, f]);
    match link::write(packet, lbx1, lbx0, kind) {
        Some(()) => Packed::TO_HOST,
        None => drop(vnet, DropReason::Inconsistent),
    }
}
