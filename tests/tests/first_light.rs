//! Real clients reach private origins in two overlapping virtual networks, through native XDP.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use lbx_common::api::{AttachMode, Encap};
use lbx_tests::{
    agent::start_healthy,
    capture::{Capture, Frame},
    config,
    topology::{
        CLIENT, GATEWAY_INNER_MAC, LBX_INNER_MAC, LBX_UNDERLAY, ORIGINS, PUBLIC_DEVICE, UNDERLAY_DEVICE,
        VnetPlan,
    },
    traffic::{Round, private_addresses},
    tunnel::{self, TunnelPacket},
};

/// The same in every run, so that with a fixed seed every run sees the same spread.
const FIRST_PORT: u16 = 20_000;
const REQUESTS: u16 = 1000;
/// Time to live of what the client sends: the kernel's default.
const CLIENT_TTL: u8 = 64;

#[test]
fn a_thousand_requests_and_datagrams_to_each_vip_are_spread_by_weight() {
    let weights = [1.0, 0.5];
    let mut config = config::whole();
    config::set_weights(&mut config, "west", weights);
    let (topology, agent) = start_healthy(&config).unwrap();
    for interface in agent.status().unwrap().interfaces {
        assert_eq!(interface.mode, Some(AttachMode::Native), "{}", interface.name);
    }
    let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();

    let client = topology.client();
    let ports = FIRST_PORT..FIRST_PORT + REQUESTS;
    for vnet in topology.vnets() {
        let shares = if vnet.plan.name == "west" { weights } else { [1.0, 1.0] };
        for round in
            [Round::http(&client, vnet.plan, ports.clone()), Round::udp(&client, vnet.plan, ports.clone())]
        {
            assert_eq!(round.mistakes(), Vec::<String>::new());
            let total: f64 = shares.iter().sum();
            for ((name, count), share) in round.by_origin().into_iter().zip(shares) {
                let ideal = f64::from(REQUESTS) * share / total;
                let off = (f64::from(u32::try_from(count).unwrap()) - ideal).abs() / ideal;
                assert!(
                    off <= 0.1,
                    "{} {}: {name} answered {count}, ideal {ideal}",
                    vnet.plan.name,
                    round.kind
                );
            }
        }
    }

    let frames = public.stop().unwrap();
    assert!(frames.len() > 8 * usize::from(REQUESTS), "{} frames", frames.len());
    assert_eq!(private_addresses(&frames), Vec::<std::net::Ipv4Addr>::new());
    let stats = agent.stats().unwrap();
    assert_eq!(stats.drops, vec![]);
    for service in &stats.services {
        let expected = if service.service.ends_with("-dns") { 0 } else { u64::from(REQUESTS) };
        assert_eq!(service.traffic.tcp_syns, expected, "{}", service.service);
        assert!(service.traffic.in_packets >= u64::from(REQUESTS) && service.traffic.out_packets > 0);
    }
    for vnet in ["east", "west"] {
        let of_endpoints: u64 = stats
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.pool == format!("{vnet}-web"))
            .map(|endpoint| endpoint.traffic.in_bytes)
            .sum();
        let of_service = stats.services.iter().find(|service| service.service == vnet).unwrap();
        assert_eq!(of_endpoints, of_service.traffic.in_bytes, "{vnet}: endpoints and service count the same");
    }
}

#[test]
fn a_large_download_through_each_vip_arrives_intact() {
    let (topology, _agent) = start_healthy(&config::whole()).unwrap();
    for vnet in topology.vnets() {
        topology.client().download(vnet.plan.vip, 0, 10_000_000).unwrap().finish().unwrap();
    }
}

#[test]
fn tunnel_packets_are_as_documented_and_their_checksums_are_right() {
    let (topology, _agent) = start_healthy(&config::whole()).unwrap();
    for vnet in topology.vnets() {
        let capture = Capture::start(&vnet.gateway, UNDERLAY_DEVICE).unwrap();
        let client = topology.client();
        let http = Round::http(&client, vnet.plan, [30_001, 30_002, 30_003]);
        let udp = Round::udp(&client, vnet.plan, [30_001, 30_002, 30_003]);
        assert_eq!([http.mistakes(), udp.mistakes()].concat(), Vec::<String>::new());

        let frames = capture.stop().unwrap();
        let (mut requests, mut source_ports) = (0, std::collections::BTreeSet::new());
        for frame in frames.iter().filter(|frame| !frame.outgoing) {
            let Some(packet) = tunnel::unwrap(&frame.bytes).unwrap() else { continue };
            if check_request(frame, &packet, vnet.plan) {
                requests += 1;
                source_ports.extend(packet.udp.map(|(source, _, _)| source));
            }
        }
        // Three exchanges of TCP have at least SYN, ACK, request and FIN each; UDP one datagram each.
        assert!(requests >= 15, "{requests} requests captured in {}", vnet.plan.name);
        if vnet.plan.encap == Encap::Vxlan {
            assert!(source_ports.len() > 1, "flows have different outer source ports: {source_ports:?}");
        }
    }
}

/// Checks a packet of the client on its way to an endpoint; false where it is something else (a probe).
fn check_request(frame: &Frame, packet: &TunnelPacket, plan: VnetPlan) -> bool {
    let inner = SlicedPacket::from_ip(&packet.inner).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &inner.net else { panic!("{frame:?}: not IPv4 inside") };
    let header = ip.header().to_header();
    if header.source != CLIENT.octets() {
        assert_eq!(header.source, plan.probe_source.octets(), "inside is the client or the health checker");
        return false;
    }
    let outer = &packet.outer;
    assert_eq!((outer.source, outer.destination), (LBX_UNDERLAY.octets(), plan.gateway_address.octets()));
    assert_eq!(outer.time_to_live, 64);
    assert_eq!(outer.header_checksum, outer.calc_header_checksum());
    assert_eq!(outer.dont_fragment, header.dont_fragment, "outer DF is inner DF");
    assert!(!outer.more_fragments && outer.fragment_offset.value() == 0 && outer.options.is_empty());
    assert_eq!(outer.dscp, header.dscp);
    let overhead = if plan.encap == Encap::Gre { 28 } else { 50 };
    assert_eq!(usize::from(outer.total_len), packet.inner.len() + overhead);
    assert_eq!((packet.encap, packet.key), (plan.encap, plan.vni));
    if let Some((source, _, checksum)) = packet.udp {
        assert!(source >= 49_152, "source port {source}");
        assert_eq!(checksum, 0, "RFC 7348: the UDP checksum is 0");
        let macs = (tunnel::mac(GATEWAY_INNER_MAC).unwrap(), tunnel::mac(LBX_INNER_MAC).unwrap());
        assert_eq!(packet.inner_macs, Some(macs));
    }

    assert!(ORIGINS.iter().any(|(_, address)| header.destination == address.octets()));
    assert_eq!(header.time_to_live, CLIENT_TTL - 1);
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    match &inner.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            assert_eq!(tcp.destination_port(), 80);
            assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv4(header.source, header.destination).unwrap());
        }
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(udp.destination_port(), 53);
            let expected =
                udp.to_header().calc_checksum_ipv4_raw(header.source, header.destination, udp.payload());
            assert_eq!(udp.checksum(), expected.unwrap());
        }
        other => panic!("neither TCP nor UDP inside: {other:?}"),
    }
    true
}
