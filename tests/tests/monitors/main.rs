//! Every kind of monitor against real servers, through the tunnels of two virtual networks with the same addresses.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod servers;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use etherparse::PacketBuilder;
use lbx_common::api::{Config, Endpoint, HealthState, Monitor, MonitorKind, Pool, TrialReport};
use lbx_tests::{
    agent::{Agent, Source},
    config,
    family::Family,
    topology::{EAST, LAN_GATEWAY, LBX_UNDERLAY, Origin, Topology, VnetPlan, WEST},
    tunnel, wait,
};
use tempfile::TempDir;

use self::servers::{ANSWER, BANNER, DNS, HTTP, HTTPS, NAME, QUESTION, SMTP, Servers};

const PATIENCE: Duration = Duration::from_secs(30);
/// Time enough for a busy machine, and what a silent endpoint is waited for.
const TIMEOUT: Duration = Duration::from_millis(900);

/// A monitor, what it checks, and what it must find: nothing wrong, or a reason that ends like this.
struct Case {
    name: String,
    monitor: Monitor,
    endpoint: Endpoint,
    expected: Result<(), String>,
}

/// A monitor of a kind as it fits the servers of east's origin a.
fn monitor(kind: MonitorKind) -> Monitor {
    let port = match kind {
        MonitorKind::IcmpPing => None,
        MonitorKind::Tcp | MonitorKind::Http => Some(HTTP),
        MonitorKind::Https => Some(HTTPS),
        MonitorKind::Udp | MonitorKind::UdpIcmp => Some(DNS),
        MonitorKind::Smtp => Some(SMTP),
    };
    let monitor = Monitor {
        kind,
        port,
        interval: Duration::from_secs(1),
        timeout: TIMEOUT,
        ..Monitor::new(format!("my-{}", kind.as_str()))
    };
    let is_http = matches!(kind, MonitorKind::Http | MonitorKind::Https);
    Monitor {
        path: is_http.then(|| "/healthz".to_owned()),
        header: if is_http { [("Host".to_owned(), vec![NAME.to_owned()])].into() } else { BTreeMap::new() },
        expected_body: is_http.then(|| format!("{NAME} is well")),
        payload: kind.is_udp().then(|| QUESTION.parse().unwrap()),
        expect: (kind == MonitorKind::Udp).then(|| ANSWER.parse().unwrap()),
        ..monitor
    }
}

fn endpoint(plan: VnetPlan, origin: &Origin, family: Family) -> Endpoint {
    let address = origin.address(family);
    Endpoint { port: Some(80), ..Endpoint::new(origin.name().to_owned(), plan.name.to_owned(), address) }
}

/// What a refused port says.
fn refused(kind: MonitorKind, address: IpAddr) -> Result<(), String> {
    let port = monitor(kind).port.unwrap_or(0);
    let target = SocketAddr::new(address, port);
    match kind {
        MonitorKind::IcmpPing => Ok(()),
        MonitorKind::Udp | MonitorKind::UdpIcmp => Err(format!("port unreachable, says {target}")),
        MonitorKind::Tcp | MonitorKind::Http | MonitorKind::Https | MonitorKind::Smtp => {
            Err(format!("connection refused by {target}"))
        }
    }
}

/// Every kind in both families: right, refused at the same address of the other network, and not answered.
fn cases(topology: &Topology) -> Vec<Case> {
    let [a, same, silent] = [(&topology.east, "a"), (&topology.west, "a"), (&topology.west, "b")]
        .map(|(vnet, name)| (vnet.plan, vnet.origin(name).unwrap()));
    let mut cases = Vec::new();
    for family in Family::ALL {
        for kind in MonitorKind::ALL {
            let mut add = |what: &str, (plan, origin): (VnetPlan, &Origin), expected| {
                let name = format!("{}-{what}-{family}", kind.as_str()).to_lowercase();
                let monitor = Monitor { name: name.clone(), ..monitor(kind) };
                cases.push(Case { name, monitor, endpoint: endpoint(plan, origin, family), expected });
            };
            add("right", a, Ok(()));
            add("refused", same, refused(kind, same.1.address(family)));
            add("silent", silent, Err("no answer within 900ms".to_owned()));
        }
        for (what, monitor, expected) in wrong_and_special() {
            let name = format!("{what}-{family}").to_lowercase();
            let monitor = Monitor { name: name.clone(), ..monitor };
            cases.push(Case { name, monitor, endpoint: endpoint(a.0, a.1, family), expected });
        }
    }
    cases
}

/// Answers that are wrong, and forms that are right although they are not the plain ones.
fn wrong_and_special() -> Vec<(&'static str, Monitor, Result<(), String>)> {
    let http = |path: &str| Monitor { path: Some(path.to_owned()), ..monitor(MonitorKind::Http) };
    let https = || monitor(MonitorKind::Https);
    let other_name = || [("Host".to_owned(), vec!["other.test".to_owned()])].into();
    let wrong = |reason: &str| Err(reason.to_owned());
    vec![
        ("http-code", http("/broken"), wrong("HTTP 503 Service Unavailable, expected 200")),
        ("http-redirect", http("/moved"), wrong("HTTP 302 Found, expected 200")),
        ("http-followed", Monitor { follow_redirects: true, ..http("/moved") }, Ok(())),
        (
            "http-to-https",
            Monitor {
                follow_redirects: true,
                expected_body: Some(format!("{NAME}:{HTTPS} is well")),
                ..http("/secure")
            },
            Ok(()),
        ),
        (
            "http-missing",
            Monitor { follow_redirects: true, ..http("/missing") },
            wrong("HTTP 404 Not Found, expected 200"),
        ),
        (
            "http-codes",
            Monitor { expected_codes: Some("4xx,503".parse().unwrap()), expected_body: None, ..http("/x") },
            Ok(()),
        ),
        (
            "http-body",
            Monitor { expected_body: Some("ill".to_owned()), ..http("/healthz") },
            wrong("`ill` is not in the body, which begins with `www.lbx.test is Well`"),
        ),
        (
            "http-to-tls",
            Monitor { port: Some(HTTPS), ..http("/healthz") },
            wrong("connection before its response did"),
        ),
        (
            "https-name",
            Monitor { header: other_name(), ..https() },
            wrong("(`allow_insecure` would let it pass)"),
        ),
        (
            "https-any",
            Monitor { header: other_name(), allow_insecure: true, expected_body: None, ..https() },
            Ok(()),
        ),
        (
            "https-to-plain",
            Monitor { port: Some(HTTP), ..https() },
            wrong("received corrupt message of type InvalidContentType"),
        ),
        (
            "udp-other",
            Monitor { expect: Some("nothing".parse().unwrap()), ..monitor(MonitorKind::Udp) },
            wrong("no answer within 900ms: it waited for a datagram with what is expected in it"),
        ),
        ("udp-any", Monitor { expect: None, ..monitor(MonitorKind::Udp) }, Ok(())),
        (
            "smtp-to-http",
            Monitor { port: Some(HTTP), ..monitor(MonitorKind::Smtp) },
            wrong("no answer within 900ms: it waited for the greeting"),
        ),
        (
            "smtp-closed",
            Monitor { port: Some(BANNER), ..monitor(MonitorKind::Smtp) },
            wrong("ended the connection within the greeting: ``"),
        ),
    ]
}

/// A pool for each case, and nothing else.
fn with_cases(cases: &[Case]) -> Config {
    let mut config = config::of_both_families();
    config.services.clear();
    config.monitors = cases.iter().map(|case| case.monitor.clone()).collect();
    let pool = |case: &Case| Pool {
        monitor: Some(case.name.clone()),
        endpoints: vec![case.endpoint.clone()],
        ..Pool::new(case.name.clone())
    };
    config.pools = cases.iter().map(pool).collect();
    config
}

/// Makes a key and a certificate for [`NAME`], which is its own authority.
fn certify(directory: &Path) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    fs::write(directory.join("ca.pem"), made.cert.pem()).unwrap();
    fs::write(directory.join("server.pem"), made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
}

/// An agent that trusts the certificate, and the directory of the servers' files.
fn start(topology: &Topology, config: &Config) -> (Agent, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    certify(directory.path());
    let agent = Agent::new(topology, Source::File).unwrap();
    agent.write_config(config).unwrap();
    let mut command = agent.run_command().unwrap();
    command.env("SSL_CERT_FILE", directory.path().join("ca.pem"));
    agent.start_as(command).unwrap();
    (agent, directory)
}

/// Drops all that arrives but what finds neighbours.
const SILENCE: &str = "table inet silence {
    chain input {
        type filter hook input priority 0; policy drop;
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    }
}";

#[test]
fn every_kind_finds_right_refused_silent_and_wrong_answers_in_both_networks() {
    let topology = Topology::new().unwrap();
    let cases = cases(&topology);
    let (agent, directory) = start(&topology, &with_cases(&cases));
    let origin = topology.east.origin("a").unwrap();
    let addresses = Family::ALL.map(|family| origin.address(family));
    let _servers = Servers::start(&origin.netns, &addresses, directory.path());
    topology.west.origin("b").unwrap().netns.firewall(SILENCE).unwrap();
    // Two monitors ask the same origin for the same refusal, of which it sends one a second otherwise.
    topology.west.origin("a").unwrap().netns.sysctl("net/ipv4/icmp_ratelimit", "0").unwrap();

    // Those that are right must become so; the others are looked at when they are: what they found may be from
    // before the servers were there.
    let mut wrong = Vec::new();
    let found = wait::until("all verdicts", PATIENCE, || {
        let health = agent.health()?;
        let of = |case: &Case| {
            let pool = health.pools.iter().find(|pool| pool.pool == case.name)?;
            pool.endpoints.first().map(|endpoint| (endpoint.state, endpoint.reason.clone()))
        };
        wrong = cases
            .iter()
            .filter(|case| !of(case).is_some_and(|found| is_as_expected(case, &found)))
            .map(|case| format!("{}: {:?}, expected {:?}", case.name, of(case), case.expected))
            .collect();
        Ok(wrong.is_empty().then_some(()))
    });
    found.unwrap_or_else(|error| panic!("{error:#}\n{}", wrong.join("\n")));

    // What a user sees.
    let shown = agent.ctl(&["health", "http-body-ipv4"]).unwrap();
    assert!(shown.stdout.contains("`ill` is not in the body"), "{}", shown.stdout);
    assert_eq!(agent.ctl(&["describe", "monitor", "https-any-ipv6"]).unwrap().code, Some(0));
}

fn is_as_expected(case: &Case, (state, reason): &(HealthState, String)) -> bool {
    match &case.expected {
        Ok(()) => *state == HealthState::Healthy,
        Err(expected) => *state == HealthState::Unhealthy && reason.contains(expected.as_str()),
    }
}

#[test]
fn a_monitor_is_tried_step_by_step_also_on_what_it_does_not_check() {
    let topology = Topology::new().unwrap();
    let mut config = config::of_both_families();
    config.monitors.extend(MonitorKind::ALL.map(monitor));
    let tunnel = &mut config.virtual_networks[1].tunnels[0];
    (tunnel.monitor, tunnel.probe_address) = (Some("my-icmp_ping".to_owned()), Some(LAN_GATEWAY.into()));
    let (agent, directory) = start(&topology, &config);
    let origin = topology.east.origin("a").unwrap();
    let addresses = Family::ALL.map(|family| origin.address(family));
    let _servers = Servers::start(&origin.netns, &addresses, directory.path());
    for (kind, steps) in [
        (MonitorKind::Tcp, &["connect"][..]),
        (MonitorKind::Http, &["connect", "response", "body"]),
        (MonitorKind::Https, &["connect", "tls", "response", "body"]),
        (MonitorKind::IcmpPing, &["ping"]),
        (MonitorKind::UdpIcmp, &["ping", "datagram"]),
        (MonitorKind::Udp, &["answer"]),
        (MonitorKind::Smtp, &["connect", "greeting", "EHLO", "QUIT"]),
    ] {
        for pool in ["east-web", "east-dns6"] {
            let endpoint = format!("{pool}/a");
            let name = monitor(kind).name;
            let arguments = ["monitor", "test", &name, "--endpoint", &endpoint, "-o", "json"];
            let tried = agent.ctl(&arguments).unwrap();
            let report: TrialReport = serde_json::from_str(&tried.stdout).unwrap();
            assert_eq!(tried.code, Some(0), "{report:?}");
            let names: Vec<_> = report.steps.iter().map(|step| step.name.as_str()).collect();
            assert_eq!((names.as_slice(), report.success), (steps, true), "{report:?}");
            assert!(report.round_trip_us.is_some() && report.tunnel.is_some(), "{report:?}");
        }
    }
    // The same address in the other network has no such server.
    let tried = agent.ctl(&["monitor", "test", "my-http", "--endpoint", "west-web/a"]).unwrap();
    assert_eq!(tried.code, Some(5), "{tried:?}");
    assert!(tried.stderr.contains("the probe failed: connection refused by 10.0.0.10:8080"), "{tried:?}");
    // A tunnel, by its own monitor and by another one; and what is not there.
    let tried = agent.ctl(&["monitor", "test", "my-icmp_ping", "--tunnel", "west/vxlan"]).unwrap();
    assert!(tried.code == Some(0) && tried.stdout.contains("west/vxlan at 10.0.0.1 from"), "{tried:?}");
    let tried = agent.ctl(&["monitor", "test", "my-smtp", "--tunnel", "west/vxlan"]).unwrap();
    assert_eq!(tried.code, Some(5), "{tried:?}");
    let tried = agent.ctl(&["monitor", "test", "my-smtp", "--tunnel", "east/gre"]).unwrap();
    assert!(tried.code == Some(1) && tried.stderr.contains("probe_address: missing"), "{tried:?}");
    let tried = agent.ctl(&["monitor", "test", "my-smtp", "--endpoint", "east-web/nobody"]).unwrap();
    assert!(tried.code == Some(1) && tried.stderr.contains("nobody"), "{tried:?}");
    agent.wait_until_healthy(PATIENCE).unwrap();
}

#[test]
fn datagrams_of_a_virtual_network_reach_nobody_but_a_probe_that_waits() {
    let topology = Topology::new().unwrap();
    let agent = lbx_tests::agent::start_healthy_in(&topology, &config::of_both_families()).unwrap();
    // Whoever listens on all addresses of the host.
    let listener = topology.lbx.run(|| Ok(UdpSocket::bind("[::]:4242")?)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let send = |plan: VnetPlan| {
        let mut packet = Vec::new();
        let origin = [10, 0, 0, 10];
        let builder = PacketBuilder::ipv4(origin, plan.probe_source.octets(), 64).udp(53, 4242);
        builder.write(&mut packet, b"in").unwrap();
        let vnet = topology.vnet(plan.name).unwrap();
        let wrapped = tunnel::wrap(plan.encap, plan.gateway_address, LBX_UNDERLAY, plan.vni, &packet);
        tunnel::send(&vnet.gateway, &wrapped.unwrap()).unwrap();
    };
    let drops = |vnet: &str| {
        let all = agent.stats().unwrap().drops;
        let of = all
            .iter()
            .filter(|drop| drop.virtual_network.as_deref() == Some(vnet) && drop.reason == "probe_unasked");
        of.map(|drop| drop.packets).sum::<u64>()
    };
    for plan in [EAST, WEST] {
        assert_eq!(drops(plan.name), 0);
        send(plan);
        wait::until("it is counted", PATIENCE, || Ok((drops(plan.name) == 1).then_some(()))).unwrap();
    }
    let error = listener.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}
