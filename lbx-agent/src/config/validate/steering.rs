//! Which pools a service has, and how they share its flows.

use std::collections::{BTreeMap, HashMap, HashSet};

use lbx_common::api::{Config, Pool, Service, SteeringPolicy};

use super::{
    Report, Seen,
    endpoint::hundredths,
    pool::{slots_for, table_size},
    region::Orders,
};
use crate::config::model;

/// The pools of a service: `None` where there is no pool that it could have meant.
pub(super) fn check(
    service: &Service,
    path: &str,
    orders: &Orders<'_>,
    report: &mut Report,
) -> Option<model::Steering> {
    let pools = orders.pools();
    let mut seen = Seen::default();
    let mut found = Vec::with_capacity(service.pools.len());
    for (index, name) in service.pools.iter().enumerate() {
        let here = || format!("{path}.pools[{index}]");
        found.extend(report.take(here, pools.find("pool", name)));
        if let Some(first) = seen.before(name.as_str(), index) {
            report.note(here(), format!("`{name}` is {path}.pools[{first}] already: name it once"));
        }
    }
    if service.pools.is_empty() {
        report.note(format!("{path}.pools"), "the list is empty: name the pool that serves the clients");
    }
    let fallback = service
        .fallback_pool
        .as_ref()
        .and_then(|name| report.take(|| format!("{path}.fallback_pool"), pools.find("pool", name)));
    let weights = weights(service, path, report);
    let by_latency = service.steering_policy == SteeringPolicy::DynamicLatency;
    let regions = orders.check(service, path, &mut found, report);
    let is_complete = found.len() == service.pools.len()
        && !found.is_empty()
        && regions.values().all(|region| !region.pools.is_empty());
    is_complete.then_some(model::Steering {
        pools: found,
        fallback,
        weights: (service.steering_policy == SteeringPolicy::Random).then_some(weights),
        by_latency,
        regions,
    })
}

/// The weight of each pool in hundredths, in the order of the service's pools.
fn weights(service: &Service, path: &str, report: &mut Report) -> Vec<u8> {
    let here = format!("{path}.random_steering");
    let Some(random) = &service.random_steering else { return vec![100; service.pools.len()] };
    if service.steering_policy != SteeringPolicy::Random {
        let policy = service.steering_policy.as_str();
        let message = format!(
            "weights are for `steering_policy: random`, and this service has `{policy}`: write that, or leave this out"
        );
        report.note(here.clone(), message);
    }
    let default = report.take(|| format!("{here}.default_weight"), hundredths(random.default_weight));
    let default = default.unwrap_or(100);
    let mut of_pools = BTreeMap::new();
    for (name, &weight) in &random.pool_weights {
        let at = || format!("{here}.pool_weights.{name}");
        if !service.pools.contains(name) {
            report.note(
                at(),
                format!("`{name}` is not in `pools` of this service, which are {}", service.pools.join(", ")),
            );
        }
        let weight = report.take(at, hundredths(weight));
        of_pools.insert(name.as_str(), weight.unwrap_or(100));
    }
    let weights: Vec<u8> =
        service.pools.iter().map(|name| of_pools.get(name.as_str()).copied().unwrap_or(default)).collect();
    if weights.iter().all(|&weight| weight == 0) && !weights.is_empty() {
        report.note(here, "no pool has any weight: give one more than 0");
    }
    weights
}

/// The names of all pools that a service may send to, each once.
pub(super) fn all_pools(service: &Service) -> impl Iterator<Item = &String> {
    let of_regions = service.region_pools.values().flatten();
    let mut seen = HashSet::new();
    let all = service.pools.iter().chain(&service.fallback_pool).chain(of_regions);
    all.filter(move |name| seen.insert(name.as_str()))
}

/// Slots of a table of a service in which flows of these pools are mixed: those of the largest one, and room for all.
pub(super) fn mixed_slots<'a>(pools: impl Iterator<Item = &'a Pool> + Clone) -> u32 {
    let largest = pools.clone().map(table_size).max().unwrap_or_default();
    slots_for(pools.map(|pool| pool.endpoints.len()).sum()).max(largest)
}

/// The names of the pools that may share the flows of a service, each once.
pub(super) fn mixed_pools(service: &Service) -> impl Iterator<Item = &String> + Clone {
    let is_listed = |name: &String| {
        service.pools.contains(name) || service.region_pools.values().any(|pools| pools.contains(name))
    };
    let names: Vec<&String> = all_pools(service).filter(|name| is_listed(name)).collect();
    names.into_iter()
}

/// Slots of each table that services with several pools may need beside those of the pools.
pub(super) fn mixed_tables(config: &Config) -> impl Iterator<Item = u64> {
    let pools: HashMap<&str, &Pool> = config.pools.iter().map(|pool| (pool.name.as_str(), pool)).collect();
    config.services.iter().filter_map(move |service| {
        let of_service = mixed_pools(service).filter_map(|name| pools.get(name.as_str()).copied());
        let is_mixed = service.steering_policy == SteeringPolicy::Random
            || of_service.clone().any(|pool| pool.load_shedding > 0);
        let orders = 1 + tables_by_region(config, service);
        (of_service.clone().count() > 1 && is_mixed).then(|| orders * u64::from(mixed_slots(of_service)))
    })
}

/// How many regions' clients may have another table of a service than those of none.
pub(super) fn tables_by_region(config: &Config, service: &Service) -> u64 {
    let regions = match service.steering_policy {
        SteeringPolicy::Geo => service.region_pools.len(),
        SteeringPolicy::Proximity => config.regions.iter().filter(|region| region.location.is_some()).count(),
        SteeringPolicy::Failover | SteeringPolicy::Random | SteeringPolicy::DynamicLatency => 0,
    };
    regions as u64
}
