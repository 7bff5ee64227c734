//! Probes by one of several tunnels: the DSCP chooses, and is gone behind `lbx1`; the answers come back from any
//! address of the network.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use lbx_common::{
    api::{self, Config, Forwarding, Tunnel},
    reason::{DropReason, Verdict},
};
use lbx_tests::{
    config,
    lab::{Action, HostOutcome, Lab, On, Outcome},
    topology::{EAST, ORIGINS, ORIGINS_V6},
    tunnel::{self, Encap, TunnelPacket},
};

use crate::frames::{End, ethernet, frame, from_gateway, rewritten, spoiled, tcp, with_ip};

/// East behind GRE, VXLAN and Geneve.
fn three_tunnels() -> Config {
    let mut config = config::whole();
    let east = &mut config.virtual_networks[0];
    east.probe_source.ipv6 = Some(EAST.probe_source_v6);
    for encap in [api::Encap::Vxlan, api::Encap::Geneve] {
        let name = encap.as_str().to_owned();
        let more = Tunnel { name, encap, ..east.tunnels[0].clone() };
        east.tunnels.push(more);
    }
    config
}

/// A probe of east with a type of service, over IPv4.
fn probe(tos: u8) -> Vec<u8> {
    let probe = tcp((EAST.probe_source, 50_000), (ORIGINS[0].1, 80), "S", b"");
    with_ip(&probe, |ip| (ip.dscp, ip.ecn) = ((tos >> 2).try_into().unwrap(), (tos & 3).try_into().unwrap()))
}

/// The same over IPv6.
fn probe_v6(traffic_class: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv6(EAST.probe_source_v6.octets(), ORIGINS_V6[0].1.octets(), 64);
    builder.tcp(50_000, 80, 1, 1024).syn().write(&mut packet, &[]).unwrap();
    spoiled(&packet, 0, &[0x60 | traffic_class >> 4, traffic_class << 4])
}

/// Runs a frame in the kernel and on the host, which must agree.
fn run(lab: &Lab, on: On, frame: &[u8]) -> (Outcome, Verdict) {
    let outcome = lab.run(on, frame).unwrap();
    let HostOutcome { outcome: on_host, verdict } = lab.run_on_host(on, frame);
    assert_eq!(on_host, outcome);
    (outcome, verdict)
}

fn sent(lab: &Lab, frame: &[u8]) -> TunnelPacket {
    let (outcome, _) = run(lab, On::Probe, frame);
    assert_eq!(outcome.action, Action::Send);
    tunnel::unwrap(&outcome.frame).unwrap().unwrap()
}

#[test]
fn a_probe_takes_the_tunnel_that_its_dscp_names_and_leaves_without_it() {
    let lab = Lab::new(&three_tunnels()).unwrap();
    let ways = [Encap::Gre, Encap::Vxlan, Encap::GeneveIp];
    for place in 0..64_u8 {
        // What the kernel sends of itself may have any DSCP: it goes by the first tunnel.
        let encap = ways.get(usize::from(place)).copied().unwrap_or(Encap::Gre);
        for ecn in 0..4 {
            for (probe, kind) in [(probe as fn(u8) -> Vec<u8>, 0x0800), (probe_v6, 0x86dd)] {
                let packet = sent(&lab, &ethernet(kind, &probe(place << 2 | ecn)));
                assert_eq!((packet.encap, packet.key), (encap, EAST.vni), "place {place}");
                // Every byte but the DSCP is as it was; the checksum is that of the header as it is now.
                assert_eq!(packet.inner, probe(ecn), "place {place}, ECN {ecn}");
                assert_eq!(packet.outer.tos, ecn);
            }
        }
    }
    assert!(lab.all_drops().unwrap().is_empty());
}

#[test]
fn a_tunnel_that_is_off_carries_no_probe() {
    let mut config = three_tunnels();
    config.virtual_networks[0].tunnels[0].enabled = false;
    config.virtual_networks[0].tunnels[2].enabled = false;
    let lab = Lab::new(&config).unwrap();
    for place in 0..4 {
        assert_eq!(sent(&lab, &frame(&probe(place << 2))).encap, Encap::Vxlan, "place {place}");
    }
}

#[test]
fn answers_from_a_vip_reach_the_health_checker_and_only_theirs() {
    let mut config = three_tunnels();
    let vip = Ipv4Addr::new(203, 0, 113, 90);
    let mut service = config.services[0].clone();
    let mut pool = config.pools[0].clone();
    (pool.name, service.name) = ("direct".to_owned(), "direct".to_owned());
    service.forwarding = Forwarding::Dsr;
    service.address = vip.into();
    service.pools = vec![pool.name.clone()];
    for (endpoint, tunnel) in pool.endpoints.iter_mut().zip(["gre", "vxlan"]) {
        (endpoint.port, endpoint.tunnels) = (None, vec![tunnel.to_owned()]);
    }
    config.services.push(service);
    config.pools.push(pool);
    let lab = Lab::new(&config).unwrap();

    // Out: to the VIP through the endpoint's own tunnel, though lbx serves that address itself.
    for (place, encap) in [(0, Encap::Gre), (1, Encap::Vxlan)] {
        let probe = |tos: u8| rewritten(&probe(tos), End::Destination, (vip, 80), 0);
        let packet = sent(&lab, &frame(&probe(place << 2)));
        assert_eq!((packet.encap, packet.inner), (encap, probe(0)));
    }
    // Back: the VIP's answer, for the health checker of the network it came from.
    for flags in ["S.", "R."] {
        let answer = tcp((vip, 80), (EAST.probe_source, 50_000), flags, b"");
        let (outcome, verdict) = run(&lab, On::Underlay, &from_gateway(EAST, &answer));
        assert_eq!((outcome.action, verdict), (Action::Send, Verdict::ToHost));
        assert_eq!(outcome.frame[14..], answer);
    }
    // Nobody answers a client through lbx in the VIP's name.
    let forged = tcp((vip, 80), (lbx_tests::topology::CLIENT, 40_000), "S.", b"");
    let (_, verdict) = run(&lab, On::Underlay, &from_gateway(EAST, &forged));
    assert!(matches!(verdict, Verdict::Drop { reason: DropReason::ReplyNoService, .. }), "{verdict:?}");
}
