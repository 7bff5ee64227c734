//! The configuration of lbx that fits the topology, as the typed objects that a user writes in YAML.
//!
//! Tests change the value as they like before they hand it to the agent.

use std::time::Duration;

use anyhow::{Context, Result};
use lbx_common::api::{
    AttachMode, Config, Encap, Endpoint, Forwarding, Interface, Listen, Monitor, MonitorKind, Node, Pool,
    ProbeSource, Protocol, Role, Service, Tunnel, TunnelSource, VirtualNetwork,
};

use crate::{
    servers::{HTTP_PORT, UDP_PORT},
    topology::{EAST, LBX_UNDERLAY, ORIGINS, PUBLIC_DEVICE, UNDERLAY_DEVICE, VnetPlan, WEST},
};

/// Time between health checks.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// Time after which a health check has failed.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(300);

/// Fixed, so that the same source ports reach the same origins in every run.
const HASH_SEED: &str = "6c62782d746573742d73656564202020";
const MONITOR: &str = "tcp";

/// Both virtual networks, with pools `{east,west}-web` (TCP, probed) and `{east,west}-dns` (UDP, without a
/// monitor) over both origins at weight 1, and the services `east`, `west` (tcp/80), `east-dns` and
/// `west-dns` (udp/53). Native XDP.
pub fn whole() -> Config {
    let interface = |name: &str, role| Interface { name: name.to_owned(), role, mode: AttachMode::Native };
    let vnets = [EAST, WEST];
    let pools = vnets.iter().flat_map(|plan| {
        [pool(plan, "web", Some(MONITOR.to_owned()), HTTP_PORT), pool(plan, "dns", None, UDP_PORT)]
    });
    let services = vnets.iter().flat_map(|plan| {
        let web = Listen { protocol: Protocol::Tcp, port: HTTP_PORT };
        let dns = Listen { protocol: Protocol::Udp, port: UDP_PORT };
        [
            service(plan, plan.name.to_owned(), web, "web"),
            service(plan, format!("{}-dns", plan.name), dns, "dns"),
        ]
    });
    Config {
        node: Node {
            interfaces: vec![
                interface(PUBLIC_DEVICE, Role::Public),
                interface(UNDERLAY_DEVICE, Role::Underlay),
            ],
            tunnel_source: TunnelSource { ipv4: Some(LBX_UNDERLAY) },
            hash_seed: Some(HASH_SEED.to_owned()),
        },
        virtual_networks: vnets.iter().map(virtual_network).collect(),
        monitors: vec![Monitor {
            name: MONITOR.to_owned(),
            kind: MonitorKind::Tcp,
            interval: PROBE_INTERVAL,
            timeout: PROBE_TIMEOUT,
            retries: 0,
            consecutive_up: 1,
            consecutive_down: 1,
        }],
        pools: pools.collect(),
        services: services.collect(),
        ..Config::default()
    }
}

/// Sets the weights of origins a and b in the pools of one virtual network.
pub fn set_weights(config: &mut Config, vnet: &str, weights: [f64; 2]) {
    for pool in &mut config.pools {
        for endpoint in pool.endpoints.iter_mut().filter(|endpoint| endpoint.virtual_network == vnet) {
            let place = ORIGINS.iter().position(|(name, _)| *name == endpoint.name);
            if let Some(weight) = place.and_then(|place| weights.get(place)) {
                endpoint.weight = *weight;
            }
        }
    }
}

/// Takes a virtual network out, with its pools and services.
pub fn remove_vnet(config: &mut Config, vnet: &str) {
    config.virtual_networks.retain(|network| network.name != vnet);
    let of_vnet = |pool: &Pool| pool.endpoints.iter().any(|endpoint| endpoint.virtual_network == vnet);
    let removed: Vec<String> =
        config.pools.iter().filter(|pool| of_vnet(pool)).map(|pool| pool.name.clone()).collect();
    config.pools.retain(|pool| !removed.contains(&pool.name));
    config.services.retain(|service| !service.pools.iter().any(|pool| removed.contains(pool)));
}

/// The text of a configuration file.
pub fn to_yaml(config: &Config) -> Result<String> {
    serde_yaml::to_string(config).context("cannot write a configuration as YAML")
}

fn virtual_network(plan: &VnetPlan) -> VirtualNetwork {
    VirtualNetwork {
        name: plan.name.to_owned(),
        vni: plan.vni,
        probe_source: ProbeSource { ipv4: Some(plan.probe_source) },
        tunnels: vec![Tunnel {
            name: match plan.encap {
                Encap::Gre => "gre".to_owned(),
                Encap::Vxlan => "vxlan".to_owned(),
            },
            encap: plan.encap,
            remote: plan.gateway_address,
            port: None,
            mtu: None,
            inner_mac: None,
        }],
    }
}

fn pool(plan: &VnetPlan, suffix: &str, monitor: Option<String>, port: u16) -> Pool {
    let endpoint = |(name, address): (&str, _)| Endpoint {
        name: name.to_owned(),
        virtual_network: plan.name.to_owned(),
        address,
        port: Some(port),
        weight: 1.0,
        enabled: true,
    };
    Pool {
        name: format!("{}-{suffix}", plan.name),
        monitor,
        table_size: None,
        endpoints: ORIGINS.into_iter().map(endpoint).collect(),
    }
}

fn service(plan: &VnetPlan, name: String, listen: Listen, pool_suffix: &str) -> Service {
    Service {
        name,
        address: plan.vip,
        listen: vec![listen],
        forwarding: Forwarding::Nat,
        pools: vec![format!("{}-{pool_suffix}", plan.name)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_says_what_the_objects_say() {
        let mut config = whole();
        set_weights(&mut config, "west", [0.25, 1.0]);
        let read: Config = serde_yaml::from_str(&to_yaml(&config).unwrap()).unwrap();
        assert_eq!(read, config);
        let weights = |pool: usize| read.pools[pool].endpoints.iter().map(|e| e.weight).collect::<Vec<_>>();
        assert_eq!((weights(0), weights(2)), (vec![1.0, 1.0], vec![0.25, 1.0]));
    }

    #[test]
    fn a_removed_vnet_leaves_nothing_that_refers_to_it() {
        let mut config = whole();
        remove_vnet(&mut config, "east");
        let text = to_yaml(&config).unwrap();
        assert!(!text.contains("east") && text.contains("west-dns"), "{text}");
    }
}
