//! Who names an object, and would be left without it. Pure.

use lbx_common::api::{Collection, Config, Endpoint, Mistake, Pool};

use super::extract::ObjectPath;

/// Everything that names the object, as a list of places.
pub(super) fn referrers(config: &Config, object: &ObjectPath) -> Vec<Mistake> {
    let name = &object.name;
    match object.within.collection {
        Collection::VirtualNetworks => endpoints(config)
            .filter(|(_, _, endpoint)| endpoint.virtual_network == *name)
            .map(|(path, pool, endpoint)| {
                let message = format!("endpoint `{}/{}` is in it", pool.name, endpoint.name);
                Mistake::new(format!("{path}.virtual_network"), message)
            })
            .collect(),
        Collection::Tunnels => endpoints(config)
            .filter(|(_, _, endpoint)| object.within.parent.as_ref() == Some(&endpoint.virtual_network))
            .filter_map(|(path, pool, endpoint)| {
                let index = endpoint.tunnels.iter().position(|tunnel| tunnel == name)?;
                let message = format!("endpoint `{}/{}` is reached through it", pool.name, endpoint.name);
                Some(Mistake::new(format!("{path}.tunnels[{index}]"), message))
            })
            .collect(),
        Collection::Monitors => of_monitor(config, name),
        Collection::Pools => config
            .services
            .iter()
            .enumerate()
            .flat_map(|(s, service)| {
                let listed = service.pools.iter().enumerate().map(|(i, pool)| (format!("pools[{i}]"), pool));
                let fallback = service.fallback_pool.iter().map(|pool| ("fallback_pool".to_owned(), pool));
                let steering = service.random_steering.iter().flat_map(|random| random.pool_weights.keys());
                let weights = steering.map(|pool| (format!("random_steering.pool_weights.{pool}"), pool));
                listed.chain(fallback).chain(weights).map(move |(field, pool)| (s, service, field, pool))
            })
            .filter(|(.., pool)| *pool == name)
            .map(|(s, service, field, _)| {
                Mistake::new(format!("services[{s}].{field}"), format!("service `{}` uses it", service.name))
            })
            .collect(),
        Collection::Endpoints | Collection::Services => Vec::new(),
    }
}

fn of_monitor(config: &Config, name: &str) -> Vec<Mistake> {
    let networks = config.virtual_networks.iter().enumerate();
    let tunnels = networks
        .flat_map(|(n, network)| {
            network.tunnels.iter().enumerate().map(move |(t, tunnel)| (n, network, t, tunnel))
        })
        .filter(|(_, _, _, tunnel)| tunnel.monitor.as_deref() == Some(name))
        .map(|(n, network, t, tunnel)| {
            let message = format!("tunnel `{}/{}` is checked by it", network.name, tunnel.name);
            Mistake::new(format!("virtual_networks[{n}].tunnels[{t}].monitor"), message)
        });
    let pools =
        config.pools.iter().enumerate().filter(|(_, pool)| pool.monitor.as_deref() == Some(name)).map(
            |(p, pool)| {
                Mistake::new(format!("pools[{p}].monitor"), format!("pool `{}` is checked by it", pool.name))
            },
        );
    let in_groups = config.pools.iter().enumerate().flat_map(|(p, pool)| {
        let each = pool.monitor_group.iter().enumerate().filter(|(_, one)| one.monitor == name);
        each.map(move |(m, _)| {
            let message = format!("pool `{}` is checked by it, among others", pool.name);
            Mistake::new(format!("pools[{p}].monitor_group[{m}].monitor"), message)
        })
    });
    tunnels.chain(pools).chain(in_groups).collect()
}

/// All endpoints, each with its place and its pool.
fn endpoints(config: &Config) -> impl Iterator<Item = (String, &Pool, &Endpoint)> {
    config.pools.iter().enumerate().flat_map(|(p, pool)| {
        let each = pool.endpoints.iter().enumerate();
        each.map(move |(e, endpoint)| (format!("pools[{p}].endpoints[{e}]"), pool, endpoint))
    })
}
