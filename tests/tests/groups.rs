//! Pools with several monitors: which of them take an endpoint down, and what the user sees of each.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use lbx_common::api::{Config, GroupMonitor, HealthState, Monitor, MonitorKind};
use lbx_tests::{
    agent::{Agent, start_healthy},
    config,
    topology::EAST,
};

const PATIENCE: Duration = Duration::from_secs(10);
const POOL: &str = "east-web";

fn member(name: &str) -> GroupMonitor {
    GroupMonitor { monitor: name.to_owned(), must_be_healthy: false, monitoring_only: false }
}

/// East's pool is checked by `tcp` and `page`, which its origins pass, and by `shop`, which they do not.
fn config() -> Config {
    let mut config = config::whole();
    let http = |name: &str, path: &str| Monitor {
        name: name.to_owned(),
        kind: MonitorKind::Http,
        path: Some(path.to_owned()),
        ..config.monitors[0].clone()
    };
    let more = [http("page", "/"), http("shop", "/shop")];
    config.monitors.extend(more);
    let pool = config.pools.iter_mut().find(|pool| pool.name == POOL).unwrap();
    pool.monitor = None;
    pool.monitor_group = ["tcp", "page", "shop"].map(member).to_vec();
    config
}

fn wait_for(agent: &Agent, state: HealthState) {
    for endpoint in ["a", "b"] {
        agent
            .wait_for_health(POOL, endpoint, state, PATIENCE)
            .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
    }
}

#[test]
fn more_than_half_of_the_monitors_or_one_that_must_be_healthy_take_an_endpoint_down() {
    let mut config = config();
    let (topology, agent) = start_healthy(&config).unwrap();
    let client = topology.client();
    // One of three fails: that is said, and changes nothing.
    wait_for(&agent, HealthState::Healthy);
    let shown = agent.ctl(&["describe", "endpoint", "east-web/a"]).unwrap().stdout;
    for part in ["MONITOR", "shop", "404", "tcp", "page"] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    client.http_get(EAST.vip, 0).unwrap();

    let mut change = |agent: &Agent, change: &dyn Fn(&mut GroupMonitor)| {
        let pool = config.pools.iter_mut().find(|pool| pool.name == POOL).unwrap();
        let shop = pool.monitor_group.iter_mut().find(|one| one.monitor == "shop").unwrap();
        *shop = member("shop");
        change(shop);
        agent.change(&config, PATIENCE).unwrap();
    };
    change(&agent, &|shop| shop.must_be_healthy = true);
    wait_for(&agent, HealthState::Unhealthy);
    client.http_get(EAST.vip, 0).unwrap_err();
    let shown = agent.ctl(&["health", POOL]).unwrap().stdout;
    assert!(shown.contains("shop: ") && shown.contains("tcp,page,shop"), "{shown}");
    // The next agent has it from the kernel, and its own probes say the same.
    agent.terminate().unwrap();
    agent.start().unwrap();
    wait_for(&agent, HealthState::Unhealthy);

    change(&agent, &|shop| shop.monitoring_only = true);
    wait_for(&agent, HealthState::Healthy);
    client.http_get(EAST.vip, 0).unwrap();

    // Both of those that count.
    topology.east.origin("a").unwrap().stop_servers();
    agent.wait_for_health(POOL, "a", HealthState::Unhealthy, PATIENCE).unwrap();
    assert_eq!(agent.health_of(POOL, "b").unwrap(), HealthState::Healthy);
}
