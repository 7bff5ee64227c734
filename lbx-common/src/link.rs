//! Ethernet with up to two VLAN tags (IEEE 802.1Q, 802.1ad).

use crate::{bytes::Be16, packet::Packet};

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = 14;
/// Bytes of its addresses.
const MACS_LEN: usize = 12;
/// Bytes of a VLAN tag.
pub const TAG_LEN: usize = 4;
/// The same, as the packet's head moves.
const TAG_GROWTH: i32 = 4;
/// Tags that are stepped over.
const MAX_TAGS: usize = 2;
/// Halves of 16 bits of the longest header.
const KEPT_HALVES: usize = ETHERNET_LEN / 2 + MAX_TAGS * (TAG_LEN / 2);

/// Ethernet types of VLAN tags.
const CUSTOMER_TAG: Be16 = Be16::new(0x8100);
const SERVICE_TAG: Be16 = Be16::new(0x88a8);

/// What an Ethernet header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    /// Type of the payload, behind the tags.
    pub kind: Be16,
    /// Offset of the payload: 14, 18 or 22.
    pub payload_at: usize,
}

/// The header of a frame.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Option<Ethernet> {
    let mut kind = packet.window::<ETHERNET_LEN>(0)?.be16::<12>();
    let mut payload_at = ETHERNET_LEN;
    for _ in 0..MAX_TAGS {
        if kind != CUSTOMER_TAG && kind != SERVICE_TAG {
            break;
        }
        kind = packet.window::<TAG_LEN>(payload_at)?.be16::<2>();
        payload_at = payload_at.wrapping_add(TAG_LEN);
    }
    Some(Ethernet { kind, payload_at })
}

/// Writes an untagged header at the start of the frame.
#[inline(always)]
pub fn write<P: Packet>(packet: &mut P, source: [u8; 6], destination: [u8; 6], kind: Be16) -> Option<()> {
    let mut header = packet.window_mut::<ETHERNET_LEN>(0)?;
    header.set_mac::<0>(destination);
    header.set_mac::<6>(source);
    header.set_be16::<12>(kind);
    Some(())
}

/// Puts a VLAN tag behind the MACs of a frame, for an egress device of that VLAN. `None` where there is no room.
#[inline(always)]
pub fn push_tag<P: Packet>(packet: &mut P, vlan: u16) -> Option<()> {
    let macs = packet.window::<12>(0)?;
    let (a, b, c) = (macs.be32::<0>(), macs.be32::<4>(), macs.be32::<8>());
    if !packet.move_head(TAG_GROWTH) {
        return None;
    }
    let mut frame = packet.window_mut::<16>(0)?;
    frame.set_be32::<0>(a);
    frame.set_be32::<4>(b);
    frame.set_be32::<8>(c);
    frame.set_be16::<12>(CUSTOMER_TAG);
    frame.set_be16::<14>(Be16::new(vlan));
    Some(())
}

/// Sends a frame back to where it came from: exchanges its MACs.
#[inline(always)]
pub fn turn<P: Packet>(packet: &mut P) -> Option<()> {
    Kept::take(packet, MACS_LEN)?.put_back(packet)
}

/// A header with its tags, while the packet behind it becomes another one.
#[derive(Clone, Copy)]
pub struct Kept {
    /// Two MACs of three halves each, tags, type.
    halves: [Be16; KEPT_HALVES],
    length: usize,
}

impl Kept {
    /// The header of a frame, which ends at `length`.
    #[inline(always)]
    pub fn take<P: Packet>(packet: &P, length: usize) -> Option<Self> {
        let mut halves = [Be16(0); KEPT_HALVES];
        for (i, half) in halves.iter_mut().enumerate() {
            let at = i.wrapping_mul(2);
            if at < length {
                *half = packet.window::<2>(at)?.be16::<0>();
            }
        }
        Some(Self { halves, length })
    }

    /// Writes it to a frame that goes back to where this one came from.
    #[inline(always)]
    pub fn put_back<P: Packet>(&self, packet: &mut P) -> Option<()> {
        for (i, half) in self.halves.iter().enumerate() {
            let place = match i {
                0..3 => i.wrapping_add(3),
                3..6 => i.wrapping_sub(3),
                _ => i,
            };
            let at = place.wrapping_mul(2);
            if at < self.length {
                packet.window_mut::<2>(at)?.set_be16::<0>(*half);
            }
        }
        Some(())
    }
}
