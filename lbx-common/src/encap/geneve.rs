//! Geneve (RFC 8926): a 24-bit VNI and IP or an Ethernet frame, in UDP.

use crate::{bytes::Be16, packet::Packet};

/// Bytes of a header without options.
pub const GENEVE_LEN: usize = 8;
/// UDP port, where none is configured.
pub const PORT: u16 = 6081;
/// Protocol type of an inner Ethernet frame.
pub const ETHERNET_INSIDE: Be16 = Be16::new(0x6558);
/// Flag: what is inside is a message to the endpoint of the tunnel, not a packet to forward.
const CONTROL: u8 = 0x80;
/// Flag: there are options that must be understood.
const CRITICAL: u8 = 0x40;

/// What a Geneve header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The VNI.
    pub vni: u32,
    /// Protocol type of what is inside.
    pub kind: Be16,
    /// Offset of that.
    pub payload_at: usize,
}

/// The header at `at`. Options are stepped over; a header of another version, with options that must be
/// understood or of a control packet, which must not be forwarded (RFC 8926 §3.4), is none.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, at: usize) -> Option<Header> {
    let header = packet.window::<GENEVE_LEN>(at)?;
    let version_and_length = header.byte::<0>();
    if version_and_length >> 6 != 0 || header.byte::<1>() & (CONTROL | CRITICAL) != 0 {
        return None;
    }
    let options = usize::from(version_and_length & 0x3f).wrapping_mul(4);
    Some(Header {
        vni: header.be32::<4>().to_host() >> 8,
        kind: header.be16::<2>(),
        payload_at: at.wrapping_add(GENEVE_LEN).wrapping_add(options),
    })
}
