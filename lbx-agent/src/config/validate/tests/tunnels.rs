//! Several tunnels per network: their health checks, and which of them lead to an endpoint.

use serde_json::{Value, json};

use super::{accepts, refuses};

const TUNNEL: &str = "/virtual_networks/0/tunnels/0";

/// The first tunnel of the base with further fields.
fn tunnel(fields: &Value) -> (&'static str, Value) {
    let mut tunnel = json!({"name": "e", "encap": "gre", "remote": "198.51.100.7"});
    tunnel.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    (TUNNEL, tunnel)
}

/// A second tunnel for the first network.
fn second() -> (&'static str, Value) {
    ("/virtual_networks/0/tunnels/-", json!({"name": "e2", "encap": "gre", "remote": "198.51.100.9"}))
}

#[test]
fn a_network_has_as_many_tunnels_as_a_probe_can_name() {
    let model = accepts(&[second()]);
    let names: Vec<_> = model.vnets[0].tunnels.iter().map(|tunnel| tunnel.name.as_str()).collect();
    assert_eq!(names, ["e", "e2"]);
    refuses(
        &[("/virtual_networks/0/tunnels/-", json!({"name": "e", "encap": "gre", "remote": "198.51.100.9"}))],
        "virtual_networks[0].tunnels[1].name: the name `e` is taken by virtual_networks[0].tunnels[0]",
    );
    refuses(
        &[("/virtual_networks/0/tunnels/-", json!({"name": "e2", "encap": "gre", "remote": "198.51.100.7"}))],
        "virtual_networks[0].tunnels[1]: this is the same path as virtual_networks[0].tunnels[0]: keep one",
    );
    let many = |count: u8| {
        let one = |i| json!({"name": format!("t{i}"), "encap": "gre", "remote": format!("198.51.101.{i}")});
        [("/virtual_networks/0/tunnels", Value::Array((1..=count).map(one).collect()))]
    };
    accepts(&many(64));
    refuses(&many(65), "virtual_networks[0].tunnels: 65 tunnels: a network takes 64 at most");
    // The same gateway by another encapsulation is another path.
    accepts(&[(
        "/virtual_networks/0/tunnels/-",
        json!({"name": "e2", "encap": "gre-udp", "remote": "198.51.100.7"}),
    )]);
}

#[test]
fn tunnels_are_enabled_and_unchecked_unless_they_say_otherwise() {
    let model = accepts(&[]);
    assert!(model.vnets[0].tunnels[0].enabled);
    assert_eq!(model.vnets[0].tunnels[0].probe, None);
    let checked = json!({"enabled": false, "monitor": "m", "probe_address": "10.0.0.254", "probe_port": 22});
    let model = accepts(&[tunnel(&checked)]);
    let tunnel = &model.vnets[0].tunnels[0];
    assert!(!tunnel.enabled);
    let probe = tunnel.probe.as_ref().unwrap();
    assert_eq!((probe.monitor.name.as_str(), probe.target.to_string().as_str()), ("m", "10.0.0.254:22"));
}

#[test]
fn a_checked_tunnel_says_what_is_checked() {
    let at = |field: &str, message: &str| format!("virtual_networks[0].tunnels[0].{field}: {message}");
    for (fields, expected) in [
        (
            json!({"monitor": "n", "probe_address": "10.0.0.254", "probe_port": 22}),
            at("monitor", "there is no monitor `n`, only `m`."),
        ),
        (
            json!({"monitor": "m", "probe_port": 22}),
            at("probe_address", "missing: monitor `m` needs an address of the gateway, inside, to check"),
        ),
        (
            json!({"monitor": "m", "probe_address": "10.0.0.254"}),
            at("probe_port", "missing: monitor `m` must know which port to probe"),
        ),
        (
            json!({"monitor": "m", "probe_address": "10.0.0.254", "probe_port": 0}),
            at("probe_port", "0 is not a port: write 1 to 65535"),
        ),
        (
            json!({"monitor": "m", "probe_address": "127.0.0.1", "probe_port": 22}),
            at("probe_address", "127.0.0.1 is a loopback address: write the address of one host"),
        ),
        (
            json!({"monitor": "m", "probe_address": "10.255.42.1", "probe_port": 22}),
            at("probe_address", "10.255.42.1 is the probe_source of `east`: they must differ"),
        ),
        (
            json!({"probe_address": "10.0.0.254"}),
            at(
                "probe_address",
                "nothing is probed without a monitor: name one in `monitor`, or leave this out",
            ),
        ),
        (
            json!({"probe_port": 22}),
            at("probe_port", "nothing is probed without a monitor: name one in `monitor`, or leave this out"),
        ),
    ] {
        refuses(&[tunnel(&fields)], &expected);
    }
}

#[test]
fn checking_a_tunnel_needs_a_probe_source_of_the_family() {
    let fields = |enabled: bool| json!({"enabled": enabled, "monitor": "m", "probe_address": "fd00::254", "probe_port": 22});
    refuses(
        &[tunnel(&fields(true))],
        "virtual_networks[0].probe_source.ipv6: missing: monitor `m` checks tunnel `e` here, so give an IPv6 address \
         that the far end routes back into the tunnel",
    );
    accepts(&[tunnel(&fields(true)), ("/virtual_networks/0/probe_source/ipv6", json!("fd00:255::1"))]);
    accepts(&[tunnel(&fields(false))]);
}

#[test]
fn endpoints_are_reached_through_the_tunnels_they_name_or_through_all() {
    let tunnels = "/pools/0/endpoints/0/tunnels";
    assert_eq!(accepts(&[second()]).pools[0].endpoints[0].tunnels, [0, 1]);
    for (named, resolved) in
        [(json!(["e2"]), vec![1]), (json!(["e2", "e"]), vec![1, 0]), (json!([]), vec![0, 1])]
    {
        assert_eq!(accepts(&[second(), (tunnels, named)]).pools[0].endpoints[0].tunnels, resolved);
    }
    refuses(
        &[second(), (tunnels, json!(["w"]))],
        "pools[0].endpoints[0].tunnels[0]: in virtual network `east` there is no tunnel `w`, only `e`, `e2`.",
    );
    refuses(
        &[second(), (tunnels, json!(["e", "e2", "e"]))],
        "pools[0].endpoints[0].tunnels[2]: `e` is named by pools[0].endpoints[0].tunnels[0] already: name it once",
    );
}

#[test]
fn only_tunnels_that_lead_to_ipv6_endpoints_need_room_for_ipv6() {
    let small =
        |name: &str, remote: &str| json!({"name": name, "encap": "gre", "remote": remote, "mtu": 1000});
    let six = |tunnels: Value| {
        json!({"name": "six", "endpoints": [
            {"name": "a", "virtual_network": "east", "address": "fd00::1", "tunnels": tunnels}]})
    };
    let changes = |tunnels: Value| {
        [
            (TUNNEL, small("e", "198.51.100.7")),
            (
                "/virtual_networks/0/tunnels/-",
                json!({"name": "e2", "encap": "gre", "remote": "198.51.100.9"}),
            ),
            ("/pools/-", six(tunnels)),
        ]
    };
    accepts(&changes(json!(["e2"])));
    for tunnels in [json!(["e"]), json!([])] {
        refuses(&changes(tunnels), "virtual_networks[0].tunnels[0].mtu: 1000 is too small");
    }
}
