//! Direct server return: endpoints that end their own tunnel, have the VIP on them, and answer clients by their own
//! way.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use lbx_common::api::{Config, Endpoint, Forwarding, HealthState, Pool, Service, Tunnel};
use lbx_tests::{
    agent::Agent,
    capture::Capture,
    client::Client,
    config,
    topology::{EAST, PUBLIC_DEVICE, Topology, WEST},
};

const PATIENCE: Duration = Duration::from_secs(15);
const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 90);
const OTHER_TUNNEL: &str = "far";

/// One service whose two endpoints are in east, each at the end of a tunnel of its own: east's gateway, and west's.
fn direct() -> Config {
    let mut config = config::whole();
    let east = &mut config.virtual_networks[0];
    let near = east.tunnels[0].clone();
    let endpoint = |name: &str, tunnel: &str, host: u8| Endpoint {
        tunnels: vec![tunnel.to_owned()],
        ..Endpoint::new(name.to_owned(), EAST.name.to_owned(), Ipv4Addr::new(10, 0, 0, host).into())
    };
    let endpoints = vec![endpoint("east", &near.name, 1), endpoint("west", OTHER_TUNNEL, 2)];
    east.tunnels.push(Tunnel { name: OTHER_TUNNEL.to_owned(), remote: WEST.remote(), ..near });
    let monitor = Some(config.monitors[0].name.clone());
    config.pools.push(Pool { monitor, endpoints, ..Pool::new("direct".to_owned()) });
    config.services.push(Service {
        name: "direct".to_owned(),
        address: VIP.into(),
        forwarding: Forwarding::Dsr,
        pools: vec!["direct".to_owned()],
        ..config.services[0].clone()
    });
    config
}

/// Who answers requests from some ports: names of virtual networks.
fn answered_by(client: &Client, ports: std::ops::Range<u16>) -> BTreeSet<String> {
    ports.map(|port| client.http_get(VIP, port).unwrap().vnet).collect()
}

#[test]
fn endpoints_with_the_vip_are_probed_by_their_own_tunnels_and_answer_clients_themselves() {
    let topology = Topology::new().unwrap();
    let client = topology.client();
    // The second tunnel of east ends at the other gateway.
    let _far = topology.west.end_of(EAST).unwrap();
    let east = topology.east.serve_directly(VIP, &topology.client_netns).unwrap();
    let west = topology.west.serve_directly(VIP, &topology.client_netns).unwrap();
    let agent = Agent::start_with(&topology, &direct()).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();

    // Requests go through lbx, answers do not: on its cable the client only sends.
    let capture = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
    let both = BTreeSet::from(["east".to_owned(), "west".to_owned()]);
    assert_eq!(answered_by(&client, 30_000..30_030), both);
    let of_vip = |at: usize, frame: &[u8]| frame.get(at..at + 4) == Some(&VIP.octets()[..]);
    let frames = capture.stop().unwrap();
    assert!(frames.iter().any(|frame| frame.outgoing && of_vip(30, &frame.bytes)));
    assert!(!frames.iter().any(|frame| of_vip(26, &frame.bytes)), "an answer came back through lbx");

    let wait_for =
        |endpoint: &str, state| agent.wait_for_health("direct", endpoint, state, PATIENCE).unwrap();
    drop(east);
    wait_for("east", HealthState::Unhealthy);
    assert_eq!(agent.health_of("direct", "west").unwrap(), HealthState::Healthy);
    assert_eq!(answered_by(&client, 30_100..30_130), ["west".to_owned()].into());

    // Where the host has the VIP itself, as one that announces it may: probes still go to the endpoints.
    topology.lbx.ip(&format!("addr add {VIP}/32 dev lo")).unwrap();
    drop(west);
    wait_for("west", HealthState::Unhealthy);
    let _east = topology.east.serve_at(VIP).unwrap();
    wait_for("east", HealthState::Healthy);
    assert_eq!(agent.health_of("direct", "west").unwrap(), HealthState::Unhealthy);
    assert_eq!(answered_by(&client, 30_200..30_230), ["east".to_owned()].into());
}
