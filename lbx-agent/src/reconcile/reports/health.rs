//! Answers about health.

use std::net::SocketAddr;

use lbx_common::{
    abi::{ENDPOINT_REMOVED, EndpointEntry, TUNNEL_DOWN},
    api::{
        Drain, EndpointHealth, HealthReport, HealthState, PoolCondition, PoolHealth, PoolState,
        RegionServing, RemovedEndpoint, ServiceHealth, TunnelHealth,
    },
    pins::NANOSECONDS,
};

use super::{
    super::{Reconciler, now_ns},
    endpoint_address,
};
use crate::{
    config::model::{Endpoint, Pool, Service},
    dataplane::{MapId, Memory},
    plan::{Pools, health_of, is_released, known_tunnel, pools_named, share_of},
    steer::connections::WHOLE,
};

impl Reconciler {
    pub(in super::super) fn health_report(&self) -> HealthReport {
        let pools = pools_named(&self.model, self.known(), &self.image);
        let by_index = self.model.pools.iter().enumerate();
        let services = self.model.services.iter();
        HealthReport {
            pools: by_index.map(|(index, pool)| self.pool_health(pool, pools.panics(index))).collect(),
            services: services.map(|service| self.service_health(service, &pools)).collect(),
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
            address: shown_address(entry),
            drain: self.drain(id, entry),
        };
        removed.map(report).collect()
    }

    /// What is left of an endpoint that is drained or removed.
    fn drain(&self, id: u16, entry: &EndpointEntry) -> Drain {
        Drain {
            secs_left: secs_left(entry, now_ns()),
            pinned_flows: self.sweeper.found.by_endpoint.get(&id).copied().unwrap_or(0),
        }
    }

    /// As the last pass left it, and as the verdicts since then will have it.
    fn service_health(
        &self,
        service: &Service,
        pools: &Pools<'_, impl Fn(usize, usize, &Endpoint) -> Option<u16>>,
    ) -> ServiceHealth {
        let serving = pools.serving(service);
        let mut serve = serving.pools().to_vec();
        let mut regions = Vec::new();
        for (&id, region) in &service.steering.regions {
            let serving = pools.serving_in(service, id);
            serve.extend(serving.pools());
            regions.push(RegionServing {
                region: region.name.clone(),
                pools: self.model.pool_names(region.pools.iter().copied()),
                serving: serving.names(&self.model),
                fallback: serving.is_last_resort(service),
            });
        }
        regions.sort_by(|one, other| one.region.cmp(&other.region));
        ServiceHealth {
            service: service.name.clone(),
            serving: serving.names(&self.model),
            standby: self.model.pool_names(service.steering.all().filter(|pool| !serve.contains(pool))),
            fallback: serving.is_last_resort(service),
            regions,
        }
    }

    fn pool_health(&self, pool: &Pool, panic: bool) -> PoolHealth {
        PoolHealth {
            pool: pool.name.clone(),
            monitor: match pool.checks.as_slice() {
                [] => None,
                checks => {
                    Some(checks.iter().map(|one| one.monitor.name.as_str()).collect::<Vec<_>>().join(","))
                }
            },
            state: self.pool_condition(pool, panic).to,
            panic,
            endpoints: pool.endpoints.iter().map(|endpoint| self.endpoint_health(pool, endpoint)).collect(),
            latency_us: self.latency_us(pool).map(whole),
        }
    }

    /// The state of a pool, and of what it follows.
    pub(in super::super) fn pool_condition(&self, pool: &Pool, panic: bool) -> PoolCondition {
        let states = pool.endpoints.iter().map(|endpoint| self.endpoint_state(pool, endpoint));
        condition(pool, &states.collect::<Vec<_>>(), panic)
    }

    /// The verdict on an endpoint.
    pub(in super::super) fn endpoint_state(&self, pool: &Pool, endpoint: &Endpoint) -> HealthState {
        if !endpoint.enabled {
            return HealthState::Disabled;
        }
        if pool.checks.is_empty() {
            return HealthState::Healthy;
        }
        self.last_state(&(pool.name.clone(), endpoint.name.clone()))
    }

    fn endpoint_health(&self, pool: &Pool, endpoint: &Endpoint) -> EndpointHealth {
        let name = (pool.name.clone(), endpoint.name.clone());
        let seen = self.endpoints.seen.get(&name);
        let id = self.ids.get(&name).filter(|_| pool.least_connections);
        let entry = id.and_then(|id| Some((*id, self.image.endpoints.get(id)?)));
        EndpointHealth {
            endpoint: endpoint.name.clone(),
            virtual_network: self.vnet_name(endpoint.vnet),
            address: address_of(endpoint),
            state: self.endpoint_state(pool, endpoint),
            reason: seen.map(|seen| seen.reason.clone()).unwrap_or_default(),
            since_secs: seen.map(|seen| seen.since.elapsed().as_secs()),
            round_trip_us: seen.and_then(|seen| seen.round_trip_us),
            monitors: self.monitor_healths(pool, &name),
            live_flows: entry.map(|(id, _)| self.sweeper.found.live.get(&id).copied().unwrap_or_default()),
            share_percent: entry.map(|(_, entry)| percent(share_of(entry))),
            drain: self.ids.get(&name).and_then(|&id| {
                let entry: EndpointEntry = self.kernel.memory.read(MapId::Endpoints, u32::from(id));
                (entry.until_ns != 0).then(|| self.drain(id, &entry))
            }),
        }
    }

    /// Health of the tunnels with a monitor.
    fn tunnel_healths(&self) -> Vec<TunnelHealth> {
        let mut healths = Vec::new();
        for vnet in &self.model.vnets {
            for tunnel in &vnet.tunnels {
                let Some(probe) = &tunnel.probe else { continue };
                let seen = self.tunnels.seen.get(&(vnet.name.clone(), tunnel.name.clone()));
                let in_kernel = known_tunnel(vnet, tunnel, &self.image).map_or(0, |entry| entry.flags);
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

    /// The verdict on an endpoint that is probed: before the first probe it is as the agent found it in the kernel.
    pub(in super::super) fn last_state(&self, name: &(String, String)) -> HealthState {
        self.endpoints.seen.get(name).map_or_else(|| self.state_in_kernel(name), |seen| seen.state)
    }

    pub(in super::super) fn state_in_kernel(&self, name: &(String, String)) -> HealthState {
        let entry = |&id| self.kernel.memory.read(MapId::Endpoints, u32::from(id));
        self.ids.get(name).map_or(HealthState::Unknown, |id| health_of(&entry(id)))
    }
}

/// `ADDRESS:PORT`, or `ADDRESS` where the port is kept.
pub(in super::super) fn address_of(endpoint: &Endpoint) -> String {
    match endpoint.port {
        Some(port) => SocketAddr::new(endpoint.address, port).to_string(),
        None => endpoint.address.to_string(),
    }
}

/// The same of an endpoint's entry.
pub(in super::super) fn shown_address(entry: &EndpointEntry) -> String {
    match endpoint_address(entry) {
        address if address.port() == 0 => address.ip().to_string(),
        address => address.to_string(),
    }
}

/// For how many seconds an endpoint keeps its flows; less than a second is not none.
pub(in super::super) fn secs_left(entry: &EndpointEntry, now_ns: u64) -> u64 {
    entry.until_ns.saturating_sub(now_ns).div_ceil(NANOSECONDS)
}

/// A pool whose endpoints are in these states.
fn condition(pool: &Pool, states: &[HealthState], panic: bool) -> PoolCondition {
    let each = || pool.endpoints.iter().zip(states.iter().copied());
    let is_closed = |endpoint: &Endpoint| endpoint.drained || endpoint.weight == 0;
    let count = |is_counted: &dyn Fn(&Endpoint, HealthState) -> bool| {
        let counted = each().filter(|(endpoint, state)| endpoint.enabled && is_counted(endpoint, *state));
        u32::try_from(counted.count()).unwrap_or(u32::MAX)
    };
    let healthy = count(&|endpoint, state| !is_closed(endpoint) && state == HealthState::Healthy);
    let unknown = count(&|endpoint, state| !is_closed(endpoint) && state == HealthState::Unknown);
    let unwell = count(&|_, state| state != HealthState::Healthy);
    let needed = pool.minimum_endpoints;
    let to = if healthy >= needed {
        if unwell == 0 { PoolState::Healthy } else { PoolState::Degraded }
    } else if healthy.saturating_add(unknown) >= needed {
        PoolState::Unknown
    } else {
        PoolState::Critical
    };
    PoolCondition {
        to,
        up: healthy >= needed || panic,
        healthy,
        endpoints: count(&|_, _| true),
        closed: count(&|endpoint, _| is_closed(endpoint)),
        needed,
        panic,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time, far below the largest")]
fn whole(latency_us: f64) -> u64 {
    latency_us.round() as u64
}

/// Of 255ths; who has a share at all has a percent.
fn percent(share: u8) -> u8 {
    let percent = (u16::from(share) * 100 + u16::from(WHOLE) / 2) / u16::from(WHOLE);
    u8::try_from(percent).unwrap_or(100).max(1)
}
