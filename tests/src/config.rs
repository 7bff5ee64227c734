//! The configuration of lbx that fits the topology, as the typed objects that a user writes in YAML.
//!
//! Tests change the value as they like before they hand it to the agent.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result};
use lbx_common::api::{
    self, AttachMode, Config, Endpoint, Inner, Interface, Listen, Monitor, MonitorKind, Node, Pool, Ports,
    ProbeSource, Protocol, Role, Service, Tunnel, TunnelSource, VirtualNetwork,
};

use crate::{
    family::Family,
    servers::{HTTP_PORT, UDP_PORT},
    topology::{
        EAST, LBX_UNDERLAY, LBX_UNDERLAY_V6, PUBLIC_DEVICE, Topology, UNDERLAY_DEVICE, VnetPlan, WEST,
        origins,
    },
    tunnel::Encap,
};

/// Time between health checks.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// Time after which a health check has failed.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(300);

/// Fixed, so that the same source ports reach the same origins in every run.
const HASH_SEED: &str = "6c62782d746573742d73656564202020";
const MONITOR: &str = "tcp";
/// Families that [`for_topology`] serves: those that lbx forwards.
const SERVED: &[Family] = &Family::ALL;

/// Both virtual networks as [`Topology::new`] makes them, with pools `{east,west}-web` (TCP, probed) and
/// `{east,west}-dns` (UDP, without a monitor) over both origins at weight 1, and the services `east`, `west`
/// (tcp/80), `east-dns` and `west-dns` (udp/53), all in IPv4. Native XDP.
pub fn whole() -> Config {
    of_plans(&[EAST, WEST], &[Family::V4])
}

/// The same in both families: in IPv6 the names end with `6`.
pub fn of_both_families() -> Config {
    of_plans(&[EAST, WEST], &Family::ALL)
}

/// The same for the networks of `topology`, in every family that is served: in IPv6 the names end with `6`.
pub fn for_topology(topology: &Topology) -> Config {
    of_plans(&topology.vnets().map(|vnet| vnet.plan), SERVED)
}

/// What the configuration says of an encapsulation: its name, and what it carries where that is a choice.
const fn encapsulation(encap: Encap) -> (api::Encap, Option<Inner>) {
    match encap {
        Encap::Gre => (api::Encap::Gre, None),
        Encap::GreUdp => (api::Encap::GreUdp, None),
        Encap::Vxlan => (api::Encap::Vxlan, None),
        Encap::GeneveIp => (api::Encap::Geneve, Some(Inner::Ip)),
        Encap::GeneveEthernet => (api::Encap::Geneve, Some(Inner::Ethernet)),
    }
}

fn of_plans(plans: &[VnetPlan], families: &[Family]) -> Config {
    let interface = |name: &str, role| Interface { name: name.to_owned(), role, mode: AttachMode::Native };
    let over_ipv6 = plans.iter().any(|plan| plan.outer == Family::V6);
    let served = || plans.iter().flat_map(|plan| families.iter().map(move |family| (plan, *family)));
    let pools = served().flat_map(|(plan, family)| {
        let web = pool(plan, family, "web", Some(MONITOR.to_owned()), HTTP_PORT);
        [web, pool(plan, family, "dns", None, UDP_PORT)]
    });
    let services = served().flat_map(|(plan, family)| {
        let web = Listen { protocol: Protocol::Tcp, ports: Ports::One(HTTP_PORT) };
        let dns = Listen { protocol: Protocol::Udp, ports: Ports::One(UDP_PORT) };
        [
            service(plan, family, plan.name.to_owned(), web, "web"),
            service(plan, family, format!("{}-dns", plan.name), dns, "dns"),
        ]
    });
    Config {
        node: Node {
            interfaces: vec![
                interface(PUBLIC_DEVICE, Role::Public),
                interface(UNDERLAY_DEVICE, Role::Underlay),
            ],
            tunnel_source: TunnelSource {
                ipv4: Some(LBX_UNDERLAY),
                ipv6: over_ipv6.then_some(LBX_UNDERLAY_V6),
            },
            hash_seed: Some(HASH_SEED.to_owned()),
            ..Node::default()
        },
        virtual_networks: plans.iter().map(|plan| virtual_network(plan, families)).collect(),
        monitors: vec![Monitor {
            name: MONITOR.to_owned(),
            kind: MonitorKind::Tcp,
            interval: PROBE_INTERVAL,
            timeout: PROBE_TIMEOUT,
            retries: 0,
            consecutive_up: 1,
            consecutive_down: 1,
            ..Monitor::new(String::new())
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
            let place = origins(Family::V4).iter().position(|(name, _)| *name == endpoint.name);
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

fn virtual_network(plan: &VnetPlan, families: &[Family]) -> VirtualNetwork {
    let (encap, inner) = encapsulation(plan.encap);
    VirtualNetwork {
        name: plan.name.to_owned(),
        vni: plan.vni,
        probe_source: ProbeSource {
            ipv4: families.contains(&Family::V4).then_some(plan.probe_source),
            ipv6: families.contains(&Family::V6).then_some(plan.probe_source_v6),
        },
        tunnels: vec![Tunnel {
            name: encap.as_str().to_owned(),
            encap,
            inner,
            remote: plan.remote(),
            port: None,
            mtu: None,
            inner_mac: None,
            enabled: true,
            monitor: None,
            probe_address: None,
            probe_port: None,
        }],
    }
}

fn pool(plan: &VnetPlan, family: Family, suffix: &str, monitor: Option<String>, port: u16) -> Pool {
    let endpoint = |(name, address): (&str, IpAddr)| Endpoint {
        port: Some(port),
        ..Endpoint::new(name.to_owned(), plan.name.to_owned(), address)
    };
    Pool {
        monitor,
        endpoints: origins(family).into_iter().map(endpoint).collect(),
        ..Pool::new(named(family, format!("{}-{suffix}", plan.name)))
    }
}

fn service(plan: &VnetPlan, family: Family, name: String, listen: Listen, pool_suffix: &str) -> Service {
    let pool = named(family, format!("{}-{pool_suffix}", plan.name));
    Service::new(named(family, name), plan.vip_of(family), vec![listen], vec![pool])
}

fn named(family: Family, name: String) -> String {
    match family {
        Family::V4 => name,
        Family::V6 => name + "6",
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

    #[test]
    fn every_combination_of_tunnels_and_families_is_valid() {
        for encap in Encap::ALL {
            for outer in Family::ALL {
                let config =
                    of_plans(&[EAST.through(encap, outer), WEST.through(encap, outer)], &Family::ALL);
                if let Err(problems) = lbx_agent::config::validate(config.clone()) {
                    panic!("{encap:?} over {outer}: {problems:?}");
                }
                let names: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
                assert_eq!(&names[..4], ["east", "east-dns", "east6", "east-dns6"]);
            }
        }
    }
}
