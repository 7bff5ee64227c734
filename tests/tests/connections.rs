//! Connections survive change: whatever happens to pools, endpoints, tables and the agent, no connection to an endpoint
//! that is still usable is reset, moved or held up.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lbx_common::api::{Config, ConnectionTracking, Endpoint, HealthState};
use lbx_tests::{
    agent::{Agent, start_healthy, start_healthy_in},
    capture::Capture,
    client::Client,
    config,
    crowd::Crowd,
    homes,
    topology::{EAST, Topology, UNDERLAY_DEVICE, WEST},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// The longest that a request on an open connection may take while its endpoint is usable.
const STALL: Duration = Duration::from_secs(1);

/// How many connections of each kind.
fn crowd_size() -> usize {
    if lbx_tests::takes_long() { 200 } else { 40 }
}

/// The origins that new connections get.
fn new_connections(client: &Client, count: usize) -> BTreeSet<String> {
    (0..count).map(|_| client.http_get(EAST.vip, 0).unwrap().origin).collect()
}

fn endpoint<'a>(config: &'a mut Config, name: &str) -> &'a mut Endpoint {
    let pool = config.pools.first_mut().unwrap();
    pool.endpoints.iter_mut().find(|endpoint| endpoint.name == name).unwrap()
}

#[test]
fn connections_survive_every_change_of_their_pool() {
    let mut config = config::whole();
    // In the long form, more than the usual time goes by after endpoints were removed.
    config.services.iter_mut().for_each(|service| service.drain = Duration::from_hours(1));
    let (topology, agent) = start_healthy(&config).unwrap();
    let client = topology.client();
    let captures =
        topology.vnets().map(|vnet| (vnet.plan, Capture::start(&vnet.gateway, UNDERLAY_DEVICE).unwrap()));
    let more = topology.east.more_origins(11).unwrap();
    let mut crowds = [EAST, WEST].map(|plan| Crowd::gather(&client, plan, crowd_size()).unwrap());
    let mut step = |what: &str, config: &Config, agent: &Agent| {
        agent.change(config, PATIENCE).unwrap();
        agent.wait_until_healthy(PATIENCE).unwrap();
        for crowd in &mut crowds {
            crowd.go_on().unwrap();
            crowd.wake(what).unwrap();
        }
        // Those that begin now must survive the next change as well.
        crowds[0].open_idle(&client, EAST, 5).unwrap();
    };
    config.pools[0].endpoints.push(more[0].0.clone());
    step("one endpoint more", &config, &agent);
    config.pools[0].endpoints.extend(more[1..].iter().map(|(endpoint, _)| endpoint.clone()));
    step("ten endpoints more", &config, &agent);
    endpoint(&mut config, "a").drained = true;
    step("one drained", &config, &agent);
    assert!(!new_connections(&client, 60).contains("a"), "a drained endpoint gets new connections");
    for (endpoint, _) in &more[..7] {
        self::endpoint(&mut config, &endpoint.name).drained = true;
    }
    step("more than half drained", &config, &agent);
    let drained: BTreeSet<String> = more[..7].iter().map(|(endpoint, _)| endpoint.name.clone()).collect();
    assert!(new_connections(&client, 60).is_disjoint(&drained));
    config.pools[0].endpoints.iter_mut().for_each(|endpoint| endpoint.drained = false);
    step("none drained", &config, &agent);
    endpoint(&mut config, "b").weight = 0.0;
    step("weight 0", &config, &agent);
    assert!(!new_connections(&client, 60).contains("b"), "an endpoint without weight gets new connections");
    endpoint(&mut config, "b").weight = 0.5;
    step("half a weight", &config, &agent);
    config.pools[0].table_size = Some(8191);
    step("another table size", &config, &agent);
    config.node.hash_seed = Some("31".repeat(16));
    step("another hash seed", &config, &agent);
    config.pools[0].endpoints.truncate(3);
    step("nine endpoints removed", &config, &agent);
    agent.kill().unwrap();
    agent.start().unwrap();
    config.pools[0].endpoints.truncate(2);
    step("killed in the middle of a transition, and one removed", &config, &agent);
    let mut other = config.pools[0].clone();
    other.name = "other".to_owned();
    other.endpoints = more[3..7].iter().map(|(endpoint, _)| endpoint.clone()).collect();
    config.pools.push(other);
    config.services[0].pools = vec!["other".to_owned()];
    step("another pool", &config, &agent);
    assert!(new_connections(&client, 30).iter().all(|origin| origin.starts_with("more-")));
    config.services[0].pools = vec![config.pools[0].name.clone()];
    step("the pool of before again", &config, &agent);
    agent.terminate().unwrap();
    agent.start().unwrap();
    config.pools[0].name = "renamed".to_owned();
    config.services[0].pools = vec!["renamed".to_owned()];
    step("stopped, and the pool renamed", &config, &agent);
    for crowd in crowds {
        let longest = crowd.disperse().unwrap();
        assert!(longest < STALL, "a request took {longest:?}");
    }
    for (plan, capture) in captures {
        let (connections, packets) =
            homes::check(&capture.stop().unwrap(), plan.probe_source.into()).unwrap();
        println!("{}: {packets} packets of {connections} connections, each to its own endpoint", plan.name);
        assert!(connections >= 2 * crowd_size() && packets > 10 * connections);
    }
}

#[test]
fn connections_do_not_notice_an_agent_that_ends_and_starts_again_and_again() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let client = topology.client();
    let mut crowd = Crowd::gather(&client, EAST, crowd_size()).unwrap();
    let mut config = config::whole();
    for turn in 0..if lbx_tests::takes_long() { 20 } else { 3 } {
        let weight = if turn % 2 == 0 { 0.3 } else { 1.0 };
        config::set_weights(&mut config, EAST.name, [1.0, weight]);
        // The agent reads the file when it sees it: a kill may come before, after, or in the middle.
        agent.write_config(&config).unwrap();
        agent.kill().unwrap();
        agent.start().unwrap();
        crowd.wake("the agent was killed").unwrap();
        crowd.open_idle(&client, EAST, 3).unwrap();
        agent.terminate().unwrap();
        crowd.go_on().unwrap();
        agent.start().unwrap();
        crowd.wake("the agent was stopped").unwrap();
    }
    let longest = crowd.disperse().unwrap();
    assert!(longest < STALL, "a request took {longest:?}");
}

#[test]
fn connections_that_are_used_outlive_the_time_of_a_change() {
    const TRANSITION: Duration = Duration::from_secs(6);
    let mut config = config::whole();
    config.timers.transition = TRANSITION;
    let (topology, agent) = start_healthy(&config).unwrap();
    let client = topology.client();
    let mut crowd = Crowd::gather(&client, EAST, crowd_size()).unwrap();
    let more = topology.east.more_origins(4).unwrap();
    config.pools[0].endpoints.extend(more.iter().map(|(endpoint, _)| endpoint.clone()));
    agent.change(&config, PATIENCE).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    // The verdicts on the new ones are no changes; the time began before.
    let began = Instant::now();
    while began.elapsed() < TRANSITION + Duration::from_secs(2) {
        crowd.go_on().unwrap();
        crowd.wake("a change whose time is over").unwrap();
    }
    assert!(new_connections(&client, 60).len() > 2, "new connections go by the new table");
    crowd.disperse().unwrap();
}

#[test]
fn connections_wait_for_an_endpoint_that_is_down_and_new_ones_do_not() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let client = topology.client();
    let mut east = Crowd::gather(&client, EAST, 0).unwrap();
    east.open_idle(&client, EAST, crowd_size()).unwrap();
    assert!(east.idle_on("a") > 0 && east.idle_on("b") > 0);
    for _ in 0..2 {
        topology.east.gateway.ip("link set dev origin-a down").unwrap();
        agent.wait_for_health("east-web", "a", HealthState::Unhealthy, PATIENCE).unwrap();
        let down = Instant::now();
        while down.elapsed() < Duration::from_secs(3) {
            assert_eq!(new_connections(&client, 30), BTreeSet::from(["b".to_owned()]));
        }
        // They begin where the hash says a, and must not go there when it is back.
        east.open_idle(&client, EAST, crowd_size()).unwrap();
        topology.east.gateway.ip("link set dev origin-a up").unwrap();
        agent.wait_for_health("east-web", "a", HealthState::Healthy, PATIENCE).unwrap();
        east.wake("an endpoint was down").unwrap();
        assert_eq!(new_connections(&client, 60).len(), 2, "new connections follow at once");
    }
}

#[test]
fn a_drained_endpoint_keeps_its_connections_for_as_long_as_the_service_says() {
    const DRAIN: Duration = Duration::from_secs(6);
    let mut config = config::whole();
    config.services[0].drain = DRAIN;
    let (topology, agent) = start_healthy(&config).unwrap();
    let client = topology.client().with_timeout(Duration::from_secs(2));
    let mut east = Crowd::gather(&client, EAST, 0).unwrap();
    east.open_idle(&client, EAST, crowd_size()).unwrap();
    let on_a = east.idle_on("a");
    assert!(on_a > 0);
    endpoint(&mut config, "a").drained = true;
    let began = Instant::now();
    agent.change(&config, PATIENCE).unwrap();
    while began.elapsed() + Duration::from_secs(1) < DRAIN {
        assert_eq!(new_connections(&client, 10), BTreeSet::from(["b".to_owned()]));
        assert_eq!(east.count_alive_on("a").unwrap(), on_a, "after {:?}", began.elapsed());
    }
    wait::until("the endpoint is released", PATIENCE, || Ok((east.count_alive_on("a")? == 0).then_some(())))
        .unwrap();
    assert!(began.elapsed() >= DRAIN);
    // Back again, it gets new connections at once.
    endpoint(&mut config, "a").drained = false;
    agent.change(&config, PATIENCE).unwrap();
    assert_eq!(new_connections(&client, 60).len(), 2);
}

#[test]
fn a_removed_endpoint_is_gone_when_its_time_is_over() {
    let mut config = config::whole();
    config.services[0].drain = Duration::from_secs(4);
    config.services[0].connection_tracking = ConnectionTracking::Always;
    config.timers.transition = Duration::from_secs(8);
    let topology = Topology::new().unwrap();
    let agent = start_healthy_in(&topology, &config).unwrap();
    let client = topology.client().with_timeout(Duration::from_secs(2));
    let mut east = Crowd::gather(&client, EAST, 0).unwrap();
    east.open_idle(&client, EAST, crowd_size()).unwrap();
    config.pools[0].endpoints.retain(|endpoint| endpoint.name != "a");
    agent.change(&config, PATIENCE).unwrap();
    assert!(east.count_alive_on("a").unwrap() > 0, "its connections end at once");
    assert_eq!(new_connections(&client, 30), BTreeSet::from(["b".to_owned()]));
    wait::until("the endpoint is released", PATIENCE, || Ok((east.count_alive_on("a")? == 0).then_some(())))
        .unwrap();
}

#[test]
fn flows_of_udp_leave_a_drained_endpoint_when_they_pause_or_its_time_is_over() {
    const DRAIN: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(3);
    let mut config = config::whole();
    let service =
        config.services.iter_mut().find(|one| one.name.contains("dns") && one.address == EAST.vip).unwrap();
    service.drain = DRAIN;
    let pool = service.pools[0].clone();
    config.timers.udp_idle = IDLE;
    let (topology, agent) = start_healthy(&config).unwrap();
    let client = topology.client();
    let ask = |port: u16| client.udp_exchange(EAST.vip, port, b"?").unwrap().origin;
    let ports = 42_000..42_040;
    let before: Vec<String> = ports.clone().map(ask).collect();
    let pool = config.pools.iter_mut().find(|one| one.name == pool).unwrap();
    pool.endpoints.iter_mut().find(|endpoint| endpoint.name == "a").unwrap().drained = true;
    // Before the change is in force, so less time has passed for the endpoint than this says.
    let drained = Instant::now();
    agent.change(&config, PATIENCE).unwrap();
    let in_force = Instant::now();
    let mut fresh = 43_000..;
    let mut elsewhere = 0;
    while drained.elapsed() + Duration::from_secs(2) < DRAIN {
        let began = Instant::now();
        let now: Vec<String> = ports.clone().map(ask).collect();
        assert!(began.elapsed() < IDLE, "this machine is too slow for the test");
        assert_eq!(now, before, "a flow that does not pause moved after {:?}", drained.elapsed());
        if in_force.elapsed() > IDLE {
            let new: BTreeSet<String> = fresh.by_ref().take(20).map(ask).collect();
            assert_eq!(new, BTreeSet::from(["b".to_owned()]), "after {:?}", drained.elapsed());
            elsewhere += 1;
        }
    }
    assert!(elsewhere > 0 && before.iter().any(|origin| origin == "a"));
    wait::until("the endpoint is released", PATIENCE, || {
        Ok(ports.clone().map(ask).all(|origin| origin == "b").then_some(()))
    })
    .unwrap();
    assert!(drained.elapsed() >= DRAIN);
}
