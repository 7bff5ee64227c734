//! The IPv4 header (RFC 791).

use core::mem::offset_of;

use network_types::ip::Ipv4Hdr;

use super::{Fragment, Ip, NoIp};
use crate::{
    bytes::{Be16, Be32},
    packet::Packet,
};

/// Bytes of a header without options.
pub const LEN: usize = Ipv4Hdr::LEN;
/// More fragments.
const MORE_FRAGMENTS: Be16 = Be16::new(0x2000);
/// Fragment offset.
const FRAGMENT_OFFSET: Be16 = Be16::new(0x1fff);
/// Don't fragment.
pub const DONT_FRAGMENT: Be16 = Be16::new(0x4000);

/// The header at `at`. Its checksum is not verified: NICs do that before XDP, and a router that forwards by it
/// would drop the packet as well.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, at: usize) -> Result<Ip<Be32>, NoIp<Be32>> {
    let ip = read(packet, at).ok_or(NoIp::Other)?;
    if ip.header_length < LEN
        || usize::from(ip.total_length) < ip.header_length
        || !packet.holds(at.wrapping_add(usize::from(ip.total_length)))
    {
        return Err(NoIp::Malformed { destination: ip.destination });
    }
    Ok(ip)
}

/// The header at `at` of a quoted packet.
#[inline(always)]
pub fn parse_quoted<P: Packet>(packet: &P, at: usize) -> Option<Ip<Be32>> {
    read(packet, at).filter(|ip| ip.header_length >= LEN)
}

#[inline(always)]
fn read<P: Packet>(packet: &P, at: usize) -> Option<Ip<Be32>> {
    let header = packet.window::<LEN>(at)?;
    let version_and_length = header.byte::<{ offset_of!(Ipv4Hdr, vihl) }>();
    if version_and_length >> 4 != 4 {
        return None;
    }
    let fragments = header.be16::<{ offset_of!(Ipv4Hdr, frags) }>();
    let fragment = if fragments.0 & FRAGMENT_OFFSET.0 != 0 {
        Fragment::Later
    } else if fragments.0 & MORE_FRAGMENTS.0 != 0 {
        Fragment::First
    } else {
        Fragment::Whole
    };
    Some(Ip {
        at,
        header_length: usize::from(version_and_length & 0xf).wrapping_mul(4),
        total_length: header.be16::<{ offset_of!(Ipv4Hdr, tot_len) }>().to_host(),
        tos: header.byte::<{ offset_of!(Ipv4Hdr, tos) }>(),
        dont_fragment: fragments.0 & DONT_FRAGMENT.0 != 0,
        fragment,
        id: u32::from(header.be16::<{ offset_of!(Ipv4Hdr, id) }>().0),
        ttl: header.byte::<{ offset_of!(Ipv4Hdr, ttl) }>(),
        protocol: header.byte::<{ offset_of!(Ipv4Hdr, proto) }>(),
        source: header.be32::<{ offset_of!(Ipv4Hdr, src_addr) }>(),
        destination: header.be32::<{ offset_of!(Ipv4Hdr, dst_addr) }>(),
    })
}
