//! GRE with a 32-bit key (RFC 2784, RFC 2890), bare or in UDP (RFC 8086).

use crate::{bytes::Be16, packet::Packet};

/// Bytes of a GRE header with a key.
pub const GRE_LEN: usize = 8;
/// UDP port of GRE in UDP, where none is configured.
pub const UDP_PORT: u16 = 4754;

/// Flag: a key is present.
pub const KEY_PRESENT: u16 = 0x2000;
/// Flag: a checksum is present.
const CHECKSUM_PRESENT: u16 = 0x8000;
/// Flag: a sequence number is present.
const SEQUENCE_PRESENT: u16 = 0x1000;

/// What a GRE header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The key.
    pub key: u32,
    /// Offset of what is inside.
    pub payload_at: usize,
    /// Ethernet type of that.
    pub kind: Be16,
}

/// The GRE header at `at`. A checksum and a sequence number are stepped over (a Linux device sends them
/// when it was told to); a header without a key, of another version or with routing (RFC 1701) is none.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, at: usize) -> Option<Header> {
    let start = packet.window::<GRE_LEN>(at)?;
    let flags = start.be16::<0>().to_host();
    if flags & !(CHECKSUM_PRESENT | SEQUENCE_PRESENT) != KEY_PRESENT {
        return None;
    }
    let kind = start.be16::<2>();
    let sequence = if flags & SEQUENCE_PRESENT == 0 { 0 } else { 4 };
    if flags & CHECKSUM_PRESENT == 0 {
        let payload_at = at.wrapping_add(GRE_LEN).wrapping_add(sequence);
        return Some(Header { key: start.be32::<4>().to_host(), payload_at, kind });
    }
    let key = packet.window::<4>(at.wrapping_add(8))?.be32::<0>().to_host();
    Some(Header { key, payload_at: at.wrapping_add(GRE_LEN).wrapping_add(4).wrapping_add(sequence), kind })
}
