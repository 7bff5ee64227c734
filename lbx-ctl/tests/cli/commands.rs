//! What the commands ask of the agent, and what they print.

use std::io::{BufRead, BufReader};

use crate::common::{FakeAgent, report, spawn};
use serde_json::{Value, json};

fn answers(line: &str) -> (u16, String) {
    let endpoint = json!({"name": "a", "virtual_network": "east", "address": "10.0.0.10", "port": 80});
    let listed = json!({"pool": "web", "name": "a", "virtual_network": "east", "address": "10.0.0.10"});
    let body = match line {
        "GET /v1/pools" => json!([{"name": "web", "monitor": "tcp1", "endpoints": [endpoint]}]),
        "GET /v1/services" => json!([]),
        "GET /v1/endpoints" => json!([listed]),
        "GET /v1/pools/web/endpoints" => json!([endpoint]),
        "GET /v1/pools/web/endpoints/a" => endpoint,
        "GET /v1/monitors/tcp1" => json!({"name": "tcp1", "interval": "1s", "timeout": "500ms"}),
        "GET /v1/config" => json!({"revision": 7, "config": {
            "version": 1, "monitors": [{"name": "tcp1"}],
            "pools": [{"name": "web", "monitor": "tcp1", "endpoints": [endpoint]}]}}),
        "GET /v1/health" => json!({"pools": [{"pool": "web", "state": "healthy", "endpoints": []}]}),
        "GET /v1/stats" => json!({"services": [], "endpoints": [],
            "drops": [{"reason": "no_listener", "packets": 7}]}),
        "GET /v1/status" => json!({"version": "0.1.0", "abi_version": 1, "pid": 1, "uptime_secs": 1,
            "store": "embedded /var/lib/lbx", "revision": 7, "adopted": false, "map_writes": 0,
            "interfaces": [], "tunnels": [], "maps": []}),
        _ => {
            return report(&json!([{"action": "created", "collection": "endpoints", "name": "web/a"}]));
        }
    };
    (200, body.to_string())
}

#[test]
fn get_asks_for_a_list_a_part_or_one() {
    let agent = FakeAgent::start(answers);
    assert!(agent.run(&["get", "pools"]).printed().contains("web   tcp1"));
    assert_eq!(agent.run(&["get", "service"]).printed(), "no services configured\n");
    for args in [&["get", "endpoints"][..], &["get", "endpoints", "web"], &["get", "endpoint", "web/a"]] {
        assert!(agent.run(args).printed().contains("web/a  east  10.0.0.10"), "{args:?}");
    }
    let lines: Vec<_> = agent.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/pools",
            "GET /v1/services",
            "GET /v1/endpoints",
            "GET /v1/pools/web/endpoints",
            "GET /v1/pools/web/endpoints/a"
        ]
    );
}

#[test]
fn writes_send_method_path_body_and_conditions() {
    let agent = FakeAgent::start(answers);
    for (args, line, body) in [
        (
            &["create", "endpoint", "web/a", "--vnet", "east", "--address", "10.0.0.10", "--weight", "0.5"][..],
            "POST /v1/pools/web/endpoints",
            json!({"name": "a", "virtual_network": "east", "address": "10.0.0.10", "weight": 0.5}),
        ),
        (
            &["set", "endpoint", "web/a", "--weight", "0.3", "--enabled", "false", "--dry-run"],
            "PATCH /v1/pools/web/endpoints/a?dry_run=true",
            json!({"weight": 0.3, "enabled": false}),
        ),
        (&["delete", "vnet", "east", "--revision", "7"], "DELETE /v1/virtual_networks/east", Value::Null),
        (&["delete", "pool", "a b"], "DELETE /v1/pools/a%20b", Value::Null),
    ] {
        assert_eq!(agent.run(args).printed(), "created endpoint web/a\ndone (revision 8)\n");
        let request = agent.requests().pop().unwrap();
        assert_eq!(request.line, line);
        assert_eq!(serde_json::from_str(&request.body).unwrap_or(Value::Null), body);
        assert_eq!(request.if_match.as_deref(), args.contains(&"--revision").then_some("\"7\""));
    }
}

#[test]
fn apply_sends_the_file_as_it_is() {
    let agent = FakeAgent::start(answers);
    let text = "# a comment\nversion: 1\n";
    assert!(agent.run_with_input(&["apply", "-f", "-", "--dry-run"], text).printed().contains("web/a"));
    let request = agent.requests().pop().unwrap();
    assert_eq!((request.line.as_str(), request.body.as_str()), ("PUT /v1/config?dry_run=true", text));
    assert_eq!(request.content_type, "application/yaml");
}

#[test]
fn export_prints_the_configuration_alone() {
    let agent = FakeAgent::start(answers);
    let yaml = agent.run(&["export"]);
    assert!(yaml.printed().starts_with("version: 1\n"), "{yaml:?}");
    assert!(!yaml.printed().contains("revision"), "{yaml:?}");
    let json: Value = serde_json::from_str(agent.run(&["export", "-o", "json"]).printed()).unwrap();
    assert_eq!(json["pools"][0]["name"], "web");
}

#[test]
fn every_reading_command_speaks_json_and_yaml() {
    let agent = FakeAgent::start(answers);
    for (args, place, value) in [
        (&["get", "pools"][..], "/0/name", json!("web")),
        (&["describe", "monitor", "tcp1"], "/worst_case_detection", json!("1s 500ms")),
        (&["describe", "endpoint", "web/a"], "/config/address", json!("10.0.0.10")),
        (&["health"], "/pools/0/state", json!("healthy")),
        (&["stats"], "/drops/0/packets", json!(7)),
        (&["stats", "drops"], "/0/reason", json!("no_listener")),
        (&["status"], "/revision", json!(7)),
        (&["export"], "/version", json!(1)),
        (&["set", "pool", "web", "--monitor", "tcp1"], "/revision", json!(8)),
    ] {
        let with = |format| {
            let mut args = args.to_vec();
            args.extend(["-o", format]);
            agent.run(&args)
        };
        let json: Value = serde_json::from_str(with("json").printed()).unwrap();
        let yaml: Value = serde_yaml::from_str(with("yaml").printed()).unwrap();
        assert_eq!(json.pointer(place), Some(&value), "{args:?}: {json}");
        assert_eq!(json, yaml, "{args:?}");
    }
}

#[test]
fn watching_health_prints_at_once_and_ends_when_the_agent_does() {
    let agent = FakeAgent::start(answers);
    let mut child = spawn(&agent.socket, &["health", "--watch"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("POOL"));
    drop(agent);
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn completion_knows_the_commands_and_needs_no_agent() {
    let outcome = crate::common::run(std::path::Path::new("/nonexistent"), &["completion", "bash"]);
    assert!(outcome.printed().contains("describe"));
}
