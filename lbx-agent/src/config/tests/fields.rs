//! Shapes of single fields: every wrong item of a list, and what stands where something else belongs.

use super::{assert_mistakes, load_yaml};

fn service(fields: &str) -> String {
    format!(
        "version: 1\nservices:\n- name: s\n  address: 203.0.113.1\n  listen: [tcp/80]\n  pools: [p]\n  {fields}\n"
    )
}

#[test]
fn a_service_without_the_newer_fields_means_what_it_meant() {
    let config = load_yaml(&service("forwarding: nat")).unwrap();
    let service = &config.services[0];
    assert!(service.icmp_echo && service.allow.is_empty() && service.deny.is_empty());
    assert_eq!(service.no_endpoint.as_str(), "drop");
    assert!(service.rate_limit.is_off());
    let text = serde_json::to_string(service).unwrap();
    for absent in ["allow", "deny", "rate_limit"] {
        assert!(!text.contains(absent), "{text}");
    }
}

#[test]
fn every_wrong_prefix_of_a_list_is_named() {
    assert_mistakes(
        &service("allow: [192.0.2.0/24, 192.0.2.7, 5, 10.0.0.1/8, 10.0.0.0/33, 2001:db8::1/32, all]"),
        &[
            "line 7, column 25: services[0].allow[1]: `192.0.2.7` has no length: write `192.0.2.7/32` for this one \
             address",
            "line 7, column 36: services[0].allow[2]: found the number 5, expected text: put it in quotes",
            "line 7, column 39: services[0].allow[3]: `10.0.0.1/8` has bits set behind the length: write \
             `10.0.0.0/8`, or `10.0.0.1/32` for this one address",
            "line 7, column 51: services[0].allow[4]: `10.0.0.0/33` is longer than an address: IPv4 addresses have 32 \
             bits",
            "line 7, column 64: services[0].allow[5]: `2001:db8::1/32` has bits set behind the length: write \
             `2001:db8::/32`, or `2001:db8::1/128` for this one address",
            "line 7, column 80: services[0].allow[6]: `all` is not a prefix: write it as `192.0.2.0/24` or \
             `2001:db8::/32`",
        ],
    );
    assert_mistakes(
        &service("deny: 192.0.2.0/24"),
        &["line 7, column 3: services[0].deny: found the text `192.0.2.0/24`, expected a list"],
    );
}

#[test]
fn words_and_numbers_of_a_service_are_named_with_what_would_be_right() {
    for (fields, expected) in [
        ("forwarding: dnat", "forwarding: unknown value `dnat`: write `nat` or `dsr`. Did you mean `nat`?"),
        ("no_endpoint: rst", "no_endpoint: unknown value `rst`: write `drop` or `reject`."),
        ("icmp_echo: off", "icmp_echo: found the text `off`, expected `true` or `false`"),
        ("rate_limit: 100", "rate_limit: found the number 100, expected an object with fields"),
        ("rate_limit: [1, 2]", "rate_limit: found a list, expected an object with fields"),
        ("session_affinity: []", "session_affinity: found a list, expected an object with fields"),
        ("random_steering: [1]", "random_steering: found a list, expected an object with fields"),
        (
            "session_affinity: source_ip",
            "session_affinity: found the text `source_ip`, expected an object with fields",
        ),
        (
            "session_affinity: {ttl: 1}",
            "session_affinity.ttl: found the number 1, expected a duration, as `500ms`, `5s` or `2m`",
        ),
        (
            "random_steering: {pool_weights: {p: much}}",
            "random_steering.pool_weights.p: found the text `much`, expected a number, as 0.5",
        ),
        (
            "rate_limit: {per_sorce: 1}",
            "rate_limit.per_sorce: unknown field `per_sorce`: this object has `new_flows_per_second`, `per_source`. \
             Did you mean `per_source`?",
        ),
        (
            "rate_limit: {per_source: -1}",
            "rate_limit.per_source: found the number -1, expected a whole number from 0 to 4294967295",
        ),
    ] {
        let found = super::mistakes(&service(fields));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(&format!("services[0].{expected}")), "{found:?}");
    }
}

#[test]
fn every_wrong_listener_of_a_list_is_named() {
    assert_mistakes(
        "version: 1\nservices: [{name: s, address: 203.0.113.1, listen: [tcp/2-1, 80, udp/7-7, tcp/all], pools: [p]}]",
        &[
            "line 2, column 53: services[0].listen[0]: `tcp/2-1` is not a range of ports: write `tcp/1-2`",
            "line 2, column 62: services[0].listen[1]: found the number 80, expected a listener, as `tcp/80` or \
             `udp/80`",
            "line 2, column 66: services[0].listen[2]: `udp/7-7` is not a range of ports: write `udp/7`",
            "line 2, column 75: services[0].listen[3]: `tcp/all` is not a listener: write `tcp/PORT`, \
             `tcp/FIRST-LAST` or `tcp/any`, or the same with `udp`, with ports from 1 to 65535",
        ],
    );
}

#[test]
fn tunnels_of_an_endpoint_are_a_list_of_names() {
    let endpoint = |tunnels: &str| {
        format!(
            "version: 1\npools:\n- name: p\n  endpoints:\n  - name: e\n    virtual_network: v\n    address: 10.0.0.1\n    \
             tunnels: {tunnels}\n"
        )
    };
    assert_mistakes(
        &endpoint("[a, 5, true]"),
        &[
            "line 8, column 18: pools[0].endpoints[0].tunnels[1]: found the number 5, expected text: put it in quotes",
            "line 8, column 21: pools[0].endpoints[0].tunnels[2]: found `true`, expected text: put it in quotes",
        ],
    );
    assert_mistakes(
        &endpoint("a"),
        &["line 8, column 5: pools[0].endpoints[0].tunnels: found the text `a`, expected a list"],
    );
}
