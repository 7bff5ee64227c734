//! Messages as routers send them, and as nobody does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    Icmpv4Type, Icmpv6Type, IpNumber, PacketBuilder, icmpv4::DestUnreachableHeader::FragmentationNeeded,
};
use lbx_common::api::Encap;

use super::TooBig;
use crate::config::model::TunnelPath;

const VNI: u32 = 0x00a1_b2c3;

/// lbx, a gateway and a router.
const V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(198, 51, 100, 254)];
const V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe),
];

fn path(encap: Encap, remote: impl Into<IpAddr>) -> TunnelPath {
    let port = match encap {
        Encap::Gre => 0,
        Encap::GreUdp => 4754,
        Encap::Vxlan => 4789,
        Encap::Geneve => 6081,
    };
    TunnelPath { vni: VNI, encap, remote: remote.into(), port }
}

/// The tunnel header with its key.
fn shim(encap: Encap) -> [u8; 8] {
    let [_, a, b, c] = VNI.to_be_bytes();
    match encap {
        Encap::Gre | Encap::GreUdp => [0x20, 0, 8, 0, 0, a, b, c],
        Encap::Vxlan => [8, 0, 0, 0, a, b, c, 0],
        Encap::Geneve => [0, 0, 0x65, 0x58, a, b, c, 0],
    }
}

/// A packet of lbx's, 1500 bytes long.
fn sent(path: &TunnelPath) -> Vec<u8> {
    let headers = if path.remote.is_ipv6() { 40 } else { 20 };
    let mut packet = Vec::new();
    let builder = match path.remote {
        IpAddr::V4(remote) => PacketBuilder::ipv4(V4[0].octets(), remote.octets(), 64),
        IpAddr::V6(remote) => PacketBuilder::ipv6(V6[0].octets(), remote.octets(), 64),
    };
    let mut payload = shim(path.encap).to_vec();
    if path.encap == Encap::Gre {
        payload.resize(1500 - headers, 0x55);
        builder.write(&mut packet, IpNumber::GRE, &payload).unwrap();
    } else {
        payload.resize(1500 - headers - 8, 0x55);
        builder.udp(50_000, path.port).write(&mut packet, &payload).unwrap();
    }
    packet
}

/// A router's message over IPv4, that quotes so many bytes.
fn v4(quoted: &[u8], mtu: u16) -> Vec<u8> {
    let kind = Icmpv4Type::DestinationUnreachable(FragmentationNeeded { next_hop_mtu: mtu });
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(V4[2].octets(), V4[0].octets(), 64);
    builder.icmpv4(kind).write(&mut packet, quoted).unwrap();
    packet
}

/// The same over IPv6, as a raw socket gives it.
fn v6(quoted: &[u8], mtu: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv6(V6[2].octets(), V6[0].octets(), 64);
    builder.icmpv6(Icmpv6Type::PacketTooBig { mtu }).write(&mut packet, quoted).unwrap();
    packet[40..].to_vec()
}

const ENCAPS: [Encap; 4] = [Encap::Gre, Encap::GreUdp, Encap::Vxlan, Encap::Geneve];

#[test]
fn a_message_is_about_the_tunnel_whose_packet_it_quotes_and_no_other() {
    let all: Vec<_> = ENCAPS.iter().flat_map(|&encap| [path(encap, V4[1]), path(encap, V6[1])]).collect();
    for about in &all {
        let packet = sent(about);
        // RFC 1812 §4.3.2.3 and RFC 4443 §2.4: as much as fits.
        let message = if about.remote.is_ipv6() {
            TooBig::read_v6(&v6(&packet[..1200], 1400)).unwrap()
        } else {
            TooBig::read_v4(&v4(&packet[..548], 1400)).unwrap()
        };
        assert_eq!(message.mtu, 1400);
        let local: IpAddr = if about.remote.is_ipv6() { V6[0].into() } else { V4[0].into() };
        for other in &all {
            assert_eq!(message.is_about(local, other), other == about, "{about:?}: {other:?}");
        }
        for other in [
            TunnelPath { vni: VNI + 1, ..*about },
            TunnelPath { port: about.port + 1, ..*about },
            TunnelPath { remote: V4[2].into(), ..*about },
        ] {
            let same_port = about.encap == Encap::Gre && other.port != about.port;
            assert!(same_port || !message.is_about(local, &other), "{about:?}: {other:?}");
        }
        assert!(!message.is_about(about.remote, about), "another sender");
    }
}

#[test]
fn eight_bytes_behind_the_ip_header_are_enough() {
    for encap in ENCAPS {
        let path = path(encap, V4[1]);
        // RFC 792
        let message = TooBig::read_v4(&v4(&sent(&path)[..28], 1400)).unwrap();
        assert!(message.is_about(V4[0].into(), &path), "{encap:?}");
        let other = TunnelPath { vni: VNI + 1, ..path };
        // Behind UDP nothing tells the networks of a gateway apart then.
        assert_eq!(message.is_about(V4[0].into(), &other), encap != Encap::Gre, "{encap:?}");
    }
}

#[test]
fn a_router_that_says_no_mtu_means_the_next_lower_plateau() {
    let packet = sent(&path(Encap::Gre, V4[1]));
    assert_eq!(TooBig::read_v4(&v4(&packet[..28], 0)).unwrap().mtu, 1492);
}

#[test]
fn what_is_no_complaint_about_a_packet_that_was_too_big_is_none() {
    let (of_v4, of_v6) = (sent(&path(Encap::Gre, V4[1])), sent(&path(Encap::Vxlan, V6[1])));
    assert_eq!(TooBig::read_v4(&v4(&of_v4[..28], 1500)), None, "it would have fitted");
    assert_eq!(TooBig::read_v6(&v6(&of_v6, 65_536)), None, "it would have fitted");
    let mut wrong = v4(&of_v4[..28], 1400);
    wrong[22] ^= 1;
    assert_eq!(TooBig::read_v4(&wrong), None, "its checksum is wrong");
    let mut packet = Vec::new();
    let other = Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
    let builder = PacketBuilder::ipv4(V4[2].octets(), V4[0].octets(), 64);
    builder.icmpv4(other).write(&mut packet, &of_v4[..28]).unwrap();
    assert_eq!(TooBig::read_v4(&packet), None, "another message");
    let mut tcp = Vec::new();
    let builder = PacketBuilder::ipv4(V4[0].octets(), V4[1].octets(), 64).tcp(1, 2, 3, 4);
    builder.write(&mut tcp, &[0; 1400]).unwrap();
    assert_eq!(TooBig::read_v4(&v4(&tcp, 1400)), None, "no tunnel packet");
}

#[test]
fn a_message_may_end_anywhere() {
    let (message_v4, message_v6) = (
        v4(&sent(&path(Encap::Geneve, V4[1]))[..60], 1400),
        v6(&sent(&path(Encap::Geneve, V6[1]))[..80], 1400),
    );
    for end in 0..message_v4.len() {
        assert_eq!(TooBig::read_v4(&message_v4[..end]), None, "{end}");
    }
    for end in 0..message_v6.len() {
        // The kernel has checked that it is whole.
        let read = TooBig::read_v6(&message_v6[..end]);
        assert_eq!(read.is_some(), end >= 8 + 40 + 4, "{end}: {read:?}");
    }
}
