//! ICMP: sends an echo request (RFC 792, RFC 4443 §4.1), which must be answered.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use etherparse::{
    IcmpEchoHeader, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, Ipv4Slice, PacketBuilder,
};

use super::{Path, ProbeError, Steps, datagrams::Datagrams};

/// Bytes that an answer must repeat: nobody has it who has not seen the question.
const TOKEN_BYTES: usize = 16;
/// Longest packet that is looked at.
const MAX_PACKET_BYTES: usize = 1024;

/// Gives the round trip.
pub(super) async fn ping(path: Path<'_>, target: IpAddr, steps: &mut Steps) -> Result<Duration, ProbeError> {
    let host = |error: &dyn std::error::Error| ProbeError::Host(error.to_string());
    let mut token = [0; TOKEN_BYTES];
    getrandom::fill(&mut token).map_err(|error| host(&error))?;
    let [first, second, ..] = token;
    let echo = IcmpEchoHeader { id: u16::from_be_bytes([first, second]), seq: 1 };
    let request = request(path.source, target, echo, &token).map_err(|error| host(&error))?;
    let socket = Datagrams::icmp(path, SocketAddr::new(target, 0), echo.id)?;
    steps.begin();
    socket.send(&request).await?;
    let mut buffer = [0; MAX_PACKET_BYTES];
    loop {
        let length = socket.receive(&mut buffer).await?;
        // Another ping may have the same identifier.
        if answers(buffer.get(..length).unwrap_or_default(), target, echo, &token) {
            return Ok(steps.finish("ping", || format!("{target} from {}", path.source)));
        }
    }
}

/// The message. The kernel puts the IP header before it, and computes the checksum of `ICMPv6`, where that of the
/// packet as a whole is right already.
fn request(source: IpAddr, target: IpAddr, echo: IcmpEchoHeader, token: &[u8]) -> io::Result<Vec<u8>> {
    let mut packet = Vec::new();
    let written = match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => PacketBuilder::ipv4(source.octets(), target.octets(), 64)
            .icmpv4(Icmpv4Type::EchoRequest(echo))
            .write(&mut packet, token)
            .map(|()| 20),
        (IpAddr::V6(source), IpAddr::V6(target)) => PacketBuilder::ipv6(source.octets(), target.octets(), 64)
            .icmpv6(Icmpv6Type::EchoRequest(echo))
            .write(&mut packet, token)
            .map(|()| 40),
        _ => return Err(io::Error::other("an address of each family")),
    };
    let header = written.map_err(io::Error::other)?;
    Ok(packet.split_off(header))
}

/// Whether what a raw socket gives is the answer: with the IP header in IPv4, without it in IPv6.
fn answers(packet: &[u8], target: IpAddr, echo: IcmpEchoHeader, token: &[u8]) -> bool {
    if target.is_ipv4() {
        let Ok(ip) = Ipv4Slice::from_slice(packet) else { return false };
        let Ok(icmp) = Icmpv4Slice::from_slice(ip.payload().payload) else { return false };
        icmp.icmp_type() == Icmpv4Type::EchoReply(echo) && icmp.payload() == token
    } else {
        let Ok(icmp) = Icmpv6Slice::from_slice(packet) else { return false };
        icmp.icmp_type() == Icmpv6Type::EchoReply(echo) && icmp.payload() == token
    }
}
