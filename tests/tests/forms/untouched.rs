//! What is not ours passes byte for byte and is counted nowhere.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Icmpv4Type, PacketBuilder};
use lbx_tests::{
    family::Family,
    lab::{CLIENT_V6, On},
    packets::{Packet, Transport, ethernet, fragment, frame, padding, spoiled, tagged, with_extensions},
    topology::CLIENT,
    tunnel::{Encap, TunnelPacket},
    world::{Mode, Network, client, endpoints, lbx, ports},
};

use crate::{
    check::{Becomes, Case},
    stock::of_gateway,
};

const EVERYWHERE: [On; 3] = [On::Public, On::Underlay, On::Both];

/// Somebody else's address.
fn elsewhere(family: Family) -> IpAddr {
    match family {
        Family::V4 => "203.0.113.200".parse().unwrap(),
        Family::V6 => "2001:db8:203::dead:beef".parse().unwrap(),
    }
}

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    let mut frames = Vec::new();
    frames.extend(other_types());
    frames.extend(other_hosts());
    frames.extend(control());
    let mut cases = Vec::new();
    for (name, frame) in frames {
        cases.extend(EVERYWHERE.map(|on| passed(&format!("{name}, on {on:?}"), on, frame.clone())));
    }
    cases.extend(tunnels_of_others());
    cases.extend(on_the_wrong_side());
    cases
}

fn passed(name: &str, on: On, frame: Vec<u8>) -> Case {
    Case::new(name, on, frame, Becomes::Passed)
}

/// Frames that are not IP.
fn other_types() -> Vec<(String, Vec<u8>)> {
    let sender = [2, 0, 0, 0, 0, 0x77, 192, 0, 2, 2];
    let arp = |operation: u8, target: [u8; 4]| {
        ethernet(0x0806, &[&[0, 1, 8, 0, 6, 4, 0, operation][..], &sender, &[0; 6], &target].concat())
    };
    let vip = match Network::all()[0].vip(Family::V4, Mode::Nat) {
        IpAddr::V4(vip) => vip.octets(),
        IpAddr::V6(_) => unreachable!("asked for IPv4"),
    };
    let served = Packet::new(Transport::Tcp, client(Family::V4), served(Family::V4)).to_frame();
    let mut frames = vec![
        ("an ARP request for the VIP".to_owned(), arp(1, vip)),
        ("an ARP answer".to_owned(), arp(2, [192, 0, 2, 1])),
        ("ARP behind a VLAN tag".to_owned(), tagged(&arp(1, vip), &[(0x8100, 5)])),
        ("three VLAN tags".to_owned(), tagged(&served, &[(0x88a8, 1), (0x8100, 2), (0x8100, 3)])),
        ("a tag of an old kind".to_owned(), tagged(&served, &[(0x9100, 1)])),
        ("a tag that is cut off".to_owned(), ethernet(0x8100, &[0, 5, 8])),
        ("a second tag that is cut off".to_owned(), ethernet(0x88a8, &[0, 5, 0x81, 0, 0])),
    ];
    // LLDP, EAPOL, MACsec, PPPoE, MPLS, IPX, PTP, 802.3 with LLC, the last there is.
    for kind in [0x88cc_u16, 0x888e, 0x88e5, 0x8864, 0x8847, 0x8137, 0x88f7, 0x0026, 0xffff] {
        frames.push((format!("Ethernet type {kind:#06x}"), ethernet(kind, &served[14..])));
    }
    // The type says one family, the packet the other.
    frames.push(("IPv4 that says it is IPv6".to_owned(), ethernet(0x86dd, &served[14..])));
    let v6 = Packet::new(Transport::Tcp, client(Family::V6), self::served(Family::V6)).to_bytes();
    frames.push(("IPv6 that says it is IPv4".to_owned(), ethernet(0x0800, &v6)));
    for version in [0, 5, 7, 15_u8] {
        let other = ethernet(0x86dd, &spoiled(&v6, 0, &[version << 4]));
        frames.push((format!("IP version {version}"), other));
    }
    frames
}

/// What is served.
fn served(family: Family) -> SocketAddr {
    (Network::all()[0].vip(family, Mode::Nat), ports(Mode::Nat, Transport::Tcp).0).into()
}

/// TCP and UDP of others, whole, in parts and broken.
fn other_hosts() -> Vec<(String, Vec<u8>)> {
    let mut frames = Vec::new();
    for family in Family::ALL {
        for transport in Transport::ALL {
            let mut add = |name: &str, frame: Vec<u8>| {
                frames.push((format!("{} {family}: {name}", transport.as_str()), frame));
            };
            let packet = Packet::new(transport, client(family), (elsewhere(family), 80));
            let bytes = packet.to_bytes();
            add("another address", packet.to_frame());
            add("hop limit 1", Packet { ttl: 1, ..packet.clone() }.to_frame());
            add("a first fragment", frame(&fragment(&bytes, true)));
            add("a later fragment", frame(&fragment(&bytes, false)));
            add("VLAN tags", tagged(&frame(&bytes), &[(0x88a8, 5), (0x8100, 6)]));
            let length_at = if family == Family::V4 { 2 } else { 4 };
            add("a length beyond the frame", frame(&spoiled(&bytes, length_at, &[0xff, 0xff])));
            add("length 0", frame(&spoiled(&bytes, length_at, &[0, 0])));
            add(
                "a private address",
                Packet { destination: (endpoints(family, Mode::Nat)[0], 8080).into(), ..packet }.to_frame(),
            );
        }
    }
    let v6 = Packet::new(Transport::Udp, client(Family::V6), (elsewhere(Family::V6), 80)).to_bytes();
    frames.push((
        "six extension headers of others".to_owned(),
        frame(&with_extensions(&v6, &vec![padding(60, 0); 6])),
    ));
    let v4 = Packet::new(Transport::Udp, client(Family::V4), (elsewhere(Family::V4), 80)).to_bytes();
    frames.push(("a broken header of others".to_owned(), frame(&spoiled(&v4, 0, &[0x41]))));
    for (name, address) in [
        ("broadcast", "255.255.255.255"),
        ("multicast", "224.0.0.5"),
        ("the unspecified address", "0.0.0.0"),
        ("the unspecified IPv6 address", "::"),
        ("the loopback address", "::1"),
        ("an IPv4 VIP mapped into IPv6", "::ffff:203.0.113.1"),
        ("IPv6 multicast", "ff02::5"),
        ("a link-local address", "fe80::1"),
    ] {
        let address: IpAddr = address.parse().unwrap();
        let packet = Packet::new(Transport::Udp, client(Family::of(address)), (address, 80));
        frames.push((format!("to {name}"), packet.to_frame()));
    }
    frames
}

/// ICMP of both families and neighbour discovery between others.
fn control() -> Vec<(String, Vec<u8>)> {
    let mut frames = Vec::new();
    let to = match elsewhere(Family::V4) {
        IpAddr::V4(to) => to.octets(),
        IpAddr::V6(_) => unreachable!("asked for IPv4"),
    };
    let about = Packet::new(Transport::Tcp, client(Family::V4), served(Family::V4)).to_bytes();
    for (name, kind, code) in
        [("an echo request", 8, 0), ("unreachable", 3, 3), ("fragmentation needed", 3, 4)]
    {
        let mut packet = Vec::new();
        let icmp = Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [0, 0, 5, 0] };
        PacketBuilder::ipv4(CLIENT.octets(), to, 64).icmpv4(icmp).write(&mut packet, &about).unwrap();
        frames.push((format!("ICMP: {name}"), frame(&packet)));
    }
    let all_nodes = "ff02::1";
    let solicited = "ff02::1:ff00:1";
    for (name, kind, to) in [
        ("too big", 2, "2001:db8:203::dead:beef"),
        ("an echo request", 128, "2001:db8:203::dead:beef"),
        ("a router solicitation", 133, "ff02::2"),
        ("a router advertisement", 134, all_nodes),
        // For the VIP, to the group of its last three bytes: the host answers for its own addresses.
        ("a neighbour solicitation", 135, solicited),
        ("a neighbour advertisement", 136, all_nodes),
        ("a multicast listener report", 143, "ff02::16"),
    ] {
        let IpAddr::V6(to) = to.parse().unwrap() else { unreachable!("all are IPv6") };
        let icmp = etherparse::Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [0; 4] };
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv6(CLIENT_V6.octets(), to.octets(), 255);
        builder.icmpv6(icmp).write(&mut packet, &[0x20; 24]).unwrap();
        if kind == 143 {
            // A router alert goes before (RFC 3810 §5).
            packet = with_extensions(&packet, &[(0, vec![0, 5, 2, 0, 0, 1, 0])]);
        }
        frames.push((format!("ICMPv6: {name}"), frame(&packet)));
    }
    frames
}

/// Tunnels between others, and what comes to the tunnel address and is no tunnel of ours.
fn tunnels_of_others() -> Vec<Case> {
    let mut cases = Vec::new();
    let inner = Packet::new(Transport::Tcp, served(Family::V4), client(Family::V4)).to_bytes();
    for network in Network::all() {
        for on in EVERYWHERE {
            let mut packet = of_gateway(network, &inner);
            packet.outer.destination = elsewhere(network.outer);
            let name = format!("{} to another host, on {on:?}", network.name());
            cases.push(passed(&name, on, frame(&packet.to_bytes().unwrap())));
        }
        let stranger = |change: &dyn Fn(&mut TunnelPacket)| {
            let mut packet = of_gateway(network, &inner);
            packet.outer.source = elsewhere(network.outer);
            packet.key = 5;
            change(&mut packet);
            packet.to_bytes().unwrap()
        };
        let name = |what: &str| format!("{}: {what}", network.name());
        let fragment = fragment(&stranger(&|_| {}), true);
        cases.push(passed(&name("a fragment of a stranger"), On::Underlay, frame(&fragment)));
        if network.encap != Encap::Gre {
            let other_port = stranger(&|packet| packet.udp.as_mut().unwrap().destination = 4790);
            cases.push(passed(&name("a port of no tunnel"), On::Underlay, frame(&other_port)));
        }
    }
    for outer in Family::ALL {
        for transport in Transport::ALL {
            let packet = Packet::new(transport, client(outer), (lbx(outer), 22)).to_frame();
            let name = format!("{} over {outer} to the tunnel address", transport.as_str());
            cases.push(passed(&name, On::Both, packet.clone()));
            cases.push(passed(&(name + " from the underlay"), On::Underlay, packet));
        }
    }
    cases
}

/// Clients' packets where gateways are, and tunnel packets where clients are.
fn on_the_wrong_side() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        let packet = Packet::new(Transport::Tcp, client(family), served(family)).to_bytes();
        let name = format!("a client's packet of {family}");
        cases.push(passed(&name, On::Underlay, frame(&packet)));
        cases.push(passed(&format!("{name} in parts"), On::Underlay, frame(&fragment(&packet, true))));
    }
    for network in Network::all() {
        let port = ports(Mode::Nat, Transport::Tcp).1;
        let source = (endpoints(Family::V6, Mode::Nat)[0], port);
        let reply = Packet::new(Transport::Tcp, source, client(Family::V6)).to_bytes();
        let packet = of_gateway(network, &reply).to_bytes().unwrap();
        cases.push(passed(&format!("{} from a client", network.name()), On::Public, frame(&packet)));
    }
    cases
}
