//! The IPv6 header and its extension headers (RFC 8200).

use core::mem::offset_of;

use network_types::ip::Ipv6Hdr;

use super::{Fragment, Ip, NoIp};
use crate::{bytes::Address, packet::Packet};

/// Bytes of a header without extension headers.
pub const LEN: usize = Ipv6Hdr::LEN;
/// The same, as lengths in the header are counted.
const LEN_U16: u16 = 40;
const _: () = assert!(LEN_U16 as usize == LEN);
/// Extension headers that are walked; a packet with more is malformed.
const MAX_EXTENSIONS: usize = 4;

/// Next-header numbers of the extension headers that are stepped over.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// The header at `at`, with what follows it up to the payload.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, at: usize) -> Result<Ip<Address>, NoIp<Address>> {
    let header = packet.window::<LEN>(at).ok_or(NoIp::Other)?;
    let first = header.be32::<0>().to_host();
    if first >> 28 != 6 {
        return Err(NoIp::Other);
    }
    let destination = header.address::<{ offset_of!(Ipv6Hdr, dst_addr) }>();
    let source = header.address::<{ offset_of!(Ipv6Hdr, src_addr) }>();
    let malformed = Err(NoIp::Malformed { destination });
    let payload_length = header.be16::<{ offset_of!(Ipv6Hdr, payload_len) }>().to_host();
    let Some(total_length) = payload_length.checked_add(LEN_U16) else { return malformed };
    if !packet.holds(at.wrapping_add(usize::from(total_length))) {
        return malformed;
    }
    let (next, ttl) = (
        header.byte::<{ offset_of!(Ipv6Hdr, next_hdr) }>(),
        header.byte::<{ offset_of!(Ipv6Hdr, hop_limit) }>(),
    );
    let whole = Walk { next, length: LEN, id: 0, fragment: Fragment::Whole };
    let walked =
        if is_extension(next) { walk(packet, at, whole, usize::from(total_length)) } else { Some(whole) };
    let Some(walked) = walked else { return malformed };
    Ok(Ip {
        at,
        header_length: walked.length,
        total_length,
        tos: traffic_class(first),
        dont_fragment: true,
        fragment: walked.fragment,
        id: walked.id,
        ttl,
        protocol: walked.next,
        source,
        destination,
    })
}

/// The second and third half byte of the first word, in host order.
#[inline(always)]
const fn traffic_class(first: u32) -> u8 {
    let [high, low, ..] = first.to_be_bytes();
    (high << 4) | (low >> 4)
}

/// The header at `at` of a quoted packet. Its extension headers are not walked: nothing is known of where it ends.
#[inline(always)]
pub fn parse_quoted<P: Packet>(packet: &P, at: usize) -> Option<Ip<Address>> {
    let header = packet.window::<LEN>(at)?;
    let first = header.be32::<0>().to_host();
    (first >> 28 == 6).then(|| Ip {
        at,
        header_length: LEN,
        total_length: header.be16::<{ offset_of!(Ipv6Hdr, payload_len) }>().to_host().saturating_add(LEN_U16),
        tos: traffic_class(first),
        dont_fragment: true,
        fragment: Fragment::Whole,
        id: 0,
        ttl: header.byte::<{ offset_of!(Ipv6Hdr, hop_limit) }>(),
        protocol: header.byte::<{ offset_of!(Ipv6Hdr, next_hdr) }>(),
        source: header.address::<{ offset_of!(Ipv6Hdr, src_addr) }>(),
        destination: header.address::<{ offset_of!(Ipv6Hdr, dst_addr) }>(),
    })
}

/// Where a walk over extension headers stands.
#[derive(Clone, Copy)]
struct Walk {
    next: u8,
    /// Bytes walked so far.
    length: usize,
    id: u32,
    fragment: Fragment,
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// Steps over extension headers. `None` where they leave the packet or are too many.
#[inline(always)]
fn walk<P: Packet>(packet: &P, at: usize, mut walk: Walk, end: usize) -> Option<Walk> {
    for _ in 0..MAX_EXTENSIONS {
        let header = packet.window::<8>(at.wrapping_add(walk.length))?;
        let length = if walk.next == FRAGMENT {
            let offset = header.be16::<2>().to_host();
            walk.id = header.be32::<4>().0;
            walk.fragment = match (offset >> 3, offset & 1) {
                // An "atomic" fragment (RFC 6946) is a whole packet.
                (0, 0) => Fragment::Whole,
                (0, _) => Fragment::First,
                _ => Fragment::Later,
            };
            8
        } else {
            usize::from(header.byte::<1>()).wrapping_add(1).wrapping_mul(8)
        };
        walk.next = header.byte::<0>();
        walk.length = walk.length.wrapping_add(length);
        if walk.length > end {
            return None;
        }
        // What follows in a later fragment is data, whatever it looks like.
        if !is_extension(walk.next) || walk.fragment == Fragment::Later {
            return Some(walk);
        }
    }
    None
}
