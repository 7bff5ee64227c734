//! Networks with other MTUs than 1500 bytes, behind every tunnel: nothing hangs, and nobody is left without an
//! answer.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at some messages out of many")]

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4};
use lbx_common::api::AttachMode;
use lbx_tests::{
    agent::{Agent, start_healthy_in},
    capture::{Capture, Frame},
    client::{Answer, Client, Download},
    config,
    family::Family,
    packets::segment_size,
    path_mtu::{self, Discovery},
    servers::UDP_PORT,
    topology::{
        EAST, LBX_PUBLIC, PUBLIC_DEVICE, PUBLIC_MTU, Topology, UNDERLAY_DEVICE, Vnet, VnetPlan, WEST,
        lbx_underlay,
    },
    tunnel::{self, Encap},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// For one try of a datagram, which may be lost while somebody learns the MTU.
const ONE_TRY: Duration = Duration::from_millis(250);
/// From what fits into every tunnel to what nothing here carries in one piece.
const PAYLOADS: [usize; 6] = [1_400, 1_452, 1_472, 1_473, 4_000, 9_000];
const UPLOADS: [u64; 6] = [1_400, 1_473, 2_000, 4_000, 9_000, 1_000_000];
const DOWNLOAD_BYTES: u64 = 2_000_000;

#[test]
fn native_mode_takes_an_interface_with_mtu_9000() {
    let topology = Topology::with_underlay_mtu(EAST, WEST, 9000).unwrap();
    let agent = start_healthy_in(&topology, &config::for_topology(&topology)).unwrap();
    for interface in agent.status().unwrap().interfaces {
        assert_eq!(interface.mode, Some(AttachMode::Native), "{}", interface.name);
    }
    for vnet in topology.vnets() {
        assert_eq!(topology.client().http_get(vnet.plan.vip, 0).unwrap().vnet, vnet.plan.name);
        topology.client().download(vnet.plan.vip, 0, 1_000_000).unwrap().finish().unwrap();
    }
}

/// Runs `test` for every network behind every tunnel, over an underlay of 1500 bytes, with both families inside.
fn behind_every_tunnel(test: impl Fn(&Topology, &Agent, &Vnet, Family)) {
    let all: Vec<_> =
        Encap::ALL.into_iter().flat_map(|encap| Family::ALL.map(|outer| (encap, outer))).collect();
    for pair in all.chunks(2) {
        let (east, west) = (through(EAST, pair.first()), through(WEST, pair.last()));
        let topology = Topology::with_underlay_mtu(east, west, PUBLIC_MTU).unwrap();
        let mut config = config::for_topology(&topology);
        // Nothing fails here, so a probe that has to wait for a busy machine shall not move flows.
        for monitor in &mut config.monitors {
            (monitor.interval, monitor.timeout) = (Duration::from_secs(5), Duration::from_secs(4));
        }
        let agent = start_healthy_in(&topology, &config).unwrap();
        for vnet in topology.vnets() {
            for inner in Family::ALL {
                test(&topology, &agent, vnet, inner);
            }
        }
    }
}

fn through(plan: VnetPlan, tunnel: Option<&(Encap, Family)>) -> VnetPlan {
    let (encap, outer) = *tunnel.unwrap();
    plan.through(encap, outer)
}

/// Largest inner packet of a network's tunnel.
fn inner_mtu(plan: &VnetPlan) -> usize {
    usize::from(PUBLIC_MTU) - plan.encap.overhead_bytes(plan.outer)
}

fn named(plan: &VnetPlan, inner: Family, discovery: Discovery) -> String {
    let VnetPlan { encap, outer, .. } = plan;
    format!("{inner} in {} over {outer}, discovery {discovery:?}", encap.as_str())
}

/// The client, with nothing learned before: neither by itself nor by the origins.
fn fresh_client(topology: &Topology, discovery: Discovery) -> Client {
    let origins = topology.vnets().into_iter().flat_map(|vnet| &vnet.origins);
    for netns in origins.map(|origin| &origin.netns).chain([&topology.client_netns]) {
        for flag in ["-4", "-6"] {
            netns.ip(&format!("{flag} route flush cache")).unwrap();
        }
    }
    topology.client().with_discovery(discovery)
}

#[test]
fn tcp_segments_fit_in_both_directions_whatever_the_client_knows_of_the_path() {
    behind_every_tunnel(|topology, _, vnet, inner| {
        let vip = vnet.plan.vip_of(inner);
        for discovery in [Discovery::Off, Discovery::On] {
            let what = named(&vnet.plan, inner, discovery);
            let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
            let underlay = Capture::start(&vnet.gateway, UNDERLAY_DEVICE).unwrap();
            let client = fresh_client(topology, discovery);
            for count in UPLOADS {
                client.upload(vip, 0, count).unwrap_or_else(|error| panic!("{what}: {error:#}"));
            }
            let download = client.download(vip, 0, DOWNLOAD_BYTES);
            download.and_then(Download::finish).unwrap_or_else(|error| panic!("{what}: {error:#}"));

            let (public, underlay) = (public.stop().unwrap(), underlay.stop().unwrap());
            assert!(!public.iter().any(|frame| tunnel::is_fragment(&frame.bytes)), "{what}: fragments");
            assert!(!public.iter().any(|frame| too_big(frame).is_some()), "{what}: it had to be told");
            // IP and TCP headers without options.
            let largest = inner_mtu(&vnet.plan) - inner.header_bytes() - 20;
            let to_client = public.iter().filter(|frame| !frame.outgoing);
            let replies: Vec<usize> =
                to_client.filter_map(|frame| segment_size(frame.bytes.get(14..)?)).collect();
            let requests = mss_to_origins(&underlay, &vnet.plan);
            for (way, found) in [("from origins", &replies), ("to origins", &requests)] {
                // At least one for each transfer.
                assert!(found.len() > UPLOADS.len(), "{what}: {} SYNs {way}", found.len());
                // An origin may have learned of something smaller on the way from itself to its gateway.
                assert_eq!(found.iter().max(), Some(&largest), "{what}: {way} {found:?}");
            }
        }
    });
}

/// The MSS in each SYN of the client on its way to an origin; no packet to the gateway may be a fragment.
fn mss_to_origins(frames: &[Frame], plan: &VnetPlan) -> Vec<usize> {
    let mut found = Vec::new();
    for frame in frames.iter().filter(|frame| !frame.outgoing) {
        assert!(!tunnel::is_fragment(&frame.bytes), "{plan:?}: a fragment");
        let Some(packet) = tunnel::unwrap(&frame.bytes).unwrap() else { continue };
        let is_probe =
            Family::ALL.iter().any(|family| source(&packet.inner) == Some(plan.probe_source_of(*family)));
        if packet.outer.source == lbx_underlay(plan.outer) && !is_probe {
            found.extend(segment_size(&packet.inner));
        }
    }
    found
}

fn source(packet: &[u8]) -> Option<IpAddr> {
    match SlicedPacket::from_ip(packet).ok()?.net? {
        NetSlice::Ipv4(ip) => Some(ip.header().source_addr().into()),
        NetSlice::Ipv6(ip) => Some(ip.header().source_addr().into()),
        NetSlice::Arp(_) => None,
    }
}

/// Sender and MTU of a frame that says to the client "fragmentation needed" or "packet too big".
fn too_big(frame: &Frame) -> Option<(IpAddr, usize)> {
    let bytes = frame.bytes.get(14..).filter(|_| !frame.outgoing)?;
    let packet = SlicedPacket::from_ip(bytes).ok()?;
    let mtu = match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => match icmp.icmp_type() {
            Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
                next_hop_mtu,
            }) => next_hop_mtu.into(),
            _ => return None,
        },
        Some(TransportSlice::Icmpv6(icmp)) => match icmp.icmp_type() {
            Icmpv6Type::PacketTooBig { mtu } => usize::try_from(mtu).ok()?,
            _ => return None,
        },
        _ => return None,
    };
    Some((source(bytes)?, mtu))
}

#[test]
fn datagrams_of_every_size_are_answered_or_their_sender_is_told_why_not() {
    behind_every_tunnel(|topology, agent, vnet, inner| {
        let vip = vnet.plan.vip_of(inner);
        for discovery in [Discovery::Off, Discovery::On] {
            let client = fresh_client(topology, discovery).with_timeout(ONE_TRY);
            for size in PAYLOADS {
                let what = format!("{size} bytes of {}", named(&vnet.plan, inner, discovery));
                let payload = vec![0x5a; size];
                let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
                let dropped = drops(agent);
                let whole = inner.header_bytes() + 8 + size <= inner_mtu(&vnet.plan);
                let fate = wait::until(&what, PATIENCE, || {
                    if let Ok(answer) = client.udp_exchange(vip, 0, &payload) {
                        return Ok(Some(Fate::Answered(answer)));
                    }
                    let lost = !whole && may_be_lost(&vnet.plan, inner, discovery);
                    Ok((lost && drops(agent) > dropped).then_some(Fate::Counted))
                });
                match fate.unwrap() {
                    Fate::Answered(answer) => {
                        assert_eq!(answer.vnet, vnet.plan.name, "{what}");
                        assert!(answer.payload == payload, "{what}: other bytes came back");
                    }
                    Fate::Counted => {}
                }
                for (sender, mtu) in public.stop().unwrap().iter().filter_map(too_big) {
                    assert_eq!((sender, mtu), (vip, inner_mtu(&vnet.plan)), "{what}");
                }
            }
        }
    });
}

/// What became of a datagram, in the end.
enum Fate {
    Answered(Answer),
    Counted,
}

/// Whether a datagram that does not fit in one piece may be dropped, and counted, every time. Only where nobody is
/// left to fragment it: a router does not fragment IPv6, neither a client's that is deaf to packet-too-big nor what
/// lbx itself sends to a gateway.
fn may_be_lost(plan: &VnetPlan, inner: Family, discovery: Discovery) -> bool {
    match inner {
        Family::V6 => discovery == Discovery::Off,
        Family::V4 => plan.outer == Family::V6,
    }
}

fn drops(agent: &Agent) -> u64 {
    agent.stats().unwrap().drops.iter().map(|drop| drop.packets).sum()
}

#[test]
fn what_may_not_be_fragmented_is_answered_by_the_vip_with_the_mtu_of_the_tunnel() {
    behind_every_tunnel(|topology, _, vnet, inner| {
        let vip = vnet.plan.vip_of(inner);
        let what = named(&vnet.plan, inner, Discovery::Strict);
        let client = fresh_client(topology, Discovery::Strict);
        let largest = inner_mtu(&vnet.plan) - inner.header_bytes() - 8;

        let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
        let socket = client.udp_socket(SocketAddr::new(vip, UDP_PORT), 0).unwrap();
        socket.send(&vec![1; largest + 1]).unwrap();
        let told = public.wait_for(&format!("an answer to {what}"), PATIENCE, too_big).unwrap();
        assert_eq!(told, (vip, inner_mtu(&vnet.plan)), "{what}");
        // The kernel takes it to be about this flow, so what is embedded in it is right, too.
        wait::until(&format!("the client believes it: {what}"), PATIENCE, || {
            let another = client.udp_socket(SocketAddr::new(vip, UDP_PORT), 0)?;
            Ok((path_mtu::known(&another, inner)? == inner_mtu(&vnet.plan)).then_some(()))
        })
        .unwrap();
        // And the largest that fits does get through.
        let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
        let underlay = Capture::start(&vnet.gateway, UNDERLAY_DEVICE).unwrap();
        // The answer is an error of the socket as well, which is told once.
        socket.take_error().unwrap();
        socket.send(&vec![2; largest]).unwrap();
        underlay
            .wait_for(&format!("the largest packet: {what}"), PATIENCE, |frame| {
                let packet = tunnel::unwrap(&frame.bytes).unwrap()?;
                let whole = packet.outer.packet_bytes == usize::from(PUBLIC_MTU);
                (!frame.outgoing && whole && packet.inner.ends_with(&[2; 64])).then_some(())
            })
            .unwrap();
        assert!(!public.stop().unwrap().iter().any(|frame| too_big(frame).is_some()), "{what}: refused");
    });
}

/// Errors to one sender are rate-limited: a flood of packets that are too big is not answered packet by packet.
#[test]
fn a_flood_of_packets_that_are_too_big_is_not_answered_one_by_one() {
    const FLOOD: usize = 20_000;
    let topology = Topology::with_underlay_mtu(EAST, WEST, PUBLIC_MTU).unwrap();
    let agent = start_healthy_in(&topology, &config::for_topology(&topology)).unwrap();
    let client = topology.client().with_discovery(Discovery::Off);
    let vip = SocketAddr::new(EAST.vip.into(), UDP_PORT);
    let socket = client.udp_socket(vip, 0).unwrap();
    let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
    // The client does not believe what it is told, or its kernel would refuse to send. DF is set.
    topology
        .client_netns
        .ip(&format!("route replace 203.0.113.0/24 via {LBX_PUBLIC} mtu lock {PUBLIC_MTU}"))
        .unwrap();
    let began = Instant::now();
    let from = socket.local_addr().unwrap();
    let packet = oversized(from, vip);
    let sender = topology.client_netns.run(|| tunnel::open_sender(Family::V4)).unwrap();
    for _ in 0..FLOOD {
        sender.send_to(&packet, &vip.into()).unwrap();
    }
    let took = began.elapsed();
    // What is served still is; the answer comes after those to the flood.
    assert_eq!(topology.client().http_get(EAST.vip, 0).unwrap().vnet, "east");
    let answers = public.stop().unwrap().iter().filter(|frame| too_big(frame).is_some()).count();
    assert!(answers > 0, "nobody was told");
    assert!(answers < FLOOD / 4, "{answers} answers to {FLOOD} packets in {took:?}");
    drop(agent);
}

fn oversized(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else {
        panic!("{from} and {to}")
    };
    let builder = etherparse::PacketBuilder::ipv4(source.octets(), destination.octets(), 64);
    let mut packet = Vec::new();
    builder.udp(from.port(), to.port()).write(&mut packet, &[3; 1472]).unwrap();
    packet
}
