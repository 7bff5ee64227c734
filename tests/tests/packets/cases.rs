//! The cases: where a packet arrives, what it is, and what becomes of it.

use etherparse::{IpEcn, IpNumber};
use lbx_common::reason::DropReason::{self, *};
use lbx_tests::{
    lab::{On, UNRESOLVED_CLIENT},
    topology::{CLIENT, EAST, LBX_UNDERLAY, ORIGINS, VnetPlan, WEST},
};
use std::net::Ipv4Addr;

use crate::{frames::*, probe_cases};

/// What becomes of a packet.
#[derive(Debug, Clone)]
pub enum Becomes {
    /// It passes, byte for byte.
    Passed,
    /// It is dropped and counted, in a virtual network or in none.
    Dropped(Option<&'static str>, DropReason),
    /// It goes to an origin of this network, straight to its gateway.
    Tunnelled(VnetPlan),
    /// The same by way of the host, which resolves or fragments.
    TunnelledByHost(VnetPlan),
    /// It goes to the client from this address and port.
    Delivered(Ipv4Addr, u16),
    /// The same by way of the host.
    DeliveredByHost(Ipv4Addr, u16),
    /// Its inner packet goes to the health checker, unchanged.
    ToHealthChecker,
    /// It goes into this network's tunnel, unchanged.
    Probed(VnetPlan),
}

/// One case.
pub struct Case {
    pub name: &'static str,
    pub on: On,
    pub frame: Vec<u8>,
    pub becomes: Becomes,
}

pub fn case(name: &'static str, on: On, frame: Vec<u8>, becomes: Becomes) -> Case {
    Case { name, on, frame, becomes }
}

/// All cases.
pub fn all() -> Vec<Case> {
    [requests(), unserved(), not_ours(), replies(), strangers(), broken_tunnels(), probe_cases::cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn requests() -> Vec<Case> {
    use Becomes::{Tunnelled, TunnelledByHost};
    let padded = |packet: &[u8]| [frame(packet), vec![0xee; 6]].concat();
    let no_checksum = spoiled(&query(EAST), 26, &[0, 0]);
    let ttl = |ttl: u8| frame(&with_ip(&request(EAST, "S"), |ip| ip.time_to_live = ttl));
    let large = |plan: VnetPlan, size: usize| udp((CLIENT, CLIENT_PORT), (plan.vip, 53), &vec![7; size - 28]);
    let may_fragment = |packet: &[u8]| with_ip(packet, |ip| ip.dont_fragment = false);
    vec![
        case("a SYN goes through gre", On::Public, frame(&request(EAST, "S")), Tunnelled(EAST)),
        case("a SYN goes through vxlan", On::Public, frame(&request(WEST, "S")), Tunnelled(WEST)),
        case("data", On::Public, frame(&request(EAST, "P.")), Tunnelled(EAST)),
        case("a FIN", On::Public, frame(&request(WEST, "F.")), Tunnelled(WEST)),
        case("an RST", On::Public, frame(&request(EAST, "R")), Tunnelled(EAST)),
        case("on an interface for both", On::Both, frame(&request(EAST, "S")), Tunnelled(EAST)),
        case("a datagram through gre", On::Public, frame(&query(EAST)), Tunnelled(EAST)),
        case("a datagram through vxlan", On::Public, frame(&query(WEST)), Tunnelled(WEST)),
        case("a datagram without checksum", On::Public, frame(&no_checksum), Tunnelled(EAST)),
        case("IPv4 options", On::Public, frame(&with_options(&request(EAST, "P."))), Tunnelled(EAST)),
        case("IPv4 options, UDP", On::Public, frame(&with_options(&query(WEST))), Tunnelled(WEST)),
        case("a VLAN tag", On::Public, ethernet(0x8100, &tagged(&[5])), Tunnelled(EAST)),
        case("two VLAN tags", On::Both, ethernet(0x88a8, &tagged(&[5, 6])), Tunnelled(EAST)),
        case("padding behind the packet", On::Public, padded(&request(EAST, "S")), Tunnelled(EAST)),
        case("time to live 255", On::Public, ttl(255), Tunnelled(EAST)),
        case("time to live 2", On::Public, ttl(2), Tunnelled(EAST)),
        case("the largest packet for gre", On::Public, frame(&large(EAST, 1572)), Tunnelled(EAST)),
        case("the largest packet for vxlan", On::Public, frame(&large(WEST, 1550)), Tunnelled(WEST)),
        case(
            "a larger one that may be fragmented",
            On::Public,
            frame(&may_fragment(&large(WEST, 1551))),
            TunnelledByHost(WEST),
        ),
    ]
}

/// A request behind VLAN tags with these ids, the type of the first excluded.
fn tagged(ids: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, &id) in ids.iter().enumerate() {
        let last = place + 1 == ids.len();
        bytes.extend([0, id]);
        bytes.extend(if last { [0x08, 0x00] } else { [0x81, 0x00] });
    }
    [bytes, request(EAST, "S")].concat()
}

fn unserved() -> Vec<Case> {
    use Becomes::Dropped;
    let dropped = |reason| Dropped(None, reason);
    let to = |port| tcp((CLIENT, CLIENT_PORT), (EAST.vip, port), "S", b"");
    let protocol = |number| frame(&with_ip(&request(EAST, "S"), |ip| ip.protocol = IpNumber(number)));
    let syn = request(EAST, "S");
    let length = |length: u16| frame(&with_ip(&syn, |ip| ip.total_len = length));
    vec![
        case("TCP to a port of nobody", On::Public, frame(&to(81)), dropped(VipNoService)),
        case("TCP to a port of UDP", On::Public, frame(&to(53)), dropped(VipNoService)),
        case("ICMP to a VIP", On::Public, protocol(1), dropped(VipNoService)),
        case("SCTP to a VIP", On::Public, protocol(132), dropped(VipNoService)),
        case("GRE to a VIP", On::Both, protocol(47), dropped(VipNoService)),
        case("a later fragment", On::Public, frame(&fragment(&query(EAST), false)), dropped(FragmentUnknown)),
        case("a length beyond the frame", On::Public, length(41), dropped(Malformed)),
        case("the greatest length", On::Public, length(65_535), dropped(Malformed)),
        case("a length below the header's", On::Public, length(19), dropped(Malformed)),
        case("length 0", On::Public, length(0), dropped(Malformed)),
        case("a header of 16 bytes", On::Public, frame(&spoiled(&syn, 0, &[0x44])), dropped(Malformed)),
        case("a header of 0 bytes", On::Public, frame(&spoiled(&syn, 0, &[0x40])), dropped(Malformed)),
        case(
            "a header longer than the packet",
            On::Public,
            frame(&spoiled(&syn, 0, &[0x4f])),
            dropped(Malformed),
        ),
        case("a TCP header that is cut off", On::Public, length(39), dropped(Malformed)),
        case("a UDP header that is cut off", On::Public, cut_udp(), dropped(Malformed)),
    ]
}

/// A datagram whose length leaves seven bytes for the UDP header.
fn cut_udp() -> Vec<u8> {
    frame(&with_ip(&query(EAST), |ip| ip.total_len = 27))
}

fn not_ours() -> Vec<Case> {
    let passed = |name, on, frame| case(name, on, frame, Becomes::Passed);
    let elsewhere = tcp((CLIENT, CLIENT_PORT), (Ipv4Addr::new(203, 0, 113, 99), 80), "S", b"");
    let in_tunnel = from_gateway(EAST, &reply_to(CLIENT, "S."));
    vec![
        passed("another address", On::Public, frame(&elsewhere)),
        passed("a fragment to another address", On::Public, frame(&fragment(&elsewhere, true))),
        passed(
            "a lying length to another address",
            On::Public,
            frame(&spoiled(&elsewhere, 2, &[0xff, 0xff])),
        ),
        passed("a broken header to another address", On::Both, frame(&spoiled(&elsewhere, 0, &[0x41]))),
        passed("three VLAN tags", On::Public, ethernet(0x88a8, &tagged(&[5, 6, 7]))),
        passed("a cut-off VLAN tag", On::Public, ethernet(0x8100, &[0, 5])),
        passed("ARP", On::Public, ethernet(0x0806, &[0; 28])),
        passed("LLDP", On::Both, ethernet(0x88cc, &[2, 7, 4])),
        passed("IPv6", On::Public, ethernet(0x86dd, &[0x60; 60])),
        passed("an Ethernet header alone", On::Both, ethernet(0x0800, &[])),
        passed("IP of another version", On::Public, frame(&spoiled(&request(EAST, "S"), 0, &[0x65]))),
        passed("an IP header that is cut off", On::Public, frame(&request(EAST, "S")[..19])),
        passed("a tunnel packet on the clients' side", On::Public, in_tunnel),
        passed("a client's packet on the gateways' side", On::Underlay, frame(&request(EAST, "S"))),
        passed(
            "a client's broken packet there",
            On::Underlay,
            frame(&spoiled(&request(EAST, "S"), 0, &[0x41])),
        ),
        passed(
            "SSH to the tunnel address",
            On::Both,
            frame(&tcp((CLIENT, 4000), (LBX_UNDERLAY, 22), "S", b"")),
        ),
        passed(
            "DNS to the tunnel address",
            On::Underlay,
            frame(&udp((CLIENT, 53), (LBX_UNDERLAY, 4000), b"x")),
        ),
    ]
}

fn replies() -> Vec<Case> {
    use Becomes::{Delivered, DeliveredByHost, Dropped};
    let from = |plan, inner: &[u8]| from_gateway(plan, inner);
    let origin = ORIGINS[0].1;
    let key = EAST.vni.to_be_bytes();
    let with_flags = |flags: [u8; 2], rest: &[u8]| {
        gre(&[&flags[..], &[0x08, 0x00], rest].concat(), &reply_to(CLIENT, "."))
    };
    let sequence = with_flags([0x30, 0], &[&key[..], &[0, 0, 0, 9]].concat());
    let checksum = with_flags([0xa0, 0], &[&[0xab, 0xcd, 0, 0], &key[..]].concat());
    let both = with_flags([0xb0, 0], &[&[0xab, 0xcd, 0, 0], &key[..], &[0, 0, 0, 9]].concat());
    let ttl = |ttl: u8| from(EAST, &with_ip(&reply_to(CLIENT, "."), |ip| ip.time_to_live = ttl));
    let no_checksum = spoiled(&answer(), 26, &[0, 0]);
    let nowhere = Ipv4Addr::new(100, 64, 0, 1);
    let other_port = tcp((origin, 81), (CLIENT, CLIENT_PORT), ".", b"");
    let other_host = tcp((Ipv4Addr::new(10, 0, 0, 99), 80), (CLIENT, CLIENT_PORT), ".", b"");
    let icmp = with_ip(&reply_to(CLIENT, "."), |ip| ip.protocol = IpNumber(1));
    vec![
        case(
            "a SYN-ACK through gre",
            On::Underlay,
            from(EAST, &reply_to(CLIENT, "S.")),
            Delivered(EAST.vip, 80),
        ),
        case(
            "a SYN-ACK through vxlan",
            On::Underlay,
            from(WEST, &reply_to(CLIENT, "S.")),
            Delivered(WEST.vip, 80),
        ),
        case(
            "on an interface for both",
            On::Both,
            from(EAST, &reply_to(CLIENT, ".")),
            Delivered(EAST.vip, 80),
        ),
        case("a datagram through gre", On::Underlay, from(EAST, &answer()), Delivered(EAST.vip, 53)),
        case("a datagram through vxlan", On::Underlay, from(WEST, &answer()), Delivered(WEST.vip, 53)),
        case("a datagram without checksum", On::Underlay, from(EAST, &no_checksum), Delivered(EAST.vip, 53)),
        case("IPv4 options", On::Underlay, from(WEST, &with_options(&answer())), Delivered(WEST.vip, 53)),
        case("a sequence number in gre", On::Underlay, sequence, Delivered(EAST.vip, 80)),
        case("a checksum in gre", On::Underlay, checksum, Delivered(EAST.vip, 80)),
        case("both in gre", On::Underlay, both, Delivered(EAST.vip, 80)),
        case("time to live 2", On::Underlay, ttl(2), Delivered(EAST.vip, 80)),
        case("time to live 1", On::Underlay, ttl(1), Dropped(Some("east"), TtlExceeded)),
        case(
            "to a client whose MAC is not known yet",
            On::Underlay,
            from(EAST, &reply_to(UNRESOLVED_CLIENT, ".")),
            DeliveredByHost(EAST.vip, 80),
        ),
        case(
            "to where no route leads",
            On::Underlay,
            from(EAST, &reply_to(nowhere, ".")),
            Dropped(Some("east"), NoRoute),
        ),
        case(
            "congestion that nobody inside understands",
            On::Underlay,
            ce(&reply_to(CLIENT, ".")),
            Dropped(Some("east"), Congested),
        ),
        case(
            "a SYN of an origin",
            On::Underlay,
            from(WEST, &reply_to(CLIENT, "S")),
            Dropped(Some("west"), ReplySyn),
        ),
        case("another port", On::Underlay, from(EAST, &other_port), Dropped(Some("east"), ReplyNoService)),
        case("another host", On::Underlay, from(WEST, &other_host), Dropped(Some("west"), ReplyNoService)),
        case("ICMP of an origin", On::Underlay, from(EAST, &icmp), Dropped(Some("east"), IcmpUnrelated)),
        case(
            "a later fragment of an origin",
            On::Underlay,
            from(EAST, &fragment(&answer(), false)),
            Dropped(Some("east"), FragmentUnknown),
        ),
    ]
}

/// A frame of east's gateway whose outer packet has met congestion.
fn ce(inner: &[u8]) -> Vec<u8> {
    frame(&with_ip(&from_gateway(EAST, inner)[14..], |ip| ip.ecn = IpEcn::try_new(3).unwrap()))
}

fn strangers() -> Vec<Case> {
    use Becomes::{Dropped, Passed};
    let reply = reply_to(CLIENT, ".");
    let stranger = Ipv4Addr::new(198, 51, 100, 66);
    let from = |plan: VnetPlan, address, key| wrapped(plan, address, key, &reply);
    let unknown_peer = |vnet| Dropped(Some(vnet), TunnelUnknownPeer);
    let unknown_key = || Dropped(None, TunnelUnknownKey);
    vec![
        case("east's key of a stranger", On::Underlay, from(EAST, stranger, 42), unknown_peer("east")),
        case("west's VNI of a stranger", On::Underlay, from(WEST, stranger, 43), unknown_peer("west")),
        case("east's key of west", On::Underlay, from(EAST, WEST.gateway_address, 42), unknown_peer("east")),
        case("west's VNI of east", On::Underlay, from(WEST, EAST.gateway_address, 43), unknown_peer("west")),
        case("a key of nobody", On::Underlay, from(EAST, EAST.gateway_address, 99), unknown_key()),
        case("a VNI of nobody", On::Underlay, from(WEST, WEST.gateway_address, 99), unknown_key()),
        case(
            "west's VNI as a key of east",
            On::Underlay,
            from(EAST, EAST.gateway_address, 43),
            unknown_key(),
        ),
        case(
            "east's key as a VNI of west",
            On::Underlay,
            from(WEST, WEST.gateway_address, 42),
            unknown_key(),
        ),
        case("a tunnel of others", On::Underlay, from(EAST, stranger, 99), Passed),
        case("a vxlan tunnel of others", On::Both, from(WEST, stranger, 99), Passed),
    ]
}

fn broken_tunnels() -> Vec<Case> {
    use Becomes::{Dropped, Passed};
    let malformed = || Dropped(None, TunnelMalformed);
    let inside = |vnet| Dropped(Some(vnet), TunnelMalformed);
    let reply = reply_to(CLIENT, ".");
    let key = EAST.vni.to_be_bytes();
    let kind = |kind: [u8; 2]| gre(&[&[0x20, 0][..], &kind, &key].concat(), &reply);
    let lying = |length: u16| from_gateway(EAST, &with_ip(&reply, |ip| ip.total_len = length));
    let in_vxlan = from_gateway(WEST, &reply);
    let outer_fragment = |plan, first| frame(&fragment(&from_gateway(plan, &reply)[14..], first));
    vec![
        case("gre without a key", On::Underlay, gre(&[0, 0, 0x08, 0], &reply), malformed()),
        case("gre of version 1", On::Underlay, gre(&[0x20, 1, 0x08, 0, 0, 0, 0, 42], &reply), malformed()),
        case("gre with routing", On::Underlay, gre(&[0x60, 0, 0x08, 0, 0, 0, 0, 42], &reply), malformed()),
        case(
            "a gre header that is cut off",
            On::Underlay,
            gre(&[0x20, 0, 0x08, 0, 0, 0, 0], &[]),
            malformed(),
        ),
        case("IPv6 inside", On::Underlay, kind([0x86, 0xdd]), inside("east")),
        case("Ethernet inside gre", On::Underlay, kind([0x65, 0x58]), inside("east")),
        case("nothing inside", On::Underlay, gre(&[0x20, 0, 0x08, 0, 0, 0, 0, 42], &[]), inside("east")),
        case("half an IP header inside", On::Underlay, from_gateway(EAST, &reply[..10]), inside("east")),
        case("an inner length beyond the frame", On::Underlay, lying(41), inside("east")),
        case("an inner length below the header's", On::Underlay, lying(19), inside("east")),
        case(
            "ARP inside vxlan",
            On::Underlay,
            spoiled(&in_vxlan, 62, &[0x08, 0x06]),
            Dropped(Some("west"), NeighbourUnanswered),
        ),
        case("vxlan without a VNI", On::Underlay, spoiled(&in_vxlan, 42, &[0]), malformed()),
        case(
            "a first outer fragment",
            On::Underlay,
            outer_fragment(EAST, true),
            Dropped(None, TunnelFragmented),
        ),
        case(
            "a later outer fragment",
            On::Underlay,
            outer_fragment(EAST, false),
            Dropped(None, TunnelFragmented),
        ),
        case(
            "an outer fragment, vxlan",
            On::Underlay,
            outer_fragment(WEST, true),
            Dropped(None, TunnelFragmented),
        ),
        case(
            "a broken tunnel of others",
            On::Underlay,
            spoiled(&gre(&[0, 0, 0x08, 0], &reply), 26, &[198, 51, 100, 66]),
            Passed,
        ),
    ]
}
