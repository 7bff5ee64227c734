//! Several tunnels in one network: each has a health of its own, and flows take those that are up.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use lbx_common::api::{Config, HealthState, Monitor, Tunnel};
use lbx_tests::{
    agent::Agent,
    capture::{Capture, Frame},
    config,
    family::Family,
    follower::events,
    servers::{HTTP_PORT, OriginServers},
    topology::{CLIENT, EAST, ExtraTunnel, LAN_GATEWAY, LBX_UNDERLAY, Topology, UNDERLAY_DEVICE},
    traffic::Round,
    tunnel::{self, Encap},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(15);
const FIRST: &str = "gre";
const SECOND: &str = "vxlan";

/// Nobody hears from the gateway what it does not have to say.
const QUIET: &str =
    "table arp quiet { chain out { type filter hook output priority 0; arp operation request drop; }; }";
/// Time for the kernel to ask the old MAC in vain three times, and then everybody.
const SILENT_MOVE: Duration = Duration::from_secs(10);

/// What breaks the first tunnel, and the second one.
const CUT_FIRST: &str =
    "table ip cut_first { chain in { type filter hook input priority -300; ip protocol gre drop; }; }";
const CUT_SECOND: &str =
    "table ip cut_second { chain in { type filter hook input priority -300; udp dport 4789 drop; }; }";

/// East behind two tunnels to one gateway, both checked.
struct Two {
    agent: Agent,
    _second: ExtraTunnel,
    _gateway: OriginServers,
    topology: Topology,
}

impl Two {
    fn start() -> Self {
        let topology = Topology::new().unwrap();
        let second = topology.east.second_tunnel(Encap::Vxlan, Family::V4).unwrap();
        let gateway = topology.east.serve_on_gateway().unwrap();
        let agent = Agent::start_with(&topology, &config_with_two(&topology)).unwrap();
        let this = Self { agent, _second: second, _gateway: gateway, topology };
        this.agent.wait_until_healthy(PATIENCE).unwrap();
        this.wait_for(FIRST, HealthState::Healthy);
        this.wait_for(SECOND, HealthState::Healthy);
        this
    }

    fn state(&self, tunnel: &str) -> HealthState {
        let health = self.agent.health().unwrap();
        let found = health.tunnels.iter().find(|one| one.virtual_network == "east" && one.tunnel == tunnel);
        found.unwrap().state
    }

    fn wait_for(&self, tunnel: &str, state: HealthState) {
        wait::until(&format!("tunnel {tunnel} is {}", state.as_str()), PATIENCE, || {
            Ok((self.state(tunnel) == state).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.agent.log()));
    }

    /// Requests from some ports, none of which fails; returns the encapsulations that they came in.
    fn ways_of_requests(&self, ports: std::ops::Range<u16>) -> BTreeSet<&'static str> {
        let capture = Capture::start(&self.topology.east.gateway, UNDERLAY_DEVICE).unwrap();
        let mistakes = Round::http(&self.topology.client(), EAST, ports).mistakes();
        assert_eq!(mistakes, Vec::<String>::new(), "{}", self.agent.log());
        let frames = capture.stop().unwrap();
        let packets = frames.iter().filter_map(inner);
        packets.filter(|packet| packet.source == CLIENT).map(|packet| packet.encap.as_str()).collect()
    }

    /// Connections that were opened by each of the two tunnels.
    fn requests(&self) -> [u64; 2] {
        let stats = self.agent.stats().unwrap();
        [FIRST, SECOND].map(|name| {
            let mut of_east = stats.tunnels.iter().filter(|one| one.virtual_network == "east");
            of_east.find(|one| one.tunnel == name).unwrap().traffic.tcp_syns
        })
    }

    fn health_of_endpoints(&self) -> BTreeSet<&'static str> {
        let health = self.agent.health().unwrap();
        let of_east = health.pools.iter().filter(|pool| pool.pool.starts_with("east-web"));
        of_east.flat_map(|pool| &pool.endpoints).map(|one| one.state.as_str()).collect()
    }

    fn mend(&self, table: &str) {
        self.topology.east.gateway.firewall(&format!("delete table ip {table}")).unwrap();
    }
}

fn config_with_two(topology: &Topology) -> Config {
    let mut config = config::for_topology(topology);
    // A probe that is late on a busy machine is no verdict yet: what is asserted here is which tunnels are down.
    config.monitors[0].consecutive_down = 3;
    let monitor = config.monitors[0].clone();
    config.monitors.push(Monitor { name: "tunnel".to_owned(), ..monitor });
    let checked = Tunnel {
        monitor: Some("tunnel".to_owned()),
        probe_address: Some(LAN_GATEWAY.into()),
        probe_port: Some(HTTP_PORT),
        ..config.virtual_networks[0].tunnels[0].clone()
    };
    let second = Tunnel { name: SECOND.to_owned(), encap: lbx_common::api::Encap::Vxlan, ..checked.clone() };
    config.virtual_networks[0].tunnels = vec![checked, second];
    config
}

/// A TCP packet over IPv4 inside a tunnel packet that the captured box received.
struct Inner {
    encap: Encap,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    source_port: u16,
    tos: u8,
}

fn tcp(encap: Encap, bytes: &[u8]) -> Option<Inner> {
    if bytes.first()? >> 4 != 4 || *bytes.get(9)? != 6 {
        return None;
    }
    let address = |at: usize| -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?))
    };
    let source_port = u16::from_be_bytes(bytes.get(20..22)?.try_into().ok()?);
    Some(Inner { encap, source: address(12)?, destination: address(16)?, source_port, tos: bytes[1] })
}

fn inner(frame: &Frame) -> Option<Inner> {
    let packet = tunnel::unwrap(&frame.bytes).ok().flatten().filter(|_| !frame.outgoing)?;
    tcp(packet.encap, &packet.inner)
}

#[test]
fn flows_leave_a_tunnel_that_is_down_and_come_back() {
    let two = Two::start();
    let both = BTreeSet::from([FIRST, SECOND]);
    assert_eq!(two.ways_of_requests(30_000..30_030), both);
    let requests = two.requests();
    assert!(requests[0] > 0 && requests[1] > 0 && requests[0] + requests[1] == 30, "{requests:?}");

    two.topology.east.gateway.firewall(CUT_FIRST).unwrap();
    two.wait_for(FIRST, HealthState::Unhealthy);
    assert_eq!((two.state(SECOND), two.health_of_endpoints()), (HealthState::Healthy, ["healthy"].into()));
    // Though the same monitor checks the endpoints, whose probes left by the tunnel that failed.
    let told = events(&two.agent, &["--type", "endpoint_health", "--type", "tunnel_health"]).unwrap();
    let failed: Vec<String> = told
        .iter()
        .map(|event| event.what.to_string())
        .filter(|line| line.contains("is unhealthy"))
        .collect();
    let [line] = &failed[..] else { panic!("{failed:?}") };
    assert!(line.starts_with("tunnel east/gre is unhealthy, was healthy: no answer within"), "{line}");
    let before = two.requests();
    assert_eq!(two.ways_of_requests(30_100..30_160), [SECOND].into());
    assert_eq!(two.requests(), [before[0], before[1] + 60]);
    let shown = two.agent.ctl(&["health"]).unwrap().stdout;
    let line = shown.lines().find(|line| line.starts_with("east/gre")).unwrap();
    assert!(line.contains("unhealthy") && line.contains("no answer within"), "{shown}");
    let described = two.agent.ctl(&["describe", "tunnel", "east/gre"]).unwrap().stdout;
    assert!(described.contains("unhealthy"), "{described}");
    let counters = two.agent.ctl(&["stats", "tunnels"]).unwrap().stdout;
    for text in [described, counters] {
        let line = text.lines().rfind(|line| line.trim_start().starts_with("east/gre")).unwrap();
        assert!(line.ends_with(&format!(" {}", before[0])), "{text}");
    }

    // The endpoints, of both families, are probed by the tunnel that is left: they stay healthy for longer than the failed one would
    // let them, and a server that stops is still noticed.
    let origin = two.topology.east.origin("a").unwrap();
    origin.stop_servers();
    two.agent.wait_for_health("east-web", "a", HealthState::Unhealthy, PATIENCE).unwrap();
    origin.start_servers().unwrap();
    two.agent.wait_for_health("east-web", "a", HealthState::Healthy, PATIENCE).unwrap();
    assert_eq!(two.health_of_endpoints(), ["healthy"].into());

    // The next agent knows it before it has probed anything.
    two.agent.kill().unwrap();
    two.agent.start().unwrap();
    assert_eq!(two.state(FIRST), HealthState::Unhealthy);
    assert_eq!(two.ways_of_requests(30_200..30_260), [SECOND].into());

    two.mend("cut_first");
    two.wait_for(FIRST, HealthState::Healthy);
    assert_eq!(two.ways_of_requests(30_300..30_330), both);
    let health = two.agent.health().unwrap();
    let states: BTreeMap<_, _> = health.tunnels.iter().map(|one| (one.tunnel.as_str(), one)).collect();
    assert!(states[FIRST].reason.is_empty() && states[FIRST].round_trip_us.is_some(), "{states:?}");
}

#[test]
fn with_all_tunnels_down_packets_are_dropped_for_want_of_one() {
    let two = Two::start();
    two.topology.east.gateway.firewall(CUT_FIRST).unwrap();
    two.topology.east.gateway.firewall(CUT_SECOND).unwrap();
    two.wait_for(FIRST, HealthState::Unhealthy);
    two.wait_for(SECOND, HealthState::Unhealthy);
    let client = two.topology.client().with_timeout(Duration::from_millis(300));
    client.udp_exchange(EAST.vip, 0, b"anybody?").unwrap_err();
    let drops = two.agent.stats().unwrap().drops;
    let no_tunnel = drops.iter().find(|drop| drop.reason == "no_tunnel");
    assert_eq!(no_tunnel.unwrap().virtual_network.as_deref(), Some("east"), "{drops:?}");
    // By a tunnel that is down an endpoint is found unreachable in the end, as a flow would find it.
    two.agent.wait_for_health("east-web", "a", HealthState::Unhealthy, PATIENCE).unwrap();
    assert_eq!(two.agent.health_of("west-web", "a").unwrap(), HealthState::Healthy);
    two.mend("cut_second");
    two.wait_for(SECOND, HealthState::Healthy);
    two.agent.wait_for_health("east-web", "a", HealthState::Healthy, PATIENCE).unwrap();
    two.agent.wait_for_health("east-web", "b", HealthState::Healthy, PATIENCE).unwrap();
    assert_eq!(two.ways_of_requests(30_000..30_030), [SECOND].into());
}

#[test]
fn every_packet_of_a_probe_takes_its_tunnel_and_its_mark_stays_at_home() {
    let two = Two::start();
    let [at_home, outside] = [(&two.topology.lbx, "lbx0"), (&two.topology.east.gateway, UNDERLAY_DEVICE)]
        .map(|(netns, device)| Capture::start(netns, device).unwrap());
    let resets = std::cell::RefCell::new(BTreeMap::<Encap, u32>::new());
    outside
        .wait_for("whole probes by both tunnels", PATIENCE, |frame| {
            let packet = inner(frame).filter(|one| one.destination == LAN_GATEWAY)?;
            let unwrapped = tunnel::unwrap(&frame.bytes).ok().flatten()?;
            let is_reset = unwrapped.inner.get(33).is_some_and(|flags| flags & 4 != 0);
            *resets.borrow_mut().entry(packet.encap).or_default() += u32::from(is_reset);
            let resets = resets.borrow();
            (resets.len() == 2 && resets.values().all(|count| *count >= 2)).then_some(())
        })
        .unwrap();
    let (at_home, outside) = (at_home.stop().unwrap(), outside.stop().unwrap());

    // From the socket each connection has one DSCP, from its SYN to its reset.
    let mut marks = BTreeMap::<u16, BTreeSet<u8>>::new();
    for frame in at_home.iter().filter(|frame| frame.outgoing) {
        let Some(packet) = frame.bytes.get(14..).and_then(|bytes| tcp(Encap::Gre, bytes)) else { continue };
        if packet.destination == LAN_GATEWAY {
            marks.entry(packet.source_port).or_default().insert(packet.tos >> 2);
        }
    }
    assert!(marks.values().all(|of_one| of_one.len() == 1), "{marks:?}");
    let mut ways = BTreeMap::<u16, BTreeSet<Encap>>::new();
    for packet in outside.iter().filter_map(inner) {
        if IpAddr::V4(packet.source) == EAST.probe_source {
            assert_eq!(packet.tos >> 2, 0, "a mark got out");
            if packet.destination == LAN_GATEWAY {
                ways.entry(packet.source_port).or_default().insert(packet.encap);
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (port, way) in &ways {
        let Some(mark) = marks.get(port) else { continue };
        let expected = if mark.contains(&0) { Encap::Gre } else { Encap::Vxlan };
        assert_eq!(*way, [expected].into(), "port {port}");
        seen.insert(expected);
    }
    assert_eq!(seen.len(), 2, "{marks:?} {ways:?}");
}

/// As one that took over from another without a word: the host's entry is fresh, and would be for half a minute.
#[test]
fn a_gateway_that_has_another_mac_is_found_by_the_probes_of_its_tunnel() {
    let two = Two::start();
    let Topology { east, lbx, .. } = &two.topology;
    let link = lbx.ip(&format!("link show {UNDERLAY_DEVICE}")).unwrap();
    let mac = link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    east.gateway.firewall(QUIET).unwrap();
    east.gateway.ip(&format!("link set {UNDERLAY_DEVICE} address 02:00:00:00:aa:01")).unwrap();
    east.gateway.ip(&format!("neigh replace {LBX_UNDERLAY} lladdr {mac} dev {UNDERLAY_DEVICE}")).unwrap();
    let client = two.topology.client().with_timeout(Duration::from_millis(500));
    assert!(client.http_get(EAST.vip, 0).is_err(), "it still has its old MAC");
    wait::until("requests reach the new MAC", SILENT_MOVE, || Ok(client.http_get(EAST.vip, 0).ok())).unwrap();
    two.wait_for(FIRST, HealthState::Healthy);
    two.wait_for(SECOND, HealthState::Healthy);
    assert_eq!(two.ways_of_requests(20_000..20_040).len(), 2);
}
