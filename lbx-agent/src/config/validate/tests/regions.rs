//! Regions, places on Earth, and services that depend on them.

use super::*;

const FILE: (&str, &str) = ("/node/regions_file", "/etc/lbx/regions.csv");

fn with(more: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let regions = json!([{"name": "eu"}, {"name": "us"}]);
    let mut changes = vec![(FILE.0, json!(FILE.1)), ("/regions", regions)];
    changes.extend_from_slice(more);
    changes
}

fn geo(region_pools: Value) -> Vec<(&'static str, Value)> {
    with(&[("/services/0/steering_policy", json!("geo")), ("/services/0/region_pools", region_pools)])
}

#[test]
fn a_service_by_region_has_pools_for_each_that_it_names() {
    let model = accepts(&geo(json!({"eu": ["web", "db"], "us": ["db"]})));
    let steering = &model.services[0].steering;
    let names: Vec<_> =
        steering.regions.values().map(|region| (region.name.as_str(), region.pools.as_slice())).collect();
    assert!(names.contains(&("eu", &[1, 0])) && names.contains(&("us", &[0])), "{names:?}");
    assert_eq!((steering.listed(), steering.of_region(7)), (vec![0, 1], &[0][..]));
    assert_eq!(steering.of_region(lbx_common::abi::region_id(b"eu")), [1, 0]);

    let here = "services[0].region_pools";
    for (region_pools, expected) in [
        (json!({}), format!("{here}: the pools of no region are named: write `{{REGION: [POOL, …]}}`")),
        (
            json!({"ue": ["db"]}),
            format!("{here}.ue: there is no region `ue`, only `eu`, `us`. Did you mean `eu`?"),
        ),
        (json!({"eu": []}), format!("{here}.eu: the list is empty: name the pool that serves these clients")),
        (json!({"eu": ["dv"]}), format!("{here}.eu[0]: there is no pool `dv`")),
        (json!({"eu": ["db", "db"]}), format!("{here}.eu[1]: `db` is {here}.eu[0] already: name it once")),
    ] {
        refuses(&geo(region_pools), &expected);
    }
    refuses(
        &with(&[("/services/0/region_pools", json!({"eu": ["db"]}))]),
        "services[0].region_pools: pools of regions are for `steering_policy: geo`, and this service has `failover`: \
         write that, or leave this out",
    );
    refuses(
        &geo(json!({"eu": ["db"]}))[1..],
        "services[0].steering_policy: `geo` must know which clients are in which region: name the file",
    );
    // Pools of regions are pools of the service in all else.
    let of_v6 = json!([{"name": "a", "virtual_network": "east", "address": "fd00::1", "port": 1}]);
    let wrong = [
        geo(json!({"eu": ["web"]})),
        vec![("/services/1/pools", json!(["db"])), ("/pools/1/endpoints", of_v6)],
    ];
    let mistakes: Vec<String> = check(&wrong.concat()).unwrap_err().iter().map(ToString::to_string).collect();
    assert!(
        mistakes.iter().any(|line| line.starts_with("services[0].region_pools.eu[0]: ")),
        "{mistakes:#?}"
    );
}

#[test]
fn regions_have_names_and_places_and_the_file_a_whole_path() {
    accepts(&with(&[("/regions", json!([{"name": "eu", "location": {"latitude": -90, "longitude": 180}}]))]));
    refuses(
        &with(&[("/regions", json!([{"name": "eu"}, {"name": "eu"}]))]),
        "regions[1].name: the name `eu` is taken by regions[0]: give each region its own",
    );
    refuses(&with(&[("/regions", json!([{"name": "EU"}]))]), "regions[0].name: `EU` is not a name");
    refuses(
        &with(&[("/regions", json!([{"name": "eu", "location": {"latitude": 90.1, "longitude": 0}}]))]),
        "regions[0].location.latitude: found 90.1, expected -90 to 90: degrees",
    );
    refuses(
        &[("/pools/0/location", json!({"latitude": 0, "longitude": -181}))],
        "pools[0].location.longitude: found -181, expected -180 to 180: degrees",
    );
    refuses(
        &[("/node/location", json!({"latitude": -91, "longitude": 0}))],
        "node.location.latitude: found -91, expected -90 to 90: degrees",
    );
    refuses(
        &[(FILE.0, json!("regions.csv"))],
        "node.regions_file: `regions.csv` is not the whole path: begin it with `/`",
    );
}

#[test]
fn distances_need_places() {
    let at = |latitude| json!({"latitude": latitude, "longitude": 0});
    let near = |more: &[(&'static str, Value)]| {
        let regions = json!([{"name": "north", "location": at(60)}, {"name": "south", "location": at(-60)}, {"name": "eu"}]);
        let base = [
            ("/regions", regions),
            ("/services/0/pools", json!(["db", "web"])),
            ("/services/0/steering_policy", json!("proximity")),
            ("/pools/0/location", at(50)),
            ("/pools/1/location", at(-50)),
        ];
        with(&[&base[..], more].concat())
    };
    let steering = accepts(&near(&[])).services[0].steering.clone();
    let order = |name: &str| steering.of_region(lbx_common::abi::region_id(name.as_bytes())).to_vec();
    assert_eq!([order("north"), order("south"), order("eu")], [vec![0, 1], vec![1, 0], vec![0, 1]]);
    let here = accepts(&near(&[("/node/location", at(-10))])).services[0].steering.clone();
    assert_eq!(here.pools, [1, 0], "clients of no region are where this machine is");

    refuses(
        &near(&[("/pools/1/location", Value::Null)]),
        "services[0].pools: nobody knows how far they are: give `web` a `location: {latitude: …, longitude: …}`",
    );
    refuses(
        &near(&[("/regions", json!([{"name": "eu"}]))]),
        "services[0].steering_policy: no region has a place to be near to: give those in `regions` a `location`",
    );
}

#[test]
fn each_region_takes_a_listener() {
    let limit = |listeners: u32| {
        let mut changes = geo(json!({"eu": ["db"], "us": ["db"]}));
        changes.push(("/limits", json!({"listeners": listeners})));
        changes
    };
    accepts(&limit(5));
    refuses(
        &limit(4),
        "limits.listeners: there are 5 listeners in all services, their regions included: raise this limit, which is 4",
    );
}
