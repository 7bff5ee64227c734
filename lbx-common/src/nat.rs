//! Rewriting of addresses and ports with their checksums (RFC 1624), and of the time to live.

use core::mem::offset_of;

use network_types::{ip::Ipv4Hdr, tcp::TcpHdr, udp::UdpHdr};

use crate::{
    bytes::{Be16, Be32},
    checksum::{Sum, reopen},
    packet::{Packet, WindowMut},
    parse::{IPV4_LEN, Ipv4, TCP, UDP},
};

/// Offset of the checksum in a TCP header.
const TCP_CHECK: usize = offset_of!(TcpHdr, check);
/// Offset of the checksum in a UDP header.
const UDP_CHECK: usize = offset_of!(UdpHdr, check);

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
pub struct Socket {
    /// The address.
    pub address: Be32,
    /// The port.
    pub port: Be16,
}

/// Puts `new` in the place of `old` at one end of a TCP or UDP packet, and takes 1 off the time to live
/// where `hop` says so. `None` where the packet is shorter than `ip` says; it may be half rewritten then.
#[inline(always)]
pub fn translate<P: Packet>(
    packet: &mut P,
    ip: &Ipv4,
    end: End,
    old: Socket,
    new: Socket,
    hop: bool,
) -> Option<()> {
    let mut header = packet.window_mut::<IPV4_LEN>(ip.at)?;
    let mut sum = reopen(header.read().be16::<{ offset_of!(Ipv4Hdr, check) }>().0)
        .remove32(old.address.0)
        .add32(new.address.0);
    if hop {
        let ttl = ip.ttl.wrapping_sub(1);
        sum = sum
            .remove16(u16::from_ne_bytes([ip.ttl, ip.protocol]))
            .add16(u16::from_ne_bytes([ttl, ip.protocol]));
        header.set_byte::<{ offset_of!(Ipv4Hdr, ttl) }>(ttl);
    }
    header.set_be16::<{ offset_of!(Ipv4Hdr, check) }>(Be16(sum.checksum()));
    match end {
        End::Source => header.set_be32::<{ offset_of!(Ipv4Hdr, src_addr) }>(new.address),
        End::Destination => header.set_be32::<{ offset_of!(Ipv4Hdr, dst_addr) }>(new.address),
    }
    match ip.protocol {
        TCP => {
            let mut header = packet.window_mut::<{ TcpHdr::LEN }>(ip.payload_at)?;
            let sum = moved(header.read().be16::<TCP_CHECK>(), old, new);
            header.set_be16::<TCP_CHECK>(Be16(sum.checksum()));
            set_port(&mut header, end, new.port);
        }
        UDP => {
            let mut header = packet.window_mut::<{ UdpHdr::LEN }>(ip.payload_at)?;
            let field = header.read().be16::<UDP_CHECK>();
            // RFC 768: 0 says that there is no checksum, and a computed 0 is sent as all ones.
            if field.0 != 0 {
                let checksum = moved(field, old, new).checksum();
                header.set_be16::<UDP_CHECK>(Be16(if checksum == 0 { 0xffff } else { checksum }));
            }
            set_port(&mut header, end, new.port);
        }
        _ => return None,
    }
    Some(())
}

#[inline(always)]
fn moved(field: Be16, old: Socket, new: Socket) -> Sum {
    reopen(field.0).remove32(old.address.0).add32(new.address.0).remove16(old.port.0).add16(new.port.0)
}

#[inline(always)]
fn set_port<const N: usize>(header: &mut WindowMut<'_, N>, end: End, port: Be16) {
    match end {
        End::Source => header.set_be16::<0>(port),
        End::Destination => header.set_be16::<2>(port),
    }
}
