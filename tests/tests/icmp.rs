//! Pings, traceroute and errors: what a client gets to know of a VIP is what it would of any host, and nothing of
//! what is behind it.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at some messages out of many")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use etherparse::{
    Icmpv4Type, Icmpv6Type, PacketBuilder, SlicedPacket, TransportSlice, icmpv4::DestUnreachableHeader,
    icmpv6::DestUnreachableCode,
};
use lbx_common::api::{Config, NoEndpoint};
use lbx_tests::{
    agent::{Agent, start_healthy_in},
    capture::Capture,
    client::uninterrupted,
    config,
    family::Family,
    servers::{HTTP_PORT, UDP_PORT},
    topology::{CLIENT, CLIENT_V6, EAST, PUBLIC_DEVICE, Topology, WEST},
    tunnel,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// An ICMP message as the tests name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    EchoReply(u16, u16),
    TimeExceeded,
    PortUnreachable,
}

/// The message in an IP packet, and its ends. Only what has a right checksum counts.
fn message(packet: &[u8]) -> Option<(Message, [IpAddr; 2])> {
    let sliced = SlicedPacket::from_ip(packet).ok()?;
    let (ends, of_v6): ([IpAddr; 2], _) = match sliced.net? {
        etherparse::NetSlice::Ipv4(ip) => {
            ([ip.header().source_addr().into(), ip.header().destination_addr().into()], None)
        }
        etherparse::NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let both = (header.source(), header.destination());
            ([header.source_addr().into(), header.destination_addr().into()], Some(both))
        }
        etherparse::NetSlice::Arp(_) => return None,
    };
    let message = match sliced.transport? {
        TransportSlice::Icmpv4(icmp) => {
            let sum = etherparse::checksum::Sum16BitWords::new().add_slice(icmp.slice()).ones_complement();
            match icmp.icmp_type() {
                _ if sum != 0 => return None,
                Icmpv4Type::EchoReply(echo) => Message::EchoReply(echo.id, echo.seq),
                Icmpv4Type::TimeExceeded(_) => Message::TimeExceeded,
                Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port) => Message::PortUnreachable,
                _ => return None,
            }
        }
        TransportSlice::Icmpv6(icmp) => {
            let (source, destination) = of_v6?;
            match icmp.icmp_type() {
                _ if !icmp.is_checksum_valid(source, destination) => return None,
                Icmpv6Type::EchoReply(echo) => Message::EchoReply(echo.id, echo.seq),
                Icmpv6Type::TimeExceeded(_) => Message::TimeExceeded,
                Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port) => Message::PortUnreachable,
                _ => return None,
            }
        }
        _ => return None,
    };
    Some((message, ends))
}

fn client(family: Family) -> IpAddr {
    match family {
        Family::V4 => CLIENT.into(),
        Family::V6 => CLIENT_V6.into(),
    }
}

/// An echo request of the client.
fn ping(vip: IpAddr, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match vip {
        IpAddr::V4(vip) => PacketBuilder::ipv4(CLIENT.octets(), vip.octets(), 64)
            .icmpv4_echo_request(id, 7)
            .write(&mut packet, payload),
        IpAddr::V6(vip) => PacketBuilder::ipv6(CLIENT_V6.octets(), vip.octets(), 64)
            .icmpv6_echo_request(id, 7)
            .write(&mut packet, payload),
    }
    .unwrap();
    packet
}

/// A datagram of the client at the end of its hops, as traceroute sends them.
fn last_hop(vip: IpAddr) -> Vec<u8> {
    let mut packet = Vec::new();
    match vip {
        IpAddr::V4(vip) => PacketBuilder::ipv4(CLIENT.octets(), vip.octets(), 1)
            .udp(40_000, UDP_PORT)
            .write(&mut packet, b"where does this go"),
        IpAddr::V6(vip) => PacketBuilder::ipv6(CLIENT_V6.octets(), vip.octets(), 1)
            .udp(40_000, UDP_PORT)
            .write(&mut packet, b"where does this go"),
    }
    .unwrap();
    packet
}

/// Runs `test` for both networks and both families, with lbx up.
fn everywhere(change: impl Fn(&mut Config), test: impl Fn(&Topology, &Agent, usize, Family)) {
    let topology = Topology::with(EAST, WEST).unwrap();
    let mut config = config::for_topology(&topology);
    change(&mut config);
    let agent = start_healthy_in(&topology, &config).unwrap();
    for vnet in 0..2 {
        for family in Family::ALL {
            test(&topology, &agent, vnet, family);
        }
    }
}

/// Sends a packet and waits for a message from the VIP to the client.
fn answered(topology: &Topology, vip: IpAddr, packet: &[u8], wanted: Message) {
    let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
    tunnel::send(&topology.client_netns, packet).unwrap();
    let ends = [vip, client(Family::of(vip))];
    public
        .wait_for(&format!("{wanted:?} from {vip}"), PATIENCE, |frame| {
            let bytes = frame.bytes.get(14..).filter(|_| !frame.outgoing)?;
            (message(bytes)? == (wanted, ends)).then_some(())
        })
        .unwrap();
}

#[test]
fn a_vip_answers_pings_of_any_size() {
    everywhere(
        |_| {},
        |topology, _, vnet, family| {
            let vip = topology.vnets()[vnet].plan.vip_of(family);
            for (id, size) in (1..).zip([0, 1, 56, 1400]) {
                answered(topology, vip, &ping(vip, id, &vec![0x5a; size]), Message::EchoReply(id, 7));
            }
        },
    );
}

#[test]
fn the_last_hop_of_a_traceroute_is_the_vip() {
    everywhere(
        |_| {},
        |topology, _, vnet, family| {
            let vip = topology.vnets()[vnet].plan.vip_of(family);
            answered(topology, vip, &last_hop(vip), Message::TimeExceeded);
        },
    );
}

#[test]
fn a_port_that_is_closed_at_the_origin_is_closed_at_the_vip() {
    everywhere(
        |_| {},
        |topology, _, vnet, family| {
            let vnet = topology.vnets()[vnet];
            for origin in &vnet.origins {
                origin.stop_servers();
            }
            let vip = vnet.plan.vip_of(family);
            let socket = topology.client().udp_socket(SocketAddr::new(vip, UDP_PORT), 0).unwrap();
            socket.send(b"is anybody there").unwrap();
            // The client's kernel has found the socket by the packet that the error quotes.
            assert_eq!(received(&socket).unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{vip}");
            for origin in &vnet.origins {
                origin.start_servers().unwrap();
            }
        },
    );
}

/// The next datagram or error of a socket.
fn received(socket: &std::net::UdpSocket) -> io::Result<usize> {
    let mut buffer = [0; 2048];
    uninterrupted(|| socket.recv(&mut buffer))
}

#[test]
fn an_origin_learns_that_its_client_has_gone() {
    everywhere(
        |_| {},
        |topology, _, vnet, family| {
            let vnet = topology.vnets()[vnet];
            let at_origins: Vec<_> =
                vnet.origins.iter().map(|origin| Capture::start(&origin.netns, "lan0").unwrap()).collect();
            let vip = vnet.plan.vip_of(family);
            let socket = topology.client().udp_socket(SocketAddr::new(vip, UDP_PORT), 0).unwrap();
            let port = socket.local_addr().unwrap().port();
            drop(socket);
            // From a port that nobody listens on any more.
            tunnel::send(&topology.client_netns, &datagram(vip, port)).unwrap();
            let told = |frame: &lbx_tests::capture::Frame| {
                let bytes = frame.bytes.get(14..).filter(|_| !frame.outgoing)?;
                let (message, [from, _]) = message(bytes)?;
                (message == Message::PortUnreachable && from == client(family)).then_some(())
            };
            let heard = at_origins.iter().any(|capture| capture.wait_for("an error", PATIENCE, told).is_ok());
            assert!(heard, "{} {family}: no origin was told", vnet.plan.name);
        },
    );
}

fn datagram(vip: IpAddr, port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    match vip {
        IpAddr::V4(vip) => PacketBuilder::ipv4(CLIENT.octets(), vip.octets(), 64)
            .udp(port, UDP_PORT)
            .write(&mut packet, b"too late"),
        IpAddr::V6(vip) => PacketBuilder::ipv6(CLIENT_V6.octets(), vip.octets(), 64)
            .udp(port, UDP_PORT)
            .write(&mut packet, b"too late"),
    }
    .unwrap();
    packet
}

#[test]
fn services_that_reject_refuse_what_no_endpoint_takes_and_other_ports() {
    let topology = Topology::with(EAST, WEST).unwrap();
    let mut config = config::for_topology(&topology);
    let agent = start_healthy_in(&topology, &config).unwrap();
    for service in &mut config.services {
        service.no_endpoint = NoEndpoint::Reject;
    }
    for endpoint in config.pools.iter_mut().flat_map(|pool| &mut pool.endpoints) {
        endpoint.enabled = false;
    }
    agent.change(&config, PATIENCE).unwrap();
    // Of services without endpoints, and that no service has.
    for (tcp, udp) in [(HTTP_PORT, UDP_PORT), (UDP_PORT, HTTP_PORT)] {
        for vip in topology.vnets().iter().flat_map(|vnet| Family::ALL.map(|family| vnet.plan.vip_of(family)))
        {
            let refused = topology.client().connect(vip, tcp, 0).err().unwrap();
            let kind =
                refused.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
            assert_eq!(kind, Some(io::ErrorKind::ConnectionRefused), "{vip}: {refused:#}");
            let socket = topology.client().udp_socket(SocketAddr::new(vip, udp), 0).unwrap();
            socket.send(b"is anybody there").unwrap();
            assert_eq!(received(&socket).unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{vip}");
        }
    }
}

/// Somebody who puts a victim's address into pings gets no more out of lbx than this.
#[test]
fn a_flood_of_pings_is_not_answered_one_by_one() {
    const FLOOD: u16 = 10_000;
    let topology = Topology::with(EAST, WEST).unwrap();
    let agent = start_healthy_in(&topology, &config::for_topology(&topology)).unwrap();
    let vip = IpAddr::from(EAST.vip);
    let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
    let sender = topology.client_netns.run(|| tunnel::open_sender(Family::V4)).unwrap();
    for id in 0..FLOOD {
        sender.send_to(&ping(vip, id, b"flood"), &SocketAddr::new(vip, 0).into()).unwrap();
    }
    // What is served still is; the answer comes after those to the flood.
    assert_eq!(topology.client().http_get(vip, 0).unwrap().vnet, "east");
    let replies = public.stop().unwrap().iter().filter(|frame| is_reply(frame)).count();
    let limited =
        agent.stats().unwrap().drops.iter().find(|drop| drop.reason == "echo_limited").map(|d| d.packets);
    assert!(replies > 0, "no ping was answered");
    assert_eq!(limited, Some(u64::from(FLOOD) - replies as u64), "{replies} pings were answered");
}

fn is_reply(frame: &lbx_tests::capture::Frame) -> bool {
    let bytes = frame.bytes.get(14..).filter(|_| !frame.outgoing);
    matches!(bytes.and_then(message), Some((Message::EchoReply(..), _)))
}
