//! What is probed, and by which tunnel.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::config;

/// Tunnels that are down.
#[derive(Default)]
struct Down(BTreeSet<&'static str>);

impl Known for Down {
    fn endpoint_state(&self, _: &Name) -> HealthState {
        HealthState::Healthy
    }

    fn tunnel_is_down(&self, _: &Vnet, tunnel: &Tunnel) -> bool {
        self.0.contains(tunnel.name.as_str())
    }
}

fn config() -> Value {
    let tunnel = |name: &str, host: u8| {
        json!({"name": name, "encap": "gre", "remote": format!("198.51.100.{host}"), "monitor": "m",
               "probe_address": "10.0.0.254", "probe_port": 22})
    };
    json!({
        "version": 1,
        "node": {"interfaces": [{"name": "eth0", "role": "both"}], "tunnel_source": {"ipv4": "192.0.2.1"}},
        "virtual_networks": [{
            "name": "v", "vni": 42, "probe_source": {"ipv4": "10.255.0.1"},
            "tunnels": [tunnel("a", 1), tunnel("b", 2), tunnel("c", 3)],
        }],
        "monitors": [{"name": "m"}],
        "pools": [
            {"name": "p", "monitor": "m", "endpoints": [
                {"name": "any", "virtual_network": "v", "address": "10.0.0.1", "port": 80},
                {"name": "some", "virtual_network": "v", "address": "10.0.0.2", "port": 80, "tunnels": ["c", "b"]},
            ]},
            {"name": "direct", "monitor": "m", "endpoints": [
                {"name": "one", "virtual_network": "v", "address": "10.0.0.3", "tunnels": ["b"]},
                {"name": "two", "virtual_network": "v", "address": "10.0.0.4", "tunnels": ["c"]},
            ]},
        ],
        "services": [
            {"name": "s", "address": "203.0.113.1", "listen": ["tcp/80"], "pools": ["p"]},
            {"name": "d", "address": "203.0.113.2", "listen": ["tcp/443"], "pools": ["direct"], "forwarding": "dsr"},
        ],
    })
}

fn model(change: impl FnOnce(&mut Value)) -> Model {
    let mut config = config();
    change(&mut config);
    config::validate(config::decode(config).unwrap()).unwrap()
}

/// Name, destination and place of every target.
fn ways(model: &Model, down: &[&'static str]) -> Vec<(String, String, Option<u8>)> {
    let known = Down(down.iter().copied().collect());
    let all = targets(model, &known).into_iter();
    all.map(|one| (one.key.name().1, one.address.to_string(), one.place)).collect()
}

fn way(name: &str, address: &str, place: impl Into<Option<u8>>) -> (String, String, Option<u8>) {
    (name.to_owned(), address.to_owned(), place.into())
}

#[test]
fn an_endpoint_is_probed_by_the_first_of_its_tunnels_that_is_up_and_a_tunnel_by_itself() {
    let model = model(|_| ());
    let of_endpoints = |any, some| {
        let at = "10.0.0.254:22";
        // The VIP is asked of the one at whose end the tunnel is.
        let direct = [way("one", "203.0.113.2:443", 1), way("two", "203.0.113.2:443", 2)];
        let tunnels = [way("a", at, 0), way("b", at, 1), way("c", at, 2)];
        let endpoints = [way("any", "10.0.0.1:80", any), way("some", "10.0.0.2:80", some)];
        [&endpoints[..], &direct, &tunnels].concat()
    };
    assert_eq!(ways(&model, &[]), of_endpoints(0, 2));
    assert_eq!(ways(&model, &["a"]), of_endpoints(1, 2));
    assert_eq!(ways(&model, &["c"]), of_endpoints(0, 1));
    // All down: the first one, so that the endpoint's verdict is what flows would meet.
    assert_eq!(ways(&model, &["a", "b", "c"]), of_endpoints(0, 2));
}

#[test]
fn an_endpoint_has_a_second_way_where_the_first_is_checked_itself() {
    let others = |model: &Model, down: &[&'static str]| -> Vec<Option<u8>> {
        let known = Down(down.iter().copied().collect());
        targets(model, &known).into_iter().map(|one| one.other).collect()
    };
    let all = model(|_| ());
    // Of the four endpoints, then of the three tunnels, which are probed through themselves alone.
    assert_eq!(others(&all, &[]), [Some(1), Some(1), None, None, None, None, None]);
    assert_eq!(others(&all, &["b"]), [Some(2), None, None, None, None, None, None]);
    assert_eq!(others(&all, &["a", "b", "c"]), [None; 7]);
    let unchecked = model(|config| {
        let tunnel = config["virtual_networks"][0]["tunnels"][0].as_object_mut().unwrap();
        tunnel.retain(|field, _| !["monitor", "probe_address", "probe_port"].contains(&field.as_str()));
    });
    assert_eq!(others(&unchecked, &[])[0], None);
}

#[test]
fn a_tunnel_that_is_off_is_neither_probed_nor_a_way() {
    let off = |tunnels: &[usize]| {
        model(|config| {
            for place in tunnels {
                config["virtual_networks"][0]["tunnels"][place]["enabled"] = json!(false);
            }
        })
    };
    let ways_to = |model: &Model, name: &str| -> Vec<Option<u8>> {
        ways(model, &[]).into_iter().filter(|one| one.0 == name).map(|one| one.2).collect()
    };
    let model = off(&[0, 2]);
    assert_eq!(
        ["any", "some", "one", "two"].map(|name| ways_to(&model, name)),
        [vec![Some(1)], vec![Some(1)], vec![Some(1)], vec![None]]
    );
    assert_eq!(["a", "b", "c"].map(|name| ways_to(&model, name)), [vec![], vec![Some(1)], vec![]]);
    // Up beats on, but off is never used.
    assert_eq!(ways(&model, &["b"])[0].2, Some(1));
}

#[test]
fn a_known_tunnel_starts_from_its_last_verdict_and_a_new_one_from_none() {
    let model = model(|_| ());
    let of_tunnels = targets(&model, &Down(["b"].into())).into_iter().filter(|one| {
        let TargetKey::Tunnel { .. } = one.key else { return false };
        true
    });
    let initial: Vec<HealthState> = of_tunnels.map(|one| one.initial).collect();
    assert_eq!(initial, [HealthState::Unknown, HealthState::Unhealthy, HealthState::Unknown]);
}

#[test]
fn what_a_verdict_is_about_leaves_out_the_way_of_an_endpoint_and_not_that_of_a_tunnel() {
    let before = probed(&model(|_| ()));
    let swapped = probed(&model(|config| {
        let endpoint = &mut config["pools"][0]["endpoints"][1];
        endpoint["tunnels"] = json!(["b"]);
    }));
    assert_eq!(before, swapped);
    let moved = probed(&model(|config| {
        config["virtual_networks"][0]["tunnels"][0]["remote"] = json!("198.51.100.9");
    }));
    assert_eq!(before.endpoints, moved.endpoints);
    let differ = before.tunnels.iter().filter(|(name, one)| moved.tunnels.get(*name) != Some(one));
    assert_eq!(differ.map(|(name, _)| name.1.as_str()).collect::<Vec<_>>(), ["a"]);
}
