//! Several tunnels in one network: who is used, and by which of them probes leave.

use lbx_common::abi::{ENDPOINT_TUNNELS, EndpointEntry, PROBE_PLACES, TUNNEL_DOWN, TUNNEL_RESOLVED};
use serde_json::{Value, json};

use super::*;
use crate::config::model::TunnelPath;

/// A network with these tunnels, each with a monitor, and one endpoint for each list of them in `endpoints`.
fn model_of(tunnels: &[&str], endpoints: &[&[&str]]) -> Model {
    let tunnel = |(place, name): (usize, &&str)| {
        json!({"name": name, "encap": "gre", "remote": format!("198.51.100.{}", place + 1), "monitor": "m",
               "probe_address": "10.0.0.254", "probe_port": 22})
    };
    let endpoint = |(place, names): (usize, &&[&str])| {
        json!({"name": format!("e{place}"), "virtual_network": "v", "address": format!("10.0.0.{}", place + 1),
               "port": 80, "tunnels": names})
    };
    let config = json!({
        "version": 1,
        "node": {"interfaces": [{"name": "eth0", "role": "both"}], "tunnel_source": {"ipv4": "192.0.2.1"}},
        "limits": {"listeners": 16, "endpoints": 64, "tunnels": 80, "virtual_networks": 8, "table_slots": 65_536},
        "virtual_networks": [{
            "name": "v", "vni": 42, "probe_source": {"ipv4": "10.255.0.1"},
            "tunnels": tunnels.iter().enumerate().map(tunnel).collect::<Vec<_>>(),
        }],
        "monitors": [{"name": "m"}],
        "pools": [{"name": "p", "endpoints": endpoints.iter().enumerate().map(endpoint).collect::<Vec<_>>()}],
        "services": [{"name": "s", "address": "203.0.113.1", "listen": ["tcp/80"], "pools": ["p"]}],
    });
    model(config)
}

fn model(config: Value) -> Model {
    config::validate(config::decode(config).unwrap()).unwrap()
}

pub(super) fn planned_with(model: &Model, verdicts: &[(&str, HealthState)], observed: &Image) -> Image {
    let tunnel_verdicts =
        verdicts.iter().map(|(name, state)| (("v".to_owned(), (*name).to_owned()), *state)).collect();
    Facts { tunnel_verdicts, ..Facts::over(observed) }.plan(model)
}

/// The ids of the network's tunnels, in the order of the model.
fn ids(model: &Model, image: &Image) -> Vec<u16> {
    let vnet = &model.vnets[0];
    let entries = vnet.tunnels.iter().map(|tunnel| known_tunnel(vnet, tunnel, image).unwrap());
    let id = |entry| image.tunnels.iter().find(|(_, one)| *one == entry).unwrap().0;
    entries.map(|entry| u16::try_from(*id(entry)).unwrap()).collect()
}

/// The tunnels that an endpoint's flows are spread over.
fn used(image: &Image, address: u8) -> Vec<u16> {
    let is_it = |entry: &&EndpointEntry| entry.address.v4().octets()[3] == address;
    let entry = image.endpoints.values().find(is_it).unwrap();
    let count = usize::from(entry.tunnel_count);
    // The rest of the places repeats them, for a packet that sees an old count.
    for (place, id) in entry.tunnels.iter().enumerate() {
        assert_eq!(*id, if count == 0 { 0 } else { entry.tunnels[place % count] });
    }
    entry.tunnels[..count].to_vec()
}

#[test]
fn a_tunnel_that_is_down_is_taken_out_of_every_endpoint_and_comes_back() {
    let model = model_of(&["a", "b", "c"], &[&[], &["b"], &["c", "a"]]);
    let fresh = planned_with(&model, &[], &Image::default());
    let [a, b, c] = ids(&model, &fresh)[..] else { panic!("three tunnels") };
    assert_eq!([1, 2, 3].map(|one| used(&fresh, one)), [vec![a, b, c], vec![b], vec![c, a]]);

    let down = planned_with(&model, &[("b", HealthState::Unhealthy), ("c", HealthState::Healthy)], &fresh);
    assert_eq!([1, 2, 3].map(|one| used(&down, one)), [vec![a, c], vec![], vec![c, a]]);
    assert!(down.tunnels[&u32::from(b)].flags & TUNNEL_DOWN != 0);
    // Probes go on through it, and nothing but the tunnel and the endpoints that had it is written.
    assert_eq!(down.peers, fresh.peers);
    let steps = diff(&fresh, &down);
    assert!(matches!(steps[..], [Step::Tunnel(..), Step::Endpoint(..), Step::Endpoint(..)]), "{steps:?}");

    // An agent that starts knows it from the maps; one verdict or none of the others is no verdict on this one.
    for verdicts in [&[][..], &[("b", HealthState::Unknown)], &[("a", HealthState::Healthy)]] {
        assert_eq!(diff(&down, &planned_with(&model, verdicts, &down)), Vec::<Step>::new());
    }
    let up = planned_with(&model, &[("b", HealthState::Healthy)], &down);
    assert_eq!(diff(&fresh, &up), Vec::<Step>::new());
}

#[test]
fn without_its_monitor_a_tunnel_counts_as_healthy_again() {
    let mut model = model_of(&["a", "b"], &[&[]]);
    let fresh = planned_with(&model, &[], &Image::default());
    let down = planned_with(&model, &[("a", HealthState::Unhealthy)], &fresh);
    assert_eq!(used(&down, 1).len(), 1);
    model.vnets[0].tunnels[0].probe = None;
    assert_eq!(diff(&fresh, &planned_with(&model, &[], &down)), Vec::<Step>::new());
}

/// With the way to all gateways known, and what routers said of it.
fn resolved_with(model: &Model, path_mtus: &BTreeMap<TunnelPath, u16>, observed: &Image) -> Image {
    let hop = NextHop { ifindex: 7, vlan: None, source_mac: [2; 6], destination_mac: [4; 6], mtu: 1500 };
    let tunnels = model.vnets.iter().flat_map(|vnet| &vnet.tunnels);
    let next_hops = tunnels.map(|tunnel| (tunnel.remote, (Some(hop), Some(1500)))).collect();
    Facts { next_hops, path_mtus: path_mtus.clone(), ..Facts::over(observed) }.plan(model)
}

#[test]
fn what_a_router_says_of_a_path_makes_that_tunnel_narrower_and_never_wider() {
    let mut model = model_of(&["a", "b", "c"], &[&[]]);
    model.vnets[0].tunnels[2].mtu = Some(1420);
    let said = |mtus: [u16; 3]| model.vnets[0].paths().map(|(_, path)| path).zip(mtus).collect();
    let inner = |path_mtus: &BTreeMap<TunnelPath, u16>| {
        let image = resolved_with(&model, path_mtus, &Image::default());
        let tunnel = |tunnel| known_tunnel(&model.vnets[0], tunnel, &image).unwrap().inner_mtu;
        model.vnets[0].tunnels.iter().map(tunnel).collect::<Vec<_>>()
    };
    // 28 bytes of IPv4 and GRE.
    assert_eq!(inner(&BTreeMap::new()), [1472, 1472, 1392]);
    assert_eq!(inner(&said([1400, 9000, 1440])), [1372, 1472, 1392]);
    assert_eq!(inner(&said([576, 1492, 1300])), [548, 1464, 1272]);
}

#[test]
fn a_next_hop_that_is_found_leaves_a_tunnel_down_and_a_verdict_leaves_it_resolved() {
    let model = model_of(&["a"], &[&[]]);
    let down = planned_with(&model, &[("a", HealthState::Unhealthy)], &Image::default());
    let resolved = resolved_with(&model, &BTreeMap::new(), &down);
    let flags = |image: &Image| image.tunnels.values().next().unwrap().flags;
    assert_eq!(flags(&resolved) & (TUNNEL_DOWN | TUNNEL_RESOLVED), TUNNEL_DOWN | TUNNEL_RESOLVED);
    let up = planned_with(&model, &[("a", HealthState::Healthy)], &resolved);
    assert_eq!(flags(&up) & (TUNNEL_DOWN | TUNNEL_RESOLVED), TUNNEL_RESOLVED);
}

#[test]
fn no_more_tunnels_are_used_than_an_entry_holds_and_the_next_steps_in() {
    let names: Vec<String> = (0..usize::from(PROBE_PLACES)).map(|i| format!("t{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let model = model_of(&names, &[&[]]);
    let fresh = planned_with(&model, &[], &Image::default());
    let all = ids(&model, &fresh);
    assert_eq!(used(&fresh, 1), all[..ENDPOINT_TUNNELS]);
    let down = planned_with(&model, &[("t0", HealthState::Unhealthy)], &fresh);
    assert_eq!(used(&down, 1), all[1..=ENDPOINT_TUNNELS]);
    // Every tunnel has a place of its own.
    let source = Host::v4(lbx_common::bytes::Be32::from_octets([10, 255, 0, 1]));
    for (place, id) in (0..PROBE_PLACES).zip(all) {
        assert_eq!(fresh.peers[&PeerKey::ProbeSource { source, place }].tunnel, u32::from(id));
    }
}

#[test]
fn a_tunnel_that_is_off_has_no_place_and_the_first_that_is_on_serves_what_names_none() {
    let mut model = model_of(&["a", "b", "c"], &[&[]]);
    let all = ids(&model, &planned_with(&model, &[], &Image::default()));
    model.vnets[0].tunnels[0].enabled = false;
    model.vnets[0].tunnels[2].enabled = false;
    let image = planned_with(&model, &[], &planned_with(&model, &[], &Image::default()));
    assert_eq!(used(&image, 1).len(), 1);
    let mut places = Vec::new();
    for (key, value) in &image.peers {
        if let PeerKey::ProbeSource { place, .. } = key {
            places.push((*place, value.tunnel));
        }
    }
    let b = image.tunnels.keys().copied().next().unwrap();
    assert_eq!((image.tunnels.len(), all.len()), (1, 3));
    assert_eq!(places, [(0, b), (1, b)]);
}
