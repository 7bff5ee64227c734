//! VXLAN (RFC 7348): a 24-bit VNI and an inner Ethernet frame, in UDP.

use crate::packet::Packet;

/// Bytes of a VXLAN header.
pub const VXLAN_LEN: usize = 8;
/// UDP port, where none is configured.
pub const PORT: u16 = 4789;
/// Flag: the VNI is valid. The only one that may be set.
pub const VNI_VALID: u8 = 0x08;

/// The VNI of the header at `at`. RFC 7348 §5: reserved bits are ignored on receipt.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, at: usize) -> Option<u32> {
    let header = packet.window::<VXLAN_LEN>(at)?;
    (header.byte::<0>() & VNI_VALID != 0).then(|| header.be32::<4>().to_host() >> 8)
}
