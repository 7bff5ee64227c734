//! A thousand objects change at once while others are in use: quickly, and nobody notices.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lbx_common::api::{Config, Listen, Pool, Ports, Protocol, Service};
use lbx_tests::{
    agent::{Agent, start_healthy},
    busy::Busy,
    client::Client,
    config,
    topology::{EAST, VnetPlan, WEST},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// From the signal to the answer that the new configuration is in force.
const QUICK: Duration = Duration::from_secs(5);
/// The longest that a request on an open connection may take meanwhile.
const STALL: Duration = Duration::from_secs(1);
/// Pools, and services with one of them each.
const PAIRS: u16 = 500;

/// The services in use, and a thousand other objects, in one of two forms that differ in each of these.
fn config(form: u16) -> Config {
    let mut config = config::whole();
    let (pool, service) = (config.pools.first().unwrap().clone(), config.services.first().unwrap().clone());
    for number in 0..PAIRS {
        let [high, low] = number.to_be_bytes();
        let name = format!("extra-{number}");
        let mut endpoints = pool.endpoints.clone();
        for (host, endpoint) in (1..).zip(&mut endpoints) {
            endpoint.address = Ipv4Addr::new(10, host, high, low).into();
            endpoint.weight = if form == 0 { 1.0 } else { f64::from(host) / 4.0 };
        }
        config.pools.push(Pool { name: name.clone(), monitor: None, endpoints, ..pool.clone() });
        let port = Ports::One(8000 + form);
        config.services.push(Service {
            address: Ipv4Addr::new(203, 0, 114 + high, low).into(),
            listen: vec![Listen { protocol: Protocol::Tcp, ports: port }],
            pools: vec![name.clone()],
            name,
            ..service.clone()
        });
    }
    config
}

/// Requests one after the other, each on a connection of its own, until `done`; how many, and the first that failed.
fn ask_on_and_on(client: &Client, plan: VnetPlan, done: &AtomicBool) -> (usize, Option<String>) {
    let mut asked = 0;
    while !done.load(Ordering::Relaxed) {
        if let Err(error) = client.http_get(plan.vip, 0) {
            return (asked, Some(format!("{}: {error:#}", plan.name)));
        }
        asked += 1;
    }
    (asked, None)
}

/// Puts a form in force; how long that took.
fn reload(agent: &Agent, form: u16) -> Duration {
    let revision = agent.status().unwrap().revision;
    let text = config::to_yaml(&config(form)).unwrap();
    let began = Instant::now();
    agent.write_config_text(&text).unwrap();
    agent.hang_up().unwrap();
    wait::until("the new configuration is in force", PATIENCE, || {
        Ok((agent.status()?.revision > revision).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
    began.elapsed()
}

#[test]
fn a_thousand_changed_objects_are_in_force_within_seconds_and_no_request_fails() {
    let (topology, agent) = start_healthy(&config(0)).unwrap();
    let client = topology.client();
    let busy = [EAST, WEST].map(|plan| Busy::start(&client, plan.vip).unwrap());
    let done = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let asking = [EAST, WEST].map(|plan| {
            let (client, done) = (&client, &done);
            scope.spawn(move || ask_on_and_on(client, plan, done))
        });
        let times: Vec<Duration> = [1, 0, 1].into_iter().map(|form| reload(&agent, form)).collect();
        done.store(true, Ordering::Relaxed);
        for asked in asking {
            let (asked, failed) = asked.join().unwrap();
            assert_eq!(failed, None, "{}\n{}", topology.resets(), agent.log());
            assert!(asked > 50, "{asked} requests");
        }
        times
    });
    // Another test may have had the machine during one of them.
    let mut sorted = times.clone();
    sorted.sort_unstable();
    assert!(sorted.get(1).is_some_and(|median| *median < QUICK), "{times:?}");
    for busy in busy {
        let longest = busy.stop().unwrap();
        assert!(longest < STALL, "{longest:?}");
    }
    // They are what they should be.
    let changed = agent.ctl(&["describe", "service", "extra-499"]).unwrap().stdout;
    assert!(changed.contains("tcp/8001"), "{changed}");
}
