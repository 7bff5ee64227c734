//! Echo requests to a VIP are answered in place: the packet goes back as it came, with its ends exchanged.

use super::{CHECK, ICMP_LEN, Messages};
use crate::{
    bytes::Be16,
    checksum::reopen,
    ip::Ip,
    nat::{Rewrite, exchange_ends},
    packet::Packet,
};

/// Time to live of what lbx sends.
pub const TTL: u8 = 64;

/// Makes the reply of an echo request. `None` where the packet is shorter than `ip` says.
#[inline(always)]
pub fn reply<A: Rewrite + Messages, P: Packet>(packet: &mut P, ip: &Ip<A>) -> Option<()> {
    exchange_ends(packet, ip, TTL)?;
    // The sum over both addresses is the same, so of the ICMP checksum only the type changes.
    let mut icmp = packet.window_mut::<ICMP_LEN>(ip.payload_at())?;
    let code = icmp.read().byte::<1>();
    let sum = reopen(icmp.read().be16::<CHECK>().0)
        .remove16(u16::from_ne_bytes([A::ECHO_REQUEST, code]))
        .add16(u16::from_ne_bytes([A::ECHO_REPLY, code]));
    icmp.set_byte::<0>(A::ECHO_REPLY);
    icmp.set_be16::<CHECK>(Be16(sum.checksum()));
    Some(())
}
