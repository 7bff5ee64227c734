//! Which services a pool's verdicts reach: found once after a pass, for the verdicts until the next one.

use std::collections::{BTreeMap, BTreeSet};

use lbx_common::abi::Target;

use super::services::{listener_ids, listeners_of};
use crate::{
    config::model::{Model, Service},
    dataplane::Image,
};

/// By the names of pools, the services that may send to them, with their listeners.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Places of services in the model.
    of_pools: BTreeMap<String, Vec<usize>>,
    /// Of each service, the ids of its listeners.
    listeners: Vec<Vec<u32>>,
    /// Of listeners, the regions that they tell apart, with what they are to each.
    regional: BTreeMap<u32, Vec<(u32, u32)>>,
    /// Targets of listeners, and of these.
    targets: BTreeMap<u32, Target>,
}

impl Reach {
    /// As an image has it.
    pub fn new(model: &Model, image: &Image) -> Self {
        let mut of_pools: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, service) in model.services.iter().enumerate() {
            for pool in service.steering.all().filter_map(|pool| model.pools.get(pool)) {
                of_pools.entry(pool.name.clone()).or_default().push(place);
            }
        }
        let ids = listener_ids(image);
        let listeners = model.services.iter().map(|service| listeners_of(service, image, &ids).collect());
        let targets = image.tracked_values().map(|value| (value.id, value.target)).collect();
        let mut regional: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
        for (listener, region, value) in image.regional_values() {
            regional.entry(listener).or_default().push((region, value.id));
        }
        Self { of_pools, listeners: listeners.collect(), regional, targets }
    }

    /// The services that may send to some of these pools, each once, with the ids of their listeners.
    pub fn services<'a>(
        &'a self,
        model: &'a Model,
        pools: &BTreeSet<String>,
    ) -> impl Iterator<Item = (&'a Service, &'a [u32])> {
        let of_pools = pools.iter().filter_map(|pool| self.of_pools.get(pool));
        let places: BTreeSet<usize> = of_pools.flatten().copied().collect();
        places.into_iter().filter_map(|place| {
            Some((model.services.get(place)?, self.listeners.get(place).map(Vec::as_slice)?))
        })
    }

    /// All services with the ids of their listeners.
    pub fn of_services<'m>(&self, model: &'m Model) -> impl Iterator<Item = (&'m Service, &[u32])> {
        model.services.iter().zip(self.listeners.iter().map(Vec::as_slice))
    }

    /// What the first of some listeners is looked up in, by clients of each region; 0 stands for all others.
    pub fn targets(&self, listeners: &[u32]) -> Vec<(u32, Target)> {
        let target = |id| self.targets.get(id).copied();
        let Some((id, own)) = listeners.iter().find_map(|id| Some((id, target(id)?))) else {
            return Vec::new();
        };
        let regional = self.regional.get(id).into_iter().flatten();
        let of_regions = regional.filter_map(|(region, id)| Some((*region, target(id)?)));
        std::iter::once((0, own)).chain(of_regions).collect()
    }

    /// The indices in `TRACKING` of some listeners, and of what they are to clients of regions.
    pub fn tracked<'a>(&'a self, listeners: &'a [u32]) -> impl Iterator<Item = u32> + use<'a> {
        let regional = listeners.iter().filter_map(|id| self.regional.get(id)).flatten();
        listeners.iter().copied().chain(regional.map(|&(_, id)| id))
    }
}
