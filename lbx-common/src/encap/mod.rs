//! Wrapping a packet for its tunnel.
//!
//! Every outer byte that does not depend on the packet stands ready in the tunnel's entry
//! ([`template`] builds it in user space); per packet it is copied in front as words, and lengths, type of
//! service, identification, DF, flow entropy and the header checksum are filled in.
//!
//! Outer IP: TTL 64; DSCP and ECN copied (RFC 6040 §4.1, normal mode); DF as inside, always set for IPv6 inside,
//! so that what may be fragmented inside may be fragmented outside, too. UDP checksum 0 (RFC 6935, RFC 6936).

pub mod geneve;
pub mod gre;
mod template;
pub mod vxlan;

pub use template::{Ends, TunnelSpec, Way, build};

use core::mem::offset_of;

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    abi::{TUNNEL_V6, TunnelEntry},
    bytes::{Be16, Be32},
    checksum::Sum,
    ip::{Ip, IpAddress, v4, v6},
    link::ETHERNET_LEN,
    packet::{Packet, WindowMut},
    reason::DropReason,
};

/// Bytes of a UDP header.
pub const UDP_LEN: usize = 8;

/// Encapsulations by their number in the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Encap {
    /// GRE with a key (RFC 2890).
    Gre = 1,
    /// VXLAN (RFC 7348).
    Vxlan = 2,
    /// GRE with a key in UDP (RFC 8086).
    GreUdp = 3,
    /// Geneve with IP inside (RFC 8926).
    Geneve = 4,
    /// Geneve with Ethernet inside.
    GeneveEthernet = 5,
}

impl Encap {
    /// All encapsulations.
    pub const ALL: [Self; 5] = [Self::Gre, Self::Vxlan, Self::GreUdp, Self::Geneve, Self::GeneveEthernet];

    /// Number in the maps.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The encapsulation of a number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Gre),
            2 => Some(Self::Vxlan),
            3 => Some(Self::GreUdp),
            4 => Some(Self::Geneve),
            5 => Some(Self::GeneveEthernet),
            _ => None,
        }
    }

    /// Whether it travels in UDP.
    pub const fn is_udp(self) -> bool {
        !matches!(self, Self::Gre)
    }

    /// Whether an Ethernet frame is inside, and not a bare IP packet.
    pub const fn has_ethernet(self) -> bool {
        matches!(self, Self::Vxlan | Self::GeneveEthernet)
    }

    /// Bytes that the outer IP packet is longer than the inner one.
    pub const fn overhead(self, outer_v6: bool) -> u16 {
        let ip: u16 = if outer_v6 { 40 } else { 20 };
        let udp = if self.is_udp() { 8 } else { 0 };
        let ethernet = if self.has_ethernet() { 14 } else { 0 };
        // The header of the encapsulation itself: eight bytes in all of them.
        ip.wrapping_add(udp).wrapping_add(8).wrapping_add(ethernet)
    }

    /// Bytes of all headers in front of the inner IP packet, from the outer Ethernet header on.
    pub const fn head_length(self, outer_v6: bool) -> usize {
        ETHERNET_LEN.wrapping_add(self.overhead(outer_v6) as usize)
    }
}

/// What of the inner packet goes into the outer headers.
#[derive(Debug, Clone, Copy)]
struct Inner {
    at: usize,
    length: u16,
    tos: u8,
    dont_fragment: bool,
    id: Be16,
    ether: Be16,
}

/// Wraps the packet: what is before it in the frame is replaced by the outer headers. `hash` gives entropy for
/// the outer flow.
#[inline(always)]
pub fn encapsulate<A: IpAddress, P: Packet>(
    packet: &mut P,
    tunnel: &TunnelEntry,
    ip: &Ip<A>,
    hash: u32,
) -> Result<(), DropReason> {
    let inner = Inner {
        at: ip.at,
        length: ip.total_length,
        tos: ip.tos,
        dont_fragment: ip.dont_fragment,
        #[expect(clippy::cast_possible_truncation, reason = "of IPv6 any part will do")]
        id: Be16(ip.id as u16),
        ether: A::ETHER,
    };
    wrap_any(packet, tunnel, inner, hash)
}

/// Wraps what an Ethernet device says to another one: `length` bytes at `at`, of an Ethernet type.
#[inline(always)]
pub fn encapsulate_neighbour<P: Packet>(
    packet: &mut P,
    tunnel: &TunnelEntry,
    (at, length): (usize, u16),
    ether: Be16,
) -> Result<(), DropReason> {
    wrap_any(packet, tunnel, Inner { at, length, tos: 0, dont_fragment: true, id: Be16(0), ether }, 0)
}

#[inline(always)]
fn wrap_any<P: Packet>(
    packet: &mut P,
    tunnel: &TunnelEntry,
    inner: Inner,
    hash: u32,
) -> Result<(), DropReason> {
    let v6 = tunnel.flags & TUNNEL_V6 != 0;
    match (tunnel.head_length, v6) {
        (42, false) => wrap::<P, 42, false>(packet, tunnel, inner, hash),
        (50, false) => wrap::<P, 50, false>(packet, tunnel, inner, hash),
        (64, false) => wrap::<P, 64, false>(packet, tunnel, inner, hash),
        (62, true) => wrap::<P, 62, true>(packet, tunnel, inner, hash),
        (70, true) => wrap::<P, 70, true>(packet, tunnel, inner, hash),
        (84, true) => wrap::<P, 84, true>(packet, tunnel, inner, hash),
        _ => Err(DropReason::Inconsistent),
    }
}

/// Offset of the UDP header, over either family.
const UDP_AT_V4: usize = ETHERNET_LEN + v4::LEN;
const UDP_AT_V6: usize = ETHERNET_LEN + v6::LEN;

#[inline(always)]
fn wrap<P: Packet, const HEAD: usize, const V6: bool>(
    packet: &mut P,
    tunnel: &TunnelEntry,
    inner: Inner,
    hash: u32,
) -> Result<(), DropReason> {
    // 22 bytes at most are in front of the inner packet, and 42 at least will be.
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "both are below 128")]
    let grow = (HEAD as i32).wrapping_sub(inner.at as i32);
    if !packet.move_head(grow) {
        return Err(DropReason::NoHeadroom);
    }
    let mut head = packet.window_mut::<HEAD>(0).ok_or(DropReason::Inconsistent)?;
    copy_head(&mut head, tunnel);
    let payload =
        if V6 { finish_v6(&mut head, inner, hash)? } else { finish_v4(&mut head, tunnel, inner, hash)? };
    let port = source_port(hash);
    let udp_at = if V6 { UDP_AT_V6 } else { UDP_AT_V4 };
    if HEAD >= udp_at + UDP_LEN + 8 {
        set_udp::<HEAD, V6>(&mut head, port, payload);
    }
    set_ether::<HEAD, V6>(&mut head, inner.ether);
    Ok(())
}

/// Copies the prebuilt headers, word by word; what is left of the last word is copied by halves.
#[inline(always)]
fn copy_head<const HEAD: usize>(head: &mut WindowMut<'_, HEAD>, tunnel: &TunnelEntry) {
    head.set_words(&tunnel.head);
}

#[inline(always)]
fn set_udp<const HEAD: usize, const V6: bool>(head: &mut WindowMut<'_, HEAD>, port: Be16, payload: u16) {
    if V6 {
        head.set_be16_if::<UDP_AT_V6>(port);
        head.set_be16_if::<{ UDP_AT_V6 + 4 }>(Be16::new(payload));
    } else {
        head.set_be16_if::<UDP_AT_V4>(port);
        head.set_be16_if::<{ UDP_AT_V4 + 4 }>(Be16::new(payload));
    }
}

/// The type of what is inside: of the Ethernet header inside, else in the header of the encapsulation.
#[inline(always)]
fn set_ether<const HEAD: usize, const V6: bool>(head: &mut WindowMut<'_, HEAD>, ether: Be16) {
    // Both Ethernet forms are the longest of their family: 64 and 84 bytes.
    match HEAD {
        64 => head.set_be16_if::<62>(ether),
        84 => head.set_be16_if::<82>(ether),
        42 => head.set_be16_if::<36>(ether),
        50 => head.set_be16_if::<44>(ether),
        62 => head.set_be16_if::<56>(ether),
        _ => head.set_be16_if::<64>(ether),
    }
}

/// A port from 49152 to 65535, so that the far side's NIC spreads flows (RFC 7348 §5, RFC 8086 §3.2).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half of the hash")]
pub const fn source_port(hash: u32) -> Be16 {
    Be16::new(hash as u16 | 0xc000)
}

/// Identification of the outer packet: that of the inner one, moved by the flow's hash, because packets of
/// two clients or two networks with the same one may be fragmented on the same way (RFC 6864 §4.2).
#[inline(always)]
const fn outer_id(inner: Be16, hash: u32) -> Be16 {
    Be16(inner.0 ^ (hash >> 16) as u16)
}

/// Fills in the outer IPv4 header what depends on the packet; returns the length of its payload.
#[inline(always)]
fn finish_v4<const HEAD: usize>(
    head: &mut WindowMut<'_, HEAD>,
    tunnel: &TunnelEntry,
    inner: Inner,
    hash: u32,
) -> Result<u16, DropReason> {
    const { assert!(HEAD >= ETHERNET_LEN + v4::LEN) };
    #[expect(clippy::cast_possible_truncation, reason = "below 128")]
    let (overhead, header) = const { ((HEAD - ETHERNET_LEN) as u16, v4::LEN as u16) };
    let total = inner.length.checked_add(overhead).ok_or(DropReason::TooBig)?;
    let length = Be16::new(total);
    let fragments = if inner.dont_fragment { v4::DONT_FRAGMENT } else { Be16(0) };
    let id = outer_id(inner.id, hash);
    let sum = Sum::from_raw(tunnel.partial_sum)
        .add16(u16::from_ne_bytes([0, inner.tos]))
        .add16(length.0)
        .add16(id.0)
        .add16(fragments.0);
    head.set_byte::<{ ETHERNET_LEN + offset_of!(Ipv4Hdr, tos) }>(inner.tos);
    head.set_be16::<{ ETHERNET_LEN + offset_of!(Ipv4Hdr, tot_len) }>(length);
    head.set_be16::<{ ETHERNET_LEN + offset_of!(Ipv4Hdr, id) }>(id);
    head.set_be16::<{ ETHERNET_LEN + offset_of!(Ipv4Hdr, frags) }>(fragments);
    head.set_be16::<{ ETHERNET_LEN + offset_of!(Ipv4Hdr, check) }>(Be16(sum.checksum()));
    Ok(total.wrapping_sub(header))
}

/// The same for IPv6. The flow label is made of the hash (RFC 6438): GRE has no ports to spread flows by.
#[inline(always)]
fn finish_v6<const HEAD: usize>(
    head: &mut WindowMut<'_, HEAD>,
    inner: Inner,
    hash: u32,
) -> Result<u16, DropReason> {
    const { assert!(HEAD >= ETHERNET_LEN + v4::LEN) };
    #[expect(clippy::cast_possible_truncation, reason = "below 128")]
    let added = (HEAD as u16).wrapping_sub(ETHERNET_LEN as u16).wrapping_sub(v6::LEN as u16);
    let payload = inner.length.checked_add(added).ok_or(DropReason::TooBig)?;
    let first = 0x6000_0000 | (u32::from(inner.tos) << 20) | (hash & 0x000f_ffff);
    head.set_be32::<ETHERNET_LEN>(Be32::new(first));
    head.set_be16::<{ ETHERNET_LEN + offset_of!(Ipv6Hdr, payload_len) }>(Be16::new(payload));
    Ok(payload)
}
