//! What a user sees of flows that are remembered, of drains and of changes of tables, while real packets flow.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use lbx_common::api::{ChangeState, Config, ConnectionTracking, FlowState, FlowsReport};
use lbx_tests::{
    agent::{Agent, Source, start_healthy},
    config,
    crowd::Crowd,
    process::Finished,
    topology::{EAST, Topology, WEST},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any test waits.
const DRAIN: Duration = Duration::from_mins(2);
/// Until nothing can be left of a flow that has no pin, then two looks at all pins, and the time that a pin stays
/// after its connection's end.
const EMPTY_WITHIN: Duration = Duration::from_secs(45);

/// Every flow of east is pinned.
fn config() -> Config {
    let mut config = config::whole();
    let east = config.services.first_mut().unwrap();
    east.connection_tracking = ConnectionTracking::Always;
    east.drain = DRAIN;
    config
}

/// Clients and endpoints of the flows that are listed.
fn homes(report: &FlowsReport) -> BTreeMap<SocketAddr, String> {
    report.flows.iter().map(|flow| (flow.client, flow.endpoint.clone().unwrap())).collect()
}

/// An agent with a store of its own, which `lbx-ctl` may change.
fn with_store(topology: &Topology, config: &Config) -> Agent {
    let agent = Agent::new(topology, Source::Store).unwrap();
    agent.start().unwrap();
    agent.write_config(config).unwrap();
    done(agent.ctl(&["apply", "-f", agent.config_file().to_str().unwrap()]).unwrap());
    agent.wait_until_healthy(PATIENCE).unwrap();
    agent
}

#[track_caller]
fn done(finished: Finished) -> String {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.stdout
}

#[test]
fn flows_are_listed_with_the_endpoint_that_answers_them_and_found_by_every_filter() {
    let config = config();
    let (topology, agent) = start_healthy(&config).unwrap();
    let client = topology.client();
    assert_eq!(done(agent.ctl(&["flows"]).unwrap()), "no flows remembered: all go by hash and table\n");
    let mut crowd = Crowd::gather(&client, EAST, 0).unwrap();
    crowd.open_idle(&client, EAST, 30).unwrap();
    // Not tracked: nothing of it is remembered.
    let mut other = Crowd::gather(&client, WEST, 0).unwrap();
    other.open_idle(&client, WEST, 5).unwrap();
    let expected: BTreeMap<SocketAddr, String> = crowd
        .homes()
        .unwrap()
        .into_iter()
        .map(|(client, origin)| (client, format!("east-web/{origin}")))
        .collect();
    let all = agent.flows("").unwrap();
    assert_eq!((all.matching, homes(&all)), (30, expected.clone()));
    for flow in &all.flows {
        assert_eq!((flow.service.as_str(), flow.virtual_network.as_deref()), ("east", Some("east")));
        assert_eq!((flow.vip.to_string(), flow.state), (format!("{}:80", EAST.vip), FlowState::Open));
        let name = flow.endpoint.as_deref().unwrap().trim_start_matches("east-web/");
        let endpoint = config.pools[0].endpoints.iter().find(|endpoint| endpoint.name == name).unwrap();
        assert_eq!(flow.address.to_string(), format!("{}:80", endpoint.address));
    }
    let on_a: BTreeMap<_, _> =
        expected.iter().filter(|(_, home)| *home == "east-web/a").map(|(c, h)| (*c, h.clone())).collect();
    assert_eq!(homes(&agent.flows("endpoint=east-web/a").unwrap()), on_a);
    assert_eq!(agent.flows("service=east").unwrap().matching, 30);
    assert_eq!(agent.flows("service=west").unwrap().matching, 0);
    let client = expected.keys().next().unwrap().ip();
    assert_eq!(agent.flows(&format!("client={client}/32")).unwrap().matching, 30);
    assert_eq!(agent.flows("client=198.51.100.0/24").unwrap().matching, 0);
    let few = agent.flows("limit=7").unwrap();
    assert_eq!((few.matching, few.flows.len()), (30, 7));
    let text = done(agent.ctl(&["flows", "--limit", "7"]).unwrap());
    assert_eq!((text.lines().count(), text.contains("and 23 more")), (9, true), "{text}");
    for (arguments, message) in [
        (["flows", "--service", "nobody"], "nobody"),
        (["flows", "--endpoint", "east-web/z"], "east-web/z"),
        (["flows", "--endpoint", "z"], "write POOL/NAME"),
    ] {
        let refused = agent.ctl(&arguments).unwrap();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(message), "{refused:?}");
    }
    // A connection that ends is not listed as open any more, and then not at all.
    crowd.leave("a");
    wait::until("connections to a have ended", PATIENCE, || {
        let left = agent.flows("endpoint=east-web/a").unwrap();
        Ok(left.flows.iter().all(|flow| flow.state == FlowState::Ended).then_some(()))
    })
    .unwrap();
    wait::until("their pins are gone", EMPTY_WITHIN, || {
        Ok((agent.flows("").unwrap().matching == expected.len() as u64 - on_a.len() as u64).then_some(()))
    })
    .unwrap();
    let counts = agent.stats().unwrap().flows;
    let count = |event: &str| counts.iter().find(|count| count.event == event).unwrap().count;
    assert_eq!((count("pinned"), count("half_open"), count("no_room")), (30, 30, 0));
    wait::until("status has the pins that are left", PATIENCE, || {
        let pins = agent.status()?.maps.into_iter().find(|map| map.map == "pins_tcp").unwrap();
        Ok((pins.used == expected.len() as u64 - on_a.len() as u64).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_drain_that_is_waited_for_ends_with_the_last_flow() {
    let topology = Topology::new().unwrap();
    let agent = with_store(&topology, &config());
    let client = topology.client();
    let mut crowd = Crowd::gather(&client, EAST, 0).unwrap();
    crowd.open_idle(&client, EAST, 30).unwrap();
    let on_a = crowd.idle_on("a");
    let began = Instant::now();
    let early = agent.ctl(&["endpoint", "drain", "east-web/a", "--wait", "--timeout", "1s"]).unwrap();
    assert_eq!(early.code, Some(4), "{early:?}");
    assert!(early.stderr.contains("after 1s: east-web/a keeps its flows for "), "{early:?}");
    wait::until("the flows are counted", PATIENCE, || {
        let text = done(agent.ctl(&["describe", "endpoint", "east-web/a"])?);
        Ok(text.contains(&format!("left; {on_a} flows are pinned")).then_some(()))
    })
    .unwrap();
    assert_eq!(crowd.count_alive_on("a").unwrap(), on_a);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let arguments = ["endpoint", "drain", "east-web/a", "--wait", "--timeout", "2m"];
            agent.ctl_within(&arguments, DRAIN).unwrap()
        });
        crowd.leave("a");
        let waited = waiting.join().unwrap();
        assert_eq!(waited.code, Some(0), "{waited:?}");
        assert!(waited.stderr.ends_with("east-web/a is drained: it keeps no flow\n"), "{waited:?}");
    });
    assert!(began.elapsed() < EMPTY_WITHIN + PATIENCE, "it waited for {:?}", began.elapsed());
    let health = done(agent.ctl(&["health"]).unwrap());
    assert!(health.lines().any(|line| line.starts_with("east-web/a") && line.contains("over")), "{health}");
    let back = agent.ctl(&["endpoint", "undrain", "east-web/a", "--wait", "--timeout", "10s"]).unwrap();
    assert_eq!(back.code, Some(0), "{back:?}");
    crowd.wake("the other was drained").unwrap();
    crowd.open_idle(&client, EAST, 30).unwrap();
    assert!(crowd.idle_on("a") > 0);
}

#[test]
fn a_change_of_a_table_is_shown_until_it_is_over() {
    let mut config = config::whole();
    config.timers.transition = Duration::from_secs(5);
    let (_topology, agent) = start_healthy(&config).unwrap();
    assert_eq!(agent.status().unwrap().changes, []);
    config.pools[0].table_size = Some(8191);
    agent.change(&config, PATIENCE).unwrap();
    let changes = agent.status().unwrap().changes;
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((change.service.as_str(), change.state), ("east", ChangeState::Open));
    assert!(change.closes_in_secs.is_some_and(|secs| secs <= 5), "{change:?}");
    let text = done(agent.ctl(&["describe", "service", "east"]).unwrap());
    assert!(text.contains("Table change:     open since "), "{text}");
    wait::until("it is closing", PATIENCE, || {
        let changes = agent.status()?.changes;
        Ok(changes.iter().any(|change| change.state == ChangeState::Closing).then_some(()))
    })
    .unwrap();
    let text = done(agent.ctl(&["describe", "service", "east"]).unwrap());
    assert!(text.contains("closing, "), "{text}");
    wait::until("it is over", EMPTY_WITHIN, || Ok(agent.status()?.changes.is_empty().then_some(()))).unwrap();
}

#[test]
fn an_endpoint_that_was_removed_is_shown_as_long_as_it_keeps_flows() {
    let mut config = config();
    let (topology, agent) = start_healthy(&config).unwrap();
    let client = topology.client();
    let mut crowd = Crowd::gather(&client, EAST, 0).unwrap();
    crowd.open_idle(&client, EAST, 30).unwrap();
    let removed = config.pools[0].endpoints.remove(0);
    let on_it = crowd.idle_on(&removed.name);
    agent.change(&config, PATIENCE).unwrap();
    let shown = agent.health().unwrap().removed;
    let [shown] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!(shown.virtual_network.as_deref(), Some("east"));
    assert_eq!(shown.address, format!("{}:80", removed.address));
    assert!((1..=DRAIN.as_secs()).contains(&shown.drain.secs_left), "{shown:?}");
    let listed = agent.flows("service=east").unwrap();
    let nameless = listed.flows.iter().filter(|flow| flow.endpoint.is_none());
    assert_eq!(nameless.filter(|flow| flow.address.ip() == removed.address).count(), on_it);
    assert!(done(agent.ctl(&["health"]).unwrap()).contains("REMOVED ENDPOINT"));
    assert_eq!(crowd.count_alive_on(&removed.name).unwrap(), on_it);
    crowd.leave(&removed.name);
    wait::until("nothing is left of it", EMPTY_WITHIN + PATIENCE, || {
        Ok(agent.health()?.removed.is_empty().then_some(()))
    })
    .unwrap();
    crowd.wake("the other was removed").unwrap();
}
