//! The maximum segment size that either side of a connection announces (RFC 9293 §3.7.1), lowered to what fits into
//! the tunnel: so neither side sends a segment that would be too big.

use crate::{
    bytes::Be16,
    checksum::reopen,
    ip::{Ip, IpAddress},
    nat::TCP_CHECK,
    packet::Packet,
};

const TCP_LEN: usize = 20;
/// Longest TCP header.
const MAX_TCP_LEN: usize = 60;
/// Options that are looked at; every system puts the maximum segment size among the first.
const MAX_OPTIONS: usize = 6;

/// Option kinds (RFC 9293 §3.1).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// Lowers the maximum segment size of a TCP segment with SYN to what an IP packet of `mtu` bytes has room for.
#[inline(always)]
pub fn clamp<A: IpAddress, P: Packet>(packet: &mut P, ip: &Ip<A>, mtu: u16) {
    let at = ip.payload_at();
    let Some(offset) = option(packet, at) else { return };
    #[expect(clippy::cast_possible_truncation, reason = "20 or 40, and 20")]
    let limit = mtu.saturating_sub((A::HEADER_LEN.wrapping_add(TCP_LEN)) as u16);
    let Some(mut value) = packet.window_mut::<2>(at.wrapping_add(offset)) else { return };
    let old = value.read().be16::<0>();
    if old.to_host() <= limit {
        return;
    }
    let new = Be16::new(limit);
    value.set_be16::<0>(new);
    // An option may begin anywhere; the checksum is over words.
    let (old, new) = if offset & 1 == 0 { (old.0, new.0) } else { (old.0.swap_bytes(), new.0.swap_bytes()) };
    if let Some(mut check) = packet.window_mut::<2>(at.wrapping_add(TCP_CHECK)) {
        let sum = reopen(check.read().be16::<0>().0).remove16(old).add16(new);
        check.set_be16::<0>(Be16(sum.checksum()));
    }
}

/// Offset in the TCP header at `at` of the announced size.
#[inline(always)]
fn option<P: Packet>(packet: &P, at: usize) -> Option<usize> {
    let end = usize::from(packet.window::<TCP_LEN>(at)?.byte::<12>() >> 4).wrapping_mul(4);
    let mut offset = TCP_LEN;
    for _ in 0..MAX_OPTIONS {
        // The option takes four bytes; behind the last four there is none.
        if offset.wrapping_add(4) > end || offset > MAX_TCP_LEN {
            return None;
        }
        let head = packet.window::<2>(at.wrapping_add(offset))?;
        let (kind, length) = (head.byte::<0>(), head.byte::<1>());
        match kind {
            END => return None,
            NO_OPERATION => offset = offset.wrapping_add(1),
            MAXIMUM_SEGMENT_SIZE if length == 4 => return Some(offset.wrapping_add(2)),
            _ if length < 2 => return None,
            _ => offset = offset.wrapping_add(usize::from(length)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, TcpOptionElement};

    use super::*;
    use crate::{bytes::Be32, ip::v4, packet::SlicePacket};

    fn syn(options: &[TcpOptionElement]) -> Vec<u8> {
        let builder = PacketBuilder::ipv4([192, 0, 2, 2], [203, 0, 113, 80], 64)
            .tcp(1234, 80, 7, 1024)
            .syn()
            .options(options)
            .unwrap();
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[]).unwrap();
        bytes
    }

    fn clamped(options: &[TcpOptionElement], mtu: u16) -> Vec<u8> {
        let mut bytes = syn(options);
        let mut packet = SlicePacket::new(&mut bytes, 0);
        let ip: Ip<Be32> = v4::parse(&packet, 0).unwrap();
        clamp(&mut packet, &ip, mtu);
        bytes
    }

    #[test]
    fn a_size_that_does_not_fit_is_lowered_and_the_checksum_with_it() {
        use TcpOptionElement::{MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted, WindowScale};
        let size = MaximumSegmentSize;
        let lowered = size(1436);
        // At an even place, at an odd one, behind others.
        assert_eq!(clamped(&[size(1460)], 1476), syn(std::slice::from_ref(&lowered)));
        assert_eq!(clamped(&[Noop, size(1460)], 1476), syn(&[Noop, lowered.clone()]));
        let around = |one| [SelectiveAcknowledgementPermitted, WindowScale(7), one];
        assert_eq!(clamped(&around(size(9000)), 1476), syn(&around(lowered)));
    }

    #[test]
    fn what_fits_or_is_not_there_stays() {
        use TcpOptionElement::{MaximumSegmentSize, WindowScale};
        for options in [vec![MaximumSegmentSize(1436)], vec![WindowScale(7)], vec![]] {
            assert_eq!(clamped(&options, 1476), syn(&options));
        }
    }
}
