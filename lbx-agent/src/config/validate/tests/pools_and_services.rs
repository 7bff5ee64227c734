//! Rules for pools, services and limits.

use serde_json::{Value, json};

use lbx_common::api::ConnectionTracking;

use super::{accepts, accepts_each, check, refuses, refuses_each};

#[test]
fn weights_go_in_steps_of_a_hundredth() {
    for step in 0..=100u8 {
        let weight = f64::from(step) / 100.0;
        let model = accepts(&[("/pools/0/endpoints/0/weight", json!(weight))]);
        assert_eq!(model.pools[0].endpoints[0].weight, step);
    }
    refuses_each(
        "/pools/0/endpoints/0/weight",
        [-0.01, 1.01, 0.001, 0.333, 100.0, f64::MAX]
            .map(|weight| (json!(weight), "pools[0].endpoints[0].weight: found ")),
    );
    let mut config = super::changed(&[]);
    config.pools[0].endpoints[0].weight = f64::NAN;
    let mistakes = super::validate(config).unwrap_err();
    assert_eq!(mistakes[0].message, "found NaN, expected 0 to 1 in steps of 0.01, as 0.25");
}

#[test]
fn endpoints_differ_and_have_the_port_that_their_monitor_needs() {
    refuses(
        &[("/pools/1/endpoints/0/port", json!(0))],
        "pools[1].endpoints[0].port: 0 is not a port: write 1 to 65535, or leave it out",
    );
    refuses(
        &[("/pools/0/endpoints/0/port", json!(null))],
        "pools[0].endpoints[0].port: missing: monitor `m` must know which port to probe",
    );
    accepts(&[("/pools/0/endpoints/0/port", json!(null)), ("/pools/0/endpoints/0/enabled", json!(false))]);
    // The base has the same address in two networks; in one network it is the same endpoint twice.
    refuses(
        &[("/pools/0/endpoints/1/virtual_network", json!("east"))],
        "pools[0].endpoints[1]: the virtual network, address and port are those of pools[0].endpoints[0]",
    );
}

#[test]
fn endpoints_of_a_service_can_be_reached() {
    let without = ("/virtual_networks/1/tunnels", json!([]));
    refuses(
        std::slice::from_ref(&without),
        "pools[0].endpoints[1].virtual_network: `west` has no tunnel, so the services of pool `db` cannot reach",
    );
    let model = accepts(&[without, ("/services", json!([]))]);
    assert_eq!(model.vnets[1].tunnels, []);
}

fn endpoints(count: usize, weight: f64) -> Value {
    let endpoint = |index: usize| {
        let address = format!("10.1.{}.{}", index / 250, index % 250 + 1);
        json!({"name": format!("e{index}"), "virtual_network": "east", "address": address, "weight": weight})
    };
    (0..count).map(endpoint).collect()
}

#[test]
fn tables_have_a_size_from_the_list_that_fits_the_pool() {
    for (count, size) in [(0, 1021), (10, 1021), (11, 2039), (655, 65_537), (1000, 65_537)] {
        let model = accepts(&[("/pools/1/endpoints", endpoints(count, 1.0))]);
        assert_eq!(model.pools[1].table_size, size, "{count} endpoints");
    }
    accepts_each("/pools/1/table_size", lbx_common::abi::TABLE_SIZES.map(|size| json!(size)));
    refuses_each(
        "/pools/1/table_size",
        [0, 1, 1022, 131_071].map(|size| (json!(size), "pools[1].table_size: ")),
    );
    refuses(
        &[("/pools/1/table_size", json!(1000))],
        "pools[1].table_size: 1000 is not the size of a table: write one of 1021, 2039, 4093, 8191, 16381, 32749, 65537",
    );
    let many =
        |weight| [("/pools/1/table_size", json!(1021)), ("/pools/1/endpoints", endpoints(1022, weight))];
    refuses(&many(0.5), "pools[1].table_size: 1021 slots are too few for 1022 endpoints");
    accepts(&many(0.0));
}

#[test]
fn services_listen_where_nobody_else_does() {
    refuses(
        &[("/services/0/address", json!("192.0.2.10"))],
        "services[0].address: 192.0.2.10 is node.tunnel_source: clients need an address of their own",
    );
    refuses(
        &[("/services/0/listen", json!([]))],
        "services[0].listen: the list is empty: write what is served, as `[tcp/443]`",
    );
    refuses(
        &[("/services/1/listen/0", json!("tcp/5432"))],
        "services[1].listen[0]: service `web` and service `db` (services[0].listen[0]) both listen on 203.0.113.1 \
         tcp/5432: a listener belongs to one",
    );
    refuses(
        &[("/services/1/listen/1", json!("tcp/80"))],
        "services[1].listen[1]: service `web` and service `web` (services[1].listen[0]) both listen on",
    );
    accepts(&[("/services/1/address", json!("203.0.113.2")), ("/services/1/listen/0", json!("tcp/5432"))]);
}

#[test]
fn a_service_has_pools_and_each_once() {
    refuses(&[("/services/0/pools", json!([]))], "services[0].pools: the list is empty: name the pool");
    refuses(
        &[("/services/0/pools", json!(["db", "db"]))],
        "services[0].pools[1]: `db` is services[0].pools[0] already: name it once",
    );
    refuses(&[("/services/0/pools", json!(["db", "dv"]))], "services[0].pools[1]: there is no pool `dv`");
    refuses(
        &[("/services/0/fallback_pool", json!("wed"))],
        "services[0].fallback_pool: there is no pool `wed`",
    );
    let model = accepts(&[
        ("/services/0/pools", json!(["db", "web"])),
        ("/services/0/fallback_pool", json!("web")),
        ("/pools/0/minimum_endpoints", json!(2)),
        ("/pools/1/load_shedding", json!(100)),
    ]);
    let steering = &model.services[0].steering;
    assert_eq!((steering.pools.as_slice(), steering.fallback), (&[0, 1][..], Some(1)));
    assert_eq!(steering.all().collect::<Vec<_>>(), [0, 1]);
    assert_eq!((model.pools[0].minimum_endpoints, model.pools[1].load_shedding), (2, 100));
    refuses(
        &[("/pools/0/minimum_endpoints", json!(0))],
        "pools[0].minimum_endpoints: found 0, expected 1 or more",
    );
    refuses(
        &[("/pools/0/load_shedding", json!(101))],
        "pools[0].load_shedding: found 101, expected 0 to 100",
    );
    refuses(
        &[("/pools/0/panic_threshold", json!(101))],
        "pools[0].panic_threshold: found 101, expected 0 to 100",
    );
    refuses(
        &[("/pools/1/panic_threshold", json!(50))],
        "pools[1].panic_threshold: nothing can fail without a monitor",
    );
}

#[test]
fn pools_of_a_service_find_their_endpoints_in_the_same_way() {
    let hash = |pool: usize| (format!("/pools/{pool}/endpoint_steering"), json!("hash"));
    let (first, second) = (hash(0), hash(1));
    let both = ("/services/0/pools", json!(["db", "web"]));
    let bits = |changes: &[_]| accepts(changes).services[0].source_bits;
    assert_eq!(bits(&[(&first.0, first.1.clone())]), Some(32));
    assert_eq!(bits(&[(&first.0, first.1.clone()), (&second.0, second.1), both.clone()]), Some(32));
    let affinity = ("/services/0/session_affinity", json!({"prefix_ipv4": 24}));
    assert_eq!(bits(&[(&first.0, first.1.clone()), affinity]), Some(24));
    assert_eq!(bits(&[]), None);
    refuses(
        &[(&first.0, first.1), both],
        "services[0].pools: pool `db` has `endpoint_steering: hash`, and pool `web` has `random`: give all pools",
    );
}

#[test]
fn where_live_flows_are_counted_all_are_remembered() {
    let counts = ("/pools/0/endpoint_steering", json!("least_connections"));
    let model = accepts(std::slice::from_ref(&counts));
    assert!(model.pools[0].least_connections && !model.pools[1].least_connections);
    assert_eq!(model.services[0].tracking, ConnectionTracking::Always);
    assert_eq!(accepts(&[]).services[0].tracking, ConnectionTracking::Auto);
    refuses(
        &[counts, ("/services/0/connection_tracking", json!("off"))],
        "services[0].connection_tracking: pool `db` has `endpoint_steering: least_connections`, which counts live \
         flows: all must be remembered; set `always`, or leave this out",
    );
}

#[test]
fn pools_that_are_chosen_by_latency_have_monitors() {
    let policy = ("/services/0/steering_policy", json!("dynamic_latency"));
    let both = ("/services/0/pools", json!(["db", "web"]));
    assert!(accepts(std::slice::from_ref(&policy)).services[0].steering.by_latency);
    assert!(!accepts(&[]).services[0].steering.by_latency);
    refuses(
        &[policy, both, ("/pools/1/monitor", Value::Null)],
        "services[0].pools[1]: pool `web` has no monitor, and by `steering_policy: dynamic_latency` service",
    );
}

#[test]
fn weights_of_pools_are_of_pools_that_the_service_has() {
    let random = |steering: Value| {
        [
            ("/services/0/pools", json!(["db", "web"])),
            ("/services/0/steering_policy", json!("random")),
            ("/services/0/random_steering", steering),
        ]
    };
    let model = accepts(&random(json!({"default_weight": 0.25, "pool_weights": {"web": 0.5}})));
    assert_eq!(model.services[0].steering.weights, Some(vec![25, 50]));
    let without = &random(json!({}))[..2];
    assert_eq!(accepts(without).services[0].steering.weights, Some(vec![100, 100]));
    for (steering, expected) in [
        (json!({"default_weight": 0.001}), "default_weight: found 0.001, expected 0 to 1 in steps of 0.01"),
        (json!({"pool_weights": {"db": 2}}), "pool_weights.db: found 2, expected 0 to 1"),
        (
            json!({"pool_weights": {"dc": 1}}),
            "pool_weights.dc: `dc` is not in `pools` of this service, which are db, web",
        ),
    ] {
        refuses(&random(steering), &format!("services[0].random_steering.{expected}"));
    }
    refuses(&random(json!({"default_weight": 0})), "services[0].random_steering: no pool has any weight");
    refuses(
        &[("/services/0/random_steering", json!({}))],
        "services[0].random_steering: weights are for `steering_policy: random`, and this service has `failover`",
    );
}

#[test]
fn every_pool_of_a_service_fits_it() {
    let six = json!({"name": "six", "endpoints": [
        {"name": "a", "virtual_network": "east", "address": "fd00::1"}]});
    for (field, value) in [("fallback_pool", json!("six")), ("pools[1]", json!(["web", "six"]))] {
        let pointer = format!("/services/1/{}", field.trim_end_matches("[1]"));
        refuses(
            &[("/pools/-", six.clone()), (&pointer, value)],
            &format!(
                "services[1].{field}: 203.0.113.1, the address of service `web`, is IPv4, but endpoint `a`"
            ),
        );
    }
    // A pool that is named twice has its mistakes once.
    refuses(
        &[
            ("/pools/-", six),
            ("/services/1/pools", json!(["web", "six"])),
            ("/services/1/fallback_pool", json!("six")),
        ],
        "services[1].pools[1]: 203.0.113.1, the address of service `web`, is IPv4, but endpoint `a`",
    );
    // The same endpoint in two pools of a service: replies would not say of which.
    let again = json!({"name": "again", "endpoints": [
        {"name": "z", "virtual_network": "east", "address": "10.0.0.1", "port": 5432}]});
    refuses(
        &[("/pools/-", again), ("/services/0/fallback_pool", json!("again"))],
        "services[0].listen[0]: tcp/5432 of service `db` reaches 10.0.0.1 port 5432 in virtual network `east` as \
         endpoint `a` of pool `db` and as endpoint `z` of pool `again`: keep one",
    );
}

#[test]
fn listeners_share_no_endpoint_that_replies_could_come_from() {
    let other = |listen: Value, pool: &str| {
        let address = "203.0.113.9";
        json!({"name": "other", "address": address, "listen": listen, "pools": [pool]})
    };
    // Ports that are kept differ with the listener; protocols differ anyway.
    accepts(&[("/services/-", other(json!(["tcp/81", "udp/5432"]), "web"))]);
    accepts(&[("/services/-", other(json!(["udp/5432"]), "db"))]);
    // A port of the endpoint is the same for every listener: one mistake, though both endpoints are shared.
    refuses(
        &[("/services/-", other(json!(["tcp/1"]), "db"))],
        "services[2].listen[0]: tcp/1 of service `other` and tcp/5432 of service `db` both send to 10.0.0.1 port 5432 \
         in virtual network `east` (endpoint `a` of pool `db`), so their replies could not be told apart",
    );
    refuses(
        &[("/services/-", other(json!(["tcp/80"]), "web"))],
        "services[2].listen[0]: tcp/80 of service `other` and tcp/80 of service `web` both send to 10.0.0.2 port 80",
    );
    refuses(
        &[("/services/0/listen/-", json!("tcp/5433"))],
        "services[0].listen[1]: tcp/5433 of service `db` and tcp/5432 of service `db` both send to 10.0.0.1",
    );
    // One endpoint keeps the port, the other has the same.
    let twin = json!({"name": "b", "virtual_network": "east", "address": "10.0.0.2", "port": 80});
    let mistakes = check(&[("/pools/1/endpoints/-", twin)]).unwrap_err();
    assert_eq!(
        mistakes[0].message,
        "tcp/80 of service `web` reaches 10.0.0.2 port 80 in virtual network `east` as endpoint `a` of pool `web` and \
         as endpoint `b` of pool `web`: keep one"
    );
    // Another pool with the same endpoint.
    let pool = json!({"name": "other", "endpoints": [
        {"name": "x", "virtual_network": "east", "address": "10.0.0.2", "port": 80}]});
    refuses(
        &[("/pools/-", pool), ("/services/-", other(json!(["tcp/8080"]), "other"))],
        "services[2].listen[0]: tcp/8080 of service `other` and tcp/80 of service `web` both send to 10.0.0.2 port 80",
    );
}

#[test]
fn limits_have_bounds_and_everything_fits() {
    for (name, max) in [
        ("listeners", 1_048_576),
        ("endpoints", 65_535),
        ("tunnels", 65_535),
        ("virtual_networks", 65_535),
        ("table_slots", 16_777_216),
        ("prefixes", 1_048_576),
        ("fragments", 1_048_576),
    ] {
        let pointer = format!("/limits/{name}");
        let limits = ("/limits", json!({}));
        accepts(&[limits.clone(), (&pointer, json!(max))]);
        for wrong in [0, max + 1] {
            let expected = format!("limits.{name}: found {wrong}, expected 1 to {max}");
            let mistakes = check(&[limits.clone(), (&pointer, json!(wrong))]).unwrap_err();
            assert_eq!(mistakes[0].to_string(), expected);
        }
    }
    for (limit, right, expected) in [
        (
            "listeners",
            3,
            "there are 3 listeners in all services, their regions included: raise this limit, which is 2, or configure fewer",
        ),
        ("endpoints", 3, "there are 3 endpoints in all pools: raise"),
        ("tunnels", 2, "there are 2 tunnels: raise"),
        ("virtual_networks", 2, "there are 2 virtual networks: raise"),
        ("table_slots", 2042, "there are 2042 slots in the lookup tables of all pools and services: raise"),
    ] {
        accepts(&[("/limits", json!({limit: right}))]);
        refuses(&[("/limits", json!({limit: right - 1}))], &format!("limits.{limit}: {expected}"));
    }
}

#[test]
fn tables_in_which_pools_are_mixed_count_as_well() {
    let changes = |policy: &str, limit: u32| {
        [
            ("/services/0/pools", json!(["db", "web"])),
            ("/services/0/steering_policy", json!(policy)),
            ("/limits", json!({"table_slots": limit})),
        ]
    };
    accepts(&changes("failover", 2042));
    accepts(&changes("random", 3063));
    refuses(
        &changes("random", 3062),
        "limits.table_slots: there are 3063 slots in the lookup tables of all pools and services: raise this limit",
    );
}

#[test]
fn reply_entries_fit() {
    let listen: Vec<Value> = (1..=10).map(|port| json!(format!("udp/{port}"))).collect();
    let changes = |limit: u32| {
        [
            ("/services/1/listen", json!(listen)),
            ("/pools/1/endpoints", endpoints(10, 1.0)),
            ("/limits", json!({"endpoints": limit})),
        ]
    };
    accepts(&changes(51));
    refuses(&changes(50), "limits.endpoints: the services need 102 entries to recognise replies");
}
