//! VXLAN (RFC 7348): UDP, a 24-bit VNI, and an inner Ethernet frame.

use super::{finish_ipv4, open_head};
use crate::{
    abi::TunnelEntry,
    bytes::Be16,
    packet::Packet,
    parse::{ETHER_IPV4, ETHERNET_LEN, IPV4_LEN, Ipv4},
    reason::DropReason,
};

/// Bytes of a UDP header.
const UDP_LEN: usize = 8;
/// Bytes of a VXLAN header.
pub const VXLAN_LEN: usize = 8;
/// Bytes in front of the inner IP packet.
pub const HEAD_LEN: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN + VXLAN_LEN + ETHERNET_LEN;
/// Offset of the UDP header in the frame.
const UDP_AT: usize = ETHERNET_LEN + IPV4_LEN;

/// UDP port of VXLAN, where none is configured.
pub const PORT: u16 = 4789;
/// Flag: the VNI is valid. The only one that may be set.
pub const VNI_VALID: u8 = 0x08;

/// Wraps the packet. 64 bytes are eight words. The UDP checksum stays 0, as RFC 7348 §5 asks for.
#[inline(always)]
pub fn encapsulate<P: Packet>(
    packet: &mut P,
    tunnel: &TunnelEntry,
    inner: &Ipv4,
    hash: u32,
) -> Result<(), DropReason> {
    let mut head = open_head::<P, HEAD_LEN>(packet)?;
    let [w0, w1, w2, w3, w4, w5, w6, w7, ..] = tunnel.head;
    head.set_word::<0>(w0);
    head.set_word::<8>(w1);
    head.set_word::<16>(w2);
    head.set_word::<24>(w3);
    head.set_word::<32>(w4);
    head.set_word::<40>(w5);
    head.set_word::<48>(w6);
    head.set_word::<56>(w7);
    let datagram = finish_ipv4(&mut head, tunnel, inner, hash)?;
    head.set_be16::<UDP_AT>(source_port(hash));
    head.set_be16::<{ UDP_AT + 4 }>(Be16::new(datagram));
    Ok(())
}

/// A port from 49152 to 65535, so that the far side's NIC spreads flows (RFC 7348 §5).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half of the hash")]
pub const fn source_port(hash: u32) -> Be16 {
    Be16::new(hash as u16 | 0xc000)
}

/// What a UDP and a VXLAN header say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// UDP destination port.
    pub port: Be16,
    /// The VNI.
    pub vni: u32,
    /// Offset of the inner IP packet, where there is one.
    pub payload_at: usize,
    /// Whether an IPv4 packet is inside.
    pub ipv4: bool,
}

/// The headers at `at`. RFC 7348 §5: reserved bits are ignored on receipt.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, at: usize) -> Option<Header> {
    let start = packet.window::<{ UDP_LEN + VXLAN_LEN + ETHERNET_LEN }>(at)?;
    if start.byte::<UDP_LEN>() & VNI_VALID == 0 {
        return None;
    }
    Some(Header {
        port: start.be16::<2>(),
        vni: start.be32::<{ UDP_LEN + 4 }>().to_host() >> 8,
        payload_at: at.wrapping_add(UDP_LEN + VXLAN_LEN + ETHERNET_LEN),
        ipv4: start.be16::<{ UDP_LEN + VXLAN_LEN + 12 }>() == ETHER_IPV4,
    })
}
