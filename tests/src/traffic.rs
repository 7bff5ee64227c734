//! A round of requests to both virtual networks, and what must be true of it.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::Result;
use etherparse::{LaxNetSlice, LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice};

use crate::{
    capture::Frame,
    client::{Answer, Client},
    family::Family,
    topology::{ORIGINS, VnetPlan, client_address},
};

/// Failures in a row that end a round.
const GIVE_UP_AFTER: usize = 3;

/// Answers of one service.
#[derive(Debug)]
pub struct Round {
    /// The virtual network whose VIP was asked.
    pub plan: VnetPlan,
    /// The family of the VIP.
    pub family: Family,
    /// `http` or `udp`.
    pub kind: &'static str,
    /// One entry a request, in order. Shorter than asked for when too many in a row failed.
    pub answers: Vec<Result<Answer>>,
}

impl Round {
    /// `GET /` at the IPv4 VIP once from each of `ports`.
    pub fn http(client: &Client, plan: VnetPlan, ports: impl IntoIterator<Item = u16>) -> Self {
        Self::http_in(Family::V4, client, plan, ports)
    }

    /// One datagram to the IPv4 VIP from each of `ports`.
    pub fn udp(client: &Client, plan: VnetPlan, ports: impl IntoIterator<Item = u16>) -> Self {
        Self::udp_in(Family::V4, client, plan, ports)
    }

    /// `GET /` at the VIP of a family once from each of `ports`.
    pub fn http_in(
        family: Family,
        client: &Client,
        plan: VnetPlan,
        ports: impl IntoIterator<Item = u16>,
    ) -> Self {
        let answers = ask_all(ports, |port| client.http_get(plan.vip_of(family), port));
        Self { plan, family, kind: "http", answers }
    }

    /// One datagram to the VIP of a family from each of `ports`.
    pub fn udp_in(
        family: Family,
        client: &Client,
        plan: VnetPlan,
        ports: impl IntoIterator<Item = u16>,
    ) -> Self {
        let ask =
            |port: u16| client.udp_exchange(plan.vip_of(family), port, format!("number {port}").as_bytes());
        Self { plan, family, kind: "udp", answers: ask_all(ports, ask) }
    }

    /// Answers by origin: all origins of the network, also those that did not answer.
    pub fn by_origin(&self) -> BTreeMap<&str, usize> {
        let mut counts: BTreeMap<&str, usize> = ORIGINS.iter().map(|(name, _)| (*name, 0)).collect();
        for answer in self.answers.iter().flatten().filter(|answer| answer.vnet == self.plan.name) {
            *counts.entry(&answer.origin).or_default() += 1;
        }
        counts
    }

    /// Everything that is wrong with the answers: first, in one line, requests without any, then answers of
    /// another network and client addresses that are not the client's.
    pub fn mistakes(&self) -> Vec<String> {
        let vnet = self.plan.name;
        let mut mistakes = Vec::new();
        let mut errors = self.answers.iter().filter_map(|answer| answer.as_ref().err());
        if let Some(first) = errors.next() {
            let (failed, all) = (1 + errors.count(), self.answers.len());
            mistakes.push(format!("{vnet} {}: {failed} of {all} failed, first {first:#}", self.kind));
        }
        for answer in self.answers.iter().flatten() {
            if answer.vnet != vnet {
                mistakes.push(format!("{vnet} {}: answered by {}", self.kind, answer.vnet));
            }
            let seen = answer.seen_client;
            if seen.port() != answer.own_address.port() || seen.ip() != client_address(self.family) {
                mistakes.push(format!("{vnet} {}: the origin saw {seen} as the client", self.kind));
            }
        }
        mistakes
    }
}

/// Asks from every port, but not on and on where nobody answers.
fn ask_all(ports: impl IntoIterator<Item = u16>, ask: impl Fn(u16) -> Result<Answer>) -> Vec<Result<Answer>> {
    let mut answers = Vec::new();
    let mut failed_in_a_row = 0;
    for port in ports {
        let answer = ask(port);
        failed_in_a_row = if answer.is_ok() { 0 } else { failed_in_a_row + 1 };
        answers.push(answer);
        if failed_in_a_row == GIVE_UP_AFTER {
            break;
        }
    }
    answers
}

/// Private addresses (10.0.0.0/8, `fd00::/8`) in the IP headers of frames, those of packets inside ICMP
/// errors included.
pub fn private_addresses(frames: &[Frame]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for frame in frames {
        let Ok(packet) = SlicedPacket::from_ethernet(&frame.bytes) else { continue };
        found.extend(addresses(packet.net.as_ref()));
        match &packet.transport {
            Some(TransportSlice::Icmpv4(icmp)) => found.extend(addresses_in_error(icmp.payload())),
            Some(TransportSlice::Icmpv6(icmp)) => found.extend(addresses_in_error(icmp.payload())),
            Some(TransportSlice::Tcp(_) | TransportSlice::Udp(_) | TransportSlice::Igmp(_)) | None => {}
        }
    }
    found.retain(is_private);
    found
}

fn is_private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().first() == Some(&10),
        IpAddr::V6(address) => address.octets().first() == Some(&0xfd),
    }
}

/// Source and destination of an IP packet; nothing of another one.
pub fn addresses(net: Option<&NetSlice<'_>>) -> Vec<IpAddr> {
    match net {
        Some(NetSlice::Ipv4(ip)) => {
            vec![ip.header().source_addr().into(), ip.header().destination_addr().into()]
        }
        Some(NetSlice::Ipv6(ip)) => {
            vec![ip.header().source_addr().into(), ip.header().destination_addr().into()]
        }
        Some(NetSlice::Arp(_)) | None => Vec::new(),
    }
}

/// Addresses of the packet that an ICMP error is about; it is usually cut short.
fn addresses_in_error(payload: &[u8]) -> Vec<IpAddr> {
    let embedded = LaxSlicedPacket::from_ip(payload).ok().and_then(|packet| packet.net);
    match embedded {
        Some(LaxNetSlice::Ipv4(ip)) => {
            vec![ip.header().source_addr().into(), ip.header().destination_addr().into()]
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            vec![ip.header().source_addr().into(), ip.header().destination_addr().into()]
        }
        Some(LaxNetSlice::Arp(_)) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use etherparse::{
        Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4::DestUnreachableHeader, icmpv6::TimeExceededCode,
    };

    use super::*;

    const VIP_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0x02, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80];
    const CLIENT_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    const PRIVATE_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10];

    fn frame(packet: Vec<u8>) -> Frame {
        let mut bytes = vec![0; 12];
        bytes.extend(Family::of_packet(&packet).unwrap().ethertype().to_be_bytes());
        bytes.extend(packet);
        Frame { outgoing: false, bytes }
    }

    fn datagram(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(source, destination, 64).udp(1, 2).write(&mut packet, b"10.0.0.10").unwrap();
        packet
    }

    fn datagram_v6(source: [u8; 16], destination: [u8; 16]) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv6(source, destination, 64).udp(1, 2).write(&mut packet, &PRIVATE_V6).unwrap();
        packet
    }

    #[test]
    fn private_addresses_are_found_in_headers_and_in_icmp_errors_but_not_in_data() {
        let public = datagram([203, 0, 113, 80], [192, 0, 2, 2]);
        assert_eq!(private_addresses(&[frame(public)]), Vec::<IpAddr>::new());
        let private = datagram([10, 0, 0, 10], [192, 0, 2, 2]);
        assert_eq!(private_addresses(&[frame(private.clone())]), [Ipv4Addr::new(10, 0, 0, 10)]);
        let mut error = Vec::new();
        PacketBuilder::ipv4([203, 0, 113, 80], [192, 0, 2, 2], 64)
            .icmpv4(Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port))
            .write(&mut error, &private[..28])
            .unwrap();
        assert_eq!(private_addresses(&[frame(error)]), [Ipv4Addr::new(10, 0, 0, 10)]);
    }

    #[test]
    fn so_are_those_of_ipv6() {
        assert_eq!(private_addresses(&[frame(datagram_v6(VIP_V6, CLIENT_V6))]), Vec::<IpAddr>::new());
        let private = datagram_v6(CLIENT_V6, PRIVATE_V6);
        assert_eq!(private_addresses(&[frame(private.clone())]), [Ipv6Addr::from(PRIVATE_V6)]);
        let mut error = Vec::new();
        PacketBuilder::ipv6(VIP_V6, CLIENT_V6, 64)
            .icmpv6(Icmpv6Type::TimeExceeded(TimeExceededCode::HopLimitExceeded))
            .write(&mut error, &private[..48])
            .unwrap();
        assert_eq!(private_addresses(&[frame(error)]), [Ipv6Addr::from(PRIVATE_V6)]);
    }
}
