//! Rules for `pools` and their `endpoints`.

use std::{collections::HashSet, sync::Arc};

use lbx_common::{
    abi::TABLE_SIZES,
    api::{Config, Endpoint, Monitor, MonitorKind, Pool},
};

use crate::config::{model, names::Index};

use super::{Report, Seen, unicast};

/// Slots that a table has for each endpoint unless configured: keeps shares within 1 % of the weights.
const SLOTS_PER_ENDPOINT: usize = 100;

pub(super) fn check(config: &Config, monitors: &[Arc<Monitor>], report: &mut Report) -> Vec<model::Pool> {
    let pools = &config.pools;
    report.names("pools", "pool", pools.iter().map(|pool| pool.name.as_str()));
    let context = Context {
        config,
        monitors,
        monitor_names: Index::new(config.monitors.iter().map(|monitor| monitor.name.as_str())),
        vnet_names: Index::new(config.virtual_networks.iter().map(|network| network.name.as_str())),
        used: config.services.iter().flat_map(|service| &service.pools).map(String::as_str).collect(),
    };
    let each = pools.iter().enumerate();
    each.map(|(index, pool)| context.pool(pool, &format!("pools[{index}]"), report)).collect()
}

/// Slots of the pool's table: as configured, else the smallest size with 100 for each endpoint.
pub(super) fn table_size(pool: &Pool) -> u32 {
    let wanted = pool.endpoints.len().saturating_mul(SLOTS_PER_ENDPOINT);
    let fitting = || TABLE_SIZES.into_iter().find(|&size| size as usize >= wanted);
    let largest = || TABLE_SIZES.into_iter().max();
    pool.table_size.or_else(fitting).or_else(largest).unwrap_or_default()
}

/// What a pool is checked against.
struct Context<'a> {
    config: &'a Config,
    monitors: &'a [Arc<Monitor>],
    monitor_names: Index<'a>,
    vnet_names: Index<'a>,
    /// Pools that a service sends to.
    used: HashSet<&'a str>,
}

impl Context<'_> {
    fn pool(&self, pool: &Pool, path: &str, report: &mut Report) -> model::Pool {
        let monitor = pool.monitor.as_deref().and_then(|name| {
            let index =
                report.take(|| format!("{path}.monitor"), self.monitor_names.find("monitor", name))?;
            self.monitors.get(index).cloned()
        });
        check_table_size(pool, path, report);
        let all = &pool.endpoints;
        report.names(&format!("{path}.endpoints"), "endpoint of a pool", all.iter().map(|e| e.name.as_str()));
        let mut origins = Seen::default();
        let mut endpoints = Vec::with_capacity(all.len());
        for (index, endpoint) in all.iter().enumerate() {
            let here = format!("{path}.endpoints[{index}]");
            endpoints.extend(self.endpoint(pool, endpoint, monitor.as_deref(), &here, report));
            let key = (endpoint.virtual_network.as_str(), endpoint.address, endpoint.port);
            if let Some(first) = origins.before(key, &here) {
                let message = format!(
                    "the virtual network, address and port are those of {first}: keep one, with both weights"
                );
                report.note(here, message);
            }
        }
        model::Pool { name: pool.name.clone(), monitor, table_size: table_size(pool), endpoints }
    }

    fn endpoint(
        &self,
        pool: &Pool,
        endpoint: &Endpoint,
        monitor: Option<&Monitor>,
        path: &str,
        report: &mut Report,
    ) -> Option<model::Endpoint> {
        let at = |field: &str| format!("{path}.{field}");
        report.take(|| at("address"), unicast(endpoint.address));
        if endpoint.port == Some(0) {
            report
                .note(at("port"), "0 is not a port: write 1 to 65535, or leave it out to keep the client's");
        }
        if let Some(Monitor { name, kind: MonitorKind::Tcp, .. }) = monitor
            && endpoint.enabled
            && endpoint.port.is_none()
        {
            let message = format!("missing: monitor `{name}` connects by TCP and must know where to");
            report.note(at("port"), message);
        }
        let weight = report.take(|| at("weight"), hundredths(endpoint.weight));
        let found = self.vnet_names.find("virtual network", &endpoint.virtual_network);
        let vnet = report.take(|| at("virtual_network"), found)?;
        let network = self.config.virtual_networks.get(vnet)?;
        if network.tunnels.is_empty() && self.used.contains(pool.name.as_str()) {
            let message = format!(
                "`{}` has no tunnel, so the services of pool `{}` cannot reach this endpoint: give \
                 virtual_networks[{vnet}] one",
                network.name, pool.name,
            );
            report.note(at("virtual_network"), message);
        }
        if network.probe_source.ipv4 == Some(endpoint.address) {
            let message =
                format!("{} is the probe_source of `{}`: they must differ", endpoint.address, network.name);
            report.note(at("address"), message);
        }
        Some(model::Endpoint {
            name: endpoint.name.clone(),
            vnet,
            address: endpoint.address,
            port: endpoint.port,
            weight: weight?,
            enabled: endpoint.enabled,
        })
    }
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

/// The weight in hundredths.
fn hundredths(weight: f64) -> Result<u8, String> {
    // A step of 0.01 has no exact binary form; 1e-9 is far below any other step that a user could mean.
    let nearest = (0..=100u8).find(|&step| (f64::from(step) / 100.0 - weight).abs() < 1e-9);
    nearest.ok_or_else(|| format!("found {weight}, expected 0 to 1 in steps of 0.01, as 0.25"))
}
