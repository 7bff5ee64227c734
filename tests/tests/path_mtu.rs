//! A router between lbx and a gateway says that a tunnel packet is too big for the next link: that tunnel gets
//! narrower, for clients and origins, and nothing else does.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use etherparse::{
    Icmpv4Type, Icmpv6Type, IpSlice, PacketBuilder, icmpv4::DestUnreachableHeader::FragmentationNeeded,
};
use lbx_common::api::TunnelStatus;
use lbx_tests::{
    agent::{Agent, start_healthy_in},
    capture::Capture,
    client::Client,
    config,
    family::Family,
    packets::segment_size,
    path_mtu::{self, Discovery},
    servers::UDP_PORT,
    topology::{EAST, PUBLIC_MTU, Topology, UNDERLAY_DEVICE, Vnet, VnetPlan, WEST, lbx_underlay},
    tunnel::{self, Encap},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// What the router says.
const PATH: u16 = 1400;

/// Where the message comes from: any router may send it.
fn router(outer: Family) -> IpAddr {
    match outer {
        Family::V4 => [198, 51, 100, 254].into(),
        Family::V6 => "2001:db8:64::fe".parse().unwrap(),
    }
}

/// What a router sends to the source of a packet that the next link does not take.
fn complaint(outer: Family, packet: &[u8], mtu: u16) -> Vec<u8> {
    let mut message = Vec::new();
    match (router(outer), lbx_underlay(outer)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let kind = Icmpv4Type::DestinationUnreachable(FragmentationNeeded { next_hop_mtu: mtu });
            // RFC 792: the IP header and eight bytes.
            PacketBuilder::ipv4(from.octets(), to.octets(), 64)
                .icmpv4(kind)
                .write(&mut message, packet.get(..28).unwrap())
                .unwrap();
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            // RFC 4443 §2.4: as much as fits.
            let quoted = packet.get(..packet.len().min(1232)).unwrap();
            let builder = PacketBuilder::ipv6(from.octets(), to.octets(), 64);
            builder.icmpv6(Icmpv6Type::PacketTooBig { mtu: mtu.into() }).write(&mut message, quoted).unwrap();
        }
        _ => unreachable!("each address is of the family that was asked for"),
    }
    message
}

/// A tunnel packet of lbx's, as large as the tunnel carries it.
fn largest_packet(topology: &Topology, vnet: &Vnet) -> Vec<u8> {
    let largest = usize::from(PUBLIC_MTU) - vnet.plan.encap.overhead_bytes(vnet.plan.outer) - 28;
    let underlay = Capture::start(&vnet.gateway, UNDERLAY_DEVICE).unwrap();
    let socket = topology.client().udp_socket(SocketAddr::new(vnet.plan.vip.into(), UDP_PORT), 0).unwrap();
    socket.send(&vec![7; largest]).unwrap();
    underlay
        .wait_for("the largest tunnel packet", PATIENCE, |frame| {
            let packet = tunnel::unwrap(&frame.bytes).unwrap()?;
            let whole = packet.outer.packet_bytes == usize::from(PUBLIC_MTU);
            (!frame.outgoing && whole).then(|| frame.bytes.get(14..).unwrap().to_vec())
        })
        .unwrap()
}

fn status(agent: &Agent, vnet: &Vnet) -> TunnelStatus {
    let mut tunnels = agent.status().unwrap().tunnels.into_iter();
    tunnels.find(|tunnel| tunnel.virtual_network == vnet.plan.name).unwrap()
}

/// The MSS that an origin is told when the client connects.
fn mss_at_origin(client: &Client, vnet: &Vnet) -> usize {
    let underlay = Capture::start(&vnet.gateway, UNDERLAY_DEVICE).unwrap();
    client.http_get(vnet.plan.vip, 0).unwrap();
    let probes = vnet.plan.probe_source_of(Family::V4);
    underlay
        .wait_for("a SYN", PATIENCE, |frame| {
            let packet = tunnel::unwrap(&frame.bytes).unwrap().filter(|_| !frame.outgoing)?;
            let from = IpSlice::from_slice(&packet.inner).unwrap().source_addr();
            segment_size(&packet.inner).filter(|_| from != probes)
        })
        .unwrap()
}

fn a_router_is_believed(one: VnetPlan, other: VnetPlan) {
    let topology = Topology::with_underlay_mtu(one, other, PUBLIC_MTU).unwrap();
    let agent = start_healthy_in(&topology, &config::for_topology(&topology)).unwrap();
    let [vnet, other] = topology.vnets();
    let VnetPlan { encap, outer, .. } = vnet.plan;
    let untouched = status(&agent, other);
    let packet = largest_packet(&topology, vnet);
    let wrong = {
        // Of a network that there is not.
        let mut packet = packet.clone();
        let key = outer.header_bytes() + if encap == Encap::Gre { 6 } else { 13 };
        *packet.get_mut(key).unwrap() ^= 0xff;
        packet
    };
    let say = |packet: &[u8], mtu| tunnel::send(&vnet.gateway, &complaint(outer, packet, mtu)).unwrap();
    say(&wrong, 1300);
    say(&packet, PATH);
    let inner = usize::from(PATH) - encap.overhead_bytes(outer);
    wait::until("the message is believed", PATIENCE, || {
        Ok((usize::from(status(&agent, vnet).inner_mtu) == inner).then_some(()))
    })
    .unwrap();
    let path = status(&agent, vnet).path_mtu.unwrap();
    assert_eq!(path.mtu, PATH, "a message about another network was believed");
    assert!((590..=600).contains(&path.expires_secs), "{path:?}");
    assert_eq!(status(&agent, other), untouched);
    let name = format!("{}/{}", vnet.plan.name, status(&agent, vnet).tunnel);
    let shown = agent.ctl(&["describe", "tunnel", &name]).unwrap().stdout;
    assert!(shown.contains("1400, as a router said; forgotten in 9m"), "{shown}");

    // New connections fit, and who sends more is told.
    let client = topology.client().with_discovery(Discovery::Strict);
    assert_eq!(mss_at_origin(&client, vnet), inner - 40);
    let vip = SocketAddr::new(vnet.plan.vip.into(), UDP_PORT);
    let socket = client.udp_socket(vip, 0).unwrap();
    socket.send(&vec![1; inner - 28 + 1]).unwrap();
    wait::until("the client is told", PATIENCE, || {
        let another = client.udp_socket(vip, 0)?;
        Ok((path_mtu::known(&another, Family::V4)? == inner).then_some(()))
    })
    .unwrap();
    client.upload(vnet.plan.vip, 0, 100_000).unwrap();
    client.download(vnet.plan.vip, 0, 100_000).unwrap().finish().unwrap();
    // Nobody is believed to have less than any link must take.
    say(&packet, 68);
    let floor = if outer == Family::V4 { 576 } else { 1280 };
    wait::until("the least is believed", PATIENCE, || {
        Ok(status(&agent, vnet).path_mtu.is_some_and(|path| path.mtu == floor).then_some(()))
    })
    .unwrap();
    assert_eq!(topology.client().http_get(vnet.plan.vip, 0).unwrap().vnet, vnet.plan.name);
}

#[test]
fn a_router_on_the_way_to_a_gateway_makes_one_tunnel_narrower_over_ipv4() {
    a_router_is_believed(EAST.through(Encap::Gre, Family::V4), WEST.through(Encap::Gre, Family::V4));
}

#[test]
fn a_router_on_the_way_to_a_gateway_makes_one_tunnel_narrower_over_ipv6() {
    a_router_is_believed(EAST.through(Encap::Vxlan, Family::V6), WEST.through(Encap::GeneveIp, Family::V6));
}
