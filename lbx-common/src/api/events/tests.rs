//! What events are to a program, and to a person.

use serde_json::json;

use super::{Event, EventType};

/// One of each type, and how it reads.
fn each() -> Vec<(serde_json::Value, &'static str)> {
    let drained = json!({"type": "drain_begun", "pool": "web", "endpoint": "a", "virtual_network": "east",
                         "address": "10.0.0.10:80", "removed": false, "secs": 300});
    vec![
        (
            json!({"type": "agent_started", "version": "0.1.0", "revision": 3, "adopted": true}),
            "agent 0.1.0 started with configuration revision 3, took over what was in the kernel",
        ),
        (
            json!({"type": "configuration_changed", "revision": 4, "changes": [
                {"action": "created", "collection": "pools", "name": "web"},
                {"action": "changed", "collection": "endpoints", "name": "web/a", "fields": [
                    {"field": "weight", "before": 1.0, "after": 0.5}]}]}),
            "configuration revision 4: created pool web; changed endpoint web/a: weight 1.0 -> 0.5",
        ),
        (
            json!({"type": "configuration_refused", "error": "no such file"}),
            "configuration not reloaded, the one before stays in force: no such file",
        ),
        (
            json!({"type": "endpoint_health", "pool": "web", "endpoint": "a", "virtual_network": "east",
                   "address": "10.0.0.10:80", "from": "healthy", "to": "unhealthy", "reason": "connection refused"}),
            "endpoint web/a (10.0.0.10:80 in east) is unhealthy, was healthy: connection refused",
        ),
        (
            json!({"type": "tunnel_health", "virtual_network": "east", "tunnel": "gre", "from": "unhealthy",
                   "to": "healthy"}),
            "tunnel east/gre is healthy, was unhealthy",
        ),
        (
            json!({"type": "pool_state", "pool": "web", "from": "healthy", "to": "critical", "up": false,
                   "healthy": 0, "endpoints": 2, "closed": 1, "needed": 1}),
            "pool web is critical, was healthy: 0 of 2 endpoints healthy (1 drained or without weight), 1 needed",
        ),
        (
            json!({"type": "service_pools", "service": "db", "from": ["a", "b"], "to": ["last"], "fallback": true,
                   "cause": "no pool is up"}),
            "service db is served by last (fallback), before by a, b: no pool is up",
        ),
        (drained, "endpoint web/a (10.0.0.10:80 in east) is drained: it keeps its flows for 300 s at most"),
        (
            json!({"type": "drain_ended", "address": "10.0.0.10", "why": "no_flows_left"}),
            "an endpoint that was removed (10.0.0.10) is not drained any more: its last flow has gone",
        ),
        (
            json!({"type": "table_change_begun", "service": "web", "closes_in_secs": 7800}),
            "service web has another table; flows from before may be there for 7800 s",
        ),
        (
            json!({"type": "table_change_ended", "service": "web"}),
            "service web: all flows go by its table again",
        ),
        (
            json!({"type": "interface_state", "interface": "eth0", "role": "public", "from": "up", "to": "no-carrier",
                   "mode": "native"}),
            "interface eth0 (public) is no-carrier, was up; attached (native)",
        ),
        (
            json!({"type": "flow_sample", "service": "web", "listener": "tcp/443", "protocol": "tcp",
                   "client": "198.51.100.7:40000", "vip": "203.0.113.80:443", "pool": "web", "endpoint": "a",
                   "virtual_network": "east", "tunnel": "gre", "bytes": 60, "one_in": 1000}),
            "tcp 198.51.100.7:40000 -> 203.0.113.80:443 (web, tcp/443) to web/a by tunnel east/gre, 60 bytes; one in 1000",
        ),
    ]
}

#[test]
fn every_type_reads_as_it_should_and_comes_back_as_it_was() {
    for ((mut json, line), of_type) in each().into_iter().zip(EventType::ALL) {
        let object = json.as_object_mut().unwrap();
        object.insert("number".to_owned(), json!(7));
        object.insert("time".to_owned(), json!("2026-01-02T03:04:05.678Z"));
        let event: Event =
            serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{error}: {json}"));
        assert_eq!(event.what.to_string(), line);
        assert_eq!(event.what.event_type(), Some(of_type));
        assert_eq!(serde_json::to_value(&event).unwrap(), json);
        assert_eq!(of_type.as_str().parse(), Ok(of_type));
    }
}

#[test]
fn a_type_that_there_is_not_is_named_with_those_that_there_are() {
    let error = "pool".parse::<EventType>().unwrap_err().to_string();
    assert!(error.starts_with("there are no events of type `pool`; there are agent_started, "), "{error}");
}

#[test]
fn a_change_of_very_many_objects_is_a_short_line() {
    let change = json!({"action": "created", "collection": "pools", "name": "web"});
    let event = json!({"number": 1, "time": "", "type": "configuration_changed", "revision": 2,
                       "changes": vec![change; 1000]});
    let event: Event = serde_json::from_value(event).unwrap();
    let line = event.what.to_string();
    assert!(line.ends_with("created pool web; and 992 more") && line.len() < 300, "{line}");
}
