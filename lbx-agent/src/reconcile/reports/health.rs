//! Answers about health.

use std::{net::SocketAddr, time::Duration};

use lbx_common::{
    abi::{ENDPOINT_REMOVED, EndpointEntry, TUNNEL_DOWN},
    api::{
        Drain, EndpointHealth, HealthReport, HealthState, PoolHealth, PoolState, RemovedEndpoint,
        ServiceHealth, TunnelHealth,
    },
};

use super::{
    super::{Reconciler, now_ns},
    endpoint_address,
};
use crate::{
    config::model::{Endpoint, Pool, Service},
    dataplane::{Image, MapId, Memory},
    plan::{health_of, is_released, known_tunnel, pools_named},
};

impl Reconciler {
    pub(in super::super) fn health_report(&self) -> HealthReport {
        HealthReport {
            pools: self.pool_healths(),
            services: self.model.services.iter().map(|service| self.service_health(service)).collect(),
            tunnels: self.tunnel_healths(),
            removed: self.removed_endpoints(),
        }
    }

    /// Endpoints that are not configured any more and keep flows, as the last pass left them.
    fn removed_endpoints(&self) -> Vec<RemovedEndpoint> {
        let vnets = self.vnet_names(&self.image);
        let now_ns = now_ns();
        let removed = self
            .image
            .endpoints
            .iter()
            .filter(|(_, entry)| entry.state & ENDPOINT_REMOVED != 0 && !is_released(entry, now_ns));
        let report = |(&id, entry): (&u16, &EndpointEntry)| RemovedEndpoint {
            virtual_network: vnets.get(&entry.vnet).map(|&name| name.to_owned()),
            address: match endpoint_address(entry) {
                address if address.port() == 0 => address.ip().to_string(),
                address => address.to_string(),
            },
            drain: self.drain(id, entry),
        };
        removed.map(report).collect()
    }

    /// What is left of an endpoint that is drained or removed.
    fn drain(&self, id: u16, entry: &EndpointEntry) -> Drain {
        let left = Duration::from_nanos(entry.until_ns.saturating_sub(now_ns()));
        Drain {
            // Less than a second is not none.
            secs_left: left.as_secs() + u64::from(left.subsec_nanos() > 0),
            pinned_flows: self.sweeper.found.by_endpoint.get(&id).copied().unwrap_or(0),
        }
    }

    /// As the last pass left it, and as the verdicts since then will have it.
    fn service_health(&self, service: &Service) -> ServiceHealth {
        let serving = pools_named(&self.model, &self.ids, &self.image).serving(service);
        let name = |pool: usize| self.model.pools.get(pool).map(|pool| pool.name.clone());
        let others = service.steering.all().filter(|pool| !serving.pools().contains(pool));
        ServiceHealth {
            service: service.name.clone(),
            serving: serving.names(&self.model),
            standby: others.filter_map(name).collect(),
            fallback: serving.is_last_resort(service),
        }
    }

    fn pool_healths(&self) -> Vec<PoolHealth> {
        let pools = pools_named(&self.model, &self.ids, &self.image);
        let each = self.model.pools.iter().enumerate();
        each.map(|(index, pool)| PoolHealth { panic: pools.panics(index), ..self.pool_health(pool) })
            .collect()
    }

    fn pool_health(&self, pool: &Pool) -> PoolHealth {
        let endpoints: Vec<EndpointHealth> =
            pool.endpoints.iter().map(|endpoint| self.endpoint_health(pool, endpoint)).collect();
        PoolHealth {
            pool: pool.name.clone(),
            monitor: pool.monitor.as_ref().map(|monitor| monitor.name.clone()),
            state: pool_state(pool, &endpoints),
            panic: false,
            endpoints,
        }
    }

    fn endpoint_health(&self, pool: &Pool, endpoint: &Endpoint) -> EndpointHealth {
        let name = (pool.name.clone(), endpoint.name.clone());
        let seen = self.endpoints.seen.get(&name);
        let state = if !endpoint.enabled {
            HealthState::Disabled
        } else if pool.monitor.is_none() {
            HealthState::Healthy
        } else {
            // Before its first probe an endpoint is as the agent found it in the kernel.
            seen.map_or_else(|| self.state_in_kernel(&name), |seen| seen.state)
        };
        EndpointHealth {
            endpoint: endpoint.name.clone(),
            virtual_network: self.vnet_name(endpoint.vnet),
            address: match endpoint.port {
                Some(port) => SocketAddr::new(endpoint.address, port).to_string(),
                None => endpoint.address.to_string(),
            },
            state,
            reason: seen.map(|seen| seen.reason.clone()).unwrap_or_default(),
            since_secs: seen.map(|seen| seen.since.elapsed().as_secs()),
            round_trip_us: seen.and_then(|seen| seen.round_trip_us),
            drain: self.ids.get(&name).and_then(|&id| {
                let entry: EndpointEntry = self.kernel.memory.read(MapId::Endpoints, u32::from(id));
                (entry.until_ns != 0).then(|| self.drain(id, &entry))
            }),
        }
    }

    /// Health of the tunnels with a monitor.
    fn tunnel_healths(&self) -> Vec<TunnelHealth> {
        let image = Image::observe(&self.kernel.memory);
        let mut healths = Vec::new();
        for vnet in &self.model.vnets {
            for tunnel in &vnet.tunnels {
                let Some(probe) = &tunnel.probe else { continue };
                let seen = self.tunnels.seen.get(&(vnet.name.clone(), tunnel.name.clone()));
                let in_kernel = known_tunnel(vnet, tunnel, &image).map_or(0, |entry| entry.flags);
                let state = match seen {
                    _ if !tunnel.enabled => HealthState::Disabled,
                    Some(seen) => seen.state,
                    // Before its first probe a tunnel is as the agent found it in the kernel.
                    None if in_kernel & TUNNEL_DOWN != 0 => HealthState::Unhealthy,
                    None => HealthState::Unknown,
                };
                healths.push(TunnelHealth {
                    virtual_network: vnet.name.clone(),
                    tunnel: tunnel.name.clone(),
                    monitor: probe.monitor.name.clone(),
                    address: probe.target.to_string(),
                    state,
                    reason: seen.map(|seen| seen.reason.clone()).unwrap_or_default(),
                    since_secs: seen.map(|seen| seen.since.elapsed().as_secs()),
                    round_trip_us: seen.and_then(|seen| seen.round_trip_us),
                });
            }
        }
        healths
    }

    fn state_in_kernel(&self, name: &(String, String)) -> HealthState {
        let entry = |&id| self.kernel.memory.read(MapId::Endpoints, u32::from(id));
        self.ids.get(name).map_or(HealthState::Unknown, |id| health_of(&entry(id)))
    }
}

fn pool_state(pool: &Pool, endpoints: &[EndpointHealth]) -> PoolState {
    let open = |endpoint: &Endpoint| endpoint.enabled && !endpoint.drained && endpoint.weight > 0;
    let of_open = || pool.endpoints.iter().zip(endpoints).filter(|(endpoint, _)| open(endpoint));
    let count = |state| of_open().filter(|(_, health)| health.state == state).count();
    let (healthy, unknown) = (count(HealthState::Healthy), count(HealthState::Unknown));
    let minimum = pool.minimum_endpoints as usize;
    let enabled = endpoints.iter().filter(|health| health.state != HealthState::Disabled);
    if healthy >= minimum {
        let all = enabled.into_iter().all(|health| health.state == HealthState::Healthy);
        if all { PoolState::Healthy } else { PoolState::Degraded }
    } else if healthy + unknown >= minimum {
        PoolState::Unknown
    } else {
        PoolState::Critical
    }
}
