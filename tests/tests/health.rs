//! Health checks through the tunnels: what fails is taken out, and only that.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lbx_common::api::HealthState;
use lbx_tests::{
    agent::{Agent, start_healthy},
    client::Client,
    config,
    topology::{EAST, Topology, VnetPlan, WEST},
    wait,
};

/// From the last packet of a server to its endpoint being out, with two failed probes.
const DETECTION: Duration =
    config::PROBE_INTERVAL.saturating_mul(2).saturating_add(config::PROBE_TIMEOUT).saturating_add(SLACK);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(1);

/// Words that a verdict may change in the maps: two of the endpoint, one of the node, one of each listener.
const MOST_WRITES: u64 = 6;

/// A request, and who answered it.
struct Asked {
    began: Instant,
    ended: Instant,
    /// Name of the origin, or what went wrong.
    answer: Result<String, String>,
}

/// Requests one after the other, each on a connection of its own, until `done`.
fn ask_on_and_on(client: &Client, plan: VnetPlan, done: &AtomicBool) -> Vec<Asked> {
    let mut asked = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = client.http_get(plan.vip, 0);
        if let Ok(answer) = &answer {
            assert_eq!(answer.vnet, plan.name);
        }
        let answer = answer.map(|answer| answer.origin).map_err(|error| format!("{error:#}"));
        asked.push(Asked { began, ended: Instant::now(), answer });
    }
    asked
}

/// Ends those who ask when it is dropped.
struct Asking<'a>(&'a AtomicBool);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn state(agent: &Agent, pool: &str, endpoint: &str) -> HealthState {
    agent.health_of(pool, endpoint).unwrap()
}

#[test]
fn a_stopped_server_takes_out_its_endpoint_alone_and_comes_back() {
    let mut config = config::whole();
    // One interval at least goes by between the server's end and the verdict: time for requests to meet it.
    config.monitors[0].consecutive_down = 2;
    let (topology, agent) = start_healthy(&config).unwrap();
    let client = topology.client();
    let origin = topology.east.origin("a").unwrap();
    let writes = agent.status().unwrap().map_writes;
    let done = AtomicBool::new(false);

    let (stopped, out, started, back, east, west) = thread::scope(|scope| {
        // Also where this fails: the scope waits for its threads.
        let asking = Asking(&done);
        let east = scope.spawn(|| ask_on_and_on(&client, EAST, &done));
        let west = scope.spawn(|| ask_on_and_on(&client, WEST, &done));
        let stopped = Instant::now();
        origin.stop_servers();
        agent.wait_for_health("east-web", "a", HealthState::Unhealthy, DETECTION).unwrap();
        let out = Instant::now();
        // State and time of the endpoint, and that flows may be elsewhere; no table.
        let written = |from: u64| agent.status().unwrap().map_writes - from;
        assert!(written(writes) <= MOST_WRITES, "{} words", written(writes));
        for (pool, endpoint) in [("east-web", "b"), ("west-web", "a"), ("west-web", "b")] {
            assert_eq!(state(&agent, pool, endpoint), HealthState::Healthy, "{pool}/{endpoint}");
        }
        // A while with the endpoint out: two more rounds of probes.
        let until = Instant::now() + 2 * config::PROBE_INTERVAL;
        wait::until("two more rounds", DETECTION, || Ok((Instant::now() > until).then_some(()))).unwrap();

        let started = Instant::now();
        origin.start_servers().unwrap();
        agent.wait_for_health("east-web", "a", HealthState::Healthy, DETECTION).unwrap();
        let back = Instant::now();
        assert!(written(writes) <= 2 * MOST_WRITES, "{} words", written(writes));
        wait::until("a answers again", DETECTION, || {
            Ok((topology.client().http_get(EAST.vip, 0)?.origin == "a").then_some(()))
        })
        .unwrap();
        drop(asking);
        (stopped, out, started, back, east.join().unwrap(), west.join().unwrap())
    });

    let to_dead = stopped + DETECTION;
    let failed = east.iter().filter(|asked| asked.answer.is_err());
    let later: Vec<&Asked> = failed.filter(|asked| asked.began >= to_dead || asked.ended < stopped).collect();
    assert!(
        later.is_empty(),
        "requests failed that were not sent to the stopped server in time: {:?}",
        later.iter().map(|asked| (asked.began - stopped, &asked.answer)).collect::<Vec<_>>()
    );
    for asked in &west {
        assert!(asked.answer.is_ok(), "west failed: {:?}", asked.answer);
    }
    let by = |asked: &[Asked], origin: &str, from: Instant, to: Instant| {
        let within = asked.iter().filter(|one| one.began > from && one.ended < to);
        within.filter(|one| one.answer.as_deref() == Ok(origin)).count()
    };
    // b alone answers in east while a is out, both twins go on in west.
    assert_eq!(by(&east, "a", out, started), 0);
    assert!(by(&east, "b", out, started) > 10);
    assert!(by(&west, "a", stopped, back) > 10 && by(&west, "b", stopped, back) > 10);
    assert!(east.iter().any(|asked| asked.answer.is_err()), "nobody met the stopped server");
}

#[test]
fn an_endpoint_that_never_answered_gets_no_traffic() {
    let topology = Topology::new().unwrap();
    topology.east.origin("a").unwrap().stop_servers();
    let agent = Agent::start_with(&topology, &config::whole()).unwrap();
    agent.wait_for_health("east-web", "b", HealthState::Healthy, DETECTION).unwrap();
    let client = topology.client();
    for port in 23_000..23_050 {
        assert_eq!(client.http_get(EAST.vip, port).unwrap().origin, "b");
    }
    let health = agent.ctl(&["health", "east-web"]).unwrap();
    assert_eq!(health.code, Some(0), "{}", health.stderr);
    assert!(health.stdout.contains("refused"), "the reason is shown: {}", health.stdout);
}
