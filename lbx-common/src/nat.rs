//! Rewriting of addresses and ports with their checksums (RFC 1624), and of time to live and ECN.

use core::mem::offset_of;

use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};

use crate::{
    bytes::{Address, Be16, Be32},
    checksum::{Sum, reopen},
    ip::{Ip, IpAddress, TCP, UDP, v4, v6},
    packet::{Packet, WindowMut},
};

/// Offset of the checksum in a TCP header.
pub const TCP_CHECK: usize = offset_of!(TcpHdr, check);
/// Offset of the checksum in a UDP header.
pub const UDP_CHECK: usize = offset_of!(UdpHdr, check);

/// Which end of a packet is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The source: a reply gets the VIP as its source.
    Source,
    /// The destination: a request gets the endpoint as its destination.
    Destination,
}

/// An address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket<A> {
    /// The address.
    pub address: A,
    /// The port.
    pub port: Be16,
}

/// What a change of addresses and ports adds to a checksum over them: a number to keep while the addresses need
/// not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delta(u32);

impl Delta {
    /// Of `new` in the place of `old`.
    #[inline(always)]
    pub fn between<A: IpAddress>(old: Socket<A>, new: Socket<A>) -> Self {
        let mut sum = Sum::default().remove16(old.port.0).add16(new.port.0);
        let (old, new) = (old.address.quads(), new.address.quads());
        sum = sum.remove32(old[0]).add32(new[0]);
        if A::V6 {
            sum = sum.remove32(old[1]).add32(new[1]).remove32(old[2]).add32(new[2]);
            sum = sum.remove32(old[3]).add32(new[3]);
        }
        Self(u32::from(sum.fold()))
    }

    /// The sum under a checksum field after the change.
    #[inline(always)]
    pub const fn after(self, field: Be16) -> Sum {
        Sum::from_raw(reopen(field.0).raw().wrapping_add(self.0))
    }
}

/// What changes in an IP header beside an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// New time to live.
    pub ttl: u8,
    /// New type of service.
    pub tos: u8,
}

/// An address whose packets can be rewritten.
pub trait Rewrite: IpAddress {
    /// Puts `new` in the place of the address at one end of the header at `ip.at`, and the values of `header`.
    /// `None` where the packet is shorter than `ip` says.
    fn rewrite<P: Packet>(packet: &mut P, ip: &Ip<Self>, end: End, new: Self, header: Header) -> Option<()>;
}

impl Rewrite for Be32 {
    #[inline(always)]
    fn rewrite<P: Packet>(packet: &mut P, ip: &Ip<Self>, end: End, new: Self, to: Header) -> Option<()> {
        let mut header = packet.window_mut::<{ v4::LEN }>(ip.at)?;
        let old = match end {
            End::Source => ip.source,
            End::Destination => ip.destination,
        };
        let sum = reopen(header.read().be16::<{ offset_of!(Ipv4Hdr, check) }>().0)
            .remove32(old.0)
            .add32(new.0)
            .remove16(u16::from_ne_bytes([ip.ttl, ip.protocol]))
            .add16(u16::from_ne_bytes([to.ttl, ip.protocol]))
            .remove16(u16::from_ne_bytes([0, ip.tos]))
            .add16(u16::from_ne_bytes([0, to.tos]));
        header.set_byte::<{ offset_of!(Ipv4Hdr, ttl) }>(to.ttl);
        header.set_byte::<{ offset_of!(Ipv4Hdr, tos) }>(to.tos);
        header.set_be16::<{ offset_of!(Ipv4Hdr, check) }>(Be16(sum.checksum()));
        match end {
            End::Source => header.set_be32::<{ offset_of!(Ipv4Hdr, src_addr) }>(new),
            End::Destination => header.set_be32::<{ offset_of!(Ipv4Hdr, dst_addr) }>(new),
        }
        Some(())
    }
}

impl Rewrite for Address {
    #[inline(always)]
    fn rewrite<P: Packet>(packet: &mut P, ip: &Ip<Self>, end: End, new: Self, to: Header) -> Option<()> {
        let mut header = packet.window_mut::<{ v6::LEN }>(ip.at)?;
        // Version, traffic class, flow label (RFC 8200 §3).
        let first = header.read().be32::<0>().to_host();
        let first = (first & 0xf00f_ffff) | (u32::from(to.tos) << 20);
        header.set_be32::<0>(Be32::new(first));
        header.set_byte::<{ offset_of!(Ipv6Hdr, hop_limit) }>(to.ttl);
        match end {
            End::Source => header.set_address::<{ offset_of!(Ipv6Hdr, src_addr) }>(new),
            End::Destination => header.set_address::<{ offset_of!(Ipv6Hdr, dst_addr) }>(new),
        }
        Some(())
    }
}

/// Makes the packet one from its destination to its source. `None` where it is shorter than `ip` says.
#[inline(always)]
pub fn exchange_ends<A: Rewrite, P: Packet>(packet: &mut P, ip: &Ip<A>, ttl: u8) -> Option<()> {
    let header = Header { ttl, tos: ip.tos };
    A::rewrite(packet, ip, End::Source, ip.destination, header)?;
    // The header now says so, which the second change has to start from.
    let half = Ip { source: ip.destination, ttl, ..*ip };
    A::rewrite(packet, &half, End::Destination, ip.source, header)
}

/// Puts `new` at one end of a TCP or UDP packet, whose checksum changes by `delta`. `None` where the packet is
/// shorter than `ip` says; it may be half rewritten then.
#[inline(always)]
pub fn translate<A: Rewrite, P: Packet>(
    packet: &mut P,
    ip: &Ip<A>,
    end: End,
    new: Socket<A>,
    delta: Delta,
    header: Header,
) -> Option<()> {
    A::rewrite(packet, ip, end, new.address, header)?;
    match ip.protocol {
        TCP => {
            let mut header = packet.window_mut::<{ TcpHdr::LEN }>(ip.payload_at())?;
            let sum = delta.after(header.read().be16::<TCP_CHECK>());
            header.set_be16::<TCP_CHECK>(Be16(sum.checksum()));
            set_port(&mut header, end, new.port);
        }
        UDP => {
            let mut header = packet.window_mut::<{ UdpHdr::LEN }>(ip.payload_at())?;
            let field = header.read().be16::<UDP_CHECK>();
            header.set_be16::<UDP_CHECK>(udp_checksum(field, delta.after(field)));
            set_port(&mut header, end, new.port);
        }
        _ => return None,
    }
    Some(())
}

/// The checksum field of UDP after a change. RFC 768: 0 says that there is none, and stays; a computed 0 is sent
/// as all ones.
#[inline(always)]
pub const fn udp_checksum(field: Be16, sum: Sum) -> Be16 {
    if field.0 == 0 {
        return field;
    }
    let checksum = sum.checksum();
    Be16(if checksum == 0 { 0xffff } else { checksum })
}

#[inline(always)]
fn set_port<const N: usize>(header: &mut WindowMut<'_, N>, end: End, port: Be16) {
    match end {
        End::Source => header.set_be16::<0>(port),
        End::Destination => header.set_be16::<2>(port),
    }
}
