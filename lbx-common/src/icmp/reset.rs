//! The refusal of a TCP connection: a segment with RST (RFC 9293 §3.5.2).

use core::mem::offset_of;

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::echo::TTL;
use crate::{
    bytes::{Address, Be16, Be32},
    checksum::{Sum, reopen},
    ip::{Ip, TCP, v4, v6},
    nat::{Rewrite, exchange_ends},
    packet::Packet,
    transport::Transport,
};

const TCP_LEN: usize = 20;
/// A header of 20 bytes; RST, and RST with ACK.
const RST: u16 = u16::from_be_bytes([0x50, 0x04]);
const RST_ACK: u16 = u16::from_be_bytes([0x50, 0x14]);

/// A family whose packets can be cut to a TCP header.
pub trait Shorten: Rewrite {
    /// Says in the header at `ip.at` that a TCP header is all that follows.
    fn shorten<P: Packet>(packet: &mut P, ip: &Ip<Self>) -> Option<()>;
}

impl Shorten for Be32 {
    #[inline(always)]
    fn shorten<P: Packet>(packet: &mut P, ip: &Ip<Self>) -> Option<()> {
        let total = Be16::new(length(ip.header_length));
        let mut header = packet.window_mut::<{ v4::LEN }>(ip.at)?;
        let check = header.read().be16::<{ offset_of!(Ipv4Hdr, check) }>();
        let sum = reopen(check.0).remove16(Be16::new(ip.total_length).0).add16(total.0);
        header.set_be16::<{ offset_of!(Ipv4Hdr, tot_len) }>(total);
        header.set_be16::<{ offset_of!(Ipv4Hdr, check) }>(Be16(sum.checksum()));
        Some(())
    }
}

impl Shorten for Address {
    #[inline(always)]
    fn shorten<P: Packet>(packet: &mut P, ip: &Ip<Self>) -> Option<()> {
        let payload = Be16::new(length(ip.header_length.wrapping_sub(v6::LEN)));
        let mut header = packet.window_mut::<{ v6::LEN }>(ip.at)?;
        header.set_be16::<{ offset_of!(Ipv6Hdr, payload_len) }>(payload);
        Some(())
    }
}

/// Length of headers and a TCP header.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "headers fit into a packet")]
const fn length(headers: usize) -> u16 {
    headers.wrapping_add(TCP_LEN) as u16
}

/// Makes the frame of a TCP segment the reset of its connection. `None` where it must not be answered, or is shorter
/// than `ip` says.
#[inline(always)]
pub fn compose<A: Shorten, P: Packet>(packet: &mut P, ip: &Ip<A>, transport: &Transport) -> Option<()> {
    if transport.flags.has_rst() {
        return None;
    }
    let at = ip.payload_at();
    let segment = packet.window::<TCP_LEN>(at)?;
    let (sequence, acknowledged) = (segment.be32::<4>(), segment.be32::<8>());
    let data = ip.payload_length().wrapping_sub(u16::from(segment.byte::<12>() >> 4).wrapping_mul(4));
    if !packet.truncate(at.wrapping_add(TCP_LEN)) {
        return None;
    }
    exchange_ends(packet, ip, TTL)?;
    A::shorten(packet, ip)?;
    let ports = transport.ports;
    let (seq, ack, flags) = if transport.flags.has_ack() {
        (acknowledged, Be32(0), Be16::new(RST))
    } else {
        let counted = u32::from(data).wrapping_add(u32::from(transport.flags.sequence_numbers()));
        (Be32(0), Be32::new(sequence.to_host().wrapping_add(counted)), Be16::new(RST_ACK))
    };
    let mut sum = Sum::default()
        .add16(ports.source.0)
        .add16(ports.destination.0)
        .add32(seq.0)
        .add32(ack.0)
        .add16(flags.0)
        .add16(Be16::new(20).0)
        .add16(Be16::new(TCP.into()).0);
    for quad in ip.source.quads().into_iter().chain(ip.destination.quads()) {
        sum = sum.add32(quad);
    }
    let mut segment = packet.window_mut::<TCP_LEN>(at)?;
    segment.set_be16::<0>(ports.destination);
    segment.set_be16::<2>(ports.source);
    segment.set_be32::<4>(seq);
    segment.set_be32::<8>(ack);
    segment.set_be16::<12>(flags);
    segment.set_be16::<14>(Be16(0));
    segment.set_be16::<16>(Be16(sum.checksum()));
    segment.set_be16::<18>(Be16(0));
    Some(())
}
