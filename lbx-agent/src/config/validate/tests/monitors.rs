//! Fields of monitors by type, and the ports that are probed.

use lbx_common::api::MonitorKind;
use serde_json::{Value, json};

use super::{accepts, check, refuses};
use crate::config::model::Voice;

/// The monitor of the base, with more fields.
fn monitor(fields: &Value) -> (&'static str, Value) {
    let mut monitor = json!({"name": "m"});
    monitor.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ("/monitors/0", monitor)
}

#[test]
fn every_type_takes_its_own_fields() {
    for fields in [
        json!({"type": "tcp", "port": 22}),
        json!({"type": "http", "port": 8080, "method": "GET", "path": "/a/b?c=%20", "expected_codes": "2xx,304",
               "header": {"Host": ["a.example:80"], "X-A": ["", "b"]}, "expected_body": "ok", "follow_redirects": true}),
        json!({"type": "https", "method": "HEAD", "allow_insecure": true}),
        json!({"type": "icmp_ping"}),
        json!({"type": "udp_icmp", "port": 53, "payload": "\\x00a"}),
        json!({"type": "udp", "payload": "a".repeat(512), "expect": "b"}),
        json!({"type": "smtp", "port": 587}),
    ] {
        accepts(&[monitor(&fields)]);
    }
}

/// Fields that one or two types have, with a value, and these types.
const FIELDS: [(&str, &str, &[MonitorKind]); 9] = [
    ("method", "\"GET\"", &[MonitorKind::Http, MonitorKind::Https]),
    ("path", "\"/\"", &[MonitorKind::Http, MonitorKind::Https]),
    ("header", "{\"a\": [\"b\"]}", &[MonitorKind::Http, MonitorKind::Https]),
    ("expected_codes", "\"200\"", &[MonitorKind::Http, MonitorKind::Https]),
    ("expected_body", "\"a\"", &[MonitorKind::Http, MonitorKind::Https]),
    ("follow_redirects", "true", &[MonitorKind::Http, MonitorKind::Https]),
    ("allow_insecure", "true", &[MonitorKind::Https]),
    ("payload", "\"a\"", &[MonitorKind::Udp, MonitorKind::UdpIcmp]),
    ("expect", "\"a\"", &[MonitorKind::Udp]),
];

#[test]
fn fields_of_other_types_are_refused() {
    for kind in MonitorKind::ALL {
        for (field, value, kinds) in FIELDS {
            let value: Value = serde_json::from_str(value).unwrap();
            let change = monitor(&json!({"type": kind.as_str(), (field): value}));
            if kinds.contains(&kind) {
                accepts(&[change]);
                continue;
            }
            let names: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.as_str())).collect();
            let expected = format!(
                "monitors[0].{field}: a monitor of type `{}` has no `{field}`, which is for {}: leave it out, or write \
                 another `type`",
                kind.as_str(),
                names.join(" and ")
            );
            refuses(&[change], &expected);
        }
    }
}

#[test]
fn values_that_no_probe_can_have_are_refused() {
    for (fields, expected) in [
        (json!({"port": 0}), "port: 0 is not a port"),
        (json!({"type": "icmp_ping", "port": 1}), "port: a monitor of type `icmp_ping` is about no port"),
        (json!({"type": "http", "path": "a"}), "path: `a` does not begin with `/`"),
        (json!({"type": "http", "path": ""}), "path: `` does not begin with `/`"),
        (
            json!({"type": "http", "path": "/a#b"}),
            "path: `/a#b` has a fragment, which is never sent: write `/a`",
        ),
        (json!({"type": "http", "path": "/a b"}), "path: `/a b` is no path of HTTP"),
        (json!({"type": "http", "path": "/a\n"}), "path: `/a\n` is no path of HTTP"),
        (json!({"type": "http", "header": {"a b": ["c"]}}), "header.a b: `a b` is no name of a header"),
        (json!({"type": "http", "header": {"": ["c"]}}), "header.: `` is no name of a header"),
        (json!({"type": "http", "header": {"a": []}}), "header.a: no value: write one"),
        (
            json!({"type": "http", "header": {"a": ["b", "c\r\nd: e"]}}),
            "header.a[1]: a header cannot have line breaks",
        ),
        (
            json!({"type": "http", "header": {"Content-Length": ["1"]}}),
            "header.Content-Length: lbx says itself how",
        ),
        (
            json!({"type": "http", "header": {"host": ["a", "b"]}}),
            "header.host: 2 values, but a request is to one host",
        ),
        (json!({"type": "http", "header": {"Host": [""]}}), "header.Host[0]: `` is no host"),
        (
            json!({"type": "http", "header": {"Host": ["http://a/"]}}),
            "header.Host[0]: `http://a/` is no host",
        ),
        (json!({"type": "http", "expected_body": ""}), "expected_body: empty: leave it out"),
        (
            json!({"type": "http", "expected_body": "a", "method": "HEAD"}),
            "expected_body: the response to `HEAD` has no body",
        ),
        (json!({"type": "udp", "payload": "a".repeat(513)}), "payload: 513 bytes, but 512 are the most"),
        (json!({"type": "udp", "expect": ""}), "expect: empty: leave it out"),
    ] {
        refuses(&[monitor(&fields)], &format!("monitors[0].{expected}"));
    }
}

#[test]
fn all_mistakes_of_a_monitor_are_reported_at_once() {
    let fields = json!({"type": "tcp", "port": 0, "path": "a", "expect": "", "timeout": "0s", "retries": 11});
    let found = check(&[monitor(&fields)]).unwrap_err();
    let paths: Vec<_> = found.iter().map(|mistake| mistake.path.trim_start_matches("monitors[0].")).collect();
    assert_eq!(paths, ["path", "expect", "port", "expect", "retries", "timeout"]);
}

#[test]
fn the_port_that_is_probed_is_the_monitors_else_the_endpoints_else_the_usual_one() {
    for (fields, with_port, without) in [
        (json!({}), Some(5432), None),
        (json!({"port": 7}), Some(7), Some(7)),
        (json!({"type": "http"}), Some(5432), Some(80)),
        (json!({"type": "https"}), Some(5432), Some(443)),
        (json!({"type": "smtp"}), Some(5432), Some(25)),
        (json!({"type": "udp"}), Some(5432), None),
        (json!({"type": "udp_icmp"}), Some(5432), None),
        (json!({"type": "icmp_ping"}), Some(0), Some(0)),
    ] {
        let probed = |changes: &[_]| {
            let model = check(changes).ok()?;
            model.pools[0].endpoints[0].probes.first().map(std::net::SocketAddr::port)
        };
        assert_eq!(probed(&[monitor(&fields)]), with_port, "{fields}");
        assert_eq!(
            probed(&[monitor(&fields), ("/pools/0/endpoints/0/port", json!(null))]),
            without,
            "{fields}"
        );
    }
}

#[test]
fn a_tunnel_is_probed_at_a_port_where_its_monitor_is_about_one() {
    let tunnel = |more: Value| {
        let mut tunnel = json!({"name": "e", "encap": "gre", "remote": "198.51.100.7", "monitor": "m",
                                "probe_address": "10.0.0.254"});
        tunnel.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("/virtual_networks/0/tunnels/0", tunnel)
    };
    let target = |changes: &[_]| {
        let model = accepts(changes);
        model.vnets[0].tunnels[0].probe.as_ref().unwrap().target.to_string()
    };
    let ping = || monitor(&json!({"type": "icmp_ping"}));
    assert_eq!(target(&[ping(), tunnel(json!({}))]), "10.0.0.254:0");
    assert_eq!(target(&[monitor(&json!({"type": "http"})), tunnel(json!({}))]), "10.0.0.254:80");
    assert_eq!(target(&[monitor(&json!({"port": 9})), tunnel(json!({"probe_port": 8}))]), "10.0.0.254:9");
    refuses(
        &[ping(), tunnel(json!({"probe_port": 8}))],
        "virtual_networks[0].tunnels[0].probe_port: monitor `m` is of type `icmp_ping`, which is about no port: leave it \
         out",
    );
}

/// The base with a group of these monitors at its first pool, of which there are m, n and o.
fn group(group: &Value) -> [(&'static str, Value); 3] {
    [
        ("/monitors", json!([{"name": "m"}, {"name": "n", "port": 22}, {"name": "o", "type": "icmp_ping"}])),
        ("/pools/0/monitor", Value::Null),
        ("/pools/0/monitor_group", group.clone()),
    ]
}

#[test]
fn each_monitor_of_a_group_has_its_voice_and_its_port() {
    let model = accepts(&group(&json!([
        {"monitor": "m", "must_be_healthy": true}, {"monitor": "n"}, {"monitor": "o", "monitoring_only": true}])));
    let pool = &model.pools[0];
    let voices: Vec<_> = pool.checks.iter().map(|check| (check.monitor.name.as_str(), check.voice)).collect();
    assert_eq!(voices, [("m", Some(Voice::Must)), ("n", Some(Voice::One)), ("o", Some(Voice::Watches))]);
    let probes: Vec<_> = pool.endpoints[0].probes.iter().map(ToString::to_string).collect();
    assert_eq!(probes, ["10.0.0.1:5432", "10.0.0.1:22", "10.0.0.1:0"]);
    let alone = accepts(&[]);
    assert_eq!(alone.pools[0].checks[0].voice, None);
}

#[test]
fn a_group_names_monitors_once_and_lets_one_count() {
    for (members, expected) in [
        (json!([{"monitor": "x"}]), "pools[0].monitor_group[0].monitor: there is no monitor `x`"),
        (
            json!([{"monitor": "m"}, {"monitor": "n"}, {"monitor": "m", "must_be_healthy": true}]),
            "pools[0].monitor_group[2].monitor: `m` is in pools[0].monitor_group[0] already: name it once",
        ),
        (
            json!([{"monitor": "n"}, {"monitor": "m", "must_be_healthy": true, "monitoring_only": true}]),
            "pools[0].monitor_group[1].monitoring_only: one that counts for nothing cannot be one that must be healthy",
        ),
        (
            json!([{"monitor": "m", "monitoring_only": true}, {"monitor": "n", "monitoring_only": true}]),
            "pools[0].monitor_group: all of them are `monitoring_only`, so nothing could fail: let one count",
        ),
    ] {
        refuses(&group(&members), expected);
    }
    let [monitors, _, members] = group(&json!([{"monitor": "n"}]));
    refuses(
        &[monitors, members],
        "pools[0].monitor_group: the pool has a `monitor` as well: put it into the group, or leave one of the two out",
    );
    // The port is missing for the one that needs it.
    let mut without_port = group(&json!([{"monitor": "n"}, {"monitor": "m"}])).to_vec();
    without_port.push(("/pools/0/endpoints/0/port", Value::Null));
    refuses(&without_port, "pools[0].endpoints[0].port: missing: monitor `m` must know which port to probe");
}
