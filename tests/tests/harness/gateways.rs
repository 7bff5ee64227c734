//! Every kind of gateway over both outer families with both inner families, asked as lbx would ask it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use etherparse::{NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice};
use lbx_tests::{
    capture::{Capture, Frame},
    family::Family,
    gateway::{Counts, Gateway, Replies},
    topology::{
        CLIENT, EAST, ORIGINS, TUNNEL_DEVICE, Topology, UNDERLAY_DEVICE, VnetPlan, WEST, client_address,
        lbx_underlay, origins,
    },
    tunnel::{self, Encap, Extras, GATEWAY_INNER_MAC, LBX_INNER_MAC, TunnelPacket},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// Packets in the exchanges of both families: 2 sources × 2 origins × TCP and UDP.
const PACKETS: u64 = 2 * 8;

/// Every kind of tunnel over both families, two a network.
fn all_tunnels() -> Vec<(VnetPlan, VnetPlan)> {
    let all: Vec<_> =
        Family::ALL.into_iter().flat_map(|outer| Encap::ALL.map(|encap| (encap, outer))).collect();
    all.chunks(2).map(|pair| (through(EAST, pair.first()), through(WEST, pair.last()))).collect()
}

fn through(plan: VnetPlan, tunnel: Option<&(Encap, Family)>) -> VnetPlan {
    let (encap, outer) = *tunnel.unwrap();
    plan.through(encap, outer)
}

#[test]
fn every_gateway_unwraps_packets_and_wraps_the_replies_of_both_families() {
    for (east, west) in all_tunnels() {
        let topology = Topology::with(east, west).unwrap();
        for vnet in topology.vnets() {
            let capture = Capture::start(&topology.lbx, UNDERLAY_DEVICE).unwrap();
            for family in Family::ALL {
                exchange(&topology, &capture, vnet.plan, family, Extras::default());
            }
            if let Some(gateway) = vnet.far_end.userspace() {
                // A packet is counted when it has been sent. TCP repeats its SYN-ACK, because nobody answers it.
                let counts = wait_for_counts(gateway, |counts| {
                    counts.decapsulated >= PACKETS && counts.encapsulated >= PACKETS
                });
                assert_eq!((counts.malformed, counts.wrong_key, counts.wrong_remote), (0, 0, 0));
            }
        }
    }
}

fn wait_for_counts(gateway: &Gateway, reached: impl Fn(&Counts) -> bool) -> Counts {
    wait::until("the gateway has counted", PATIENCE, || Ok(Some(gateway.counts()).filter(&reached))).unwrap()
}

#[test]
fn a_gateway_says_nothing_by_itself() {
    let (east, west) =
        (EAST.through(Encap::Gre, Family::V6), WEST.through(Encap::GeneveEthernet, Family::V4));
    let topology = Topology::with(east, west).unwrap();
    for vnet in topology.vnets() {
        // What devices report when they come up has had its time while the origins were made.
        let sent = vnet.gateway.ip(&format!("-s -j link show dev {TUNNEL_DEVICE}")).unwrap();
        let sent: serde_json::Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(sent[0]["stats64"]["tx"]["packets"], 0, "{sent}");
    }
}

#[test]
fn gateways_send_what_is_configured_on_their_devices() {
    let replies = Replies { gre_sequence: true, gre_checksum: true, udp6_zero_checksum: true };
    for encap in [Encap::Gre, Encap::GreUdp] {
        let east = VnetPlan { replies, ..EAST.through(encap, Family::V4) };
        let west = VnetPlan { replies, ..WEST.through(encap, Family::V6) };
        let topology = Topology::with(east, west).unwrap();
        for vnet in topology.vnets() {
            let capture = Capture::start(&topology.lbx, UNDERLAY_DEVICE).unwrap();
            let extras = Extras { gre_checksum: true, gre_sequence: Some(0), encapsulation_limit: None };
            exchange(&topology, &capture, vnet.plan, Family::V6, extras);
        }
    }
    let west = VnetPlan { replies, ..WEST.through(Encap::Vxlan, Family::V6) };
    let topology = Topology::with(EAST, west).unwrap();
    let capture = Capture::start(&topology.lbx, UNDERLAY_DEVICE).unwrap();
    exchange(&topology, &capture, west, Family::V4, Extras::default());
}

/// Packets of client and health checker to each origin, sent as lbx would; waits for the answers at lbx, and
/// checks what is around them. Numbers in `extras` stand for any number.
fn exchange(topology: &Topology, capture: &Capture, plan: VnetPlan, family: Family, extras: Extras) {
    for source in [client_address(family), plan.probe_source_of(family)] {
        for (_, origin) in origins(family) {
            let what = |kind: &str| {
                format!("the {kind} of {origin} to {source} through {:?} over {}", plan.encap, plan.outer)
            };
            send_wrapped(topology, plan, plan.vni, &tcp_syn(source, origin));
            let syn_ack = |frame: &Frame| is_syn_ack(&unwrap(frame, plan, extras)?, origin, source);
            capture.wait_for(&what("SYN-ACK"), PATIENCE, syn_ack).unwrap();
            send_wrapped(topology, plan, plan.vni, &udp(source, origin, b"hello"));
            let echo = |frame: &Frame| is_echo(&unwrap(frame, plan, extras)?, plan, origin, source);
            capture.wait_for(&what("echo"), PATIENCE, echo).unwrap();
        }
    }
}

#[test]
fn no_gateway_takes_a_packet_with_another_key() {
    for (east, west) in all_tunnels() {
        let topology = Topology::with(east, west).unwrap();
        for vnet in topology.vnets() {
            let plan = vnet.plan;
            let capture = Capture::start(&topology.lbx, UNDERLAY_DEVICE).unwrap();
            let [wrong, right] = ORIGINS.map(|(_, address)| IpAddr::V4(address));
            let client = IpAddr::V4(CLIENT);
            send_wrapped(&topology, plan, plan.vni + 100, &udp(client, wrong, b"wrong key"));
            // The answer to a packet sent later shows that the first one has been dealt with.
            send_wrapped(&topology, plan, plan.vni, &udp(client, right, b"right key"));
            let echo = |frame: &Frame, origin| {
                is_echo(&unwrap(frame, plan, Extras::default())?, plan, origin, client)
            };
            capture.wait_for("the echo", PATIENCE, |frame| echo(frame, right)).unwrap();
            let frames = capture.stop().unwrap();
            assert!(!frames.iter().any(|frame| echo(frame, wrong).is_some()));
            if let Some(gateway) = vnet.far_end.userspace() {
                let counts = wait_for_counts(gateway, |counts| counts.decapsulated > 0);
                assert_eq!((counts.wrong_key, counts.decapsulated), (1, 1), "{plan:?}");
            }
        }
    }
}

#[test]
fn the_kernels_own_devices_are_used_where_there_are_some() {
    let (east, west) = (EAST.through(Encap::Vxlan, Family::V4), WEST.through(Encap::Vxlan, Family::V6));
    let topology = Topology::with(east, west).unwrap();
    for vnet in topology.vnets() {
        assert!(vnet.far_end.userspace().is_none(), "vxlan over {}", vnet.plan.outer);
    }
}

fn ip(source: IpAddr, destination: IpAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => panic!("{source} and {destination}"),
    }
}

fn tcp_syn(source: IpAddr, origin: IpAddr) -> Vec<u8> {
    let mut packet = Vec::new();
    ip(source, origin).tcp(40_000, 80, 7, 1024).syn().write(&mut packet, &[]).unwrap();
    packet
}

fn udp(source: IpAddr, origin: IpAddr, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    ip(source, origin).udp(40_000, 53).write(&mut packet, payload).unwrap();
    packet
}

/// A packet from lbx to the gateway.
fn send_wrapped(topology: &Topology, plan: VnetPlan, key: u32, inner: &[u8]) {
    let packet =
        TunnelPacket::plain(plan.encap, lbx_underlay(plan.outer), plan.remote(), key, inner).unwrap();
    tunnel::send(&topology.lbx, &packet.to_bytes().unwrap()).unwrap();
}

/// The inner packet of a reply of the gateway with the right key, in the form of a stock device with `extras`
/// configured.
fn unwrap(frame: &Frame, plan: VnetPlan, extras: Extras) -> Option<Vec<u8>> {
    let packet = tunnel::unwrap(&frame.bytes).unwrap()?;
    let over_ipv6 = plan.outer == Family::V6;
    if (packet.outer.source, packet.outer.destination) != (plan.remote(), lbx_underlay(plan.outer)) {
        return None;
    }
    assert_eq!((packet.encap, packet.key), (plan.encap, plan.vni));
    let expected = (tunnel::mac(LBX_INNER_MAC).unwrap(), tunnel::mac(GATEWAY_INNER_MAC).unwrap());
    assert_eq!(packet.inner_macs, plan.encap.has_ethernet().then_some(expected));
    assert_eq!(packet.extras.gre_checksum, extras.gre_checksum);
    assert_eq!(packet.extras.gre_sequence.is_some(), extras.gre_sequence.is_some());
    assert_eq!(packet.extras.encapsulation_limit.is_some(), plan.encap.has_gre() && over_ipv6);
    if let Some(udp) = packet.udp {
        let checksummed = match (plan.encap, plan.outer) {
            (_, Family::V6) => !plan.replies.udp6_zero_checksum,
            (encap, Family::V4) => encap == Encap::Vxlan,
        };
        assert_eq!(udp.checksummed, checksummed, "{packet:?}");
    }
    Some(packet.inner)
}

fn is_syn_ack(inner: &[u8], origin: IpAddr, to: IpAddr) -> Option<()> {
    let packet = SlicedPacket::from_ip(inner).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return None };
    if ends(&packet) != Some((origin, to)) {
        return None;
    }
    let checksum = match (origin, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => tcp.calc_checksum_ipv4(from.octets(), to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => tcp.calc_checksum_ipv6(from.octets(), to.octets()),
        _ => panic!("{origin} and {to}"),
    };
    assert_eq!(tcp.checksum(), checksum.unwrap(), "the reply has a wrong TCP checksum");
    (tcp.syn() && tcp.ack() && tcp.acknowledgment_number() == 8).then_some(())
}

fn is_echo(inner: &[u8], plan: VnetPlan, origin: IpAddr, to: IpAddr) -> Option<()> {
    let packet = SlicedPacket::from_ip(inner).unwrap();
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { return None };
    let family = Family::of(origin);
    let name = origins(family).iter().find(|(_, address)| *address == origin).unwrap().0;
    let client = SocketAddr::new(to, 40_000);
    let expected = format!("{} {name} {origin} client={client} ", plan.name);
    let from_origin = ends(&packet) == Some((origin, to));
    (from_origin && udp.payload().starts_with(expected.as_bytes())).then_some(())
}

fn ends(packet: &SlicedPacket<'_>) -> Option<(IpAddr, IpAddr)> {
    match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => Some((ip.header().source_addr().into(), ip.header().destination_addr().into())),
        NetSlice::Ipv6(ip) => Some((ip.header().source_addr().into(), ip.header().destination_addr().into())),
        NetSlice::Arp(_) => None,
    }
}
