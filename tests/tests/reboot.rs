//! A machine that starts anew has no maps: the last verdicts hold until probes turn them, where they still say something.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{fs, path::PathBuf, time::Duration};

use lbx_common::api::{Config, HealthState};
use lbx_tests::{
    agent::{Agent, start_healthy},
    client::Client,
    config,
    topology::{EAST, Topology},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Of the next agent, one probe is due before a test is over, and that alone turns no verdict.
fn probe_seldom(config: &mut Config) {
    for monitor in &mut config.monitors {
        monitor.interval = Duration::from_hours(1);
        (monitor.consecutive_up, monitor.consecutive_down) = (2, 2);
    }
}

/// A machine that is down: the verdicts that its agent leaves are those on `east-web/a`, which has stopped, and on others,
/// which have not, and the maps are gone. With an impatient client, and the configuration of the next agent.
fn machine_that_is_down() -> (Topology, Agent, Client, Config) {
    let mut config = config::whole();
    let (topology, agent) = start_healthy(&config).unwrap();
    let client = topology.client().with_timeout(Duration::from_millis(300));
    topology.east.origin("a").unwrap().stop_servers();
    agent.wait_for_health("east-web", "a", HealthState::Unhealthy, PATIENCE).unwrap();
    assert!(agent.terminate().unwrap().success());
    assert_eq!(agent.detach().unwrap().code, Some(0));
    probe_seldom(&mut config);
    agent.write_config(&config).unwrap();
    (topology, agent, client, config)
}

fn file(agent: &Agent) -> PathBuf {
    agent.state_dir().join("health.json")
}

/// Who answers some clients.
fn answers(client: &Client) -> Vec<Option<String>> {
    (0..12).map(|_| client.http_get(EAST.vip, 0).ok().map(|answer| answer.origin)).collect()
}

#[test]
fn verdicts_hold_for_what_is_probed_as_before() {
    let (_topology, agent, client, mut config) = machine_that_is_down();
    agent.start().unwrap();
    assert_eq!(answers(&client), vec![Some("b".to_owned()); 12]);
    assert_eq!(agent.health_of("east-web", "a").unwrap(), HealthState::Unhealthy);
    assert_eq!(agent.health_of("east-web", "b").unwrap(), HealthState::Healthy);
    assert!(agent.log().contains("verdicts of the agent before hold"), "{}", agent.log());

    // What has another address now is another endpoint: nobody has probed it.
    let b =
        config.pools.iter_mut().filter(|pool| pool.name == "east-web").flat_map(|pool| &mut pool.endpoints);
    b.for_each(|endpoint| endpoint.port = endpoint.port.map(|port| port + 1));
    assert!(agent.terminate().unwrap().success());
    assert_eq!(agent.detach().unwrap().code, Some(0));
    agent.write_config(&config).unwrap();
    agent.start().unwrap();
    assert_eq!(agent.health_of("east-web", "b").unwrap(), HealthState::Unknown);
    assert_eq!(agent.health_of("west-web", "b").unwrap(), HealthState::Healthy);
}

#[test]
fn a_file_that_says_nothing_of_today_or_nothing_at_all_is_none() {
    let (_topology, agent, client, _) = machine_that_is_down();
    let kept = fs::read_to_string(file(&agent)).unwrap();
    let mut old: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let secs = old["at"]["secs_since_epoch"].as_u64().unwrap();
    old["at"]["secs_since_epoch"] = (secs - 3600).into();
    for (text, said) in [
        (old.to_string(), "ready adopted=false"),
        (kept[..kept.len() / 2].to_owned(), "does not hold verdicts"),
    ] {
        fs::write(file(&agent), text).unwrap();
        agent.start().unwrap();
        assert_eq!(answers(&client), vec![None; 12]);
        assert!(agent.log().contains(said), "{said}: {}", agent.log());
        agent.kill().unwrap();
        assert_eq!(agent.detach().unwrap().code, Some(0));
    }
}

/// Waits until the file has the verdict on `east-web/a`.
fn is_written(agent: &Agent) {
    let is_written = || {
        let text = fs::read_to_string(file(agent)).unwrap_or_default();
        Ok(text.contains("\"unhealthy\"").then_some(()))
    };
    lbx_tests::wait::until("the file has the verdict", PATIENCE, is_written).unwrap();
}

#[test]
fn verdicts_are_kept_also_by_an_agent_that_is_killed() {
    let mut config = config::whole();
    let (topology, agent) = start_healthy(&config).unwrap();
    topology.east.origin("a").unwrap().stop_servers();
    agent.wait_for_health("east-web", "a", HealthState::Unhealthy, PATIENCE).unwrap();
    is_written(&agent);
    agent.kill().unwrap();

    // The next one has them from the maps, and finds nothing new.
    fs::remove_file(file(&agent)).unwrap();
    probe_seldom(&mut config);
    agent.write_config(&config).unwrap();
    agent.start().unwrap();
    is_written(&agent);
    agent.kill().unwrap();

    // Only the file is left.
    assert_eq!(agent.detach().unwrap().code, Some(0));
    agent.start().unwrap();
    assert_eq!(agent.health_of("east-web", "a").unwrap(), HealthState::Unhealthy);
    assert_eq!(agent.health_of("east-web", "b").unwrap(), HealthState::Healthy);
}
