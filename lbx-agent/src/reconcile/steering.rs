//! Steering by what is measured: looks at live flows and round trips from time to time, and says what tables are to be.
//!
//! Decides nothing itself: [`crate::steer`] does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{Reconciler, findings::Name};
use crate::{
    config::model::{Model, Pool, Service},
    metrics::own::count_steering,
    plan::{self, share_of},
    steer::{
        connections::{self, Load},
        latency,
    },
};

/// What was counted since the last decision.
#[derive(Debug, Default)]
pub struct Measured {
    /// When live flows were looked at last; `None` = they were not yet.
    counted: Option<Instant>,
    /// Live flows then, by the endpoint's id.
    before: BTreeMap<u16, u32>,
    /// Flows that began since.
    arrived: BTreeMap<u16, u32>,
    /// Sums of live flows over all looks since, and how many looks that were.
    live: (BTreeMap<u16, f64>, u32),
    /// When to look at round trips.
    next_look: Option<Instant>,
}

impl Measured {
    /// When to look at round trips; `None` = nobody goes by them.
    pub const fn next_look(&self) -> Option<Instant> {
        self.next_look
    }
}

fn by_connections(model: &Model) -> impl Iterator<Item = &Pool> {
    model.pools.iter().filter(|pool| pool.least_connections)
}

fn by_latency(model: &Model) -> impl Iterator<Item = &Service> {
    model.services.iter().filter(|service| service.steering.by_latency)
}

impl Reconciler {
    /// What is known by names.
    pub(super) fn known(&self) -> plan::Known<'_> {
        plan::Known { ids: &self.ids, orders: &self.steered.orders }
    }

    /// Measures what the configuration goes by.
    pub(super) fn measure(&mut self) {
        let counts = by_connections(&self.model).next().is_some();
        self.sweeper.count_arrivals(counts);
        if !counts {
            self.measured = Measured { next_look: self.measured.next_look, ..Measured::default() };
        }
        let interval = self.model.timers.steering;
        let next = || Some(Instant::now() + interval);
        self.measured.next_look = match self.measured.next_look {
            _ if by_latency(&self.model).next().is_none() => None,
            Some(known) => next().map(|next| known.min(next)),
            None => next(),
        };
        let names: BTreeSet<&str> = by_latency(&self.model).map(|service| service.name.as_str()).collect();
        self.steered.orders.retain(|name, _| names.contains(name.as_str()));
    }

    /// Begins where the maps are: the pool that has a service's flows goes first until round trips say otherwise.
    pub(super) fn adopt_orders(&mut self) {
        if by_latency(&self.model).next().is_none() {
            return;
        }
        let ids = plan::endpoint_ids(&self.model, &self.image);
        let reach = plan::Reach::new(&self.model, &self.image);
        for (service, listeners) in reach.of_services(&self.model).filter(|(one, _)| one.steering.by_latency)
        {
            let targets = reach.targets(listeners);
            let table = targets.first().and_then(|(_, target)| self.image.tables.get(&target.line()));
            let Some(&owner) = table.and_then(|table| table.first()) else { continue };
            let names = self.model.pool_names(service.steering.pools.iter().copied());
            let owns = |pool: &String| ids.iter().any(|((of, _), &id)| id == owner && of == pool);
            let (mut order, others): (Vec<_>, Vec<_>) = names.into_iter().partition(owns);
            order.extend(others);
            self.steered.orders.insert(service.name.clone(), order);
        }
    }

    /// Looks at the pins that a round found, when it is time. Returns whether endpoints are to have other shares.
    pub(super) fn look_at_connections(&mut self) -> bool {
        if by_connections(&self.model).next().is_none() {
            return false;
        }
        for (&id, &count) in &self.sweeper.found.arrived {
            *self.measured.arrived.entry(id).or_default() += count;
        }
        for (&id, &count) in &self.sweeper.found.live {
            *self.measured.live.0.entry(id).or_default() += f64::from(count);
        }
        self.measured.live.1 += 1;
        let now = Instant::now();
        let due = self.measured.counted.map(|counted| counted + self.model.timers.steering);
        if due.is_some_and(|due| due > now) {
            return false;
        }
        let is_first = due.is_none();
        let last = Measured {
            counted: Some(now),
            before: self.sweeper.found.live.clone(),
            next_look: self.measured.next_look,
            ..Measured::default()
        };
        let window = std::mem::replace(&mut self.measured, last);
        if is_first {
            return false;
        }
        let decided: Vec<(Name, u8)> =
            by_connections(&self.model).flat_map(|pool| self.shares_in(pool, &window)).collect();
        let changed = !decided.is_empty();
        self.steered.shares.extend(decided);
        changed
    }

    /// The shares of a pool's endpoints, where they are to be others.
    fn shares_in(&self, pool: &Pool, window: &Measured) -> Vec<(Name, u8)> {
        let mut names = Vec::new();
        let mut loads = Vec::new();
        for endpoint in pool.endpoints.iter().filter(|endpoint| endpoint.weight > 0) {
            let name = (pool.name.clone(), endpoint.name.clone());
            let Some(id) = self.ids.get(&name) else { continue };
            let Some(entry) = self.image.endpoints.get(id).filter(|entry| plan::takes_new(entry)) else {
                continue;
            };
            let count = |counts: &BTreeMap<u16, u32>| counts.get(id).copied().unwrap_or_default();
            loads.push(Load {
                weight: endpoint.weight,
                share: share_of(entry),
                before: count(&window.before),
                arrived: count(&window.arrived),
                live: count(&self.sweeper.found.live),
                mean: window.live.0.get(id).copied().unwrap_or_default() / f64::from(window.live.1.max(1)),
            });
            names.push(name);
        }
        let Some(shares) = connections::shares(&loads) else { return Vec::new() };
        tracing::debug!(pool = pool.name, ?loads, ?shares, "least connections");
        count_steering("least_connections");
        names.into_iter().zip(shares).collect()
    }

    /// Looks at the round trips of probes. Returns whether the pools of a service have another order now.
    pub(super) fn look_at_latencies(&mut self) -> bool {
        self.measured.next_look = Some(Instant::now() + self.model.timers.steering);
        let mut changed = false;
        // Many services may have the same pools.
        let mut measured: BTreeMap<usize, Option<f64>> = BTreeMap::new();
        for service in by_latency(&self.model) {
            let pools = plan::pools_named(&self.model, self.known(), &self.image).in_order(service, 0);
            for (&index, pool) in
                pools.iter().filter_map(|index| Some((index, self.model.pools.get(*index)?)))
            {
                measured.entry(index).or_insert_with(|| self.latency_us(pool));
            }
            let order = latency::order(&pools, |pool| measured.get(&pool).copied().flatten());
            if order == pools {
                continue;
            }
            let [before, order] = [pools, order].map(|pools| self.model.pool_names(pools));
            tracing::info!(service = service.name, ?order, ?before, "pools by latency");
            count_steering("dynamic_latency");
            self.steered.orders.insert(service.name.clone(), order);
            changed = true;
        }
        changed
    }

    /// Mean of the round trips to a pool's endpoints that take flows, in microseconds.
    pub(super) fn latency_us(&self, pool: &Pool) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for endpoint in &pool.endpoints {
            let name = (pool.name.clone(), endpoint.name.clone());
            let takes_new =
                self.ids.get(&name).and_then(|id| self.image.endpoints.get(id)).is_some_and(plan::takes_new);
            if let Some(latency_us) = self.endpoints.seen.get(&name).and_then(|seen| seen.latency_us)
                && takes_new
            {
                sum += latency_us;
                count += 1.0;
            }
        }
        (count > 0.0).then(|| sum / count)
    }
}
