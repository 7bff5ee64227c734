//! The packet that an ICMP error quotes. Of it only the IP header and eight bytes need be there (RFC 792), and its
//! length says nothing about the frame.

use super::ICMP_LEN;
use crate::{
    ip::{Fragment, Ip, IpAddress, TCP, UDP},
    nat::{Delta, End, Header, Rewrite, Socket, UDP_CHECK, udp_checksum},
    packet::Packet,
    transport::Ports,
};

/// A quoted packet of TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted<A> {
    /// Its header; the length in it is not that of anything in the frame.
    pub ip: Ip<A>,
    /// Its ports.
    pub ports: Ports,
}

/// The packet that the ICMP error of `outer` quotes; `None` where it is none of TCP or UDP, a later
/// fragment, or has options, which nobody sends and which push the ports out of what is sure to be quoted.
#[inline(always)]
pub fn parse<A: IpAddress, P: Packet>(packet: &P, outer: &Ip<A>) -> Option<Quoted<A>> {
    let at = outer.payload_at().wrapping_add(ICMP_LEN);
    let ip = A::parse_quoted(packet, at)?;
    let has_options = ip.header_length != A::HEADER_LEN;
    if has_options || ip.protocol != TCP && ip.protocol != UDP || ip.fragment == Fragment::Later {
        return None;
    }
    let ports = packet.window::<8>(ip.payload_at())?;
    Some(Quoted { ip, ports: Ports { source: ports.be16::<0>(), destination: ports.be16::<2>() } })
}

/// Puts `new` at one end of the quoted packet, where `old` was. Of its checksums, that of TCP lies behind what is
/// quoted. `None` where the frame is too short.
#[inline(always)]
pub fn rewrite<A: Rewrite, P: Packet>(
    packet: &mut P,
    quoted: &Quoted<A>,
    end: End,
    [old, new]: [Socket<A>; 2],
) -> Option<()> {
    let ip = &quoted.ip;
    A::rewrite(packet, ip, end, new.address, Header { ttl: ip.ttl, tos: ip.tos })?;
    let mut head = packet.window_mut::<8>(ip.payload_at())?;
    match end {
        End::Source => head.set_be16::<0>(new.port),
        End::Destination => head.set_be16::<2>(new.port),
    }
    if ip.protocol == UDP {
        let field = head.read().be16::<UDP_CHECK>();
        head.set_be16::<UDP_CHECK>(udp_checksum(field, Delta::between(old, new).after(field)));
    }
    Some(())
}
