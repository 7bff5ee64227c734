//! One table for each object: the accepted forms, and each wrong form with its message.

use lbx_common::api::{Config, Mistake};
use serde_json::{Value, json};

use super::validate;
use crate::config::{decode, model::Model};

/// A configuration that is right; the cases below change one thing in it.
fn base() -> Value {
    json!({
        "version": 1,
        "node": {
            "interfaces": [{"name": "eth0", "role": "public"}, {"name": "eth1", "role": "underlay"}],
            "tunnel_source": {"ipv4": "192.0.2.10"},
        },
        "virtual_networks": [
            {"name": "east", "vni": 42, "probe_source": {"ipv4": "10.255.42.1"},
             "tunnels": [{"name": "e", "encap": "gre", "remote": "198.51.100.7"}]},
            {"name": "west", "vni": 43, "probe_source": {"ipv4": "10.255.43.1"},
             "tunnels": [{"name": "w", "encap": "vxlan", "remote": "198.51.100.8"}]},
        ],
        "monitors": [{"name": "m"}],
        "pools": [
            {"name": "db", "monitor": "m", "endpoints": [
                {"name": "a", "virtual_network": "east", "address": "10.0.0.1", "port": 5432},
                {"name": "b", "virtual_network": "west", "address": "10.0.0.1", "port": 5432},
            ]},
            {"name": "web", "endpoints": [
                {"name": "a", "virtual_network": "east", "address": "10.0.0.2"},
            ]},
        ],
        "services": [
            {"name": "db", "address": "203.0.113.1", "listen": ["tcp/5432"], "pools": ["db"]},
            {"name": "web", "address": "203.0.113.1", "listen": ["tcp/80", "udp/80"], "pools": ["web"]},
        ],
    })
}

/// The base with `value` put at each JSON pointer; the last step may be a new field or item.
fn changed(changes: &[(&str, Value)]) -> Config {
    let mut config = base();
    for (pointer, value) in changes {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let parent = config.pointer_mut(parent).unwrap();
        if let Value::Array(items) = parent {
            match last {
                "-" => items.push(value.clone()),
                index => items[index.parse::<usize>().unwrap()] = value.clone(),
            }
        } else {
            parent[last] = value.clone();
        }
    }
    decode(config).unwrap()
}

fn check(changes: &[(&str, Value)]) -> Result<Model, Vec<Mistake>> {
    validate(changed(changes))
}

#[track_caller]
fn accepts(changes: &[(&str, Value)]) -> Model {
    match check(changes) {
        Ok(model) => model,
        Err(mistakes) => panic!("{changes:?}: {mistakes:?}"),
    }
}

/// One mistake, whose text `PATH: MESSAGE` begins as given.
#[track_caller]
fn refuses(changes: &[(&str, Value)], expected: &str) {
    let mistakes: Vec<String> = check(changes).unwrap_err().iter().map(ToString::to_string).collect();
    assert!(
        mistakes.len() == 1 && mistakes[0].starts_with(expected),
        "{changes:?}:\n{mistakes:#?}\n{expected}"
    );
}

#[track_caller]
fn refuses_each(pointer: &str, cases: impl IntoIterator<Item = (Value, &'static str)>) {
    for (value, expected) in cases {
        refuses(&[(pointer, value)], expected);
    }
}

#[track_caller]
fn accepts_each(pointer: &str, values: impl IntoIterator<Item = Value>) {
    for value in values {
        accepts(&[(pointer, value)]);
    }
}

#[test]
fn references_and_defaults_are_resolved() {
    let model = accepts(&[]);
    assert_eq!(model.pools[0].endpoints.iter().map(|endpoint| endpoint.vnet).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(model.services.iter().map(|service| service.steering.pools[0]).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(model.pools[0].checks[0].monitor.name, "m");
    assert_eq!(model.pools[0].endpoints[0].weight, 100);
    let ports: Vec<_> = model.vnets.iter().map(|vnet| vnet.tunnels[0].port).collect();
    assert_eq!(ports, [0, 4789]);
    assert_eq!(model.vnets[1].tunnels[0].inner_mac, [2, 0x6c, 0x62, 0x78, 0, 2]);
}

#[test]
fn version_is_1() {
    refuses_each(
        "/version",
        [(json!(2), "version: this agent reads version 1, not 2"), (json!(0), "version: ")],
    );
}

#[test]
fn names_have_a_form_and_come_once_in_their_collection() {
    let collections = [
        ("/virtual_networks/-", json!({"vni": 7}), "virtual_networks[2].name"),
        ("/monitors/-", json!({}), "monitors[1].name"),
        ("/pools/-", json!({}), "pools[2].name"),
        (
            "/pools/1/endpoints/-",
            json!({"virtual_network": "east", "address": "10.0.0.3"}),
            "pools[1].endpoints[1].name",
        ),
        (
            "/services/-",
            json!({"address": "203.0.113.9", "listen": ["tcp/1"], "pools": ["web"]}),
            "services[2].name",
        ),
    ];
    let named = |object: &Value, name: &str| {
        let mut object = object.clone();
        object["name"] = json!(name);
        object
    };
    let long = "x".repeat(64);
    for (pointer, object, path) in &collections {
        for right in ["0", "a.b_c-9", &long[1..]] {
            accepts(&[(pointer, named(object, right))]);
        }
        for (wrong, message) in [
            ("", "the name is empty: write 1 to 63 of a-z, 0-9"),
            ("Web", "`Web` is not a name: write 1 to 63"),
            ("-a", "`-a` is not a name"),
            ("a/b", "`a/b` is not a name"),
            (&long, "the name has 64 characters"),
        ] {
            refuses(&[(pointer, named(object, wrong))], &format!("{path}: {message}"));
        }
    }
    refuses(
        &[("/monitors/-", json!({"name": "m"}))],
        "monitors[1].name: the name `m` is taken by monitors[0]",
    );
    refuses(
        &[("/virtual_networks/-", json!({"name": "west", "vni": 7, "probe_source": {"ipv4": "10.255.7.1"}}))],
        "virtual_networks[2].name: the name `west` is taken by virtual_networks[1]: give each virtual network its own",
    );
    refuses(
        &[("/pools/0/endpoints/1/name", json!("a"))],
        "pools[0].endpoints[1].name: the name `a` is taken by pools[0].endpoints[0]",
    );
    refuses(&[("/services/1/name", json!("db"))], "services[1].name: the name `db` is taken by services[0]");
}

#[test]
fn references_exist() {
    refuses(&[("/pools/1/monitor", json!("n"))], "pools[1].monitor: there is no monitor `n`, only `m`.");
    refuses(
        &[("/pools/0/endpoints/0/virtual_network", json!("esat"))],
        "pools[0].endpoints[0].virtual_network: there is no virtual network `esat`, only `east`, `west`. Did you mean \
         `east`?",
    );
    refuses(
        &[("/services/0/pools", json!(["x"]))],
        "services[0].pools[0]: there is no pool `x`, only `db`, `web`.",
    );
}

#[test]
fn interfaces_exist_once_for_each_side() {
    let public = |name: &str| json!([{"name": name, "role": "public"}, {"name": "eth1", "role": "underlay"}]);
    accepts(&[("/node/interfaces", json!([{"name": "eth0", "role": "both"}]))]);
    accepts(&[("/node/interfaces", public("a123456789.1234"))]);
    accepts(&[("/node/interfaces", json!([])), ("/services", json!([]))]);
    for wrong in ["", "a1234567890.1234", "a/b", "a b", "..", "a:1"] {
        refuses(
            &[("/node/interfaces", public(wrong))],
            &format!(
                "node.interfaces[0].name: `{wrong}` is not an interface name: write it as `ip link` shows it"
            ),
        );
    }
    for own in ["lbx0", "lbx1"] {
        let expected =
            format!("node.interfaces[0].name: `{own}` is a device of lbx's own: list the interfaces");
        refuses(&[("/node/interfaces", public(own))], &expected);
    }
    refuses(
        &[("/node/interfaces", public("eth1"))],
        "node.interfaces[1].name: interface `eth1` is listed by node.interfaces[0] already: list it once, with role \
         `both`",
    );
    for (role, message) in [
        ("underlay", "no interface takes packets of clients: list one with role `public` or `both`"),
        ("public", "no interface takes tunnel packets: list one with role `underlay` or `both`"),
    ] {
        let interfaces = json!([{"name": "eth0", "role": role}]);
        let expected = format!("node.interfaces: there are services, but {message}");
        refuses(&[("/node/interfaces", interfaces)], &expected);
    }
}

#[test]
fn the_hash_seed_has_a_form() {
    let digits = "0123456789abcdefABCDEF0123456789";
    accepts_each("/node/hash_seed", [json!("file:/etc/lbx/seed"), json!("file:seed"), json!(digits)]);
    let wrong = ["", "file:", "/etc/lbx/seed", &digits[1..], "g123456789abcdefABCDEF0123456789"];
    refuses_each(
        "/node/hash_seed",
        wrong.map(|text| (json!(text), "node.hash_seed: this is not a seed: write `file:PATH` or 32 hex")),
    );
}

#[test]
fn every_address_is_that_of_one_host() {
    for (pointer, path) in [
        ("/node/tunnel_source/ipv4", "node.tunnel_source.ipv4"),
        ("/virtual_networks/0/probe_source/ipv4", "virtual_networks[0].probe_source.ipv4"),
        ("/virtual_networks/0/tunnels/0/remote", "virtual_networks[0].tunnels[0].remote"),
        ("/pools/0/endpoints/0/address", "pools[0].endpoints[0].address"),
        ("/services/0/address", "services[0].address"),
    ] {
        for (address, what) in [
            ("127.0.0.1", "a loopback address"),
            ("224.0.0.1", "a multicast address"),
            ("255.255.255.255", "the broadcast address"),
            ("0.0.0.0", "a reserved address"),
            ("240.0.0.1", "a reserved address"),
        ] {
            refuses(
                &[(pointer, json!(address))],
                &format!("{path}: {address} is {what}: write the address of one"),
            );
        }
    }
}

#[test]
fn monitors_finish_within_their_interval() {
    let monitor = |fields: Value| {
        let mut monitor = json!({"name": "m"});
        monitor.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        monitor
    };
    for fields in [
        json!({"interval": "100ms", "timeout": "100ms"}),
        json!({"interval": "1h", "timeout": "1ms"}),
        json!({"interval": "1s", "timeout": "500ms", "retries": 1}),
        json!({"interval": "11s", "timeout": "1s", "retries": 10, "consecutive_up": 255}),
    ] {
        accepts(&[("/monitors/0", monitor(fields))]);
    }
    for (fields, expected) in [
        (json!({"interval": "99ms", "timeout": "1ms"}), "interval: found 99ms, expected 100ms to 1h"),
        (json!({"interval": "1h 1ms"}), "interval: found 1h 1ms, expected 100ms to 1h"),
        (json!({"timeout": "0s"}), "timeout: found 0s, expected 1ms or more"),
        (
            json!({"interval": "1s", "timeout": "1001ms"}),
            "timeout: 1 attempt(s) of 1s 1ms each take longer than the interval, 1s: write 1s or less",
        ),
        (
            json!({"interval": "1s", "timeout": "500ms", "retries": 2}),
            "timeout: 3 attempt(s) of 500ms each take longer than the interval, 1s: write 333ms or less, or lower \
             `retries`",
        ),
        (json!({"retries": 11}), "retries: found 11, expected 0 to 10"),
        (json!({"consecutive_up": 0}), "consecutive_up: found 0, expected 1 to 255"),
        (json!({"consecutive_down": 0}), "consecutive_down: found 0, expected 1 to 255"),
    ] {
        refuses(&[("/monitors/0", monitor(fields))], &format!("monitors[0].{expected}"));
    }
}

mod families;
mod forwarding;
mod listeners;
mod monitors;
mod networks;
mod policies;
mod pools_and_services;
mod regions;
mod remembered;
mod tunnels;
