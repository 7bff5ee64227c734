//! Clients of several regions reach the pools of each, also while pools fail and the file of regions changes.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use lbx_common::api::{Location, Region};
use lbx_tests::topology::PUBLIC_DEVICE;

use super::*;

/// The client's addresses: the usual one, and more of its namespace.
const EU: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 70);
const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 140);
const FILE: &str =
    "# of the test\n192.0.2.0/24,other\n192.0.2.0/26,EU\r\n192.0.2.64/26,us\n2001:db8::/32,eu\n";

fn names(pools: &[&str]) -> Vec<String> {
    pools.iter().map(|name| (*name).to_owned()).collect()
}

/// Clients of eu have the first pool, then the second; of us the second, then the first; all others the last one.
fn by_region() -> (Setting, PathBuf) {
    let file = PathBuf::from(format!("/tmp/{}.regions.csv", lbx_tests::netns::unique_run_name()));
    fs::write(&file, FILE).unwrap();
    let setting = setting(|config| {
        config.node.regions_file = Some(file.display().to_string());
        config.regions = ["eu", "us"].map(|name| Region { name: name.to_owned(), location: None }).into();
        let service = &mut config.services[0];
        service.steering_policy = SteeringPolicy::Geo;
        service.pools = names(&["last"]);
        service.region_pools =
            [("eu".to_owned(), names(&["first", "second"])), ("us".to_owned(), names(&["second", "first"]))]
                .into();
    });
    for address in [US, NOWHERE] {
        setting.topology.client_netns.ip(&format!("addr add {address}/24 dev {PUBLIC_DEVICE}")).unwrap();
    }
    (setting, file)
}

fn client(setting: &Setting, address: Ipv4Addr) -> Client {
    setting.topology.client().with_address(address)
}

/// Replaces the file as an operator does.
fn replace(file: &PathBuf, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

#[track_caller]
fn goes_to(setting: &Setting, address: Ipv4Addr, origins: &[&str]) {
    let found = spread(&client(setting, address), 60);
    assert!(found.keys().all(|name| origins.contains(&name.as_str())), "{address}: {found:?}");
    assert_eq!(found.len(), origins.len(), "{address}: {found:?}");
}

#[test]
fn each_region_has_its_pools_in_the_shares_that_the_configuration_says() {
    let (mut setting, file) = by_region();
    goes_to(&setting, EU, &["a", "b"]);
    goes_to(&setting, US, &["more-20", "more-21"]);
    goes_to(&setting, NOWHERE, &["more-22"]);

    // Shares within a pool, and of what it sheds.
    setting.config.pools[0].endpoints[0].weight = 0.5;
    setting.config.pools[0].load_shedding = 25;
    setting.agent.change(&setting.config, PATIENCE).unwrap();
    let found = spread(&client(&setting, EU), FLOWS);
    let second = share(&found, &["more-20", "more-21"]);
    for (origins, expected) in [(&["a"][..], 25.0), (&["b"], 50.0), (&["more-20", "more-21"], 25.0)] {
        let found = share(&found, origins);
        println!("{origins:?}: {found:.1}, expected {expected:.1}");
        assert!((found - expected).abs() < 5.0, "{origins:?}: {found}, {second}");
    }
    setting.config.pools[0].load_shedding = 0;
    setting.agent.change(&setting.config, PATIENCE).unwrap();

    // A pool that fails moves the flows of its own regions alone.
    let crowds = [US, NOWHERE].map(|address| Crowd::gather(&client(&setting, address), EAST, 4).unwrap());
    for name in ["a", "b"] {
        setting.topology.east.origin(name).unwrap().stop_servers();
    }
    wait_for(&setting, &["more-20", "more-21"], FAILOVER);
    goes_to(&setting, US, &["more-20", "more-21"]);
    goes_to(&setting, NOWHERE, &["more-22"]);
    let health = service_health(&setting.agent);
    let of_eu = health.regions.iter().find(|region| region.region == "eu").unwrap();
    assert_eq!((&of_eu.serving, &of_eu.pools), (&names(&["second"]), &names(&["first", "second"])));
    let shown = setting.agent.ctl(&["describe", "service", "east"]).unwrap().stdout;
    assert!(shown.contains("eu      first, second  second"), "{shown}");
    for crowd in crowds {
        crowd.go_on().unwrap();
        crowd.disperse().unwrap();
    }
    let ask = |from: Ipv4Addr| {
        let (from, to) = (format!("{from}:4711"), format!("{}:80/tcp", EAST.vip));
        setting.agent.ctl(&["explain", "--from", &from, "--to", &to]).unwrap().stdout
    };
    assert!(ask(US).contains("Region:    us (192.0.2.64/26)"), "{}", ask(US));
    let text = ask(NOWHERE);
    assert!(text.contains("Region:    other (192.0.2.0/24)") && text.contains("last/more-22"), "{text}");
    fs::remove_file(file).unwrap();
}

#[test]
fn connections_stay_while_the_file_has_clients_in_other_regions_and_mistakes_change_nothing() {
    let (setting, file) = by_region();
    let crowds = [EU, US, NOWHERE].map(|address| Crowd::gather(&client(&setting, address), EAST, 4).unwrap());
    let status = || setting.agent.ctl(&["status"]).unwrap().stdout;
    assert!(status().contains(", 4 prefixes, read "), "{}", status());
    // All is the other way round.
    replace(&file, "192.0.2.0/26,us\n192.0.2.64/26,other\n192.0.2.128/25,eu\n");
    let moved =
        || client(&setting, EU).http_get(EAST.vip, 0).is_ok_and(|answer| answer.origin.starts_with("more-2"));
    wait::until("another list counts", PATIENCE, || Ok(moved().then_some(()))).unwrap();
    goes_to(&setting, EU, &["more-20", "more-21"]);
    goes_to(&setting, US, &["more-22"]);
    goes_to(&setting, NOWHERE, &["a", "b"]);
    for crowd in &crowds {
        crowd.go_on().unwrap();
    }
    assert!(status().contains("flows from before stay for 2h"), "{}", status());

    // A mistake changes nothing, and is told with its line.
    replace(&file, "192.0.2.0/24,eu\n192.0.2.1/26,eu\n");
    let told = "csv:2: `192.0.2.1/26` has bits set behind the length: write `192.0.2.0/26`";
    wait::until("the mistake is told", PATIENCE, || Ok(status().contains(told).then_some(()))).unwrap();
    goes_to(&setting, NOWHERE, &["a", "b"]);
    let mut other = setting.config.clone();
    let wrong = file.with_extension("wrong");
    fs::write(&wrong, "nonsense\n").unwrap();
    other.node.regions_file = Some(wrong.display().to_string());
    setting.agent.write_config(&other).unwrap();
    let refused = "wrong:1: `nonsense` is no line of this file: write it as `192.0.2.0/24,eu`";
    wait::until("it is refused", PATIENCE, || Ok(setting.agent.log().contains(refused).then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", setting.agent.log()));
    setting.agent.write_config(&setting.config).unwrap();

    // So does an agent that starts with it: the list before counts.
    setting.agent.kill().unwrap();
    setting.agent.start().unwrap();
    goes_to(&setting, EU, &["more-20", "more-21"]);
    goes_to(&setting, NOWHERE, &["a", "b"]);
    assert!(status().contains(told), "{}", status());
    replace(&file, FILE);
    let back = || client(&setting, US).http_get(EAST.vip, 0).is_ok_and(|answer| answer.origin != "more-22");
    wait::until("the first list counts again", PATIENCE, || Ok(back().then_some(()))).unwrap();
    goes_to(&setting, EU, &["a", "b"]);
    for crowd in crowds {
        crowd.go_on().unwrap();
        crowd.disperse().unwrap();
    }
    for file in [file, wrong] {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn the_nearest_pool_that_is_up_serves() {
    let (mut setting, file) = by_region();
    let at = |latitude, longitude| Some(Location { latitude, longitude });
    let config = &mut setting.config;
    for (pool, place) in config.pools.iter_mut().zip([at(50.1, 8.7), at(40.7, -74.0), at(1.4, 103.8)]) {
        pool.location = place;
    }
    for (region, place) in config.regions.iter_mut().zip([at(48.9, 2.4), at(39.8, -98.6)]) {
        region.location = place;
    }
    config.node.location = at(35.7, 139.7);
    let service = &mut config.services[0];
    service.steering_policy = SteeringPolicy::Proximity;
    service.region_pools.clear();
    service.pools = names(&["first", "second", "last"]);
    setting.agent.change(&setting.config, PATIENCE).unwrap();
    goes_to(&setting, EU, &["a", "b"]);
    goes_to(&setting, US, &["more-20", "more-21"]);
    goes_to(&setting, NOWHERE, &["more-22"]);
    for name in ["a", "b"] {
        setting.topology.east.origin(name).unwrap().stop_servers();
    }
    wait_for(&setting, &["more-20", "more-21"], FAILOVER);
    goes_to(&setting, NOWHERE, &["more-22"]);
    fs::remove_file(file).unwrap();
}
