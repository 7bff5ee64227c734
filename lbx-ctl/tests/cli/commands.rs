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
        "GET /v1/flows?service=web&endpoint=web%2Fa&client=192.0.2.7%2F32&limit=5" => {
            json!({"matching": 9, "flows": [
            {"service": "web", "protocol": "tcp", "client": "192.0.2.7:40000", "vip": "203.0.113.80:80",
             "endpoint": "web/a", "virtual_network": "east", "address": "10.0.0.10:80", "state": "closing",
             "idle_secs": 3}]})
        }
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
fn the_schema_of_the_configuration_needs_no_agent() {
    let agent = FakeAgent::start(answers);
    let schema: Value = serde_json::from_str(agent.run(&["schema"]).printed()).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["required"], json!(["version"]));
    assert!(schema.pointer("/$defs/Endpoint/properties/weight").is_some());
    assert!(agent.run(&["schema", "-o", "yaml"]).printed().contains("$defs:"));
    assert_eq!(agent.requests(), []);
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

#[test]
fn flows_are_asked_for_by_every_filter() {
    let agent = FakeAgent::start(answers);
    let args = ["flows", "--service", "web", "--endpoint", "web/a", "--client", "192.0.2.7", "--limit", "5"];
    let outcome = agent.run(&args);
    assert!(outcome.printed().contains("192.0.2.7:40000"), "{outcome:?}");
    assert!(outcome.printed().contains("and 8 more"), "{outcome:?}");
}

/// A pool with an endpoint for each state of a drain.
fn drains(line: &str) -> (u16, String) {
    let endpoint = |name: &str, state: &str, drain: Value| {
        json!({"endpoint": name, "virtual_network": "east", "address": "10.0.0.10:80", "state": state,
               "reason": "connection refused", "drain": drain})
    };
    if line != "GET /v1/health" {
        return report(&json!([{"action": "changed", "collection": "endpoints", "name": "web/a"}]));
    }
    let endpoints = [
        endpoint("over", "healthy", json!({"secs_left": 0, "pinned_flows": 0})),
        endpoint("busy", "healthy", json!({"secs_left": 90, "pinned_flows": 7})),
        endpoint("up", "healthy", Value::Null),
        endpoint("down", "unhealthy", Value::Null),
    ];
    (200, json!({"pools": [{"pool": "web", "state": "healthy", "endpoints": endpoints}]}).to_string())
}

#[test]
fn waiting_ends_when_the_endpoint_is_drained_or_back() {
    let agent = FakeAgent::start(drains);
    for (args, end) in [
        (["endpoint", "drain", "web/over", "--wait"], "web/over is drained: it keeps no flow\n"),
        (["endpoint", "undrain", "web/up", "--wait"], "web/up takes new flows\n"),
        (["endpoint", "drain", "web/up", "--wait"], "web/up is not drained any more: somebody undid it\n"),
        (["endpoint", "drain", "web/gone", "--wait"], "web/gone is not configured any more\n"),
    ] {
        let outcome = agent.run(&args);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, end), "{args:?}");
        assert!(outcome.stdout.ends_with("done (revision 8)\n"), "{outcome:?}");
    }
}

#[test]
fn waiting_says_what_is_left_and_gives_up_with_a_status_of_its_own() {
    let agent = FakeAgent::start(drains);
    for (action, name, left) in [
        ("drain", "web/busy", "web/busy keeps its flows for 1m 30s more at most; 7 of them are pinned"),
        ("undrain", "web/busy", "web/busy is drained and takes no new flows"),
        ("enable", "web/down", "web/down is unhealthy: connection refused, and takes no new flows"),
    ] {
        let outcome = agent.run(&["endpoint", action, name, "--wait", "--timeout", "600ms"]);
        let error = format!("{left}\nerror: after 600ms: {left}; the change is in force and goes on\n");
        assert_eq!((outcome.code, outcome.stderr), (4, error));
    }
}
