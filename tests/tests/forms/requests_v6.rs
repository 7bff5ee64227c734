//! IPv6 packets of clients: extension headers, lengths that are wrong, hop limits, checksums.

use lbx_common::reason::DropReason::{self, Malformed, VipNoService};
use lbx_tests::{
    family::Family,
    lab::On,
    packets::{
        Packet, Transport, checksum_at, frame, length_of, padding, spoiled, transport_at, with_extensions,
    },
    tunnel::Encap,
    world::Network,
};

use crate::check::{self, Becomes, Case};

/// Numbers of extension headers (RFC 8200 §4.1) that lbx steps over, and of some that it does not.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

/// Through whose tunnel the packets go: the longest headers there are.
const NETWORK: Network = Network { encap: Encap::GeneveEthernet, outer: Family::V6 };

/// A packet of the client.
fn request(transport: Transport) -> Packet {
    check::request(NETWORK, Family::V6, transport)
}

/// What becomes of a packet that is served.
fn served(transport: Transport, packet: Vec<u8>, lies: Vec<(usize, Vec<u8>)>) -> Becomes {
    check::served(NETWORK, transport, packet, lies)
}

fn dropped(reason: DropReason) -> Becomes {
    Becomes::Dropped(None, reason)
}

/// A routing header whose segments are all behind it.
fn routing() -> (u8, Vec<u8>) {
    (ROUTING, vec![0, 4, 0, 0, 0, 0, 0])
}

/// A fragment header of a packet that is whole (RFC 6946).
fn atomic() -> (u8, Vec<u8>) {
    (FRAGMENT, vec![0, 0, 0, 0xde, 0xad, 0xbe, 0xef])
}

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [extensions(), refused(), lengths(), hop_limits(), checksums()].into_iter().flatten().collect()
}

fn extensions() -> Vec<Case> {
    let chains = [
        ("hop-by-hop options", vec![padding(HOP_BY_HOP, 0)]),
        ("destination options", vec![padding(DESTINATION_OPTIONS, 0)]),
        ("a routing header", vec![routing()]),
        ("an atomic fragment", vec![atomic()]),
        ("long destination options", vec![padding(DESTINATION_OPTIONS, 100)]),
        ("long hop-by-hop options", vec![padding(HOP_BY_HOP, 127)]),
        ("two", vec![padding(HOP_BY_HOP, 1), padding(DESTINATION_OPTIONS, 2)]),
        ("three", vec![padding(HOP_BY_HOP, 0), routing(), padding(DESTINATION_OPTIONS, 0)]),
        ("four", vec![padding(HOP_BY_HOP, 0), padding(DESTINATION_OPTIONS, 1), routing(), atomic()]),
        ("four of one kind", vec![padding(DESTINATION_OPTIONS, 0); 4]),
        ("four long ones", vec![padding(DESTINATION_OPTIONS, 24); 4]),
        ("in another order", vec![atomic(), padding(DESTINATION_OPTIONS, 0), routing()]),
    ];
    let mut cases = Vec::new();
    for transport in Transport::ALL {
        for (name, chain) in &chains {
            let packet = with_extensions(&request(transport).to_bytes(), chain);
            let name = format!("{}: {name}", transport.as_str());
            cases.push(Case::new(name, On::Public, frame(&packet), served(transport, packet, Vec::new())));
        }
    }
    cases
}

/// Chains that end in something else than TCP or UDP, that are too long, or that leave the packet.
fn refused() -> Vec<Case> {
    let plain = request(Transport::Tcp).to_bytes();
    let chain = |chain: &[(u8, Vec<u8>)]| frame(&with_extensions(&plain, chain));
    let next = |number: u8| frame(&spoiled(&plain, 6, &[number]));
    let behind_options = |number: u8| {
        let packet = with_extensions(&plain, &[padding(DESTINATION_OPTIONS, 0)]);
        frame(&spoiled(&packet, 40, &[number]))
    };
    // Of a header that says it is longer than all of the packet, everything behind it is unknown.
    let longer = |number, length: u8| {
        let packet = with_extensions(&plain, &[(number, vec![length, 1, 4, 0, 0, 0, 0])]);
        frame(&packet)
    };
    // Each header says that one of its kind follows, up to the end of the packet.
    let circle = |header| frame(&with_extensions(&plain, &vec![header; 40]));
    let fits = length_of(&plain) - 40;
    let exact = u8::try_from(fits / 8).unwrap();
    vec![
        Case::new("five", On::Public, chain(&vec![padding(DESTINATION_OPTIONS, 0); 5]), dropped(Malformed)),
        Case::new("forty hop-by-hop headers", On::Public, circle(padding(HOP_BY_HOP, 0)), dropped(Malformed)),
        Case::new("forty routing headers", On::Both, circle(routing()), dropped(Malformed)),
        Case::new("forty fragment headers", On::Public, circle(atomic()), dropped(Malformed)),
        Case::new("an authentication header", On::Public, next(AUTHENTICATION), dropped(VipNoService)),
        Case::new("ESP", On::Public, next(ESP), dropped(VipNoService)),
        Case::new("no next header", On::Public, next(NO_NEXT_HEADER), dropped(VipNoService)),
        Case::new("mobility", On::Public, next(MOBILITY), dropped(VipNoService)),
        Case::new("SCTP", On::Public, next(132), dropped(VipNoService)),
        Case::new("GRE to a VIP", On::Both, next(47), dropped(VipNoService)),
        Case::new("IPv4 in IPv6 to a VIP", On::Both, next(4), dropped(VipNoService)),
        Case::new("ESP behind options", On::Public, behind_options(ESP), dropped(VipNoService)),
        Case::new(
            "nothing behind options",
            On::Public,
            behind_options(NO_NEXT_HEADER),
            dropped(VipNoService),
        ),
        Case::new(
            "options beyond the packet",
            On::Public,
            longer(DESTINATION_OPTIONS, 200),
            dropped(Malformed),
        ),
        Case::new("the longest options", On::Public, longer(DESTINATION_OPTIONS, 255), dropped(Malformed)),
        Case::new("routing beyond the packet", On::Public, longer(ROUTING, 100), dropped(Malformed)),
        Case::new(
            "options that leave no room for TCP",
            On::Public,
            longer(DESTINATION_OPTIONS, exact),
            dropped(Malformed),
        ),
        Case::new("TCP to a port of nobody", On::Public, to_port(Transport::Tcp, 81), dropped(VipNoService)),
        Case::new("UDP to a port of TCP", On::Public, to_port(Transport::Udp, 80), dropped(VipNoService)),
        Case::new("TCP to port 0", On::Public, to_port(Transport::Tcp, 0), dropped(VipNoService)),
    ]
}

fn to_port(transport: Transport, port: u16) -> Vec<u8> {
    let mut packet = request(transport);
    packet.destination.set_port(port);
    packet.to_frame()
}

/// Payload lengths that are not that of the frame.
fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for transport in Transport::ALL {
        let plain = request(transport).to_bytes();
        let payload = u16::try_from(plain.len() - 40).unwrap();
        let needed: u16 = if transport == Transport::Tcp { 20 } else { 8 };
        let named = |name: &str| format!("{}: {name}", transport.as_str());
        let says = |length: u16| frame(&spoiled(&plain, 4, &length.to_be_bytes()));
        let mut wrong = |name, length| {
            cases.push(Case::new(named(name), On::Public, says(length), dropped(Malformed)));
        };
        wrong("a length beyond the frame", payload + 1);
        wrong("the greatest length", 65_535);
        // With the header, more than 16 bits hold.
        wrong("a length that overflows", 65_496);
        wrong("length 0", 0);
        wrong("a length of half the header", needed / 2);
        wrong("a length of all but a byte of the header", needed - 1);
        // RFC 2675: a jumbogram has length 0 and says its own in an option; no frame here holds one.
        let jumbo = with_extensions(&plain, &[(HOP_BY_HOP, vec![0, 0xc2, 4, 0, 1, 0, 0])]);
        let jumbo = frame(&spoiled(&jumbo, 4, &[0, 0]));
        cases.push(Case::new(named("a jumbogram"), On::Public, jumbo, dropped(Malformed)));
        // What lies behind the packet is padding, and is left out.
        let short = Packet { data: Vec::new(), ..request(transport) }.to_bytes();
        for more in [1, 6, 64, 900] {
            let padded = [frame(&short), vec![0xee; more]].concat();
            let becomes = served(transport, short.clone(), Vec::new());
            cases.push(Case::new(named(&format!("{more} bytes of padding")), On::Public, padded, becomes));
        }
    }
    // The length of UDP is the endpoint's to judge: it stays as it is.
    let packet = request(Transport::Udp).to_bytes();
    let place = transport_at(&packet) + 4;
    for lie in [0_u16, 7, 8, 9, 1000, 65_535] {
        let lie_bytes = lie.to_be_bytes();
        let lying = frame(&spoiled(&packet, place, &lie_bytes));
        let becomes = served(Transport::Udp, packet.clone(), vec![(place, lie_bytes.to_vec())]);
        cases.push(Case::new(format!("a UDP length of {lie}"), On::Public, lying, becomes));
    }
    cases
}

fn hop_limits() -> Vec<Case> {
    let mut cases = Vec::new();
    for transport in Transport::ALL {
        for limit in [2, 3, 128, 255] {
            let packet = Packet { ttl: limit, ..request(transport) };
            let becomes = served(transport, packet.to_bytes(), Vec::new());
            let name = format!("{}: hop limit {limit}", transport.as_str());
            cases.push(Case::new(name, On::Public, packet.to_frame(), becomes));
        }
    }
    cases
}

fn checksums() -> Vec<Case> {
    let packet = request(Transport::Udp).to_bytes();
    let none = spoiled(&packet, checksum_at(&packet), &[0, 0]);
    let behind = with_extensions(&none, &[padding(DESTINATION_OPTIONS, 0)]);
    vec![
        // RFC 8200 §8.1 lets the endpoint drop it; a made-up checksum would hide that it has none.
        Case::new("UDP without checksum", On::Public, frame(&none), served(Transport::Udp, none, Vec::new())),
        Case::new(
            "UDP without checksum behind options",
            On::Public,
            frame(&behind),
            served(Transport::Udp, behind, Vec::new()),
        ),
    ]
}
