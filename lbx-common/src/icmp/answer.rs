//! Errors that lbx makes, of its own or in the place of another one: an IP header, an ICMP header, and the head of the packet that they are about.
//!
//! The quoted part is the packet's headers and eight bytes more (RFC 792): enough for any sender to find its
//! connection, and never more than what came, so that nobody's packets are made larger here.

use super::{ICMP_LEN, Messages};
use crate::{
    bytes::{Address, Be16, Be32},
    checksum::Sum,
    ip::{Fragment, ICMP, ICMPV6, Ip, IpAddress, v4, v6},
    packet::Packet,
    tables::Carry,
};

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Type and code.
    pub kind: (u8, u8),
    /// Second word of the header: the MTU, of a packet that is too big (RFC 1191 §4, RFC 4443 §3.2).
    pub rest: Be32,
    /// Time to live.
    pub ttl: u8,
}

impl Carry {
    /// The answer that is to be made.
    #[inline(always)]
    pub const fn answer(&self) -> Answer {
        let [kind, code] = self.kind;
        Answer { kind: (kind, code), rest: self.rest, ttl: self.ttl }
    }
}

/// A family whose errors can be made.
pub trait Compose: IpAddress + Messages {
    /// Bytes in front of the quoted packet.
    const HEAD: u16;
    /// Most bytes that are quoted.
    const LONGEST_QUOTE: u16;

    /// The sum over the `quote` bytes at `at`.
    fn sum_quote<P: Packet>(packet: &P, at: usize, quote: u16) -> Option<Sum>;

    /// Writes the headers at `at`; as many bytes as are quoted follow them, with that sum.
    fn write<P: Packet>(
        packet: &mut P,
        at: usize,
        ends: [Self; 2],
        answer: Answer,
        quoted: (u16, Sum),
    ) -> Option<()>;
}

impl Compose for Be32 {
    const HEAD: u16 = 28;
    const LONGEST_QUOTE: u16 = 28;

    #[inline(always)]
    fn sum_quote<P: Packet>(packet: &P, at: usize, _: u16) -> Option<Sum> {
        packet.window::<{ v4::LEN + 8 }>(at).map(|quote| quote.sum())
    }

    #[inline(always)]
    fn write<P: Packet>(
        packet: &mut P,
        at: usize,
        [source, destination]: [Self; 2],
        answer: Answer,
        (quote, sum): (u16, Sum),
    ) -> Option<()> {
        let total = Be16::new(Self::HEAD.wrapping_add(quote));
        let first = u16::from_ne_bytes([0x45, 0]);
        let ttl_protocol = u16::from_ne_bytes([answer.ttl, ICMP]);
        let check = Sum::default()
            .add16(first)
            .add16(total.0)
            .add16(ttl_protocol)
            .add32(source.0)
            .add32(destination.0)
            .checksum();
        let mut head = packet.window_mut::<{ v4::LEN + ICMP_LEN }>(at)?;
        head.set_be16::<0>(Be16(first));
        head.set_be16::<2>(total);
        // A packet this small is fragmented nowhere: identification 0 will do (RFC 6864 §4.1).
        head.set_be16::<4>(Be16(0));
        head.set_be16::<6>(Be16(0));
        head.set_be16::<8>(Be16(ttl_protocol));
        head.set_be16::<10>(Be16(check));
        head.set_be32::<12>(source);
        head.set_be32::<16>(destination);
        let (kind, code) = answer.kind;
        let kind = u16::from_ne_bytes([kind, code]);
        let icmp = sum.add16(kind).add32(answer.rest.0).checksum();
        head.set_be16::<{ v4::LEN }>(Be16(kind));
        head.set_be16::<{ v4::LEN + 2 }>(Be16(icmp));
        head.set_be32::<{ v4::LEN + 4 }>(answer.rest);
        Some(())
    }
}

impl Compose for Address {
    const HEAD: u16 = 48;
    /// With a fragment header.
    const LONGEST_QUOTE: u16 = 56;

    #[inline(always)]
    fn sum_quote<P: Packet>(packet: &P, at: usize, quote: u16) -> Option<Sum> {
        if quote == Self::LONGEST_QUOTE {
            return packet.window::<{ v6::LEN + 16 }>(at).map(|quote| quote.sum());
        }
        packet.window::<{ v6::LEN + 8 }>(at).map(|quote| quote.sum())
    }

    #[inline(always)]
    fn write<P: Packet>(
        packet: &mut P,
        at: usize,
        [source, destination]: [Self; 2],
        answer: Answer,
        (quote, sum): (u16, Sum),
    ) -> Option<()> {
        let length = Be16::new(quote.wrapping_add(8));
        let (kind, code) = answer.kind;
        let kind = u16::from_ne_bytes([kind, code]);
        // RFC 4443 §2.3: the pseudo header of RFC 8200 §8.1.
        let mut icmp = sum.add16(kind).add32(answer.rest.0).add16(length.0).add16(Be16::new(ICMPV6.into()).0);
        for quad in source.quads().into_iter().chain(destination.quads()) {
            icmp = icmp.add32(quad);
        }
        let mut head = packet.window_mut::<{ v6::LEN + ICMP_LEN }>(at)?;
        head.set_be32::<0>(Be32::new(0x6000_0000));
        head.set_be16::<4>(length);
        head.set_be16::<6>(Be16(u16::from_ne_bytes([ICMPV6, answer.ttl])));
        head.set_address::<8>(source);
        head.set_address::<24>(destination);
        head.set_be16::<{ v6::LEN }>(Be16(kind));
        head.set_be16::<{ v6::LEN + 2 }>(Be16(icmp.checksum()));
        head.set_be32::<{ v6::LEN + 4 }>(answer.rest);
        Some(())
    }
}

/// Makes the frame of `ip` an error about it, from `source` to the packet's sender, behind `front` bytes that are
/// still to be written. Returns the header of the error. `None` where there is no room, and for a packet with options:
/// what is behind them would be too far away to be quoted.
#[inline(always)]
pub fn compose<A: Compose, P: Packet>(
    packet: &mut P,
    ip: &Ip<A>,
    front: usize,
    source: A,
    answer: Answer,
) -> Option<Ip<A>> {
    #[expect(clippy::cast_possible_truncation, reason = "headers end within the packet, whose length is u16")]
    let quote = (ip.header_length as u16).wrapping_add(8);
    if quote > A::LONGEST_QUOTE || !packet.truncate(ip.at.wrapping_add(usize::from(quote))) {
        return None;
    }
    let sum = A::sum_quote(packet, ip.at, quote)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "offsets in a packet")]
    let grow = (front.wrapping_add(usize::from(A::HEAD)) as i32).wrapping_sub(ip.at as i32);
    if !packet.move_head(grow) {
        return None;
    }
    A::write(packet, front, [source, ip.source], answer, (quote, sum))?;
    Some(Ip {
        at: front,
        header_length: A::HEADER_LEN,
        total_length: A::HEAD.wrapping_add(quote),
        tos: 0,
        dont_fragment: A::V6,
        fragment: Fragment::Whole,
        id: 0,
        ttl: answer.ttl,
        protocol: A::ICMP,
        source,
        destination: ip.source,
    })
}
