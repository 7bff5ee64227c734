//! What becomes an event: each look compares what is there with what was there at the last one. What is there when the
//! agent starts is no event, and neither is an object that is new.

use std::collections::{BTreeMap, BTreeSet};

use lbx_common::{
    api::{AttachMode, ChangeState, Happening, LinkState, PoolCondition, Revision},
    pins::NANOSECONDS,
};

use super::{Reconciler, drains::Draining, findings::Name, now_ns};
use crate::{config::model::Service, plan};

/// What was there at the last look.
#[derive(Default)]
pub struct Told {
    /// By name.
    pools: BTreeMap<String, PoolCondition>,
    /// Names of the pools that serve each service that has a choice, and clients of each region that it tells apart.
    served: BTreeMap<(String, Option<String>), Vec<String>>,
    /// By the endpoint's id.
    pub(super) drains: BTreeMap<u16, Draining>,
    /// When the change of each service's table that is under way began.
    changes: BTreeMap<String, u64>,
    interfaces: BTreeMap<String, (LinkState, Option<AttachMode>)>,
    /// The configuration then; `None` before the first look.
    revision: Option<Revision>,
}

impl Reconciler {
    /// Looks at all that a pass may have changed. `ids` are those of endpoints before it.
    pub(super) fn tell_of_pass(&mut self, ids: &BTreeMap<Name, u16>) {
        let first = self.told.revision.is_none();
        let other_configuration = self.told.revision.replace(self.revision) != Some(self.revision);
        if other_configuration {
            let names: BTreeSet<&str> = self.model.pools.iter().map(|pool| pool.name.as_str()).collect();
            self.told.pools.retain(|name, _| names.contains(name.as_str()));
            self.tell_pools(0..self.model.pools.len());
        }
        self.tell_who_serves(other_configuration);
        self.tell_drains(ids, first);
        self.tell_table_changes(first);
    }

    /// Looks at pools after verdicts on their endpoints.
    pub(super) fn tell_verdicts(&mut self, pools: &BTreeSet<String>) {
        let index = |name: &String| self.model.pools.iter().position(|pool| pool.name == *name);
        let indices: Vec<usize> = pools.iter().filter_map(index).collect();
        self.tell_pools(indices.into_iter());
    }

    fn tell_pools(&mut self, indices: impl Iterator<Item = usize>) {
        let pools = plan::pools_named(&self.model, self.known(), &self.image);
        let each = indices.filter_map(|index| {
            let pool = self.model.pools.get(index)?;
            Some((pool.name.clone(), self.pool_condition(pool, pools.panics(index))))
        });
        let conditions: Vec<(String, PoolCondition)> = each.collect();
        drop(pools);
        for (pool, now) in conditions {
            let before = self.told.pools.insert(pool.clone(), now.clone());
            if let Some(before) = before
                && (before.to, before.panic) != (now.to, now.panic)
            {
                self.events.record(Happening::PoolState { pool, from: before.to, now });
            }
        }
    }

    /// Looks which pools serve the services that have a choice.
    fn tell_who_serves(&mut self, other_configuration: bool) {
        let has_choice = |service: &&Service| service.steering.all().nth(1).is_some();
        let pools = plan::pools_named(&self.model, self.known(), &self.image);
        let mut now = BTreeMap::new();
        let regions = |service: &'_ Service| {
            let named = service.steering.regions.iter().map(|(&id, region)| (id, Some(region.name.clone())));
            std::iter::once((0, None)).chain(named.collect::<Vec<_>>())
        };
        let all = self.model.services.iter().filter(has_choice);
        for (service, (id, region)) in all.flat_map(|one| regions(one).map(move |region| (one, region))) {
            let serving = pools.serving_in(service, id);
            let to = serving.names(&self.model);
            let key = (service.name.clone(), region.clone());
            if let Some(from) = self.told.served.get(&key)
                && *from != to
            {
                let fallback = serving.is_last_resort(service);
                let mut cause = self.why_others_serve(service, from, &to, fallback);
                if other_configuration {
                    cause = format!("configuration revision {}: {cause}", self.revision);
                }
                self.events.record(Happening::ServicePools {
                    service: service.name.clone(),
                    region,
                    from: from.clone(),
                    to: to.clone(),
                    fallback,
                    cause,
                });
            }
            now.insert(key, to);
        }
        drop(pools);
        self.told.served = now;
    }

    fn why_others_serve(
        &self,
        service: &Service,
        from: &[String],
        to: &[String],
        is_last_resort: bool,
    ) -> String {
        let condition = |name: &str| self.told.pools.get(name);
        if is_last_resort {
            let own = self.model.pool_names(service.steering.pools.iter().copied());
            let each = own.iter().filter_map(|name| Some(format!("{name}: {}", condition(name)?)));
            return format!("no pool is up ({})", each.collect::<Vec<_>>().join("; "));
        }
        let own = self.model.pool_names(service.steering.all());
        let mut gone = from.iter().filter(|name| !to.contains(name));
        if gone.clone().any(|name| !own.contains(name)) {
            return "it has other pools".to_owned();
        }
        let down = gone.find_map(|name| Some((name, condition(name).filter(|now| !now.up)?)));
        if down.is_none()
            && service.steering.by_latency
            && let (Some(left), Some(right)) = (self.latency_of(to), self.latency_of(from))
        {
            return format!("{left}, {right}");
        }
        let mut come = to.iter().filter(|name| !from.contains(name));
        let mut up = || come.find_map(|name| Some((name, condition(name).filter(|now| now.up)?)));
        match (down, up()) {
            (Some((name, now)), _) => format!("pool {name} is down: {now}"),
            (None, Some((name, now))) => format!("pool {name} is up: {now}"),
            (None, None) => "its pools take other shares".to_owned(),
        }
    }

    /// How soon the first of some pools answers probes.
    fn latency_of(&self, pools: &[String]) -> Option<String> {
        let pool = self.model.pools.iter().find(|pool| Some(&pool.name) == pools.first())?;
        let millis = self.latency_us(pool)? / 1e3;
        Some(format!("pool {} answers probes in {millis:.1} ms", pool.name))
    }

    /// Looks which tables are being changed.
    fn tell_table_changes(&mut self, first: bool) {
        let under_way = self.table_changes(&self.image);
        let now_ns = now_ns();
        let mut now = BTreeMap::new();
        for (service, state, entry) in under_way {
            let service = service.name.clone();
            let is_known = first || self.told.changes.get(&service) == Some(&entry.opened_ns);
            if state == ChangeState::Open && !is_known {
                let closes_in_secs = entry.deadline_ns.saturating_sub(now_ns).div_ceil(NANOSECONDS);
                let service = service.clone();
                self.events.record(Happening::TableChangeBegun { service, closes_in_secs });
            }
            now.insert(service, entry.opened_ns);
        }
        for service in self.told.changes.keys().filter(|service| !now.contains_key(*service)) {
            self.events.record(Happening::TableChangeEnded { service: service.clone() });
        }
        self.told.changes = now;
    }

    /// Looks at the configured interfaces.
    pub(super) async fn tell_interfaces(&mut self) {
        let mut now = BTreeMap::new();
        for interface in &self.model.interfaces {
            let (to, mode) = self.kernel.link(&interface.name).await;
            let before = self.told.interfaces.get(&interface.name);
            if let Some(&(from, _)) = before.filter(|before| **before != (to, mode)) {
                let (interface, role) = (interface.name.clone(), interface.role);
                self.events.record(Happening::InterfaceState { interface, role, from, to, mode });
            }
            now.insert(interface.name.clone(), (to, mode));
        }
        self.told.interfaces = now;
    }
}
