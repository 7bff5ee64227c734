//! What `explain` says of a packet is what the programs do with it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use etherparse::{NetSlice, SlicedPacket};
use lbx_agent::explain::frame;
use lbx_common::api::{
    AffinityKind, Config, ConnectionTracking, ExplainReport, ExplainRequest, ExplainVerdict, HealthState,
    Monitor, MonitorKind, NoEndpoint, Prefix, Protocol, SessionAffinity, SteeringPolicy,
};
use lbx_tests::{
    agent::start_healthy,
    config,
    family::Family,
    lab::{Action, Lab, On},
    packets::transport_at,
    topology::{CLIENT, EAST, WEST},
    tunnel, world,
};
use proptest::{
    prelude::{Rng as _, RngExt as _},
    test_runner::{RngAlgorithm, TestRng},
};

const PATIENCE: Duration = Duration::from_secs(10);
/// In each lab; ten times as many with `LBX_LONG`.
const PACKETS: usize = 250;
const LABS: u64 = 4;

struct Random(TestRng);

impl Random {
    fn new(seed: u64) -> Self {
        let seed = [seed.to_le_bytes(), (!seed).to_le_bytes()].concat();
        Self(TestRng::from_seed(RngAlgorithm::XorShift, &seed))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn port(&mut self) -> u16 {
        u16::try_from(self.0.next_u32() >> 16).unwrap().max(1)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Changes what decides about packets, anywhere in a configuration.
    fn change(&mut self, config: &mut Config) {
        for pool in &mut config.pools {
            pool.monitor = Some("m".to_owned());
            for endpoint in &mut pool.endpoints {
                endpoint.drained = self.one_in(6);
                endpoint.weight = self.pick(&[1.0, 1.0, 0.5, 0.0]);
            }
        }
        for service in &mut config.services {
            use ConnectionTracking::{Always, Auto, Off};
            service.connection_tracking = self.pick(&[Auto, Auto, Always, Off]);
            service.no_endpoint = self.pick(&[NoEndpoint::Drop, NoEndpoint::Reject]);
            let ttl =
                (service.connection_tracking != Off && self.one_in(2)).then_some(Duration::from_mins(5));
            let affinity =
                SessionAffinity { kind: AffinityKind::default(), prefix_ipv4: 24, prefix_ipv6: 56, ttl };
            service.session_affinity = self.one_in(4).then_some(affinity);
            let own = |prefix: &str| prefix.parse::<Prefix>().unwrap();
            let mine = if service.address.is_ipv4() { own("192.0.2.0/25") } else { own("2001:db8:2::/49") };
            service.deny = if self.one_in(5) { vec![mine] } else { Vec::new() };
        }
        // Some share their endpoints with a pool that nobody else has.
        let tcp = config.services.iter().filter(|service| service.name.ends_with("-nat-tcp")).count();
        let lucky = self.below(tcp.max(1));
        let service = config
            .services
            .iter_mut()
            .filter(|service| service.name.ends_with("-nat-tcp"))
            .nth(lucky)
            .unwrap();
        let name = format!("{}-spare", service.name);
        let first = config.pools.iter().find(|pool| pool.name == service.pools[0]).unwrap();
        let mut spare = first.clone();
        spare.name.clone_from(&name);
        spare.load_shedding = 40;
        for endpoint in &mut spare.endpoints {
            endpoint.port = endpoint.port.map(|port| port + 1);
        }
        service.pools.push(name);
        service.steering_policy = self.pick(&[SteeringPolicy::Failover, SteeringPolicy::Random]);
        config.pools.push(spare);
        if self.one_in(2) {
            world::tell_regions_apart(config);
        }
    }

    fn down(&mut self, config: &Config) -> Vec<(String, String)> {
        let all = config.pools.iter().flat_map(|pool| pool.endpoints.iter().map(move |one| (pool, one)));
        let all: Vec<_> = all.map(|(pool, one)| (pool.name.clone(), one.name.clone())).collect();
        all.into_iter().filter(|_| self.one_in(4)).collect()
    }

    /// A packet to a VIP mostly, and mostly to a port that is served.
    fn request(&mut self, config: &Config) -> ExplainRequest {
        let service = self.pick(&config.services);
        let family = if service.address.is_ipv4() { Family::V4 } else { Family::V6 };
        let listen = self.pick(&service.listen);
        let port = if self.one_in(8) { self.port() } else { listen.ports.first() };
        let to: IpAddr = if self.one_in(12) { world::lbx(family) } else { service.address };
        let protocol = if self.one_in(10) { self.pick(&Protocol::ALL) } else { listen.protocol };
        let from = match family {
            Family::V4 => IpAddr::from([192, 0, 2, self.pick(&[2, 77, 130, 200])]),
            Family::V6 => {
                format!("2001:db8:{}::{:x}", self.pick(&["2", "2:8000", "77"]), self.port()).parse().unwrap()
            }
        };
        ExplainRequest {
            from: (from, self.pick(&[1024, 2048, 4711, 5555, 60_000, 61_000, 62_000])).into(),
            to: (to, port).into(),
            protocol,
            established: protocol == Protocol::Tcp && self.one_in(3),
        }
    }
}

fn as_pairs(down: &[(String, String)]) -> Vec<(&str, &str)> {
    down.iter().map(|(pool, endpoint)| (pool.as_str(), endpoint.as_str())).collect()
}

/// Explains a packet, then has the kernel's programs do it. Returns what both say.
fn compare(lab: &Lab, request: &ExplainRequest) -> (ExplainReport, bool) {
    let (outcome, report) = lab.explain(request).unwrap();
    let before = lab.all_drops().unwrap();
    let frame = frame(request).unwrap();
    let kernel = lab.run(On::Public, &frame).unwrap();
    let after = lab.all_drops().unwrap();
    let dropped: BTreeMap<_, _> =
        after.iter().filter(|(key, count)| before.get(key) != Some(count)).collect();
    let reason = dropped.keys().next().map(|(_, reason)| reason.as_str().to_owned());
    let context = format!("{request:?}\n{report:#?}\n{outcome:?}\n{kernel:02x?}");
    assert_eq!(report.reason, reason, "{context}");
    let opened = (kernel.action == Action::Send).then(|| tunnel::unwrap(&kernel.frame).unwrap()).flatten();
    let expected = match (kernel.action, &opened) {
        (Action::Pass, _) => ExplainVerdict::Passed,
        (Action::Drop, _) => ExplainVerdict::Dropped,
        (Action::Send, None) => ExplainVerdict::Refused,
        (Action::Send, Some(_)) => ExplainVerdict::Forwarded,
    };
    assert_eq!(report.verdict, expected, "{context}");
    if let Some(opened) = opened {
        assert_eq!(kernel.frame, outcome.frame, "{context}");
        let inner = SlicedPacket::from_ip(&opened.inner).unwrap();
        let destination = match inner.net.unwrap() {
            NetSlice::Ipv4(ip) => IpAddr::from(ip.header().destination_addr()),
            NetSlice::Ipv6(ip) => IpAddr::from(ip.header().destination_addr()),
            NetSlice::Arp(_) => panic!("{context}"),
        };
        // The same place in TCP and UDP.
        let at = transport_at(&opened.inner);
        let port = u16::from_be_bytes([opened.inner[at + 2], opened.inner[at + 3]]);
        assert_eq!(report.destination, Some(SocketAddr::new(destination, port)), "{context}");
        let tunnel = report.tunnel.as_deref().unwrap_or_default();
        assert!(tunnel.ends_with("/only"), "{context}");
        // Without any weight there is no table; what is established goes by the one before.
        assert!(report.endpoint.is_some() && report.slot.is_some() == report.owner.is_some(), "{context}");
        assert!(report.slot.zip(report.slots).is_none_or(|(slot, slots)| slot < slots), "{context}");
    }
    assert!(!report.why.is_empty(), "{context}");
    (report, outcome.met.tracked)
}

#[test]
fn the_kernel_does_what_is_explained_over_random_configurations() {
    let seed = std::env::var("LBX_SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
        |seed| seed.parse().expect("LBX_SEED is a number"),
    );
    // Shown where the test fails.
    println!("LBX_SEED={seed}");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let packets = if lbx_tests::takes_long() { 10 * PACKETS } else { PACKETS };
    for number in 0..LABS {
        let mut random = Random::new(seed + number);
        let mut before = world::config();
        // Of no port, which some services do not name.
        before.monitors.push(Monitor { kind: MonitorKind::IcmpPing, ..Monitor::new("m".to_owned()) });
        let mut after = before.clone();
        random.change(&mut before);
        random.change(&mut after);
        let down = random.down(&before);
        let mut lab = Lab::with_down(&before, &as_pairs(&down)).unwrap();
        // Flows that are remembered from before a change of everything.
        for _ in 0..packets {
            lab.run(On::Public, &frame(&random.request(&before)).unwrap()).unwrap();
        }
        let down = random.down(&after);
        lab.change(&after, &as_pairs(&down)).unwrap();
        for _ in 0..packets {
            let (report, tracked) = compare(&lab, &random.request(&after));
            *counts.entry(report.verdict.as_str().to_owned()).or_default() += 1;
            *counts.entry("tracked".to_owned()).or_default() += usize::from(tracked);
            if let Some(reason) = report.reason {
                *counts.entry(reason).or_default() += 1;
            }
        }
    }
    println!("{counts:?}");
    for what in
        ["forwarded", "dropped", "refused", "passed", "tracked", "denied", "no_endpoint", "vip_no_service"]
    {
        assert!(counts.get(what).is_some_and(|&count| count >= 10), "{what}: {counts:?}");
    }
}

#[test]
fn a_connection_goes_where_it_was_explained_that_it_would() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let client = topology.client();
    let explain = |port: u16, more: &[&str]| {
        let (from, to) = (format!("{CLIENT}:{port}"), format!("{}:80/tcp", EAST.vip));
        let mut arguments = vec!["explain", "--from", &from, "--to", &to];
        arguments.extend(more);
        let explained = agent.ctl(&arguments).unwrap();
        assert_eq!(explained.code, Some(0), "{explained:?}");
        explained.stdout
    };
    let answers = |port: u16, origin: &str| {
        let text = explain(port, &[]);
        assert!(
            text.contains("forwarded") && text.contains(&format!("Endpoint:  east-web/{origin} at ")),
            "{text}"
        );
        assert!(text.contains("Service:   east (tcp/80)") && text.contains("Tunnel:    east/gre"), "{text}");
    };
    for port in 31_000..31_020 {
        let text = explain(port, &["-o", "json"]);
        let report: ExplainReport = serde_json::from_str(&text).unwrap();
        let origin = client.http_get(EAST.vip, port).unwrap().origin;
        assert_eq!(report.endpoint, Some(format!("east-web/{origin}")), "{report:?}");
        answers(port + 100, &client.http_get(EAST.vip, port + 100).unwrap().origin);
    }
    // A pin, after its endpoint takes no new flows any more.
    let connection = client.connect(EAST.vip, 80, 0).unwrap();
    drop(connection);
    topology.east.origin("a").unwrap().stop_servers();
    agent.wait_for_health("east-web", "a", HealthState::Unhealthy, PATIENCE).unwrap();
    let texts: Vec<_> = (32_000..32_040).map(|port| explain(port, &[])).collect();
    assert!(texts.iter().all(|text| text.contains("Endpoint:  east-web/b at ")), "{texts:?}");
    let moved =
        "east-web/a takes no new flows (unhealthy): east-web/b is the next that the slot's sequence names";
    assert!(texts.iter().any(|text| text.contains(moved)), "{texts:?}");
    topology.east.origin("b").unwrap().stop_servers();
    agent.wait_for_health("east-web", "b", HealthState::Unhealthy, PATIENCE).unwrap();
    let text = explain(33_000, &[]);
    assert!(text.contains("dropped (no_endpoint)"), "{text}");
    assert!(text.contains("- east-web/a takes no new flows: unhealthy"), "{text}");

    let ask = |to: &str| {
        let explained = agent.ctl(&["explain", "--from", "192.0.2.2:5555", "--to", to]).unwrap();
        assert_eq!(explained.code, Some(0), "{explained:?}");
        explained.stdout
    };
    let text = ask(&format!("{}:81/tcp", WEST.vip));
    let listens = format!("on {} there are tcp/80 (`west`), udp/53 (`west-dns`)", WEST.vip);
    assert!(text.contains("dropped (vip_no_service)") && text.contains(&listens), "{text}");
    assert!(ask("198.51.100.200:80/tcp").contains("passed\n- no service has the address 198.51.100.200"));
    let wrong = agent.ctl(&["explain", "--from", "192.0.2.2:5555", "--to", "[2001:db8::1]:80/tcp"]).unwrap();
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
}
