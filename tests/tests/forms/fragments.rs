//! Datagrams in pieces, both ways: every piece goes where the first one goes, and together they are what the
//! datagram would have been.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpFragOffset, IpNumber, IpSlice, Ipv4Header, Ipv6FragmentHeader, Ipv6Header};
use lbx_common::reason::{DropReason, Verdict};
use lbx_tests::{
    family::Family,
    lab::{Action, Lab, On},
    packets::{Packet, Transport, frame},
    tunnel,
    world::{self, Mode, Network, client, endpoints, ports},
};

use crate::stock::of_gateway;

const UDP: Transport = Transport::Udp;
/// Bytes of the first pieces.
const PIECE: usize = 1200;

/// A datagram of three pieces.
fn datagram(source: SocketAddr, destination: SocketAddr) -> Packet {
    let data = (0..3000_u16).map(|i| i.to_be_bytes()[1]).collect();
    Packet { data, dont_fragment: false, ..Packet::new(UDP, source, destination) }
}

/// The pieces of a packet, as a host makes them.
fn pieces(packet: &[u8], id: u16) -> Vec<Vec<u8>> {
    let header = header_bytes(packet);
    let payload = &packet[header..];
    let count = payload.len().div_ceil(PIECE);
    let piece = |(place, data): (usize, &[u8])| {
        let offset = IpFragOffset::try_new(u16::try_from(place * PIECE / 8).unwrap()).unwrap();
        let more = place + 1 < count;
        let mut piece = Vec::new();
        if header == 20 {
            let (mut header, _) = Ipv4Header::from_slice(packet).unwrap();
            (header.identification, header.fragment_offset, header.more_fragments) = (id, offset, more);
            header.total_len = u16::try_from(20 + data.len()).unwrap();
            header.write(&mut piece).unwrap();
        } else {
            let (mut header, _) = Ipv6Header::from_slice(packet).unwrap();
            header.payload_length = u16::try_from(8 + data.len()).unwrap();
            let fragment = Ipv6FragmentHeader::new(header.next_header, offset, more, id.into());
            header.next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
            header.write(&mut piece).unwrap();
            fragment.write(&mut piece).unwrap();
        }
        piece.extend(data);
        piece
    };
    payload.chunks(PIECE).enumerate().map(piece).collect()
}

fn header_bytes(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 4 { 20 } else { 40 }
}

/// Source, destination and payload of a piece.
fn open(piece: &[u8]) -> ([IpAddr; 2], Vec<u8>) {
    let ip = IpSlice::from_slice(piece).unwrap();
    assert!(ip.payload().fragmented);
    ([ip.source_addr(), ip.destination_addr()], ip.payload().payload.to_vec())
}

/// Runs a frame in the kernel and on the host; what is sent.
fn sent(lab: &Lab, on: On, frame: &[u8]) -> (Vec<u8>, Verdict) {
    let outcome = lab.run(on, frame).unwrap();
    let host = lab.run_on_host(on, frame);
    assert_eq!(outcome, host.outcome);
    assert_eq!(outcome.action, Action::Send, "{:?}", host.verdict);
    (outcome.frame, host.verdict)
}

/// The pieces together, if all have the same ends.
fn whole(pieces: &[Vec<u8>]) -> ([IpAddr; 2], Vec<u8>) {
    let opened: Vec<_> = pieces.iter().map(|piece| open(piece)).collect();
    assert!(opened.iter().all(|(ends, _)| *ends == opened[0].0), "pieces go apart: {opened:?}");
    (opened[0].0, opened.into_iter().flat_map(|(_, data)| data).collect())
}

fn everywhere(test: impl Fn(&Lab, Network, Family, u16)) {
    let lab = Lab::new(&world::config()).unwrap();
    let places = Network::all().into_iter().flat_map(|network| Family::ALL.map(|family| (network, family)));
    for (id, (network, family)) in (100..).zip(places) {
        test(&lab, network, family, id);
    }
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
}

#[test]
fn pieces_of_a_request_reach_one_endpoint() {
    everywhere(|lab, network, family, id| {
        let (port, inner_port) = ports(Mode::Nat, UDP);
        let vip = (network.vip(family, Mode::Nat), port).into();
        let request = datagram(client(family), vip).to_bytes();
        let inner: Vec<_> = pieces(&request, id)
            .iter()
            .map(|piece| {
                let (frame, _) = sent(lab, On::Public, &frame(piece));
                tunnel::unwrap(&frame).unwrap().unwrap().inner
            })
            .collect();
        let ([source, destination], data) = whole(&inner);
        assert_eq!(source, client(family).ip());
        assert!(endpoints(family, Mode::Nat).contains(&destination), "{destination}");
        let expected = datagram(client(family), (destination, inner_port).into()).to_bytes();
        assert_eq!(data, expected[header_bytes(&expected)..], "{}", network.name());
    });
}

#[test]
fn pieces_of_a_reply_come_from_the_vip() {
    everywhere(|lab, network, family, id| {
        let (port, inner_port) = ports(Mode::Nat, UDP);
        let endpoint: SocketAddr = (endpoints(family, Mode::Nat)[0], inner_port).into();
        let reply = datagram(endpoint, client(family)).to_bytes();
        let frames: Vec<_> = pieces(&reply, id)
            .into_iter()
            .map(|piece| {
                let mut wrapped = of_gateway(network, &Packet::new(UDP, endpoint, client(family)).to_bytes());
                wrapped.inner = piece;
                let (frame, verdict) = sent(lab, On::Underlay, &frame(&wrapped.to_bytes().unwrap()));
                assert_eq!(verdict, Verdict::Transmit { ifindex: lab.public });
                frame[14..].to_vec()
            })
            .collect();
        let vip = (network.vip(family, Mode::Nat), port);
        let (ends, data) = whole(&frames);
        assert_eq!(ends, [vip.0, client(family).ip()]);
        let expected = datagram(vip.into(), client(family)).to_bytes();
        assert_eq!(data, expected[header_bytes(&expected)..], "{}", network.name());
    });
}

#[test]
fn a_later_piece_without_the_first_is_dropped() {
    everywhere(|lab, network, family, id| {
        let vip = (network.vip(family, Mode::Nat), ports(Mode::Nat, UDP).0).into();
        let all = pieces(&datagram(client(family), vip).to_bytes(), id);
        let before = lab.drops(None, DropReason::FragmentUnknown).unwrap();
        for piece in &all[1..] {
            assert_eq!(lab.run(On::Public, &frame(piece)).unwrap().action, Action::Drop);
            assert_eq!(lab.run_on_host(On::Public, &frame(piece)).outcome.action, Action::Drop);
        }
        assert_eq!(lab.drops(None, DropReason::FragmentUnknown).unwrap(), before + 2);
        // To others they pass, first or not.
        let elsewhere = datagram(client(family), (client(family).ip(), 9).into()).to_bytes();
        for piece in pieces(&elsewhere, id) {
            let outcome = lab.run(On::Public, &frame(&piece)).unwrap();
            assert_eq!((outcome.action, outcome.frame), (Action::Pass, frame(&piece)));
        }
    });
}
