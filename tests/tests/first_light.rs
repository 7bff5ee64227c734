//! Real clients reach private origins in two overlapping virtual networks, through native XDP.

use lbx_common::api::AttachMode;
use lbx_tests::{
    agent::start_healthy,
    capture::Capture,
    config,
    documented::{self, Carried},
    family::Family,
    topology::{PUBLIC_DEVICE, UNDERLAY_DEVICE},
    traffic::{Round, private_addresses},
    tunnel,
};

/// The same in every run, so that with a fixed seed every run sees the same spread.
const FIRST_PORT: u16 = 20_000;
const REQUESTS: u16 = 1000;

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
    assert_eq!(private_addresses(&frames), Vec::<std::net::IpAddr>::new());
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
            assert!(!tunnel::is_fragment(&frame.bytes), "{frame:?}");
            let Some(packet) = tunnel::unwrap(&frame.bytes).unwrap() else { continue };
            let carried = documented::check(&packet, &vnet.plan).unwrap_or_else(|error| {
                panic!("{error:#}: {packet:?}");
            });
            if carried == Carried::Request(Family::V4) {
                requests += 1;
                source_ports.extend(packet.udp.map(|udp| udp.source));
            }
        }
        // Three exchanges of TCP have at least SYN, ACK, request and FIN each; UDP one datagram each.
        assert!(requests >= 15, "{requests} requests captured in {}", vnet.plan.name);
        if vnet.plan.encap.udp_port().is_some() {
            assert!(source_ports.len() > 1, "flows have different outer source ports: {source_ports:?}");
        }
    }
}
