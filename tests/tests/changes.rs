//! Changes of a running configuration: what they must move, and what they must leave alone.

use std::time::Duration;

use lbx_common::api::{AttachMode, HealthState};
use lbx_tests::{
    agent::{Agent, start_healthy},
    config,
    topology::{EAST, PUBLIC_DEVICE, Topology, WEST},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// The origins that answer at east's VIP, over fifty flows; those without an answer count as failed.
fn who_answers(topology: &Topology) -> (Vec<String>, usize) {
    let client = topology.client().with_timeout(Duration::from_millis(500));
    let answers: Vec<_> = (25_000..25_050).map(|port| client.http_get(EAST.vip, port)).collect();
    let failed = answers.iter().filter(|answer| answer.is_err()).count();
    let mut names: Vec<String> = answers.into_iter().flatten().map(|answer| answer.origin).collect();
    names.sort();
    names.dedup();
    (names, failed)
}

#[test]
fn an_endpoint_that_gets_another_address_has_no_traffic_before_its_first_probe() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let mut changed = config::whole();
    // Nobody is there.
    changed.pools[0].endpoints[0].address = [10, 0, 0, 77].into();
    agent.change(&changed, PATIENCE).unwrap();
    let (names, failed) = who_answers(&topology);
    assert_eq!((names, failed), (vec!["b".to_owned()], 0));
    assert_eq!(agent.health_of("west-web", "a").unwrap(), HealthState::Healthy);

    // And one that is there is taken in as soon as it has been probed.
    agent.change(&config::whole(), PATIENCE).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    assert_eq!(who_answers(&topology), (vec!["a".to_owned(), "b".to_owned()], 0));
}

#[test]
fn an_endpoint_that_moves_to_another_network_takes_no_health_with_it() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    topology.west.origin("b").unwrap().stop_servers();
    agent.wait_for_health("west-web", "b", HealthState::Unhealthy, PATIENCE).unwrap();
    let mut changed = config::whole();
    // West has no service any more that its endpoint could collide with.
    changed.services.retain(|service| service.name != "west");
    changed.pools[0].endpoints[1].virtual_network = "west".to_owned();
    agent.change(&changed, PATIENCE).unwrap();
    let client = topology.client().with_timeout(Duration::from_millis(500));
    for port in 25_100..25_150 {
        let answer = client.http_get(EAST.vip, port).unwrap();
        assert_eq!((answer.vnet.as_str(), answer.origin.as_str()), ("east", "a"), "port {port}");
    }
}

#[test]
fn renaming_a_pool_and_its_endpoints_interrupts_nothing() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let mut renamed = config::whole();
    renamed.pools[0].name = "shop".to_owned();
    renamed.pools[0].endpoints[0].name = "first".to_owned();
    renamed.services[0].pools = vec!["shop".to_owned()];
    agent.change(&renamed, PATIENCE).unwrap();
    assert_eq!(who_answers(&topology), (vec!["a".to_owned(), "b".to_owned()], 0));
}

#[test]
fn generic_mode_works_says_that_it_is_slow_and_can_be_left() {
    let mut generic = config::whole();
    for interface in &mut generic.node.interfaces {
        interface.mode = AttachMode::Generic;
    }
    let (topology, agent) = start_healthy(&generic).unwrap();
    let modes = |agent: &Agent| -> Vec<_> {
        agent.status().unwrap().interfaces.into_iter().map(|interface| interface.mode).collect()
    };
    assert_eq!(modes(&agent), [Some(AttachMode::Generic); 2]);
    let status = agent.ctl(&["status"]).unwrap().stdout;
    assert!(status.contains("generic mode is slow"), "{status}");
    for vnet in topology.vnets() {
        assert_eq!(topology.client().http_get(vnet.plan.vip, 0).unwrap().vnet, vnet.plan.name);
        topology.client().download(vnet.plan.vip, 0, 1_000_000).unwrap().finish().unwrap();
    }

    agent.change(&config::whole(), PATIENCE).unwrap();
    assert_eq!(modes(&agent), [Some(AttachMode::Native); 2]);
    topology.client().http_get(WEST.vip, 0).unwrap();
}

#[test]
fn a_device_without_native_xdp_is_attached_in_generic_mode_with_a_warning() {
    let topology = Topology::new().unwrap();
    topology.lbx.ip("link add bridge0 type bridge").unwrap();
    let mut config = config::whole();
    let mut bridge = config.node.interfaces[0].clone();
    (bridge.name, bridge.mode) = ("bridge0".to_owned(), AttachMode::Auto);
    config.node.interfaces.push(bridge.clone());
    let agent = Agent::start_with(&topology, &config).unwrap();
    let status = agent.status().unwrap();
    let of = |name: &str| status.interfaces.iter().find(|interface| interface.name == name).unwrap();
    assert_eq!(of("bridge0").mode, Some(AttachMode::Generic));
    assert_eq!(of("bridge0").warnings[0], "generic mode is slow");
    assert_eq!(of(PUBLIC_DEVICE).mode, Some(AttachMode::Native));
    assert_eq!(of(PUBLIC_DEVICE).warnings, Vec::<String>::new());

    // Asked for native mode, it is refused, and the one before stays in force.
    config.node.interfaces[2].mode = AttachMode::Native;
    let told = agent.log().matches("stays in force").count();
    agent.write_config(&config).unwrap();
    wait::until("it is refused", PATIENCE, || {
        Ok((agent.log().matches("stays in force").count() > told).then_some(()))
    })
    .unwrap();
    assert!(agent.log().contains("bridge0 has no native XDP"), "{}", agent.log());
    assert_eq!(agent.status().unwrap().interfaces[2].mode, Some(AttachMode::Generic));
}
