//! Direct server return beside NAT.

use serde_json::{Value, json};

use super::{accepts, refuses};

/// The base with a pool and a service for dsr, and then `changes`.
fn with_dsr(changes: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        (
            "/pools/-",
            json!({"name": "direct", "monitor": "m", "endpoints": [
                {"name": "a", "virtual_network": "east", "address": "10.0.0.7", "tunnels": ["e"]}]}),
        ),
        (
            "/services/-",
            json!({"name": "direct", "address": "203.0.113.7", "listen": ["udp/443", "tcp/443"],
                   "forwarding": "dsr", "pools": ["direct"]}),
        ),
    ];
    all.extend_from_slice(changes);
    all
}

/// A service that forwards by nat to the pool for dsr.
fn nat_too() -> (&'static str, Value) {
    (
        "/services/-",
        json!({"name": "nat", "address": "203.0.113.8", "listen": ["udp/53"], "pools": ["direct"]}),
    )
}

#[test]
fn dsr_endpoints_are_probed_at_the_address_of_the_service() {
    let model = accepts(&with_dsr(&[]));
    assert_eq!(model.services[2].forwarding, lbx_common::api::Forwarding::Dsr);
    assert_eq!(model.services[0].forwarding, lbx_common::api::Forwarding::Nat);
    let probe = |pool: usize| model.pools[pool].endpoints[0].probes.first().map(ToString::to_string);
    assert_eq!(probe(0).as_deref(), Some("10.0.0.1:5432"));
    assert_eq!(probe(1), None);
    assert_eq!(probe(2).as_deref(), Some("203.0.113.7:443"));
    let model = accepts(&with_dsr(&[("/services/2/listen", json!(["tcp/any", "tcp/8000-8999"]))]));
    assert_eq!(model.pools[2].endpoints[0].probes[0].to_string(), "203.0.113.7:8000");
}

#[test]
fn dsr_with_a_monitor_serves_a_port_to_connect_to() {
    for listen in [json!(["udp/443"]), json!(["tcp/any"])] {
        refuses(
            &with_dsr(&[("/services/2/listen", listen.clone())]),
            "pools[2].endpoints[0].port: monitor `m` must know which port to probe, but service `direct`, which \
             forwards by dsr, names no port of TCP: give it one, as `tcp/80`, or the monitor a `port`",
        );
        accepts(&with_dsr(&[("/services/2/listen", listen), ("/pools/2/monitor", json!(null))]));
    }
}

#[test]
fn dsr_endpoints_name_one_tunnel_and_no_port() {
    for tunnels in [json!([]), json!(["e", "e2"])] {
        refuses(
            &with_dsr(&[
                (
                    "/virtual_networks/0/tunnels/-",
                    json!({"name": "e2", "encap": "gre", "remote": "198.51.100.9"}),
                ),
                ("/pools/2/endpoints/0/tunnels", tunnels),
            ]),
            "pools[2].endpoints[0].tunnels: service `direct` forwards by dsr, and the endpoint ends its tunnel itself: \
             name this one tunnel",
        );
    }
    refuses(
        &with_dsr(&[("/pools/2/endpoints/0/port", json!(443))]),
        "pools[2].endpoints[0].port: service `direct` forwards by dsr, which keeps the client's destination port \
         instead of 443: leave it out",
    );
}

#[test]
fn nat_and_dsr_share_a_pool_where_they_want_the_same_of_it() {
    refuses(
        &with_dsr(&[nat_too(), ("/pools/2/monitor", json!(null)), ("/pools/2/endpoints/0/port", json!(443))]),
        "pools[2].endpoints[0].port: service `direct` forwards by dsr, which keeps the client's destination port \
         instead of 443: give service `nat`, which forwards by nat, a pool of its own",
    );
    refuses(
        &with_dsr(&[nat_too()]),
        "pools[2].monitor: monitor `m` would check the endpoints' addresses for service `nat`, which forwards by nat, \
         and 203.0.113.7 for service `direct`, which forwards by dsr: give each of the two a pool of its own",
    );
    accepts(&with_dsr(&[nat_too(), ("/pools/2/monitor", json!(null))]));
}

#[test]
fn replies_that_do_not_come_back_need_not_name_their_listener() {
    let again = |forwarding: &str| {
        json!({"name": "again", "address": "203.0.113.9", "listen": ["tcp/443"], "forwarding": forwarding,
               "pools": ["direct"]})
    };
    let no_monitor = ("/pools/2/monitor", json!(null));
    accepts(&with_dsr(&[("/services/-", again("dsr"))]));
    accepts(&with_dsr(&[("/services/-", again("nat")), no_monitor.clone()]));
    refuses(
        &with_dsr(&[("/services/2/forwarding", json!("nat")), ("/services/-", again("nat")), no_monitor]),
        "services[3].listen[0]: tcp/443 of service `again` and tcp/443 of service `direct` both send to 10.0.0.7",
    );
    // Nor do they count as entries that recognise replies.
    let many: Vec<Value> = (1..=10).map(|port| json!(format!("tcp/{port}"))).collect();
    accepts(&with_dsr(&[("/services/2/listen", json!(many)), ("/limits", json!({"endpoints": 4}))]));
}

#[test]
fn dsr_and_its_endpoints_are_of_one_family() {
    refuses(
        &with_dsr(&[("/services/2/address", json!("2001:db8::80")), ("/pools/2/monitor", json!(null))]),
        "services[2].pools[0]: 2001:db8::80, the address of service `direct`, is IPv6, but endpoint `a`",
    );
}

#[test]
fn nobody_sees_how_many_connections_a_dsr_endpoint_has() {
    refuses(
        &with_dsr(&[("/pools/2/endpoint_steering", json!("least_connections"))]),
        "services[2].forwarding: pool `direct` has `endpoint_steering: least_connections`, which counts live flows: with dsr \
         nobody sees how they end; forward by nat, or give the pool `random`",
    );
}
