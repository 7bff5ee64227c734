//! What an operator hears of what happens: changes, drains, interfaces, restarts, each with its cause.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use lbx_common::api::{
    AttachMode, ChangeAction, Config, ConnectionTracking, DrainEnd, Drained, Endpoint, Event, Happening,
    HealthState, LinkState, PoolState,
};
use lbx_tests::{
    agent::{Agent, start_healthy},
    config,
    follower::{Follower, events},
    topology::PUBLIC_DEVICE,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// For how long drained endpoints keep their flows, and flows without a pin go by the table before.
const DRAIN: Duration = Duration::from_secs(2);
const TRANSITION: Duration = Duration::from_secs(3);

/// One network whose service `east` drains and changes its table quickly.
fn quick() -> Config {
    let mut config = config::whole();
    config.pools.retain(|pool| pool.name == "east-web");
    config.services.retain(|service| service.name == "east");
    for service in &mut config.services {
        service.drain = DRAIN;
    }
    config.timers.transition = TRANSITION;
    config
}

fn hear(follower: &mut Follower, what: &str, is_it: impl Fn(&Happening) -> bool) -> Event {
    follower.wait_for(what, PATIENCE, is_it).unwrap()
}

fn is_a(endpoint: &Drained) -> bool {
    (endpoint.pool.as_deref(), endpoint.endpoint.as_deref()) == (Some("east-web"), Some("a"))
        && endpoint.virtual_network.as_deref() == Some("east")
        && endpoint.address == "10.0.0.10:80"
}

fn hear_begin(follower: &mut Follower, removed_now: bool) {
    hear(
        follower,
        "a drain begins",
        |what| matches!(what, Happening::DrainBegun { endpoint, removed, secs: 2 } if is_a(endpoint) && *removed == removed_now),
    );
}

fn hear_end(follower: &mut Follower, reason: DrainEnd) {
    hear(
        follower,
        &format!("a drain ends: {reason:?}"),
        |what| matches!(what, Happening::DrainEnded { endpoint, why } if is_a(endpoint) && *why == reason),
    );
}

#[test]
fn changes_and_drains_are_told_with_what_they_are_and_why_they_end() {
    let mut config = quick();
    let (_topology, agent) = start_healthy(&config).unwrap();
    let mut follower = Follower::start(&agent).unwrap();
    let a = |config: &mut Config, change: &dyn Fn(&mut Endpoint)| {
        config
            .pools
            .iter_mut()
            .flat_map(|pool| &mut pool.endpoints)
            .filter(|one| one.name == "a")
            .for_each(change);
        agent.write_config(config).unwrap();
    };

    a(&mut config, &|endpoint| endpoint.weight = 0.5);
    let changed = hear(&mut follower, "another weight", |what| {
        let Happening::ConfigurationChanged { changes, .. } = what else { return false };
        let [change] = &changes[..] else { return false };
        (change.action, change.name.as_str()) == (ChangeAction::Changed, "east-web/a")
            && change.fields.iter().any(|field| field.field == "weight")
    });
    assert!(
        changed.what.to_string().contains("changed endpoint east-web/a: weight 1.0 -> 0.5"),
        "{changed:?}"
    );
    hear(
        &mut follower,
        "another table",
        |what| matches!(what, Happening::TableChangeBegun { service, closes_in_secs: 3 } if service == "east"),
    );
    // Two looks at all pins after the transition, five seconds apart.
    follower
        .wait_for(
            "all flows go by it",
            3 * PATIENCE,
            |what| matches!(what, Happening::TableChangeEnded { service } if service == "east"),
        )
        .unwrap();

    a(&mut config, &|endpoint| endpoint.drained = true);
    hear_begin(&mut follower, false);
    hear_end(&mut follower, DrainEnd::TimeOver);
    a(&mut config, &|endpoint| endpoint.drained = false);
    hear(&mut follower, "the configuration", |what| matches!(what, Happening::ConfigurationChanged { .. }));
    a(&mut config, &|endpoint| endpoint.drained = true);
    hear_begin(&mut follower, false);
    a(&mut config, &|endpoint| endpoint.drained = false);
    hear_end(&mut follower, DrainEnd::Undrained);
    a(&mut config, &|endpoint| endpoint.drained = true);
    hear_begin(&mut follower, false);
    a(&mut config, &|endpoint| endpoint.enabled = false);
    hear_end(&mut follower, DrainEnd::Disabled);
    a(&mut config, &|endpoint| (endpoint.enabled, endpoint.drained) = (true, false));
    agent.wait_until_healthy(PATIENCE).unwrap();
    config.pools.iter_mut().for_each(|pool| pool.endpoints.retain(|one| one.name != "a"));
    agent.write_config(&config).unwrap();
    hear_begin(&mut follower, true);
    hear_end(&mut follower, DrainEnd::TimeOver);

    agent.write_config_text("version: 2\n").unwrap();
    let refused =
        hear(&mut follower, "a refusal", |what| matches!(what, Happening::ConfigurationRefused { .. }));
    assert!(refused.what.to_string().contains("version"), "{refused:?}");
    // So is what is right by itself, but cannot be put in force.
    config.limits.listeners *= 2;
    agent.write_config(&config).unwrap();
    let refused =
        hear(&mut follower, "a refusal", |what| matches!(what, Happening::ConfigurationRefused { .. }));
    assert!(refused.what.to_string().contains("limits"), "{refused:?}");
}

#[test]
fn flows_that_all_have_pins_end_a_drain_when_they_are_gone() {
    let mut config = quick();
    for service in &mut config.services {
        service.drain = Duration::from_mins(5);
        service.connection_tracking = ConnectionTracking::Always;
    }
    let (_topology, agent) = start_healthy(&config).unwrap();
    let mut follower = Follower::start(&agent).unwrap();
    config
        .pools
        .iter_mut()
        .flat_map(|pool| &mut pool.endpoints)
        .for_each(|one| one.drained = one.name == "a");
    agent.write_config(&config).unwrap();
    follower
        .wait_for("the drain ends", 3 * PATIENCE, |what| {
            matches!(what, Happening::DrainEnded { endpoint, why: DrainEnd::NoFlowsLeft } if is_a(endpoint))
        })
        .unwrap();
}

#[test]
fn interfaces_are_told_as_they_change() {
    let (topology, agent) = start_healthy(&quick()).unwrap();
    let mut follower = Follower::start(&agent).unwrap();
    let is = |state: LinkState, attached: Option<AttachMode>| {
        move |what: &Happening| {
            matches!(what, Happening::InterfaceState { interface, to, mode, .. }
                if interface == PUBLIC_DEVICE && *to == state && *mode == attached)
        }
    };
    topology.lbx.ip(&format!("link set {PUBLIC_DEVICE} down")).unwrap();
    let down = hear(&mut follower, "down", is(LinkState::Down, Some(AttachMode::Native)));
    assert!(down.what.to_string().ends_with("(public) is down, was up; attached (native)"), "{down:?}");
    topology.lbx.ip(&format!("link set {PUBLIC_DEVICE} up")).unwrap();
    hear(&mut follower, "up", is(LinkState::Up, Some(AttachMode::Native)));
    topology.unplug(PUBLIC_DEVICE).unwrap();
    hear(&mut follower, "missing", is(LinkState::Missing, None));
    topology.plug(PUBLIC_DEVICE).unwrap();
    hear(&mut follower, "there again", is(LinkState::Up, Some(AttachMode::Native)));
}

#[test]
fn verdicts_are_told_once_and_numbers_go_on_after_a_restart() {
    let (topology, agent) = start_healthy(&quick()).unwrap();
    let began = events(&agent, &["--type", "agent_started"]).unwrap();
    let [Event { what: Happening::AgentStarted { adopted: false, .. }, .. }] = &began[..] else {
        panic!("{began:?}")
    };
    let mut follower = Follower::start(&agent).unwrap();
    let last = events(&agent, &[]).unwrap().last().unwrap().number;
    topology.east.origin("a").unwrap().stop_servers();
    hear(&mut follower, "a fails", |what| {
        matches!(what, Happening::EndpointHealth { pool, endpoint, virtual_network, address, from, to, reason }
            if (pool.as_str(), endpoint.as_str(), virtual_network.as_str()) == ("east-web", "a", "east")
                && address == "10.0.0.10:80" && reason.contains("refused")
                && (*from, *to) == (HealthState::Healthy, HealthState::Unhealthy))
    });
    hear(&mut follower, "the pool is degraded", |what| {
        matches!(what, Happening::PoolState { pool, from: PoolState::Healthy, now }
            if pool == "east-web" && now.to == PoolState::Degraded && now.up
                && (now.healthy, now.endpoints, now.needed) == (1, 2, 1))
    });
    let metrics =
        |agent: &Agent| String::from_utf8(agent.request("GET", "/metrics", &[]).unwrap().body).unwrap();
    for line in
        [r#"lbx_events_total{type="endpoint_health"} "#, r#"lbx_events_total{type="tunnel_health"} 0"#]
    {
        assert!(metrics(&agent).contains(line), "{}", metrics(&agent));
    }

    agent.kill().unwrap();
    let (code, said) = follower.end(PATIENCE).unwrap();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("it has stopped, or was killed"), "{said}");
    agent.start().unwrap();
    let after = events(&agent, &["--since", &last.to_string()]).unwrap();
    let [gap, started, ..] = &after[..] else { panic!("{after:?}") };
    assert_eq!((gap.number, &gap.what), (started.number - 1, &Happening::EventsLost { count: None }));
    assert!(matches!(started.what, Happening::AgentStarted { adopted: true, .. }), "{started:?}");
    assert!(started.number > last);
    // What the agent finds as it was is no news.
    agent.wait_for_health("east-web", "b", HealthState::Healthy, PATIENCE).unwrap();
    let news = events(&agent, &["--type", "endpoint_health", "--type", "pool_state"]).unwrap();
    assert_eq!(news, []);

    let mut follower = Follower::start(&agent).unwrap();
    assert!(agent.terminate().unwrap().success());
    assert_eq!(follower.end(PATIENCE).unwrap().0, Some(3));
}
