//! Frames as clients, origins and gateways send them, built with `etherparse`; and what must come of them,
//! computed from the whole packet by `etherparse` as well, never by lbx's own code.

use std::net::Ipv4Addr;

use etherparse::{IpNumber, Ipv4Header, PacketBuilder, TcpHeader, UdpHeader};
pub use lbx_tests::packets::{fragment, spoiled, with_ipv4 as with_ip};
use lbx_tests::{
    packets,
    topology::{CLIENT, EAST, LBX_UNDERLAY, ORIGINS, VnetPlan},
    tunnel,
};

/// Source port of the client.
pub const CLIENT_PORT: u16 = 40_000;

/// An Ethernet frame around an IPv4 packet.
pub fn frame(packet: &[u8]) -> Vec<u8> {
    ethernet(0x0800, packet)
}

/// An Ethernet frame of any type.
pub fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x77];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// TCP flags, by the letters that tcpdump shows: `S`, `.` (ACK), `P`, `F`, `R`.
pub fn tcp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), flags: &str, data: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(source.1, destination.1, 1000, 1024);
    header.syn = flags.contains('S');
    header.ack = flags.contains('.');
    header.psh = flags.contains('P');
    header.fin = flags.contains('F');
    header.rst = flags.contains('R');
    let builder = PacketBuilder::ipv4(source.0.octets(), destination.0.octets(), 64);
    let mut packet = Vec::new();
    builder.tcp_header(header).write(&mut packet, data).unwrap();
    packet
}

/// A UDP datagram with a checksum.
pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(source.0.octets(), destination.0.octets(), 64);
    let mut packet = Vec::new();
    builder.udp(source.1, destination.1).write(&mut packet, data).unwrap();
    packet
}

/// A TCP packet of the client to port 80 of a VIP.
pub fn request(plan: VnetPlan, flags: &str) -> Vec<u8> {
    tcp((CLIENT, CLIENT_PORT), (plan.vip, 80), flags, if flags.contains('P') { b"GET /" } else { b"" })
}

/// A datagram of the client to port 53 of a VIP.
pub fn query(plan: VnetPlan) -> Vec<u8> {
    udp((CLIENT, CLIENT_PORT), (plan.vip, 53), b"what?")
}

/// A TCP packet of origin a to a client.
pub fn reply_to(client: Ipv4Addr, flags: &str) -> Vec<u8> {
    tcp((ORIGINS[0].1, 80), (client, CLIENT_PORT), flags, b"")
}

/// A datagram of origin a to the client.
pub fn answer() -> Vec<u8> {
    udp((ORIGINS[0].1, 53), (CLIENT, CLIENT_PORT), b"that!")
}

/// A packet with IPv4 options: four bytes, no-operations.
pub fn with_options(packet: &[u8]) -> Vec<u8> {
    packets::with_options(packet, 1)
}

/// A frame of `plan`'s gateway around `inner`.
pub fn from_gateway(plan: VnetPlan, inner: &[u8]) -> Vec<u8> {
    wrapped(plan, plan.gateway_address, plan.vni, inner)
}

/// A tunnel frame to lbx in the encapsulation of `plan`.
pub fn wrapped(plan: VnetPlan, from: Ipv4Addr, key: u32, inner: &[u8]) -> Vec<u8> {
    frame(&tunnel::wrap(plan.encap, from, LBX_UNDERLAY, key, inner).unwrap())
}

/// A frame of east's gateway with any GRE header and what follows it.
pub fn gre(header: &[u8], inner: &[u8]) -> Vec<u8> {
    let payload = [header, inner].concat();
    let (from, to) = (EAST.gateway_address.octets(), LBX_UNDERLAY.octets());
    let ip = Ipv4Header::new(payload.len().try_into().unwrap(), 64, IpNumber::GRE, from, to).unwrap();
    let mut packet = Vec::new();
    ip.write(&mut packet).unwrap();
    packet.extend(payload);
    frame(&packet)
}

/// Which end of a packet lbx rewrites.
#[derive(Debug, Clone, Copy)]
pub enum End {
    Source,
    Destination,
}

/// A packet with an address and port replaced and `hops` taken off its time to live; all checksums are
/// computed anew over the whole packet. What follows it in its frame is left out.
pub fn rewritten(packet: &[u8], end: End, to: (Ipv4Addr, u16), hops: u8) -> Vec<u8> {
    let packet = with_ip(packet, |header| {
        header.time_to_live -= hops;
        match end {
            End::Source => header.source = to.0.octets(),
            End::Destination => header.destination = to.0.octets(),
        }
    });
    let (ip, rest) = Ipv4Header::from_slice(&packet).unwrap();
    let mut changed = packet[..ip.header_len()].to_vec();
    let rest = &rest[..usize::from(ip.payload_len().unwrap())];
    if ip.protocol == IpNumber::TCP {
        let (mut header, data) = TcpHeader::from_slice(rest).unwrap();
        match end {
            End::Source => header.source_port = to.1,
            End::Destination => header.destination_port = to.1,
        }
        header.checksum = header.calc_checksum_ipv4(&ip, data).unwrap();
        header.write(&mut changed).unwrap();
        changed.extend(data);
    } else {
        let (mut header, data) = UdpHeader::from_slice(rest).unwrap();
        match end {
            End::Source => header.source_port = to.1,
            End::Destination => header.destination_port = to.1,
        }
        if header.checksum != 0 {
            header.checksum = header.calc_checksum_ipv4(&ip, data).unwrap();
        }
        header.write(&mut changed).unwrap();
        changed.extend(data);
    }
    changed
}
