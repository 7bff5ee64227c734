//! Sources that keep their endpoint: by a hash of the source, and with `ttl` also through changes of the pool.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use lbx_common::api::{AffinityKind, Config, HealthState, SessionAffinity};
use lbx_tests::{
    agent::start_healthy,
    config,
    topology::{EAST, PUBLIC_DEVICE, Topology},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(12);

/// Sources of the client, beside its first address.
fn sources() -> impl Iterator<Item = Ipv4Addr> {
    (100..140).map(|last| Ipv4Addr::new(192, 0, 2, last))
}

fn config(ttl: Option<Duration>) -> Config {
    let mut config = config::whole();
    let affinity = SessionAffinity { kind: AffinityKind::SourceIp, prefix_ipv4: 32, prefix_ipv6: 64, ttl };
    for name in [EAST.name.to_owned(), format!("{}-dns", EAST.name)] {
        let service = config.services.iter_mut().find(|service| service.name == name).unwrap();
        service.session_affinity = Some(affinity);
    }
    config
}

/// Gives the client its further addresses.
fn add_sources(topology: &Topology) {
    for source in sources() {
        topology.client_netns.ip(&format!("address add {source}/24 dev {PUBLIC_DEVICE}")).unwrap();
    }
}

/// Who answers each source, in three connections of its own.
fn homes(topology: &Topology) -> BTreeMap<Ipv4Addr, String> {
    let home = |source: Ipv4Addr| {
        let client = topology.client().with_address(source);
        let ask = || client.http_get(EAST.vip, 0).unwrap().origin;
        let first = ask();
        assert_eq!((ask(), ask()), (first.clone(), first.clone()), "flows of {source} are apart");
        (source, first)
    };
    sources().map(home).collect()
}

fn moved(before: &BTreeMap<Ipv4Addr, String>, after: &BTreeMap<Ipv4Addr, String>) -> usize {
    before.iter().filter(|(source, home)| after.get(source) != Some(home)).count()
}

#[test]
fn a_source_keeps_its_endpoint_through_changes_until_its_time_is_over() {
    let (topology, agent) = start_healthy(&config(Some(TTL))).unwrap();
    add_sources(&topology);
    let more = topology.east.more_origins(6).unwrap();
    let before = homes(&topology);
    assert!(before.values().any(|home| home == "a") && before.values().any(|home| home == "b"));
    let mut config = config(Some(TTL));
    config.pools[0].endpoints.extend(more.iter().map(|(endpoint, _)| endpoint.clone()));
    agent.change(&config, PATIENCE).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    assert_eq!(moved(&before, &homes(&topology)), 0, "six endpoints more");
    // One that takes no new flows loses its sources, for good.
    topology.east.gateway.ip("link set dev origin-b down").unwrap();
    agent.wait_for_health("east-web", "b", HealthState::Unhealthy, PATIENCE).unwrap();
    let without_b = homes(&topology);
    assert!(without_b.values().all(|home| home != "b"));
    for (source, home) in before.iter().filter(|(_, home)| *home == "a") {
        assert_eq!(without_b.get(source), Some(home), "a was there all the time");
    }
    topology.east.gateway.ip("link set dev origin-b up").unwrap();
    agent.wait_for_health("east-web", "b", HealthState::Healthy, PATIENCE).unwrap();
    assert_eq!(moved(&without_b, &homes(&topology)), 0, "b is back");
    // An agent that starts again changes nothing either.
    agent.kill().unwrap();
    agent.start().unwrap();
    assert_eq!(moved(&without_b, &homes(&topology)), 0, "another agent");
    // A source that was silent goes where the table says: most of them to the new endpoints.
    let silent = Instant::now();
    wait::until("the sources are forgotten", TTL + PATIENCE, || {
        Ok((silent.elapsed() > TTL + Duration::from_secs(1)).then_some(()))
    })
    .unwrap();
    let forgotten = homes(&topology);
    let on_new = forgotten.values().filter(|home| home.starts_with("more-")).count();
    assert!(on_new > sources().count() / 2, "{forgotten:?}");
}

#[test]
fn without_a_time_sources_go_where_the_table_says_at_once() {
    let (topology, agent) = start_healthy(&config(None)).unwrap();
    add_sources(&topology);
    let more = topology.east.more_origins(6).unwrap();
    let before = homes(&topology);
    let mut config = config(None);
    config.pools[0].endpoints.extend(more.iter().map(|(endpoint, _)| endpoint.clone()));
    agent.change(&config, PATIENCE).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    assert!(moved(&before, &homes(&topology)) > sources().count() / 2);
}

#[test]
fn datagrams_of_a_source_keep_their_endpoint_likewise() {
    let (topology, agent) = start_healthy(&config(Some(TTL))).unwrap();
    add_sources(&topology);
    let ask = |source: Ipv4Addr, port: u16| {
        topology.client().with_address(source).udp_exchange(EAST.vip, port, b"?").unwrap().origin
    };
    let homes = |port: u16| -> Vec<String> { sources().map(|source| ask(source, port)).collect() };
    let before = homes(41_000);
    let mut config = config(Some(TTL));
    config::set_weights(&mut config, EAST.name, [0.1, 1.0]);
    for endpoint in
        config.pools.iter_mut().filter(|pool| pool.name == "east-dns").flat_map(|pool| &mut pool.endpoints)
    {
        endpoint.weight = if endpoint.name == "a" { 0.1 } else { 1.0 };
    }
    agent.change(&config, PATIENCE).unwrap();
    assert!(before.iter().filter(|home| *home == "a").count() > 10, "{before:?}");
    assert_eq!(homes(41_001), before, "new flows");
    assert_eq!(homes(41_000), before, "and those that there were");
}
