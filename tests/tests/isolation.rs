//! Two virtual networks with the same addresses never see each other's packets.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use etherparse::PacketBuilder;
use lbx_common::api::DropCount;
use lbx_tests::{
    agent::{Agent, Source, start_healthy},
    capture::Capture,
    config,
    netns::Netns,
    topology::{CLIENT, EAST, LBX_UNDERLAY, ORIGINS, PUBLIC_DEVICE, Topology, WEST},
    tunnel::{self, Encap},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);

fn drops(agent: &Agent, vnet: Option<&str>, reason: &str) -> u64 {
    let of = |drop: &&DropCount| drop.virtual_network.as_deref() == vnet && drop.reason == reason;
    agent.stats().unwrap().drops.iter().find(of).map_or(0, |drop| drop.packets)
}

#[test]
fn the_same_source_port_to_both_vips_lands_in_both_networks_at_once() {
    let (topology, _agent) = start_healthy(&config::whole()).unwrap();
    let client = topology.client();
    for port in 21_000..21_050 {
        let mut east = client.connect(EAST.vip, 80, port).unwrap();
        let mut west = client.connect(WEST.vip, 80, port).unwrap();
        // Interleaved on open connections, so that a mix-up in either direction would show.
        for _ in 0..2 {
            assert_eq!(east.get().unwrap().vnet, "east");
            assert_eq!(west.get().unwrap().vnet, "west");
        }
        assert_eq!(client.udp_exchange(EAST.vip, port, b"x").unwrap().vnet, "east");
        assert_eq!(client.udp_exchange(WEST.vip, port, b"x").unwrap().vnet, "west");
    }
}

/// A reply of origin a to the client, as its gateway would send it.
fn reply() -> Vec<u8> {
    let origin = ORIGINS[0].1;
    let builder = PacketBuilder::ipv4(origin.octets(), CLIENT.octets(), 64).udp(53, 22_000);
    let mut packet = Vec::new();
    builder.write(&mut packet, b"forged").unwrap();
    packet
}

fn forge(netns: &Netns, encap: Encap, from: std::net::Ipv4Addr, key: u32) {
    tunnel::send(netns, &tunnel::wrap(encap, from, LBX_UNDERLAY, key, &reply()).unwrap()).unwrap();
}

#[test]
fn a_tunnel_packet_enters_only_from_a_gateway_of_its_network() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
    let (east, west) = (&topology.east.gateway, &topology.west.gateway);

    // East's key from west's gateway, and from a host that is nobody's gateway.
    forge(west, Encap::Gre, WEST.gateway_address, EAST.vni);
    let stranger = std::net::Ipv4Addr::new(198, 51, 100, 66);
    east.ip("addr add 198.51.100.66/24 dev underlay0").unwrap();
    forge(east, Encap::Gre, stranger, EAST.vni);
    // West's VNI from east's gateway.
    forge(east, Encap::Vxlan, EAST.gateway_address, WEST.vni);
    // Gateways with a key that is nobody's, and with the other network's key in their own encapsulation.
    forge(east, Encap::Gre, EAST.gateway_address, 99);
    forge(west, Encap::Vxlan, WEST.gateway_address, 99);
    forge(east, Encap::Gre, EAST.gateway_address, WEST.vni);

    wait::until("every forged packet is counted", PATIENCE, || {
        let counts = [
            drops(&agent, Some("east"), "tunnel_unknown_peer"),
            drops(&agent, Some("west"), "tunnel_unknown_peer"),
            drops(&agent, None, "tunnel_unknown_key"),
        ];
        Ok((counts == [2, 1, 3]).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", agent.stats().unwrap().drops));

    // The real gateway's packet, for comparison, does come through: what was refused was not the packet.
    forge(east, Encap::Gre, EAST.gateway_address, EAST.vni);
    let forged = |source: std::net::Ipv4Addr| {
        move |frame: &lbx_tests::capture::Frame| {
            let found =
                frame.bytes.ends_with(b"forged") && frame.bytes.get(26..30) == Some(&source.octets()[..]);
            found.then_some(())
        }
    };
    public.wait_for("the real gateway's packet", PATIENCE, forged(EAST.vip)).unwrap();
    // What the client itself sends does not count: its refusal of the datagram quotes it.
    let arrived = public.stop().unwrap().into_iter().filter(|frame| !frame.outgoing);
    assert_eq!(arrived.filter(|frame| frame.bytes.ends_with(b"forged")).count(), 1);
}

#[test]
fn removing_one_network_leaves_the_traffic_of_the_other_untouched() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::File).unwrap();
    agent.write_config(&config::whole()).unwrap();
    agent.start().unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    let client = topology.client();
    let before = agent.status().unwrap().revision;

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let west = scope.spawn(|| {
            let mut open = client.connect(WEST.vip, 80, 0).unwrap();
            let mut requests = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(open.get().unwrap().vnet, "west");
                assert_eq!(client.http_get(WEST.vip, 0).unwrap().vnet, "west");
                assert_eq!(client.udp_exchange(WEST.vip, 0, b"x").unwrap().vnet, "west");
                requests += 3;
            }
            requests
        });
        let changes = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut config = config::whole();
            config::remove_vnet(&mut config, "east");
            agent.write_config(&config).unwrap();
            wait::until("east is gone", PATIENCE, || Ok((agent.status()?.revision > before).then_some(())))
                .unwrap();
            let impatient = topology.client().with_timeout(Duration::from_millis(300));
            assert!(impatient.http_get(EAST.vip, 0).is_err(), "east's VIP still answers");
            // Its key is nobody's now.
            forge(&topology.east.gateway, Encap::Gre, EAST.gateway_address, EAST.vni);
            agent.write_config(&config::whole()).unwrap();
            wait::until("east is back", PATIENCE, || {
                Ok((agent.status()?.revision > before + 1 && impatient.http_get(EAST.vip, 0).is_ok())
                    .then_some(()))
            })
            .unwrap();
        }));
        // Also after a failure, or nobody would ever hear of it.
        done.store(true, Ordering::Relaxed);
        let requests = west.join();
        changes.unwrap_or_else(|failure| panic::resume_unwind(failure));
        assert!(requests.unwrap() > 10);
    });
    let lost: Vec<DropCount> = agent
        .stats()
        .unwrap()
        .drops
        .into_iter()
        .filter(|d| d.virtual_network.as_deref() == Some("west"))
        .collect();
    assert_eq!(lost, vec![]);
}
