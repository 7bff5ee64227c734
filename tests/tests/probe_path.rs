//! The probe path on a host that is set against it, and closed to everybody but the agent.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use etherparse::PacketBuilder;
use lbx_common::api::HealthState;
use lbx_tests::{
    agent::{Agent, start_healthy},
    capture::{Capture, Frame},
    config,
    netns::Netns,
    topology::{CLIENT, EAST, LBX_PUBLIC, ORIGINS, PUBLIC_DEVICE, Topology, UNDERLAY_DEVICE, WEST},
    tunnel, wait,
};
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(10);

fn drops(agent: &Agent, reason: &str) -> u64 {
    agent.stats().unwrap().drops.iter().filter(|drop| drop.reason == reason).map(|drop| drop.packets).sum()
}

#[test]
fn endpoints_are_probed_on_a_strict_host_that_owns_their_address() {
    let topology = Topology::new().unwrap();
    let lbx = &topology.lbx;
    for (key, value) in [("ip_forward", "0"), ("conf/all/rp_filter", "1"), ("conf/default/rp_filter", "1")] {
        lbx.sysctl(&format!("net/ipv4/{key}"), value).unwrap();
    }
    lbx.firewall(
        "table inet strict {
            chain input {
                type filter hook input priority 0; policy drop;
                ct state established,related accept
                iifname lo accept
            }
        }",
    )
    .unwrap();
    lbx.ip(&format!("addr add {}/32 dev lo", ORIGINS[0].1)).unwrap();

    let agent = Agent::start_with(&topology, &config::whole()).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    // The gateway's servers are what was probed, and not the host's own address.
    topology.east.origin("a").unwrap().stop_servers();
    agent.wait_for_health("east-web", "a", HealthState::Unhealthy, PATIENCE).unwrap();
    assert_eq!(agent.health_of("west-web", "a").unwrap(), HealthState::Healthy);
    for vnet in topology.vnets() {
        assert_eq!(topology.client().http_get(vnet.plan.vip, 0).unwrap().vnet, vnet.plan.name);
    }
}

/// Whether a frame carries a TCP SYN to the port that only this file connects to.
fn knocks(frame: &Frame) -> bool {
    let inner = tunnel::unwrap(&frame.bytes).ok().flatten().map(|packet| packet.inner);
    let bytes = inner.unwrap_or_else(|| frame.bytes.get(14..).unwrap_or_default().to_vec());
    bytes.get(9) == Some(&6) && bytes.get(22..24) == Some(&KNOCK_PORT.to_be_bytes()[..])
}

const KNOCK_PORT: u16 = 4242;

/// Tries to connect from lbx's host to a private address as any other process there could.
fn knock(lbx: &Netns, source: Option<Ipv4Addr>, device: Option<&str>) {
    let attempt = lbx.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(device) = device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        if let Some(source) = source {
            socket.bind(&SocketAddrV4::new(source, 0).into())?;
        }
        let to = SocketAddrV4::new(ORIGINS[1].1, KNOCK_PORT);
        Ok(socket.connect_timeout(&to.into(), Duration::from_millis(200))?)
    });
    let error = format!("{:#}", attempt.unwrap_err());
    assert!(!error.contains("refused"), "an origin answered: {error}");
}

#[test]
fn nobody_else_on_the_host_reaches_a_private_network() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let lbx = &topology.lbx;
    let captures: Vec<Capture> =
        topology.vnets().map(|vnet| Capture::start(&vnet.gateway, UNDERLAY_DEVICE).unwrap()).into();

    knock(lbx, None, None);
    knock(lbx, None, Some("lbx0"));
    knock(lbx, Some(EAST.probe_source), None);
    knock(lbx, Some(WEST.probe_source), Some("lbx0"));
    knock(lbx, Some(LBX_PUBLIC), Some("lbx0"));
    assert!(drops(&agent, "probe_unmarked") >= 4, "{:?}", agent.stats().unwrap().drops);

    // Nor a client that uses the host as a router, under its own address or a probe source's.
    let client = &topology.client_netns;
    client.ip(&format!("route add 10.0.0.0/24 via {LBX_PUBLIC}")).unwrap();
    for source in [CLIENT, EAST.probe_source] {
        let builder = PacketBuilder::ipv4(source.octets(), ORIGINS[1].1.octets(), 64);
        let mut packet = Vec::new();
        builder.tcp(40_000, KNOCK_PORT, 1, 1024).syn().write(&mut packet, &[]).unwrap();
        tunnel::send(client, &packet).unwrap();
    }
    // The same client's request afterwards is served: what it sent before has been dealt with.
    for vnet in topology.vnets() {
        topology.client().http_get(vnet.plan.vip, 0).unwrap();
    }
    for (capture, vnet) in captures.into_iter().zip(topology.vnets()) {
        let frames = capture.stop().unwrap();
        assert!(!frames.is_empty(), "the capture saw the request and the probes");
        let came = frames.iter().filter(|frame| knocks(frame)).count();
        assert_eq!(came, 0, "packets reached the gateway of {}", vnet.plan.name);
    }
}

#[test]
fn a_packet_to_an_unserved_port_of_a_vip_is_dropped_once_and_never_bounces() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    // The worst host for it: it forwards, and its way to the VIP leads back to where the packet came from.
    for netns in [&topology.lbx, &topology.client_netns] {
        netns.sysctl("net/ipv4/ip_forward", "1").unwrap();
    }
    topology.lbx.ip(&format!("route add {}/32 via {CLIENT}", EAST.vip)).unwrap();

    let capture = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
    unserved(&topology, b"first");
    wait::until("it is counted", PATIENCE, || Ok((drops(&agent, "vip_no_service") == 1).then_some(())))
        .unwrap();
    // What is served still is, and the answer comes after anything that bounced.
    topology.client().http_get(EAST.vip, 0).unwrap();
    assert_eq!(passes(capture, b"first"), 1);
    assert_eq!(drops(&agent, "vip_no_service"), 1);

    // Without lbx it does bounce, so the test above could have failed.
    agent.terminate().unwrap();
    agent.detach().unwrap();
    let capture = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
    unserved(&topology, b"second");
    capture
        .wait_for("the packet on its way back", PATIENCE, |frame| {
            (!frame.outgoing && frame.bytes.ends_with(b"second")).then_some(())
        })
        .unwrap();
}

/// Sends a datagram to a port of east's VIP that no service has.
fn unserved(topology: &Topology, payload: &[u8]) {
    let builder = PacketBuilder::ipv4(CLIENT.octets(), EAST.vip.octets(), 64).udp(40_000, 9999);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    tunnel::send(&topology.client_netns, &packet).unwrap();
}

/// How often a packet with this payload passed the client's device, in either direction.
fn passes(capture: Capture, payload: &[u8]) -> usize {
    capture.stop().unwrap().iter().filter(|frame| frame.bytes.ends_with(payload)).count()
}
