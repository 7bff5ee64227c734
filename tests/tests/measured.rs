//! Steering by what is measured: live flows that become equal, and the pool that answers soonest.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use lbx_common::api::{ConnectionTracking, EndpointSteering, Monitor, MonitorKind, SteeringPolicy};
use lbx_tests::{
    agent::{Agent, start_healthy},
    client::{Client, Connection},
    config, takes_long,
    topology::EAST,
    wait,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// The shortest time that there may be between two tables.
const STEERING: Duration = Duration::from_secs(5);

/// Clients that open a connection every so often and hold it for a time that depends on who answered.
struct Callers {
    client: Client,
    hold: BTreeMap<String, Duration>,
    open: VecDeque<(Instant, String, Connection)>,
}

impl Callers {
    /// Goes on for some time.
    fn go_on(&mut self, interval: Duration, time: Duration) {
        let end = Instant::now() + time;
        wait::every(interval, || {
            let now = Instant::now();
            self.open.retain(|(ends, ..)| *ends > now);
            let mut connection = self.client.connect(EAST.vip, 80, 0).unwrap();
            let origin = connection.get().unwrap().origin;
            self.open.push_back((now + self.hold[&origin], origin, connection));
            (now > end).then_some(())
        });
    }

    /// Connections that are open to an origin.
    fn on(&self, origin: &str) -> u32 {
        u32::try_from(self.open.iter().filter(|(_, on, _)| on == origin).count()).unwrap()
    }
}

#[test]
fn an_endpoint_that_holds_its_connections_ten_times_longer_ends_with_as_many() {
    let mut config = config::whole();
    config.timers.steering = STEERING;
    let pool = config.pools.iter_mut().find(|pool| pool.name == "east-web").unwrap();
    pool.endpoint_steering = EndpointSteering::LeastConnections;
    let (topology, agent) = start_healthy(&config).unwrap();
    let (interval, short) = if takes_long() { (15, 3000) } else { (20, 1000) };
    let hold = [("a", short * 10), ("b", short)];
    let mut callers = Callers {
        client: topology.client(),
        hold: hold.map(|(name, millis)| (name.to_owned(), Duration::from_millis(millis))).into(),
        open: VecDeque::new(),
    };
    let interval = Duration::from_millis(interval);
    callers.go_on(interval, STEERING);
    let in_the_beginning = (callers.on("a"), callers.on("b"));
    // Those to b end meanwhile: after one second in the short form, after three in the long one.
    assert!(in_the_beginning.0 * 3 > in_the_beginning.1 * 4, "{in_the_beginning:?}");
    // Connections that all last just as long end as they began, and so the counts swing, less each time.
    let (settling, looks) = if takes_long() { (80, 12) } else { (30, 5) };
    callers.go_on(interval, Duration::from_millis(short * settling) + STEERING * 2);

    let (mut of_a, mut of_b) = (0, 0);
    for _ in 0..looks {
        callers.go_on(interval, STEERING);
        let seen = seen(&agent);
        println!("{} connections to a, {} to b; seen: {seen:?}", callers.on("a"), callers.on("b"));
        of_a += callers.on("a");
        of_b += callers.on("b");
    }
    let ratio = f64::from(of_a) / f64::from(of_b);
    // Of fifty connections that last a second, a look shows more or less.
    let most = if takes_long() { 1.2 } else { 1.4 };
    assert!((1.0 / most..most).contains(&ratio), "{ratio}\n{}", agent.log());

    // What the user sees of it: counts of some seconds ago, and the share of the one that keeps its connections.
    let found = seen(&agent);
    assert!(found.iter().all(|(live, _)| live.unwrap() > 10), "{found:?}");
    assert!(found[0].1.unwrap() < 40 && found[1].1 == Some(100), "{found:?}");
    let shown = agent.ctl(&["describe", "pool", "east-web"]).unwrap().stdout;
    assert!(shown.contains("LIVE FLOWS") && shown.contains("least_connections"), "{shown}");
    // Nobody's connection was cut by all these tables.
    for (_, origin, mut connection) in callers.open.drain(..) {
        assert_eq!(connection.get().unwrap().origin, origin);
    }
    the_next_agent_writes_nothing(&agent);
}

/// Live flows and shares of both endpoints, as the agent has them.
fn seen(agent: &Agent) -> Vec<(Option<u32>, Option<u8>)> {
    let pools = agent.health().unwrap().pools;
    let pool = pools.into_iter().find(|pool| pool.pool == "east-web").unwrap();
    pool.endpoints.iter().map(|one| (one.live_flows, one.share_percent)).collect()
}

/// The shares are in the maps: who takes them over has nothing to change.
fn the_next_agent_writes_nothing(agent: &Agent) {
    let shares = |agent: &Agent| seen(agent).into_iter().map(|(_, share)| share).collect::<Vec<_>>();
    let before = shares(agent);
    agent.terminate().unwrap();
    agent.start().unwrap();
    assert_eq!(shares(agent), before);
}

#[test]
fn the_pool_that_answers_probes_soonest_serves() {
    let mut config = config::whole();
    config.timers.steering = STEERING;
    config.pools.retain(|pool| pool.name == "east-web");
    config.services.retain(|service| service.name == "east");
    config.monitors = vec![Monitor {
        kind: MonitorKind::Http,
        path: Some("/far".to_owned()),
        ..config.monitors[0].clone()
    }];
    let (first, mut second) = (config.pools[0].clone(), config.pools[0].clone());
    "second".clone_into(&mut second.name);
    config.pools = vec![first, second];
    config.pools[0].endpoints.remove(1);
    config.pools[1].endpoints.remove(0);
    config.services[0].pools = vec!["east-web".to_owned(), "second".to_owned()];
    config.services[0].steering_policy = SteeringPolicy::DynamicLatency;
    config.services[0].connection_tracking = ConnectionTracking::Auto;
    let (topology, agent) = start_healthy(&config).unwrap();
    let client = topology.client();
    let far = |origin: &str, millis: u64| {
        topology.east.origin(origin).unwrap().be_far(Duration::from_millis(millis));
    };
    let wait_for = |origin: &str| {
        wait::until(&format!("flows go to {origin}"), PATIENCE, || {
            Ok(client.http_get(EAST.vip, 0).is_ok_and(|answer| answer.origin == origin).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
    };
    // Alike, the first one serves.
    wait_for("a");
    far("a", 40);
    wait_for("b");
    let mut kept = client.connect(EAST.vip, 80, 0).unwrap();
    let shown = agent.ctl(&["describe", "service", "east"]).unwrap().stdout;
    assert!(shown.contains("dynamic_latency") && shown.contains("second "), "{shown}");
    // The next agent knows nobody's latency yet, and goes on where this one was.
    agent.terminate().unwrap();
    agent.start().unwrap();
    assert_eq!(client.http_get(EAST.vip, 0).unwrap().origin, "b");
    // One that is hardly nearer does not take over.
    far("b", 45);
    let decided = |agent: &Agent| agent.log().matches("pools by latency").count();
    let before = decided(&agent);
    far("b", 90);
    wait_for("a");
    assert_eq!(decided(&agent), before + 1);
    assert_eq!(kept.get().unwrap().origin, "b");
    // A pool that is down is passed over, however near.
    topology.east.origin("a").unwrap().stop_servers();
    wait_for("b");
}
