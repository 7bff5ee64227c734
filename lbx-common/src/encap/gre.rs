//! GRE with a 32-bit key (RFC 2784, RFC 2890).

use super::{finish_ipv4, open_head};
use crate::{
    abi::TunnelEntry,
    bytes::Be16,
    packet::Packet,
    parse::{ETHER_IPV4, ETHERNET_LEN, IPV4_LEN, Ipv4},
    reason::DropReason,
};

/// Bytes of a GRE header with a key.
pub const GRE_LEN: usize = 8;
/// Bytes in front of the inner IP packet.
pub const HEAD_LEN: usize = ETHERNET_LEN + IPV4_LEN + GRE_LEN;

/// Flag: a key is present.
pub const KEY_PRESENT: u16 = 0x2000;
/// Flag: a checksum is present.
const CHECKSUM_PRESENT: u16 = 0x8000;
/// Flag: a sequence number is present.
const SEQUENCE_PRESENT: u16 = 0x1000;

/// Wraps the packet. 42 bytes are five words and a half word.
#[inline(always)]
pub fn encapsulate<P: Packet>(
    packet: &mut P,
    tunnel: &TunnelEntry,
    inner: &Ipv4,
    hash: u32,
) -> Result<(), DropReason> {
    let mut head = open_head::<P, HEAD_LEN>(packet)?;
    let [w0, w1, w2, w3, w4, w5, ..] = tunnel.head;
    head.set_word::<0>(w0);
    head.set_word::<8>(w1);
    head.set_word::<16>(w2);
    head.set_word::<24>(w3);
    head.set_word::<32>(w4);
    let [b0, b1, ..] = w5.to_ne_bytes();
    head.set_be16::<40>(Be16(u16::from_ne_bytes([b0, b1])));
    finish_ipv4(&mut head, tunnel, inner, hash)?;
    Ok(())
}

/// What a GRE header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The key.
    pub key: u32,
    /// Offset of what is inside.
    pub payload_at: usize,
    /// Whether that is an IPv4 packet.
    pub ipv4: bool,
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
    let ipv4 = start.be16::<2>() == ETHER_IPV4;
    let sequence = if flags & SEQUENCE_PRESENT == 0 { 0 } else { 4 };
    if flags & CHECKSUM_PRESENT == 0 {
        let payload_at = at.wrapping_add(GRE_LEN).wrapping_add(sequence);
        return Some(Header { key: start.be32::<4>().to_host(), payload_at, ipv4 });
    }
    let key = packet.window::<4>(at.wrapping_add(8))?.be32::<0>().to_host();
    Some(Header { key, payload_at: at.wrapping_add(GRE_LEN).wrapping_add(4).wrapping_add(sequence), ipv4 })
}
