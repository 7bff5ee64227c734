//! Rules for `regions` and places on Earth, and what clients of each region have of a service's pools.

use std::{cmp::Ordering, collections::BTreeMap};

use lbx_common::{
    abi::region_id,
    api::{Config, Location, Service, SteeringPolicy},
};

use super::{Report, Seen};
use crate::config::{
    model::RegionPools,
    names::{self, Index},
};

pub(super) fn check(config: &Config, report: &mut Report) {
    report.names("regions", "region", config.regions.iter().map(|region| region.name.as_str()));
    let mut seen = Seen::default();
    for (index, region) in config.regions.iter().enumerate() {
        let here = format!("regions[{index}]");
        let id = region_id(region.name.as_bytes());
        if let Some(other) = seen.before(id, region.name.as_str()).filter(|other| **other != region.name) {
            let message = format!(
                "`{}` and `{other}` cannot be told apart, their numbers are the same: rename one",
                region.name
            );
            report.note(format!("{here}.name"), message);
        }
        location(region.location, &here, report);
    }
    for (index, pool) in config.pools.iter().enumerate() {
        location(pool.location, &format!("pools[{index}]"), report);
    }
    location(config.node.location, "node", report);
    if let Some(file) = &config.node.regions_file
        && !file.starts_with('/')
    {
        let message = format!("`{file}` is not the whole path: begin it with `/`");
        report.note("node.regions_file", message);
    }
}

fn location(location: Option<Location>, path: &str, report: &mut Report) {
    let Some(Location { latitude, longitude }) = location else { return };
    for (field, degrees, most) in [("latitude", latitude, 90.0), ("longitude", longitude, 180.0)] {
        if !(-most..=most).contains(&degrees) {
            let message = format!("found {degrees}, expected -{most} to {most}: degrees");
            report.note(format!("{path}.location.{field}"), message);
        }
    }
}

/// The pools of a service whose order is the region's, and how to find them.
pub(super) struct Orders<'a> {
    config: &'a Config,
    pools: Index<'a>,
    regions: Index<'a>,
}

impl<'a> Orders<'a> {
    /// Of services of a configuration.
    pub(super) fn new(config: &'a Config) -> Self {
        Self {
            config,
            pools: Index::new(config.pools.iter().map(|pool| pool.name.as_str())),
            regions: Index::new(config.regions.iter().map(|region| region.name.as_str())),
        }
    }

    /// The pools.
    pub(super) const fn pools(&self) -> &Index<'a> {
        &self.pools
    }

    /// What clients of regions have, by the region's id; and the order for all others, where it is not as written.
    pub(super) fn check(
        &self,
        service: &Service,
        path: &str,
        found: &mut [usize],
        report: &mut Report,
    ) -> BTreeMap<u32, RegionPools> {
        let policy = service.steering_policy;
        if policy != SteeringPolicy::Geo && !service.region_pools.is_empty() {
            let message = format!(
                "pools of regions are for `steering_policy: geo`, and this service has `{}`: write that, or leave \
                 this out",
                policy.as_str()
            );
            report.note(format!("{path}.region_pools"), message);
        }
        if policy.is_by_region() && self.config.node.regions_file.is_none() {
            let message = format!(
                "`{}` must know which clients are in which region: name the file that says it in node.regions_file",
                policy.as_str()
            );
            report.note(format!("{path}.steering_policy"), message);
        }
        match policy {
            SteeringPolicy::Geo => self.geo(service, path, report),
            SteeringPolicy::Proximity => self.proximity(service, path, found, report),
            SteeringPolicy::Failover | SteeringPolicy::Random | SteeringPolicy::DynamicLatency => {
                BTreeMap::new()
            }
        }
    }

    fn geo(&self, service: &Service, path: &str, report: &mut Report) -> BTreeMap<u32, RegionPools> {
        if service.region_pools.is_empty() {
            let message = "the pools of no region are named: write `{REGION: [POOL, …]}`";
            report.note(format!("{path}.region_pools"), message);
        }
        let mut orders = BTreeMap::new();
        for (name, pools) in &service.region_pools {
            let here = format!("{path}.region_pools.{name}");
            report.take(|| here.clone(), self.regions.find("region", name));
            if pools.is_empty() {
                let message =
                    "the list is empty: name the pool that serves these clients, or leave the region out";
                report.note(here.clone(), message);
            }
            let mut seen = Seen::default();
            let mut found = Vec::with_capacity(pools.len());
            for (index, pool) in pools.iter().enumerate() {
                let at = || format!("{here}[{index}]");
                found.extend(report.take(at, self.pools.find("pool", pool)));
                if let Some(first) = seen.before(pool.as_str(), index) {
                    report.note(at(), format!("`{pool}` is {here}[{first}] already: name it once"));
                }
            }
            orders.insert(region_id(name.as_bytes()), RegionPools { name: name.clone(), pools: found });
        }
        orders
    }

    fn proximity(
        &self,
        service: &Service,
        path: &str,
        found: &mut [usize],
        report: &mut Report,
    ) -> BTreeMap<u32, RegionPools> {
        let place_of = |pool: usize| self.config.pools.get(pool).and_then(|pool| pool.location);
        let lost: Vec<&str> = service
            .pools
            .iter()
            .map(String::as_str)
            .filter(|name| self.pools.find("pool", name).is_ok_and(|pool| place_of(pool).is_none()))
            .collect();
        if !lost.is_empty() {
            let message = format!(
                "nobody knows how far they are: give {} a `location: {{latitude: …, longitude: …}}`",
                names::list(&lost)
            );
            report.note(format!("{path}.pools"), message);
        }
        let mut orders = BTreeMap::new();
        for region in &self.config.regions {
            let Some(location) = region.location else { continue };
            let mut pools = found.to_vec();
            by_distance(&mut pools, location, place_of);
            orders
                .insert(region_id(region.name.as_bytes()), RegionPools { name: region.name.clone(), pools });
        }
        if orders.is_empty() {
            let message = "no region has a place to be near to: give those in `regions` a `location`";
            report.note(format!("{path}.steering_policy"), message);
        }
        if let Some(location) = self.config.node.location {
            by_distance(found, location, place_of);
        }
        orders
    }
}

/// The nearest first; of pools at one place, as they were.
fn by_distance(pools: &mut [usize], from: Location, place_of: impl Fn(usize) -> Option<Location>) {
    let distance = |pool: usize| place_of(pool).map_or(f64::INFINITY, |place| from.distance_km(place));
    pools.sort_by(|&one, &other| distance(one).partial_cmp(&distance(other)).unwrap_or(Ordering::Equal));
}
