//! Wrapping a packet for its tunnel.
//!
//! Every outer byte that does not depend on the packet stands ready in the tunnel's entry
//! ([`template`] builds it in user space); per packet it is copied in front as words, and lengths, type of
//! service, identification, DF, source port and the header checksum are filled in.
//!
//! Outer IPv4: TTL 64; DSCP copied, ECN 0 (RFC 6040 §4.1, compatibility mode); DF as inside, so that what may
//! be fragmented inside may be fragmented outside, too.

pub mod gre;
mod template;
pub mod vxlan;

pub use template::{TunnelSpec, build};

use core::mem::offset_of;

use network_types::ip::Ipv4Hdr;

use crate::{
    abi::TunnelEntry,
    bytes::Be16,
    checksum::Sum,
    packet::{Packet, WindowMut},
    parse::{DONT_FRAGMENT, ETHERNET_LEN, Ipv4},
    reason::DropReason,
};

/// Encapsulations by their number in the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Encap {
    /// GRE with a key.
    Gre = 1,
    /// VXLAN.
    Vxlan = 2,
}

impl Encap {
    /// Number in the maps.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Bytes of all headers in front of the inner IP packet, from the outer Ethernet header on, over IPv4.
    pub const fn head_length(self) -> usize {
        match self {
            Self::Gre => gre::HEAD_LEN,
            Self::Vxlan => vxlan::HEAD_LEN,
        }
    }

    /// Bytes that the outer IP packet is longer than the inner one, over IPv4.
    pub const fn overhead(self) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "28 or 50")]
        return self.head_length().wrapping_sub(ETHERNET_LEN) as u16;
    }
}

/// Wraps the IPv4 packet behind the Ethernet header. `hash` gives the source port of UDP tunnels.
#[inline(always)]
pub fn encapsulate<P: Packet>(
    packet: &mut P,
    tunnel: &TunnelEntry,
    inner: &Ipv4,
    hash: u32,
) -> Result<(), DropReason> {
    if tunnel.encap == Encap::Gre.number() {
        gre::encapsulate(packet, tunnel, inner, hash)
    } else if tunnel.encap == Encap::Vxlan.number() {
        vxlan::encapsulate(packet, tunnel, inner, hash)
    } else {
        Err(DropReason::Inconsistent)
    }
}

/// Makes room for headers that end where the inner IP packet begins.
#[inline(always)]
fn open_head<P: Packet, const HEAD: usize>(packet: &mut P) -> Result<WindowMut<'_, HEAD>, DropReason> {
    const { assert!(HEAD > ETHERNET_LEN && HEAD < 128) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "below 128")]
    if !packet.move_head(const { (HEAD - ETHERNET_LEN) as i32 }) {
        return Err(DropReason::NoHeadroom);
    }
    packet.window_mut::<HEAD>(0).ok_or(DropReason::Inconsistent)
}

/// Identification of the outer packet: that of the inner one, moved by the flow's hash, because packets of
/// two clients or two networks with the same one may be fragmented on the same way (RFC 6864 §4.2).
#[inline(always)]
const fn outer_id(inner: Be16, hash: u32) -> Be16 {
    Be16(inner.0 ^ (hash >> 16) as u16)
}

/// Fills in the outer IPv4 header what depends on the packet; returns the length of its payload.
#[inline(always)]
fn finish_ipv4<const HEAD: usize>(
    head: &mut WindowMut<'_, HEAD>,
    tunnel: &TunnelEntry,
    inner: &Ipv4,
    hash: u32,
) -> Result<u16, DropReason> {
    const { assert!(HEAD >= ETHERNET_LEN + Ipv4Hdr::LEN) };
    #[expect(clippy::cast_possible_truncation, reason = "below 128")]
    let (overhead, header) = const { ((HEAD - ETHERNET_LEN) as u16, Ipv4Hdr::LEN as u16) };
    let total = inner.total_length.checked_add(overhead).ok_or(DropReason::TooBig)?;
    let length = Be16::new(total);
    let tos = inner.tos & 0xfc;
    let fragments = if inner.dont_fragment { DONT_FRAGMENT } else { Be16(0) };
    let id = outer_id(inner.id, hash);
    let sum = Sum::from_raw(tunnel.partial_sum)
        .add16(u16::from_ne_bytes([0, tos]))
        .add16(length.0)
        .add16(id.0)
        .add16(fragments.0);
    head.set_byte::<{ ETHERNET_LEN + offset_of!(Ipv4Hdr, tos) }>(tos);
    head.set_be16::<{ ETHERNET_LEN + offset_of!(Ipv4Hdr, tot_len) }>(length);
    head.set_be16::<{ ETHERNET_LEN + offset_of!(Ipv4Hdr, id) }>(id);
    head.set_be16::<{ ETHERNET_LEN + offset_of!(Ipv4Hdr, frags) }>(fragments);
    head.set_be16::<{ ETHERNET_LEN + offset_of!(Ipv4Hdr, check) }>(Be16(sum.checksum()));
    Ok(total.wrapping_sub(header))
}
