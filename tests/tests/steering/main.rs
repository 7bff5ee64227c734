//! Services with several pools: failover and back, the last resort, and measured shares.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod regions;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use lbx_common::api::{
    Config, Endpoint, EndpointSteering, Happening, HealthReport, HealthState, PoolState, RandomSteering,
    ServiceHealth, SteeringPolicy,
};
use lbx_tests::{
    agent::{Agent, start_healthy},
    client::Client,
    config,
    crowd::Crowd,
    follower::Follower,
    servers::OriginServers,
    topology::{EAST, Topology},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// From the end of the last server of a pool to flows in the next one.
const FAILOVER: Duration =
    config::PROBE_INTERVAL.saturating_add(config::PROBE_TIMEOUT).saturating_add(Duration::from_secs(1));
/// Connections by which shares are measured: 5 points in a hundred are then more than six standard deviations.
const FLOWS: usize = 4000;

/// One network with an origin for each of the pools `first` (two), `second` (two) and `last` (one), and one service.
struct Setting {
    topology: Topology,
    agent: Agent,
    more: Vec<(Endpoint, OriginServers)>,
    config: Config,
}

/// East's service has these pools; origins a and b are in `first`, more-20 and more-21 in `second`, more-22 in `last`.
fn setting(change: impl FnOnce(&mut Config)) -> Setting {
    let mut config = config::whole();
    config.pools.retain(|pool| pool.name == "east-web");
    config.services.retain(|service| service.name == "east");
    "first".clone_into(&mut config.pools[0].name);
    config.services[0].pools = vec!["first".to_owned()];
    let (topology, agent) = start_healthy(&config).unwrap();
    let more = topology.east.more_origins(3).unwrap();
    let mut pool = |name: &str, members: &[(Endpoint, OriginServers)]| {
        let mut pool = config.pools[0].clone();
        name.clone_into(&mut pool.name);
        pool.endpoints = members.iter().map(|(endpoint, _)| endpoint.clone()).collect();
        config.pools.push(pool);
    };
    pool("second", &more[..2]);
    pool("last", &more[2..]);
    change(&mut config);
    agent.change(&config, PATIENCE).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    Setting { topology, agent, more, config }
}

/// How many of so many connections go to each origin.
fn spread(client: &Client, count: usize) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for _ in 0..count {
        *found.entry(client.http_get(EAST.vip, 0).unwrap().origin).or_default() += 1;
    }
    found
}

/// Waits until forty new connections in a row go to these origins and no other.
fn wait_for(setting: &Setting, origins: &[&str], limit: Duration) {
    let client = setting.topology.client();
    let is_right =
        || client.http_get(EAST.vip, 0).is_ok_and(|answer| origins.contains(&answer.origin.as_str()));
    wait::until(&format!("flows go to {origins:?}"), limit, || Ok((0..40).all(|_| is_right()).then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", setting.agent.log()));
}

fn service_health(agent: &Agent) -> ServiceHealth {
    let HealthReport { services, .. } = agent.health().unwrap();
    services.into_iter().next().unwrap()
}

fn state(agent: &Agent, pool: &str) -> PoolState {
    let pools = agent.health().unwrap().pools;
    pools.iter().find(|one| one.pool == pool).unwrap().state
}

#[test]
fn flows_go_to_the_next_pool_to_the_last_resort_and_back() {
    let mut setting = setting(|config| {
        config.services[0].pools = vec!["first".to_owned(), "second".to_owned()];
        config.services[0].fallback_pool = Some("last".to_owned());
    });
    let client = setting.topology.client();
    wait_for(&setting, &["a", "b"], PATIENCE);
    // One of two is not the pool.
    setting.topology.east.origin("b").unwrap().stop_servers();
    wait_for(&setting, &["a"], FAILOVER);
    assert_eq!(state(&setting.agent, "first"), PoolState::Degraded);
    setting.topology.east.origin("b").unwrap().start_servers().unwrap();
    setting.agent.wait_until_healthy(PATIENCE).unwrap();

    let crowd = Crowd::gather(&client, EAST, 10).unwrap();
    // A pool that is drained is not up; the connections that it has go on.
    for endpoint in &mut setting.config.pools[0].endpoints {
        endpoint.drained = true;
    }
    setting.agent.change(&setting.config, PATIENCE).unwrap();
    wait_for(&setting, &["more-20", "more-21"], PATIENCE);
    assert_eq!(state(&setting.agent, "first"), PoolState::Critical);
    for endpoint in &mut setting.config.pools[0].endpoints {
        endpoint.drained = false;
    }
    setting.agent.change(&setting.config, PATIENCE).unwrap();
    wait_for(&setting, &["a", "b"], PATIENCE);
    crowd.go_on().unwrap();
    crowd.disperse().unwrap();

    for name in ["a", "b"] {
        setting.topology.east.origin(name).unwrap().stop_servers();
    }
    let stopped = Instant::now();
    wait_for(&setting, &["more-20", "more-21"], FAILOVER);
    assert!(stopped.elapsed() < FAILOVER + Duration::from_secs(1));
    let health = service_health(&setting.agent);
    assert_eq!(
        (health.serving, health.standby, health.fallback),
        (vec!["second".into()], vec!["first".into(), "last".into()], false)
    );

    // All of the second one end as well; then the last resort is the only one, also when it fails.
    let last = setting.more.pop().unwrap();
    setting.more.clear();
    wait_for(&setting, &["more-22"], FAILOVER);
    assert!(service_health(&setting.agent).fallback);
    let shown = setting.agent.ctl(&["health"]).unwrap().stdout;
    assert!(shown.contains("last (fallback)") && shown.contains("first, second"), "{shown}");
    let shown = setting.agent.ctl(&["describe", "service", "east"]).unwrap().stdout;
    assert!(shown.contains("failover: the first pool that is up; else last, whatever its health"), "{shown}");
    drop(last);
    setting.agent.wait_for_health("last", "more-22", HealthState::Unhealthy, FAILOVER).unwrap();
    // Its server is gone, but packets still go there: the host refuses them, and nobody else does.
    let drops = setting.agent.stats().unwrap().drops;
    let error = client.http_get(EAST.vip, 0).unwrap_err();
    assert!(format!("{error:#}").contains("refused"), "{error:#}");
    assert_eq!(setting.agent.stats().unwrap().drops, drops);

    for name in ["a", "b"] {
        setting.topology.east.origin(name).unwrap().start_servers().unwrap();
    }
    wait_for(&setting, &["a", "b"], FAILOVER);
}

/// Requests are answered one after the other until one of these origins answers. Returns when.
fn first_answer_of(client: Client, origins: &[&str], limit: Duration) -> Instant {
    let client = client.with_timeout(Duration::from_millis(200));
    let is_right =
        || client.http_get(EAST.vip, 0).is_ok_and(|answer| origins.contains(&answer.origin.as_str()));
    wait::until(&format!("one of {origins:?} answers"), limit, || Ok(is_right().then(Instant::now))).unwrap()
}

#[test]
fn each_step_of_a_failover_is_told_with_its_cause() {
    let mut setting = setting(|config| {
        config.services[0].pools = vec!["first".to_owned(), "second".to_owned()];
        config.services[0].fallback_pool = Some("last".to_owned());
    });
    wait_for(&setting, &["a", "b"], PATIENCE);
    let mut follower = Follower::start(&setting.agent).unwrap();
    // The first event of a kind after those that were heard before.
    let mut hear = |is_it: &dyn Fn(&Happening) -> bool, what: &str| {
        follower.wait_for(what, PATIENCE, is_it).unwrap_or_else(|error| panic!("{error:#}")).what
    };
    let verdict = |of_pool: &'static str, verdict: HealthState| move |what: &Happening| matches!(what, Happening::EndpointHealth { pool, to, .. } if pool == of_pool && *to == verdict);
    let state = |of_pool: &'static str, state: PoolState| move |what: &Happening| matches!(what, Happening::PoolState { pool, now, .. } if pool == of_pool && now.to == state);
    let served = |before: &'static str, by: &'static str, last_resort: bool| {
        move |what: &Happening| {
            matches!(what, Happening::ServicePools { service, from, to, fallback, .. }
                if service == "east" && *from == [before] && *to == [by] && *fallback == last_resort)
        }
    };
    let cause = |what: Happening| {
        let Happening::ServicePools { cause, .. } = what else { panic!("{what:?}") };
        cause
    };

    for name in ["a", "b"] {
        setting.topology.east.origin(name).unwrap().stop_servers();
    }
    let stopped = Instant::now();
    let took = first_answer_of(setting.topology.client(), &["more-20", "more-21"], PATIENCE) - stopped;
    println!("flows are in the second pool after {took:?}, allowed are {FAILOVER:?}");
    assert!(took < FAILOVER, "{took:?}");
    wait_for(&setting, &["more-20", "more-21"], FAILOVER);
    let failed = hear(&verdict("first", HealthState::Unhealthy), "a or b fails");
    assert!(failed.to_string().contains("refused"), "{failed}");
    hear(&verdict("first", HealthState::Unhealthy), "and the other one");
    hear(&state("first", PoolState::Critical), "first is down");
    let moved = cause(hear(&served("first", "second", false), "second serves"));
    assert_eq!(moved, "pool first is down: 0 of 2 endpoints healthy, 1 needed");

    let last = setting.more.pop().unwrap();
    setting.more.clear();
    wait_for(&setting, &["more-22"], FAILOVER);
    hear(&verdict("second", HealthState::Unhealthy), "one of second fails");
    hear(&state("second", PoolState::Critical), "second is down");
    let moved = cause(hear(&served("second", "last", true), "the last resort serves"));
    assert_eq!(
        moved,
        "no pool is up (first: 0 of 2 endpoints healthy, 1 needed; second: 0 of 2 endpoints healthy, 1 needed)"
    );

    for name in ["a", "b"] {
        setting.topology.east.origin(name).unwrap().start_servers().unwrap();
    }
    wait_for(&setting, &["a", "b"], FAILOVER);
    hear(&verdict("first", HealthState::Healthy), "a or b is back");
    // Both may be found at once.
    let is_up = |what: &Happening| matches!(what, Happening::PoolState { pool, from: PoolState::Critical, now } if pool == "first" && now.up);
    let up = hear(&is_up, "first is up");
    let moved = cause(hear(&served("last", "first", false), "first serves"));
    assert!(
        moved.starts_with("pool first is up: ") && moved.ends_with(" of 2 endpoints healthy, 1 needed"),
        "{moved}"
    );
    assert!(up.to_string().starts_with("pool first is "), "{up}");
    drop(last);
}

/// Share of an origin in hundredths.
fn share(found: &BTreeMap<String, usize>, origins: &[&str]) -> f64 {
    let of = |names: &mut dyn Iterator<Item = &String>| -> u32 {
        names.map(|name| u32::try_from(found[name]).unwrap()).sum()
    };
    let some = of(&mut found.keys().filter(|name| origins.contains(&name.as_str())));
    f64::from(some) * 100.0 / f64::from(of(&mut found.keys()))
}

#[test]
fn shares_are_as_weights_and_shedding_say() {
    let all = ["first", "second", "last"].map(str::to_owned);
    let weights = [("first", 0.5), ("second", 0.3), ("last", 0.2)];
    let mut setting = setting(|config| {
        config.services[0].pools = all.to_vec();
        config.services[0].steering_policy = SteeringPolicy::Random;
        config.services[0].random_steering = Some(RandomSteering {
            default_weight: 1.0,
            pool_weights: weights.map(|(name, weight)| (name.to_owned(), weight)).into(),
        });
    });
    let client = setting.topology.client();
    let of_pools = |found: &BTreeMap<String, usize>| {
        [share(found, &["a", "b"]), share(found, &["more-20", "more-21"]), share(found, &["more-22"])]
    };
    let check = |expected: [f64; 3]| {
        let found = of_pools(&spread(&client, FLOWS));
        println!("shares {found:.1?}, expected {expected:.1?}");
        assert!(
            found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 5.0),
            "{found:?}"
        );
    };
    check([50.0, 30.0, 20.0]);
    // The first one goes away: the others have it in their proportion, within what a table gives.
    for name in ["a", "b"] {
        setting.topology.east.origin(name).unwrap().stop_servers();
    }
    wait_for(&setting, &["more-20", "more-21", "more-22"], FAILOVER);
    check([0.0, 60.0, 40.0]);
    for name in ["a", "b"] {
        setting.topology.east.origin(name).unwrap().start_servers().unwrap();
    }
    setting.agent.wait_until_healthy(PATIENCE).unwrap();
    let service = &mut setting.config.services[0];
    (service.steering_policy, service.random_steering) = (SteeringPolicy::Failover, None);
    setting.config.pools[0].load_shedding = 30;
    setting.agent.change(&setting.config, PATIENCE).unwrap();
    check([70.0, 30.0, 0.0]);
}

#[test]
fn in_panic_the_monitor_is_not_believed() {
    let setting = setting(|config| config.pools[0].panic_threshold = 60);
    let client = setting.topology.client();
    wait_for(&setting, &["a", "b"], PATIENCE);
    // Half of it is believed.
    setting.topology.east.origin("a").unwrap().stop_servers();
    wait_for(&setting, &["b"], FAILOVER);
    let shown = |agent: &Agent| agent.ctl(&["health", "first"]).unwrap().stdout;
    assert!(!shown(&setting.agent).contains("panic"));
    // All of it is not: packets go on to both, whose hosts refuse them.
    setting.topology.east.origin("b").unwrap().stop_servers();
    wait::until("the pool panics", FAILOVER, || {
        Ok(shown(&setting.agent).contains("critical (panic: health ignored)").then_some(()))
    })
    .unwrap();
    let drops = setting.agent.stats().unwrap().drops;
    for _ in 0..10 {
        let error = client.http_get(EAST.vip, 0).unwrap_err();
        assert!(format!("{error:#}").contains("refused"), "{error:#}");
    }
    assert_eq!(setting.agent.stats().unwrap().drops, drops);
    setting.topology.east.origin("a").unwrap().start_servers().unwrap();
    wait_for(&setting, &["a"], FAILOVER);
    assert!(!shown(&setting.agent).contains("panic"));
}

#[test]
fn flows_of_a_source_stay_together_where_the_pool_says_so() {
    let setting = setting(|config| config.pools[0].endpoint_steering = EndpointSteering::Hash);
    assert_eq!(spread(&setting.topology.client(), 40).len(), 1);
}
