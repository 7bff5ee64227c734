//! Which pools serve a service now, and the table that says so.
//!
//! A pool is up while enough of its endpoints take new flows, by what the kernel is told of each. One with endpoints
//! that have not been probed yet is not passed over before it has had its chance.
//!
//! Where several pools share a service, each slot of the table has a pool: by weight, and what a pool sheds or cannot
//! take goes on to another. In the slot stands what the pool's own table of that size has there. So a pool that goes
//! down moves its own slots and no other.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lbx_common::{
    abi::{ENDPOINT_CLOSED, ENDPOINT_FORCED, ENDPOINT_HEALTHY, ENDPOINT_UNHEALTHY, EndpointEntry},
    hash::mix,
    select::sequence,
};

use super::{
    endpoints::{Places, health_of, share_of, with_health},
    maglev::{self, Member},
    tables::{Built, Table, every_slot_has_an_owner, members, takes_new, usable_table},
};
use crate::{
    config::model::{Endpoint, Model, Pool, Service},
    dataplane::Image,
    steer::connections::WHOLE,
};

/// Where the flows of a service go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Serving {
    /// All to one pool.
    One(usize),
    /// Some to each of several.
    Mixed {
        /// The pools in the order of the service, with their weights in hundredths.
        pools: Vec<(usize, u8)>,
        /// Those of them that are up.
        up: Vec<usize>,
        /// Slots of the table.
        slots: u32,
    },
}

impl Serving {
    /// The pools that get new flows.
    pub fn pools(&self) -> &[usize] {
        match self {
            Self::One(pool) => std::slice::from_ref(pool),
            Self::Mixed { up, .. } => up,
        }
    }

    /// Their names.
    pub fn names(&self, model: &Model) -> Vec<String> {
        model.pool_names(self.pools().iter().copied())
    }

    /// Whether none of a service's own pools gets its flows, but the one that it falls back to.
    pub fn is_last_resort(&self, service: &Service) -> bool {
        let listed = service.steering.listed();
        !self.pools().iter().any(|pool| listed.contains(pool))
    }
}

/// Orders of the pools of services that were found by measuring: see [`crate::steer::Steered`].
pub type Orders = BTreeMap<String, Vec<String>>;

/// The states of pools, and the ids of their endpoints.
pub struct Pools<'a, F> {
    model: &'a Model,
    orders: &'a Orders,
    endpoints: &'a BTreeMap<u16, EndpointEntry>,
    /// The id of the endpoint in a place of a pool.
    id: F,
    /// Of pools that were asked about: many services may have the same.
    known: RefCell<BTreeMap<usize, Ability>>,
}

/// What a pool can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ability {
    Up,
    /// It may be up as soon as its endpoints have been probed.
    Undecided,
    Down,
}

impl<'a, F: Fn(usize, usize, &Endpoint) -> Option<u16>> Pools<'a, F> {
    /// From the endpoints' entries.
    pub fn new(
        model: &'a Model,
        orders: &'a Orders,
        endpoints: &'a BTreeMap<u16, EndpointEntry>,
        id: F,
    ) -> Self {
        Self { model, orders, endpoints, id, known: RefCell::default() }
    }

    /// The pools of a service for a region's clients, the first choice first.
    pub fn in_order(&self, service: &Service, region: u32) -> Vec<usize> {
        let mut pools = service.steering.of_region(region).to_vec();
        if let Some(order) = self.orders.get(&service.name).filter(|_| service.steering.by_latency) {
            let place = |&pool: &usize| {
                let name = self.model.pools.get(pool).map(|pool| &pool.name);
                order.iter().position(|other| Some(other) == name)
            };
            // Those that came with a change of the configuration are last until they have been measured.
            pools.sort_by_key(|pool| place(pool).unwrap_or(usize::MAX));
        }
        pools
    }

    fn entries(&self, index: usize, pool: &'a Pool) -> impl Iterator<Item = &EndpointEntry> {
        let places = pool.endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.enabled);
        let ids = places.filter_map(move |(place, endpoint)| (self.id)(index, place, endpoint));
        ids.filter_map(|id| self.endpoints.get(&id))
    }

    /// Those of endpoints that are configured to take new flows.
    fn open(&self, index: usize, pool: &'a Pool) -> impl Iterator<Item = &EndpointEntry> {
        self.entries(index, pool).filter(|entry| entry.state & ENDPOINT_CLOSED == 0)
    }

    fn ability(&self, index: usize) -> Ability {
        *self.known.borrow_mut().entry(index).or_insert_with(|| self.find_ability(index))
    }

    fn find_ability(&self, index: usize) -> Ability {
        let Some(pool) = self.model.pools.get(index) else { return Ability::Down };
        if self.panics(index) {
            return Ability::Up;
        }
        let (mut healthy, mut unprobed) = (0, 0);
        for entry in self.open(index, pool) {
            healthy += u32::from(entry.state & ENDPOINT_HEALTHY != 0);
            unprobed += u32::from(is_unprobed(entry));
        }
        if healthy >= pool.minimum_endpoints {
            Ability::Up
        } else if healthy.saturating_add(unprobed) >= pool.minimum_endpoints {
            Ability::Undecided
        } else {
            Ability::Down
        }
    }

    /// Whether so many endpoints of a pool are unhealthy that its monitor is not believed.
    pub fn panics(&self, index: usize) -> bool {
        let Some(pool) = self.model.pools.get(index).filter(|pool| pool.panic_threshold > 0) else {
            return false;
        };
        let (mut all, mut unhealthy) = (0_u64, 0_u64);
        for entry in self.open(index, pool) {
            all += 1;
            unhealthy += u64::from(entry.state & ENDPOINT_UNHEALTHY != 0);
        }
        unhealthy * 100 > all * u64::from(pool.panic_threshold)
    }

    /// Pools whose health may be ignored at times.
    pub fn may_be_forced(&self) -> BTreeSet<usize> {
        let panic = self.model.pools.iter().enumerate().filter(|(_, pool)| pool.panic_threshold > 0);
        let last = self.model.services.iter().filter_map(|service| service.steering.fallback);
        panic.map(|(index, _)| index).chain(last).collect()
    }

    /// Where the flows of a service go, of clients in no region that it tells apart.
    pub fn serving(&self, service: &Service) -> Serving {
        self.serving_in(service, 0)
    }

    /// Where those of a region's clients go.
    pub fn serving_in(&self, service: &Service, region: u32) -> Serving {
        let steering = &service.steering;
        let order = self.in_order(service, region);
        let able: Vec<(usize, Ability)> = order.iter().map(|&pool| (pool, self.ability(pool))).collect();
        let possible: Vec<usize> =
            able.iter().filter(|(_, ability)| *ability != Ability::Down).map(|&(pool, _)| pool).collect();
        let Some(&first) = possible.first() else {
            // A few endpoints are better than none.
            let some = |pool: &usize| self.takes_any(*pool);
            let left = steering.fallback.or_else(|| order.iter().copied().find(some));
            return Serving::One(left.or_else(|| order.first().copied()).unwrap_or_default());
        };
        let sheds = |pool: usize| self.model.pools.get(pool).is_some_and(|pool| pool.load_shedding > 0);
        let pools: Vec<(usize, u8)> = match &steering.weights {
            Some(weights) => steering.pools.iter().copied().zip(weights.iter().copied()).collect(),
            // The first that is possible has it all, and what it sheds goes on.
            None => order.iter().map(|&pool| (pool, if pool == first { 100 } else { 0 })).collect(),
        };
        let is_shared = match steering.weights {
            Some(_) => order.len() > 1,
            None => possible.len() > 1 && sheds(first),
        };
        if !is_shared {
            return Serving::One(first);
        }
        Serving::Mixed { pools, up: possible, slots: service.mixed_slots }
    }

    /// Pools whose health is ignored: too much of it says that they fail, or they serve as the last resort, and no
    /// endpoint is healthy.
    fn forced(&self) -> BTreeSet<usize> {
        let last = |service: &Service| {
            let fallback = service.steering.fallback?;
            let mut orders = std::iter::once(service.steering.pools.as_slice())
                .chain(service.steering.regions.values().map(|region| region.pools.as_slice()));
            let is_last = orders.any(|order| order.iter().all(|&pool| self.ability(pool) == Ability::Down));
            let pool = self.model.pools.get(fallback)?;
            let healthy = |entry: &EndpointEntry| entry.state & ENDPOINT_HEALTHY != 0;
            (is_last && !self.open(fallback, pool).any(healthy)).then_some(fallback)
        };
        let panic = (0..self.model.pools.len()).filter(|&index| self.panics(index));
        self.model.services.iter().filter_map(last).chain(panic).collect()
    }

    /// Ids of endpoints of these pools whose entries do not say whether they are forced, as they should.
    pub fn to_force(&self, pools: impl Iterator<Item = usize>) -> Vec<u16> {
        let forced = self.forced();
        let of_pools = pools.filter_map(|index| Some((index, self.model.pools.get(index)?)));
        let each = of_pools.flat_map(|(index, pool)| {
            let places = pool.endpoints.iter().enumerate();
            places.filter_map(move |(place, endpoint)| Some((index, (self.id)(index, place, endpoint)?)))
        });
        let differs = |&(index, id): &(usize, u16)| {
            let entry = self.endpoints.get(&id);
            entry.is_some_and(|entry| (entry.state & ENDPOINT_FORCED != 0) != forced.contains(&index))
        };
        each.filter(differs).map(|(_, id)| id).collect()
    }

    fn takes_any(&self, index: usize) -> bool {
        let pool = self.model.pools.get(index);
        pool.is_some_and(|pool| self.entries(index, pool).any(takes_new))
    }

    /// The slots of a table, and how many there are; `None` where nothing has any weight.
    pub fn table(&self, serving: &Serving, built: &Built) -> Option<Table> {
        match serving {
            &Serving::One(index) => {
                let slots = self.model.pools.get(index)?.table_size;
                Some((usable_table(&self.members(index), slots, self.endpoints, built)?, slots))
            }
            Serving::Mixed { pools, up, slots } => Some((self.mixed(pools, up, *slots, built)?, *slots)),
        }
    }

    fn members(&self, index: usize) -> Vec<Member> {
        let Some(pool) = self.model.pools.get(index) else { return Vec::new() };
        let mut members = members(pool, self.model, |place, endpoint| (self.id)(index, place, endpoint));
        if pool.least_connections {
            for member in &mut members {
                let share = self.endpoints.get(&member.id).map_or(WHOLE, share_of);
                member.weight = member.weight.saturating_mul(share.into());
            }
        }
        members
    }

    /// The table in which pools share the slots.
    fn mixed(&self, pools: &[(usize, u8)], up: &[usize], slots: u32, built: &Built) -> Option<Arc<[u16]>> {
        let mix_of = |table_of: &dyn Fn(usize) -> Option<Arc<[u16]>>| -> Option<Vec<u16>> {
            let tables: BTreeMap<usize, Arc<[u16]>> =
                up.iter().filter_map(|&pool| Some((pool, table_of(pool)?))).collect();
            let shares = self.shares(pools, &tables, slots, built)?;
            let slot = |(slot, pool): (usize, &usize)| tables.get(pool)?.get(slot).copied();
            shares.iter().enumerate().map(slot).collect()
        };
        let whole = mix_of(&|pool| usable_table(&self.members(pool), slots, self.endpoints, built))?;
        let takes_new = |id: u16| self.endpoints.get(&id).is_some_and(takes_new);
        // What has not been probed yet is waited for.
        let is_open = |id: u16| takes_new(id) || self.endpoints.get(&id).is_some_and(is_unprobed);
        if every_slot_has_an_owner(&whole, is_open) {
            return Some(whole.into());
        }
        let usable = |pool: usize| -> Vec<Member> {
            self.members(pool).into_iter().filter(|member| takes_new(member.id)).collect()
        };
        let rest = mix_of(&|pool| built.table(&usable(pool), slots)).unwrap_or(whole);
        Some(rest.into())
    }

    /// The pool of each slot.
    fn shares(
        &self,
        pools: &[(usize, u8)],
        tables: &BTreeMap<usize, Arc<[u16]>>,
        slots: u32,
        built: &Built,
    ) -> Option<Vec<usize>> {
        let member = |(place, &(pool, weight)): (usize, &(usize, u8))| {
            let identity = identity_of(self.model.pools.get(pool)?);
            Some(Member { identity, weight: weight.into(), id: u16::try_from(place).ok()? })
        };
        let by_weight: Vec<Member> = pools.iter().enumerate().filter_map(member).collect();
        let by_weight = built.table(&by_weight, slots)?;
        let pool_at = |place: u16| pools.get(usize::from(place)).map(|&(pool, _)| pool);
        // In the order of the service, from one to the next that has a table.
        let there: Vec<usize> =
            pools.iter().map(|&(pool, _)| pool).filter(|pool| tables.contains_key(pool)).collect();
        let first = *there.first()?;
        let able = |slot: u32| {
            let place = by_weight.get(slot as usize)?;
            pool_at(*place).filter(|pool| tables.contains_key(pool))
        };
        let share = |slot: u32| {
            let chosen = able(slot).or_else(|| sequence(slot, slots).find_map(able)).unwrap_or(first);
            self.after_shedding(chosen, slot, &there)
        };
        Some((0..slots).map(share).collect())
    }

    /// The pool that a slot goes on to, where its own one sheds it.
    fn after_shedding(&self, chosen: usize, slot: u32, there: &[usize]) -> usize {
        let at = there.iter().position(|&pool| pool == chosen).unwrap_or_default();
        let mut in_turn = there.iter().cycle().skip(at).take(there.len());
        let keeps = |&&index: &&usize| {
            let pool = self.model.pools.get(index).filter(|pool| pool.load_shedding > 0);
            pool.is_none_or(|pool| percent_of(slot, identity_of(pool)) >= u64::from(pool.load_shedding))
        };
        in_turn.find(keeps).copied().unwrap_or(chosen)
    }
}

/// Has the endpoints of pools that serve as the last resort take flows whatever their health, and no others.
pub(super) fn force(model: &Model, places: &Places, now_ns: u64, image: &mut Image) {
    // Whoever is forced, is so in any order.
    let orders = Orders::new();
    let pools = Pools::new(model, &orders, &image.endpoints, |pool, place, _| places.id(pool, place));
    for id in pools.to_force(0..model.pools.len()) {
        if let Some(entry) = image.endpoints.get_mut(&id) {
            let turned = EndpointEntry { state: entry.state ^ ENDPOINT_FORCED, ..*entry };
            *entry = with_health(turned, health_of(&turned), now_ns);
        }
    }
}

/// What a pool is on all nodes.
fn identity_of(pool: &Pool) -> u64 {
    maglev::identity(pool.name.bytes().map(u64::from))
}

/// Whether nothing is known of an endpoint yet that may take flows.
const fn is_unprobed(entry: &EndpointEntry) -> bool {
    entry.state & (ENDPOINT_HEALTHY | ENDPOINT_UNHEALTHY | ENDPOINT_CLOSED) == 0
}

/// A number below 100 for a slot and a pool, evenly spread over the slots.
const fn percent_of(slot: u32, pool: u64) -> u64 {
    ((mix(slot as u64 ^ pool) >> 32) * 100) >> 32
}
