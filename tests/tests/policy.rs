//! Who may connect to a service and how fast, with real clients, while the policy changes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lbx_common::api::{Config, DropCount, Prefix, Service};
use lbx_tests::{
    agent::{Agent, Source},
    client::Client,
    config,
    family::Family,
    servers::UDP_PORT,
    topology::{CLIENT, CLIENT_V6, EAST, PUBLIC_DEVICE, Topology, WEST},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// A client that is refused waits this long; less than the second after which TCP tries again.
const SHORT: Duration = Duration::from_millis(500);
/// Another client on the client's network.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x200);

/// The whole configuration in force in both families, in the agent's own store; a second client beside the first.
fn start() -> (Topology, Agent) {
    let topology = Topology::new().unwrap();
    topology.client_netns.ip(&format!("addr add {OTHER}/24 dev {PUBLIC_DEVICE}")).unwrap();
    topology.client_netns.ip(&format!("addr add {OTHER_V6}/64 dev {PUBLIC_DEVICE} nodad")).unwrap();
    let agent = Agent::new(&topology, Source::Store).unwrap();
    agent.start().unwrap();
    apply(&agent, &config::of_both_families());
    agent.wait_until_healthy(PATIENCE).unwrap();
    (topology, agent)
}

fn ctl(agent: &Agent, arguments: &[&str]) {
    let done = agent.ctl(arguments).unwrap();
    assert_eq!(done.code, Some(0), "lbx-ctl {arguments:?}: {}", done.stderr);
}

fn apply(agent: &Agent, config: &Config) {
    agent.write_config(config).unwrap();
    ctl(agent, &["apply", "-f", agent.config_file().to_str().unwrap()]);
}

fn drops(agent: &Agent, reason: &str) -> u64 {
    let of = |drop: &&DropCount| drop.virtual_network.is_none() && drop.reason == reason;
    agent.stats().unwrap().drops.iter().find(of).map_or(0, |drop| drop.packets)
}

fn from(topology: &Topology, address: impl Into<IpAddr>) -> Client {
    topology.client().with_address(address).with_timeout(SHORT)
}

fn gets(client: &Client, vip: IpAddr) -> bool {
    client.http_get(vip, 0).is_ok()
}

#[test]
fn lists_decide_at_once_who_may_connect() {
    let (topology, agent) = start();
    for (service, vip, one, other, around) in [
        ("east", EAST.vip_of(Family::V4), IpAddr::from(CLIENT), IpAddr::from(OTHER), "192.0.2.0/25"),
        ("east6", EAST.vip_of(Family::V6), CLIENT_V6.into(), OTHER_V6.into(), "2001:db8:2::/120"),
    ] {
        let (mine, its) = (from(&topology, one), from(&topology, other));
        let bits = if one.is_ipv4() { 32 } else { 128 };
        let only = |address: IpAddr| format!("{address}/{bits}");
        assert!(gets(&mine, vip) && gets(&its, vip), "without a policy");
        let before = drops(&agent, "denied");

        ctl(&agent, &["set", "service", service, "--deny", &only(other)]);
        assert!(gets(&mine, vip) && !gets(&its, vip), "deny");
        let denied = drops(&agent, "denied");
        assert!(denied > before);
        assert!(gets(&its, WEST.vip_of(if one.is_ipv4() { Family::V4 } else { Family::V6 })), "elsewhere");

        // What is open ends with the right to it, and comes back with it.
        let mut open = mine.connect(vip, 80, 0).unwrap();
        open.get().unwrap();
        ctl(&agent, &["set", "service", service, "--deny", &only(one)]);
        assert!(gets(&its, vip), "deny another");
        open.get().unwrap_err();

        ctl(&agent, &["set", "service", service, "--allow", around, "--unset", "deny"]);
        assert!(gets(&mine, vip) && !gets(&its, vip), "allow");
        ctl(&agent, &["set", "service", service, "--deny", &only(one)]);
        assert!(!gets(&mine, vip) && !gets(&its, vip), "deny within allow");
        ctl(&agent, &["set", "service", service, "--unset", "allow,deny"]);
        assert!(gets(&mine, vip) && gets(&its, vip), "none again");
        assert!(drops(&agent, "denied") > denied);
    }
}

/// What a client sent before is through when this is answered; so no queue on the way overflows.
fn wait_for_what_was_sent(client: &Client) {
    client.udp_exchange(WEST.vip, 0, b"and this").unwrap();
}

/// Ten thousand prefixes, none of which holds a client; different ones for each `network`.
fn many(network: u8, last: Ipv4Addr) -> Vec<Prefix> {
    let prefix = |i: u32| -> Prefix {
        let [.., third, fourth] = i.to_be_bytes();
        format!("{network}.{third}.{fourth}.0/24").parse().unwrap()
    };
    (0..9999).map(prefix).chain([format!("{last}/32").parse().unwrap()]).collect()
}

#[test]
fn a_list_of_ten_thousand_is_replaced_in_one_go_and_nobody_slips_through() {
    let (topology, agent) = start();
    let pace = from(&topology, OTHER).with_timeout(PATIENCE);
    let socket = from(&topology, OTHER).udp_socket(SocketAddr::new(EAST.vip.into(), UDP_PORT), 0).unwrap();
    let mut lists = config::of_both_families();
    let in_packets = |agent: &Agent| {
        let stats = agent.stats().unwrap();
        stats.services.iter().find(|one| one.service == "east-dns").unwrap().traffic.in_packets
    };
    // The other client is denied by whichever list is in force, and by those of either kind.
    let changes = |round: u8, service: &mut Service| {
        if round.is_multiple_of(2) {
            (service.allow, service.deny) = (Vec::new(), many(20 + round, OTHER));
        } else {
            (service.allow, service.deny) = (many(20 + round, CLIENT), Vec::new());
        }
    };
    let dns = lists.services.iter().position(|service| service.name == "east-dns").unwrap();
    changes(0, &mut lists.services[dns]);
    apply(&agent, &lists);
    let (stop, sent_before) = (AtomicBool::new(false), in_packets(&agent));
    let denied_before = drops(&agent, "denied");
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut sent = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    sent += u64::from(socket.send(b"let me in").is_ok());
                }
                wait_for_what_was_sent(&pace);
            }
            sent
        });
        for round in 1..6 {
            changes(round, &mut lists.services[dns]);
            let start = Instant::now();
            apply(&agent, &lists);
            let took = start.elapsed();
            println!("10,000 prefixes replaced in {took:?}");
            assert!(took < PATIENCE, "{took:?}");
            let exchange = from(&topology, CLIENT).with_timeout(PATIENCE).udp_exchange(EAST.vip, 0, b"x");
            assert_eq!(exchange.unwrap().vnet, "east");
        }
        stop.store(true, Ordering::Relaxed);
        let sent = flood.join().unwrap();
        assert!(sent > 1000, "{sent} datagrams were sent");
        assert_eq!(in_packets(&agent) - sent_before, 5, "the exchanges of the client that may");
        wait::until("every other is counted", PATIENCE, || {
            Ok((drops(&agent, "denied") - denied_before == sent).then_some(()))
        })
        .unwrap();
    });
}

#[test]
fn a_source_opens_connections_at_its_rate() {
    let (topology, agent) = start();
    ctl(&agent, &["set", "service", "east", "--rate-limit-per-source", "4"]);
    let (mine, its) = (from(&topology, CLIENT), from(&topology, OTHER));
    let mut open = mine.connect(EAST.vip, 80, 0).unwrap();
    // A connection that is refused waits for half a second, in which two more may begin.
    let started = Instant::now();
    let begun: u32 = (0..12).map(|_| u32::from(gets(&mine, EAST.vip.into()))).sum();
    let may = 4.0 + 4.0 * started.elapsed().as_secs_f64();
    assert!((4..12).contains(&begun) && f64::from(begun) <= may, "{begun} of 12, in {:?}", started.elapsed());
    assert!(drops(&agent, "rate_limited") >= 12 - u64::from(begun));
    open.get().unwrap();
    assert!(gets(&its, EAST.vip.into()), "another source has its own");
    wait::until("more may begin", PATIENCE, || Ok(gets(&mine, EAST.vip.into()).then_some(()))).unwrap();

    ctl(&agent, &["set", "service", "east", "--unset", "rate-limit"]);
    let limited = drops(&agent, "rate_limited");
    assert!((0..30).all(|_| gets(&mine, EAST.vip.into())));
    assert_eq!(drops(&agent, "rate_limited"), limited);
}

#[test]
fn a_service_takes_flows_of_all_sources_at_its_rate() {
    let (topology, agent) = start();
    ctl(&agent, &["set", "service", "east-dns", "--rate-limit", "50"]);
    let to = SocketAddr::new(EAST.vip.into(), UDP_PORT);
    let sockets = [CLIENT, OTHER].map(|address| from(&topology, address).udp_socket(to, 0).unwrap());
    let pace = from(&topology, CLIENT).with_timeout(PATIENCE);
    let (started, mut sent) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(2) {
        for _ in 0..10 {
            for socket in &sockets {
                assert_eq!(socket.send(b"x").unwrap(), 1);
            }
            sent += 2;
        }
        wait_for_what_was_sent(&pace);
    }
    let seconds = started.elapsed().as_secs_f64();
    let through = || -> u64 {
        let stats = agent.stats().unwrap();
        stats.services.iter().find(|one| one.service == "east-dns").unwrap().traffic.in_packets
    };
    wait::until("every datagram is counted", PATIENCE, || {
        Ok((through() + drops(&agent, "rate_limited") == sent).then_some(()))
    })
    .unwrap();
    // A bucket of one second, and what flows into it; two CPUs may take the same flow now and then.
    let through = f64::from(u32::try_from(through()).unwrap());
    let expected = 50.0 + 50.0 * seconds;
    assert!((through - expected).abs() <= 5.0, "{through} in {seconds} s instead of {expected}");
}

#[test]
fn a_policy_stays_in_force_without_the_agent_and_the_next_one_adopts_it_without_a_write() {
    let (topology, agent) = start();
    let mut lists = config::of_both_families();
    for service in &mut lists.services {
        service.rate_limit.per_source = 1000;
    }
    lists.services[0].deny = many(30, OTHER);
    let v6 = lists.services.iter_mut().find(|service| service.name == "east6").unwrap();
    v6.allow = vec![format!("{CLIENT_V6}/128").parse().unwrap()];
    apply(&agent, &lists);
    let check = |when: &str| {
        for (vip, one, other) in [
            (EAST.vip_of(Family::V4), IpAddr::from(CLIENT), IpAddr::from(OTHER)),
            (EAST.vip_of(Family::V6), CLIENT_V6.into(), OTHER_V6.into()),
        ] {
            assert!(gets(&from(&topology, one), vip), "{when}");
            assert!(!gets(&from(&topology, other), vip), "{when}");
        }
    };
    check("before");
    agent.kill().unwrap();
    check("without an agent");
    agent.start().unwrap();
    wait::until("every endpoint is probed and every gateway resolved", PATIENCE, || {
        let health = agent.health()?;
        let monitored = health.pools.iter().filter(|pool| pool.monitor.is_some());
        let mut probed = monitored.flat_map(|pool| &pool.endpoints);
        let resolved = agent.status()?.tunnels.iter().all(|tunnel| tunnel.next_hop.is_some());
        Ok((resolved && probed.all(|endpoint| endpoint.round_trip_us.is_some())).then_some(()))
    })
    .unwrap();
    let status = agent.status().unwrap();
    assert_eq!((status.adopted, status.map_writes), (true, 0));
    check("with the next agent");
    // It knows what it has adopted: a change of it is one.
    ctl(&agent, &["set", "service", "east", "--unset", "deny"]);
    assert!(gets(&from(&topology, OTHER), EAST.vip.into()));
}
