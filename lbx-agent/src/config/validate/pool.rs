//! Rules for `pools`.

use std::collections::HashMap;

use lbx_common::{
    abi::TABLE_SIZES,
    api::{Config, EndpointSteering, Forwarding, GroupMonitor, Pool, Service},
};

use crate::config::model::{self, Check, Voice};

use super::{Report, Seen, endpoint, monitor::Monitors, steering};

/// Slots that a table has for each endpoint unless configured: keeps shares within 1 % of the weights.
const SLOTS_PER_ENDPOINT: usize = 100;

pub(super) fn check(config: &Config, monitors: &Monitors<'_>, report: &mut Report) -> Vec<model::Pool> {
    let pools = &config.pools;
    report.names("pools", "pool", pools.iter().map(|pool| pool.name.as_str()));
    let users = Users::of_all(config);
    let endpoints = endpoint::Checker::new(config);
    let each = pools.iter().enumerate();
    each.map(|(index, pool)| {
        let path = format!("pools[{index}]");
        let users = users.get(pool.name.as_str()).copied().unwrap_or_default();
        check_pool(pool, &path, users, &endpoints, monitors, report)
    })
    .collect()
}

/// Slots of the pool's table: as configured, else the smallest size with 100 for each endpoint.
pub(super) fn table_size(pool: &Pool) -> u32 {
    pool.table_size.unwrap_or_else(|| slots_for(pool.endpoints.len()))
}

/// The smallest size with 100 slots for each of so many endpoints, else the largest.
pub(super) fn slots_for(endpoints: usize) -> u32 {
    let wanted = endpoints.saturating_mul(SLOTS_PER_ENDPOINT);
    let fitting = TABLE_SIZES.into_iter().find(|&size| size as usize >= wanted);
    fitting.or_else(|| TABLE_SIZES.into_iter().max()).unwrap_or_default()
}

/// The first service of each kind that sends to a pool.
#[derive(Clone, Copy, Default)]
pub(super) struct Users<'a> {
    pub(super) nat: Option<&'a Service>,
    pub(super) dsr: Option<&'a Service>,
}

impl<'a> Users<'a> {
    fn of_all(config: &'a Config) -> HashMap<&'a str, Self> {
        let mut all: HashMap<&str, Self> = HashMap::new();
        for service in &config.services {
            for pool in steering::all_pools(service) {
                let users = all.entry(pool).or_default();
                match service.forwarding {
                    Forwarding::Nat => users.nat.get_or_insert(service),
                    Forwarding::Dsr => users.dsr.get_or_insert(service),
                };
            }
        }
        all
    }

    pub(super) fn any(self) -> bool {
        self.nat.or(self.dsr).is_some()
    }
}

fn check_pool(
    pool: &Pool,
    path: &str,
    users: Users<'_>,
    checker: &endpoint::Checker<'_>,
    monitors: &Monitors<'_>,
    report: &mut Report,
) -> model::Pool {
    let checks = checks(pool, path, monitors, report);
    if let (Some(Check { monitor, .. }), Users { nat: Some(nat), dsr: Some(dsr) }) = (checks.first(), users) {
        let message = format!(
            "monitor `{}` would check the endpoints' addresses for service `{}`, which forwards by nat, and {} for \
             service `{}`, which forwards by dsr: give each of the two a pool of its own",
            monitor.name, nat.name, dsr.address, dsr.name,
        );
        report.note(format!("{path}.monitor"), message);
    }
    check_table_size(pool, path, report);
    if pool.minimum_endpoints == 0 {
        let message =
            "found 0, expected 1 or more: so many of its endpoints must take flows for the pool to be up";
        report.note(format!("{path}.minimum_endpoints"), message);
    }
    for (field, percent, of) in [
        ("load_shedding", pool.load_shedding, "percent of the new flows"),
        ("panic_threshold", pool.panic_threshold, "percent of the endpoints"),
    ] {
        if percent > 100 {
            report.note(format!("{path}.{field}"), format!("found {percent}, expected 0 to 100: {of}"));
        }
    }
    if pool.panic_threshold > 0 && pool.monitors().next().is_none() {
        let message = "nothing can fail without a monitor: name one in `monitor`, or leave this out";
        report.note(format!("{path}.panic_threshold"), message);
    }
    let all = &pool.endpoints;
    report.names(&format!("{path}.endpoints"), "endpoint of a pool", all.iter().map(|e| e.name.as_str()));
    let mut origins = Seen::default();
    let mut endpoints = Vec::with_capacity(all.len());
    let of_pool = endpoint::OfPool { pool, users, checks: &checks };
    for (index, endpoint) in all.iter().enumerate() {
        let here = format!("{path}.endpoints[{index}]");
        endpoints.extend(checker.check(endpoint, &of_pool, &here, report));
        let key = (endpoint.virtual_network.as_str(), endpoint.address, endpoint.port);
        if let Some(first) = origins.before(key, index) {
            let message = format!(
                "the virtual network, address and port are those of {path}.endpoints[{first}]: keep one, with both weights"
            );
            report.note(here, message);
        }
    }
    model::Pool {
        name: pool.name.clone(),
        checks,
        minimum_endpoints: pool.minimum_endpoints,
        load_shedding: pool.load_shedding,
        panic_threshold: pool.panic_threshold,
        least_connections: pool.endpoint_steering == EndpointSteering::LeastConnections,
        table_size: table_size(pool),
        endpoints,
    }
}

/// The monitors of a pool, and what each counts.
fn checks(pool: &Pool, path: &str, monitors: &Monitors<'_>, report: &mut Report) -> Vec<Check> {
    if pool.monitor.is_some() && !pool.monitor_group.is_empty() {
        let message = "the pool has a `monitor` as well: put it into the group, or leave one of the two out";
        report.note(format!("{path}.monitor_group"), message);
    }
    if let Some(name) = &pool.monitor {
        let monitor = monitors.find(name, || format!("{path}.monitor"), report);
        return monitor.into_iter().map(|monitor| Check { monitor, voice: None }).collect();
    }
    let mut seen = Seen::default();
    let mut checks = Vec::with_capacity(pool.monitor_group.len());
    for (index, one) in pool.monitor_group.iter().enumerate() {
        let here = format!("{path}.monitor_group[{index}]");
        let monitor = monitors.find(&one.monitor, || format!("{here}.monitor"), report);
        if let Some(first) = seen.before(one.monitor.as_str(), index) {
            let message =
                format!("`{}` is in {path}.monitor_group[{first}] already: name it once", one.monitor);
            report.note(format!("{here}.monitor"), message);
        }
        if one.must_be_healthy && one.monitoring_only {
            let message =
                "one that counts for nothing cannot be one that must be healthy: leave one of the two out";
            report.note(format!("{here}.monitoring_only"), message);
        }
        let voice = match one {
            GroupMonitor { monitoring_only: true, .. } => Voice::Watches,
            GroupMonitor { must_be_healthy: true, .. } => Voice::Must,
            GroupMonitor { .. } => Voice::One,
        };
        checks.extend(monitor.map(|monitor| Check { monitor, voice: Some(voice) }));
    }
    if !pool.monitor_group.is_empty() && pool.monitor_group.iter().all(|one| one.monitoring_only) {
        let message = "all of them are `monitoring_only`, so nothing could fail: let one count";
        report.note(format!("{path}.monitor_group"), message);
    }
    checks
}

fn check_table_size(pool: &Pool, path: &str, report: &mut Report) {
    let size = table_size(pool);
    let path = format!("{path}.table_size");
    if !TABLE_SIZES.contains(&size) {
        let sizes = TABLE_SIZES.map(|size| size.to_string()).join(", ");
        report.note(path, format!("{size} is not the size of a table: write one of {sizes}"));
        return;
    }
    let weighted = pool.endpoints.iter().filter(|endpoint| endpoint.weight > 0.0).count();
    if weighted > size as usize {
        let message =
            format!("{size} slots are too few for {weighted} endpoints: write more, or leave it out");
        report.note(path, message);
    }
}
