//! What the health checker and the next-hop watcher have to look after, by the model.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use lbx_common::api::HealthState;

use super::EndpointName;
use crate::{
    config::model::Model,
    health::{Target, TargetKey},
};

/// Every enabled endpoint of a pool with a monitor. `known` says whether the kernel already sends flows to
/// an endpoint, from before the agent started.
pub fn targets(model: &Model, known: impl Fn(&EndpointName) -> Option<bool>) -> Vec<Target> {
    let mut targets = Vec::new();
    for pool in &model.pools {
        let Some(monitor) = &pool.monitor else { continue };
        for endpoint in pool.endpoints.iter().filter(|endpoint| endpoint.enabled) {
            // The validator sees to it that both are there.
            let Some(vnet) = model.vnets.get(endpoint.vnet) else { continue };
            let (Some(source), Some(port)) = (vnet.probe_source, endpoint.port) else { continue };
            let up = known(&(pool.name.clone(), endpoint.name.clone())).unwrap_or(false);
            targets.push(Target {
                key: TargetKey {
                    pool: pool.name.clone(),
                    endpoint: endpoint.name.clone(),
                    virtual_network: vnet.name.clone(),
                },
                source,
                address: SocketAddrV4::new(endpoint.address, port),
                monitor: monitor.clone(),
                initial: if up { HealthState::Healthy } else { HealthState::Unknown },
            });
        }
    }
    targets
}

/// Source and destination of an endpoint's probes: the source tells the virtual network.
pub type Probed = (Ipv4Addr, SocketAddrV4);

/// Where each endpoint is probed.
pub fn probed(model: &Model) -> BTreeMap<EndpointName, Probed> {
    targets(model, |_| None)
        .into_iter()
        .map(|target| ((target.key.pool, target.key.endpoint), (target.source, target.address)))
        .collect()
}

/// The gateways of all tunnels, each once.
pub fn remotes(model: &Model) -> Vec<Ipv4Addr> {
    let mut remotes: Vec<Ipv4Addr> =
        model.vnets.iter().filter_map(|vnet| Some(vnet.tunnel.as_ref()?.remote)).collect();
    remotes.sort_unstable();
    remotes.dedup();
    remotes
}
