//! The way to a gateway changes while connections are busy: none of them stands still for a second.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use lbx_tests::{
    agent::{Agent, start_healthy_in},
    busy::Busy,
    capture::{Capture, Frame},
    config,
    family::Family,
    topology::{EAST, LBX_UNDERLAY, Topology, UNDERLAY_DEVICE, Vnet, WEST},
    tunnel::Encap,
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a request on an open connection may take.
const STALL: Duration = Duration::from_secs(1);
/// Connections of each network: some to each origin.
const CONNECTIONS: usize = 4;
/// Requests on each connection before and after something happens: a second or more.
const REQUESTS: usize = 6;
/// MAC address that a gateway gets.
const NEW_MAC: &str = "02:00:00:00:bb:01";

/// East behind GRE over IPv4, west behind VXLAN over IPv6.
fn start() -> (Topology, Agent) {
    let topology = Topology::with(EAST, WEST.through(Encap::Vxlan, Family::V6)).unwrap();
    let mut config = config::for_topology(&topology);
    // A probe that is lost on the way does not make its endpoint lose its connections.
    config.monitors.iter_mut().for_each(|monitor| monitor.consecutive_down = 3);
    let agent = start_healthy_in(&topology, &config).unwrap();
    wait::until("the gateways are resolved", PATIENCE, || {
        Ok(agent.status()?.tunnels.iter().all(|tunnel| tunnel.next_hop.is_some()).then_some(()))
    })
    .unwrap();
    (topology, agent)
}

/// Busy connections through one network, of both families.
struct Connections(Vec<Busy>);

impl Connections {
    fn start(topology: &Topology, vnet: &Vnet) -> Self {
        let families = Family::ALL.into_iter().cycle().take(CONNECTIONS);
        let open = |family| Busy::start(&topology.client(), vnet.plan.vip_of(family)).unwrap();
        let this = Self(families.map(open).collect());
        this.go_on();
        this
    }

    fn go_on(&self) {
        let wanted: Vec<usize> = self.0.iter().map(|busy| busy.answered() + REQUESTS).collect();
        self.0.iter().zip(wanted).for_each(|(busy, wanted)| busy.wait_until(wanted).unwrap());
    }

    /// Goes on for a while; none took too long since the start.
    fn assert_no_stall(self, what: &str, agent: &Agent) {
        self.go_on();
        for busy in self.0 {
            let longest = busy.stop().unwrap_or_else(|error| panic!("{what}: {error:#}\n{}", agent.log()));
            assert!(longest < STALL, "{what}: a request took {longest:?}\n{}", agent.log());
        }
    }
}

fn next_hop(agent: &Agent, vnet: &str) -> Option<(String, String)> {
    let status = agent.status().unwrap();
    let tunnel = status.tunnels.into_iter().find(|tunnel| tunnel.virtual_network == vnet).unwrap();
    tunnel.next_hop.map(|hop| (hop.interface, hop.mac))
}

/// A box that forwards what the kernel sends by it, and tells nobody of a shorter way.
fn as_router(vnet: &Vnet) {
    for scope in ["all", UNDERLAY_DEVICE] {
        vnet.gateway.sysctl(&format!("net/ipv4/conf/{scope}/send_redirects"), "0").unwrap();
    }
}

/// Tunnel packets of lbx to the gateway of another network, which this box is to pass on.
fn forwards(frame: &Frame, to: &Vnet) -> bool {
    let std::net::IpAddr::V4(remote) = to.plan.remote() else { return false };
    let Some(header) = frame.bytes.get(14..34) else { return false };
    !frame.outgoing
        && header.starts_with(&[0x45])
        && header.get(12..) == Some(&[LBX_UNDERLAY.octets(), remote.octets()].concat())
}

#[test]
fn a_gateway_that_announces_its_new_mac_is_followed_at_once() {
    let (topology, agent) = start();
    for (vnet, announce) in [
        (&topology.east, "ipv4/conf/underlay0/arp_notify"),
        (&topology.west, "ipv6/conf/underlay0/ndisc_notify"),
    ] {
        vnet.gateway.sysctl(&format!("net/{announce}"), "1").unwrap();
        let connections = Connections::start(&topology, vnet);
        vnet.gateway.ip(&format!("link set {UNDERLAY_DEVICE} address {NEW_MAC}")).unwrap();
        let name = vnet.plan.name;
        wait::until("the new MAC is used", PATIENCE, || {
            Ok(next_hop(&agent, name).is_some_and(|(_, mac)| mac == NEW_MAC).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{name}: {error:#}\n{}", agent.log()));
        connections.assert_no_stall(name, &agent);
        // The other one is not to get the same.
        vnet.gateway.ip(&format!("link set {UNDERLAY_DEVICE} address 02:00:00:00:bb:02")).unwrap();
    }
}

/// By the other gateway, which passes it on, and back.
#[test]
fn a_route_that_moves_to_another_next_hop_takes_the_connections_along() {
    let (topology, agent) = start();
    let (east, west) = (&topology.east, &topology.west);
    as_router(west);
    let direct = next_hop(&agent, "east").unwrap();
    let connections = Connections::start(&topology, east);
    let route = format!("{}/32 via {}", east.plan.gateway_address, west.plan.gateway_address);
    let capture = Capture::start(&west.gateway, UNDERLAY_DEVICE).unwrap();
    topology.lbx.ip(&format!("route add {route}")).unwrap();
    wait::until("the other next hop is used", PATIENCE, || {
        Ok(next_hop(&agent, "east").is_some_and(|hop| hop != direct).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
    connections.go_on();
    let frames = capture.stop().unwrap();
    let forwarded = frames.iter().filter(|frame| forwards(frame, east)).count();
    assert!(forwarded >= CONNECTIONS * REQUESTS, "{forwarded} of {} frames", frames.len());

    topology.lbx.ip(&format!("route del {route}")).unwrap();
    wait::until("the first next hop is used again", PATIENCE, || {
        Ok((next_hop(&agent, "east").as_ref() == Some(&direct)).then_some(()))
    })
    .unwrap();
    connections.assert_no_stall("there and back", &agent);
}

/// By a cable of its own, and back to the switch when that is pulled out.
#[test]
fn a_route_that_moves_to_another_device_takes_the_connections_along() {
    let (topology, agent) = start();
    let (east, second) = (&topology.east, "underlay1");
    let cable = topology.second_cable(east, second).unwrap();
    let connections = Connections::start(&topology, east);
    let by = |device: &str| {
        wait::until(&format!("tunnel packets leave by {device}"), PATIENCE, || {
            Ok(next_hop(&agent, "east").is_some_and(|(by, _)| by == device).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
    };
    topology.lbx.ip(&format!("route add {}/32 dev {second}", east.plan.gateway_address)).unwrap();
    by(second);
    connections.go_on();
    // The route goes with the device.
    drop(cable);
    topology.lbx.ip(&format!("link delete {second}")).unwrap();
    by(UNDERLAY_DEVICE);
    connections.assert_no_stall("there and back", &agent);
}
