//! Recognising tunnel packets that are ours, and taking the outer headers off.
//!
//! Ours is what comes to the tunnel address in an encapsulation that some tunnel uses, and either carries a
//! configured key or comes from a configured gateway. Of that, only (gateway, key, encapsulation) as
//! configured may enter; the rest is dropped. Everything else passes to the kernel untouched.

use crate::{
    abi::{PeerKey, PeerValue},
    bytes::Be16,
    encap::{Encap, gre, vxlan},
    packet::Packet,
    parse::{ETHERNET_LEN, GRE, Ipv4, UDP},
    reason::{DropReason, Verdict},
    tables::Tables,
};

/// A tunnel packet that may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Vnet and tunnel it came through.
    pub peer: PeerValue,
    /// Offset of the inner IP packet.
    pub inner_at: usize,
    /// Offset of the end of the outer packet; what follows it in the frame is padding.
    pub end: usize,
}

/// What the outer headers say beyond IP.
struct Outer {
    encap: Encap,
    port: Be16,
    vni: u32,
    inner_at: usize,
    inner_ipv4: bool,
}

/// Admits a packet to the tunnel address, or says what becomes of it.
#[inline(always)]
pub fn admit<P: Packet, T: Tables>(packet: &P, tables: &T, ip: &Ipv4) -> Result<Admitted, Verdict> {
    if ip.protocol != GRE && ip.protocol != UDP {
        return Err(Verdict::Pass);
    }
    let parsed = if ip.fragment { None } else { outer(packet, ip) };
    let Some(outer) = parsed else { return Err(refuse_broken(packet, tables, ip)) };
    let key =
        PeerKey::Peer { remote: ip.source, encap: outer.encap.number(), port: outer.port, vni: outer.vni };
    match tables.peer(key) {
        Some(peer) if outer.inner_ipv4 => {
            let end = ip.at.wrapping_add(usize::from(ip.total_length));
            Ok(Admitted { peer, inner_at: outer.inner_at, end })
        }
        Some(peer) => Err(Verdict::Drop { vnet: peer.vnet, reason: DropReason::TunnelMalformed }),
        None => Err(refuse_stranger(tables, ip, &outer)),
    }
}

#[inline(always)]
fn outer<P: Packet>(packet: &P, ip: &Ipv4) -> Option<Outer> {
    if ip.protocol == GRE {
        let header = gre::parse(packet, ip.payload_at)?;
        Some(Outer {
            encap: Encap::Gre,
            port: Be16(0),
            vni: header.key,
            inner_at: header.payload_at,
            inner_ipv4: header.ipv4,
        })
    } else {
        let header = vxlan::parse(packet, ip.payload_at)?;
        Some(Outer {
            encap: Encap::Vxlan,
            port: header.port,
            vni: header.vni,
            inner_at: header.payload_at,
            inner_ipv4: header.ipv4,
        })
    }
}

/// A well-formed tunnel packet of no configured (gateway, key): dropped if either of them is ours.
#[inline(always)]
fn refuse_stranger<T: Tables>(tables: &T, ip: &Ipv4, outer: &Outer) -> Verdict {
    let (encap, port) = (outer.encap.number(), outer.port);
    if let Some(vnet) = tables.peer(PeerKey::KnownVni { encap, port, vni: outer.vni }) {
        return Verdict::Drop { vnet: vnet.vnet, reason: DropReason::TunnelUnknownPeer };
    }
    if tables.peer(PeerKey::KnownRemote { remote: ip.source, encap, port }).is_some() {
        return Verdict::Drop { vnet: 0, reason: DropReason::TunnelUnknownKey };
    }
    Verdict::Pass
}

/// A fragment or a broken header: ours if it comes from a gateway in that gateway's encapsulation.
#[inline(always)]
fn refuse_broken<P: Packet, T: Tables>(packet: &P, tables: &T, ip: &Ipv4) -> Verdict {
    let (encap, port) = if ip.protocol == GRE {
        (Encap::Gre, Be16(0))
    } else {
        let Some(header) = packet.window::<8>(ip.payload_at) else { return Verdict::Pass };
        (Encap::Vxlan, header.be16::<2>())
    };
    if tables.peer(PeerKey::KnownRemote { remote: ip.source, encap: encap.number(), port }).is_none() {
        return Verdict::Pass;
    }
    let reason = if ip.fragment { DropReason::TunnelFragmented } else { DropReason::TunnelMalformed };
    Verdict::Drop { vnet: 0, reason }
}

/// Takes off everything before the inner IP packet but room for an Ethernet header. Returns the inner
/// header with its new offsets.
#[inline(always)]
pub fn strip<P: Packet>(packet: &mut P, inner: &Ipv4) -> Option<Ipv4> {
    let cut = inner.at.wrapping_sub(ETHERNET_LEN);
    if !packet.move_head(i32::try_from(cut).ok()?.wrapping_neg()) {
        return None;
    }
    Some(Ipv4 { at: ETHERNET_LEN, payload_at: inner.payload_at.wrapping_sub(cut), ..*inner })
}
