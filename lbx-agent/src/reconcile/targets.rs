//! What the health checker and the next-hop watcher have to look after, by the model.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use lbx_common::{
    abi::{PROBE_PLACES, TUNNEL_DOWN},
    api::{Family, HealthState},
};

use super::{Reconciler, findings::Name};
use crate::{
    config::model::{Endpoint, Model, Tunnel, Vnet},
    health::{Probed, Target, TargetKey},
    plan,
};

/// What is known from before, and from now on.
pub trait Known {
    /// What the kernel knows of an endpoint, from before the agent started.
    fn endpoint_state(&self, name: &Name) -> HealthState;
    /// Whether a tunnel is out, by its monitor's last verdict.
    fn tunnel_is_down(&self, vnet: &Vnet, tunnel: &Tunnel) -> bool;
}

/// What the maps say; the verdicts are in them.
impl Known for Reconciler {
    fn endpoint_state(&self, name: &Name) -> HealthState {
        let entry = self.ids.get(name).and_then(|id| self.image.endpoints.get(id));
        entry.map_or(HealthState::Unknown, plan::health_of)
    }

    fn tunnel_is_down(&self, vnet: &Vnet, tunnel: &Tunnel) -> bool {
        plan::known_tunnel(vnet, tunnel, &self.image).is_some_and(|entry| entry.flags & TUNNEL_DOWN != 0)
    }
}

/// Everything that is probed.
pub fn targets(model: &Model, known: &impl Known) -> Vec<Target> {
    let mut targets = endpoints(model, known);
    targets.extend(tunnels(model, known));
    targets
}

/// Every enabled endpoint of a pool with monitors, for each of these.
fn endpoints(model: &Model, known: &impl Known) -> Vec<Target> {
    let mut targets = Vec::new();
    for pool in &model.pools {
        for endpoint in pool.endpoints.iter().filter(|endpoint| endpoint.enabled) {
            // The validator sees to it that both are there.
            let Some(vnet) = model.vnets.get(endpoint.vnet) else { continue };
            let Some(first) = endpoint.probes.first() else { continue };
            let Some(source) = vnet.probe_source.of(Family::of(first.ip())) else { continue };
            let (place, other) = ways_to(endpoint, vnet, known);
            let before = known.endpoint_state(&(pool.name.clone(), endpoint.name.clone()));
            targets.extend(pool.checks.iter().zip(&endpoint.probes).map(|(check, &address)| Target {
                key: TargetKey::Endpoint {
                    pool: pool.name.clone(),
                    endpoint: endpoint.name.clone(),
                    virtual_network: vnet.name.clone(),
                    member: check.voice.map(|_| check.monitor.name.clone()),
                },
                source,
                address,
                place,
                other,
                monitor: check.monitor.clone(),
                // One monitor of several may not have said that it is unhealthy.
                initial: if before == HealthState::Unhealthy && check.voice.is_some() {
                    HealthState::Unknown
                } else {
                    before
                },
            }));
        }
    }
    targets
}

/// The tunnel that an endpoint's probes leave by: the first of its own that is up. Where all are down, the first
/// that is on: what it says of the endpoint is then what flows would meet. And the next one that is up, for when
/// the first is silent; not where the first has no monitor: nobody would notice that it is broken.
fn ways_to(endpoint: &Endpoint, vnet: &Vnet, known: &impl Known) -> (Option<u8>, Option<u8>) {
    let of_endpoint = endpoint.tunnels.iter().filter_map(|&place| Some((place, vnet.tunnels.get(place)?)));
    let mut on = of_endpoint.filter(|(_, tunnel)| tunnel.enabled);
    let mut up = on.clone().filter(|(_, tunnel)| !known.tunnel_is_down(vnet, tunnel));
    let Some((first, tunnel)) = up.next() else {
        return (on.next().and_then(|(place, _)| as_place(place)), None);
    };
    let other = up.next().filter(|_| tunnel.probe.is_some());
    (as_place(first), other.and_then(|(place, _)| as_place(place)))
}

/// Every enabled tunnel with a monitor, each probed through itself.
fn tunnels(model: &Model, known: &impl Known) -> Vec<Target> {
    let mut targets = Vec::new();
    for vnet in &model.vnets {
        for (place, tunnel) in vnet.tunnels.iter().enumerate().filter(|(_, tunnel)| tunnel.enabled) {
            let Some(probe) = &tunnel.probe else { continue };
            let Some(source) = vnet.probe_source.of(Family::of(probe.target.ip())) else { continue };
            let down = known.tunnel_is_down(vnet, tunnel);
            targets.push(Target {
                key: TargetKey::Tunnel {
                    virtual_network: vnet.name.clone(),
                    tunnel: tunnel.name.clone(),
                    path: (tunnel.encap, tunnel.remote, tunnel.port),
                },
                source,
                address: probe.target,
                place: as_place(place),
                other: None,
                monitor: probe.monitor.clone(),
                initial: if down { HealthState::Unhealthy } else { HealthState::Unknown },
            });
        }
    }
    targets
}

/// The validator sees to it that there are no more tunnels than places.
fn as_place(place: usize) -> Option<u8> {
    u8::try_from(place).ok().filter(|&place| place < PROBE_PLACES)
}

/// What is probed.
#[derive(Debug, PartialEq, Eq)]
pub struct AllProbed {
    /// Endpoints, at the address of their monitor, and with several at that of all.
    pub endpoints: BTreeMap<Name, Probed>,
    /// Endpoints by each of their monitors, where these are several.
    pub members: BTreeMap<(Name, String), Probed>,
    /// Tunnels.
    pub tunnels: BTreeMap<Name, Probed>,
}

/// What endpoints and tunnels are probed at.
pub fn probed(model: &Model) -> AllProbed {
    let at = |one: Target| (one.key.name(), (one.key, one.source, one.address));
    let (mut endpoints_at, mut members) = (BTreeMap::new(), BTreeMap::new());
    for (name, (key, source, address)) in endpoints(model, &Nothing).into_iter().map(at) {
        let Some((whole, member)) = key.whole() else {
            endpoints_at.insert(name, (key, source, address));
            continue;
        };
        endpoints_at.insert(name.clone(), (whole, source, SocketAddr::new(address.ip(), 0)));
        members.insert((name, member), (key, source, address));
    }
    let tunnels = tunnels(model, &Nothing).into_iter().map(at).collect();
    AllProbed { endpoints: endpoints_at, members, tunnels }
}

struct Nothing;

impl Known for Nothing {
    fn endpoint_state(&self, _: &Name) -> HealthState {
        HealthState::Unknown
    }

    fn tunnel_is_down(&self, _: &Vnet, _: &Tunnel) -> bool {
        false
    }
}

/// The gateways of all tunnels, each once.
pub fn remotes(model: &Model) -> Vec<IpAddr> {
    let tunnels = model.vnets.iter().flat_map(|vnet| &vnet.tunnels);
    let mut remotes: Vec<IpAddr> = tunnels.map(|tunnel| tunnel.remote).collect();
    remotes.sort_unstable();
    remotes.dedup();
    remotes
}
