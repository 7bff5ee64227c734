//! Lookup tables of pools: over which endpoints, and in which lines of the map.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use lbx_common::{
    abi::{ENDPOINT_TAKES_NEW, EndpointEntry, Target},
    select::sequence,
};

use super::{
    maglev::{self, Member},
    planner::{Environment, PlanError},
    reach::Reach,
    steering::{Orders, Pools},
};
use crate::{
    config::model::{Endpoint, Model, Pool},
    dataplane::{Image, MapId, lines_for},
};

/// Tables that were built before, by what they were built of. Without them a pass takes longer and finds the same.
#[derive(Debug, Default)]
pub struct Built(Mutex<HashMap<Recipe, Arc<[u16]>>>);

/// The slots of a table, and how many there are.
pub type Table = (Arc<[u16]>, u32);

/// Slots of a table, and its members.
type Recipe = (u32, Vec<Member>);

impl Built {
    /// The table of `slots` slots over `members`; `None` where none has any weight.
    pub(super) fn table(&self, members: &[Member], slots: u32) -> Option<Arc<[u16]>> {
        let key = (slots, members.to_vec());
        let mut built = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = built.get(&key) {
            return Some(table.clone());
        }
        let table: Arc<[u16]> = maglev::build(members, slots)?.into();
        built.insert(key, table.clone());
        Some(table)
    }

    /// Forgets the tables that no image has.
    pub fn forget_unused(&mut self) {
        let built = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        built.retain(|_, table| Arc::strong_count(table) > 1);
    }
}

/// Places of tables: what stands in the kernel already is pointed at again; the rest goes into free lines.
pub struct Tables {
    placed: BTreeMap<Arc<[u16]>, u32>,
    used: BTreeSet<(u32, u32)>,
    capacity: u32,
}

impl Tables {
    /// From what the maps hold.
    pub fn new(observed: &Image, environment: &Environment<'_>) -> Self {
        let length = |slots: &Arc<[u16]>| lines_for(u32::try_from(slots.len()).unwrap_or(u32::MAX));
        Self {
            placed: observed.tables.iter().map(|(&line, slots)| (slots.clone(), line)).collect(),
            // What goes away now is in use until the change is over.
            used: observed.tables.iter().map(|(&line, slots)| (line, length(slots))).collect(),
            capacity: environment.sizes.of(MapId::Slots),
        }
    }

    /// Adds a table of so many slots to the image.
    pub fn place(&mut self, table: Option<Table>, image: &mut Image) -> Result<Target, PlanError> {
        let Some((slots, count)) = table else { return Ok(Target::default()) };
        let line = match self.placed.get(&slots) {
            Some(&line) => line,
            None => self.allocate(lines_for(count))?,
        };
        self.placed.insert(slots.clone(), line);
        image.tables.insert(line, slots);
        Ok(Target::new(line, count))
    }

    /// The first gap that is long enough.
    fn allocate(&mut self, lines: u32) -> Result<u32, PlanError> {
        let mut start = 0;
        for &(line, length) in &self.used {
            if line.saturating_sub(start) >= lines {
                break;
            }
            start = start.max(line.saturating_add(length));
        }
        if start.saturating_add(lines) > self.capacity {
            return Err(PlanError::NoRoom("lookup table", "table_slots"));
        }
        self.used.insert((start, lines));
        Ok(start)
    }
}

/// Whether the services of pools still have the tables that they should have by the states of endpoints in an image.
pub fn tables_stay(
    model: &Model,
    known: Known<'_>,
    image: &Image,
    (reach, pools): (&Reach, &BTreeSet<String>),
) -> bool {
    let of_pools = pools_named(model, known, image);
    if !of_pools.to_force(of_pools.may_be_forced().into_iter()).is_empty() {
        return false;
    }
    let built = Built::default();
    let mut seen = BTreeMap::new();
    reach.services(model, pools).all(|(service, listeners)| {
        let targets = reach.targets(listeners);
        // One that the service tells apart no longer is as all others are.
        let mut stays = targets.iter().map(|&(region, target)| {
            let serving = of_pools.serving_in(service, region);
            let wanted = seen.entry(serving).or_insert_with_key(|serving| of_pools.table(serving, &built));
            let current = image.tables.get(&target.line()).filter(|_| target.slots() != 0);
            current == wanted.as_ref().map(|(slots, _)| slots)
        });
        !targets.is_empty() && stays.all(|stays| stays)
    })
}

/// What is known by names.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Ids of endpoints, by pool and endpoint: see [`super::endpoint_ids`].
    pub ids: &'a BTreeMap<(String, String), u16>,
    /// Orders of pools.
    pub orders: &'a Orders,
}

/// Pools whose endpoints have ids by their names.
pub fn pools_named<'a>(
    model: &'a Model,
    Known { ids, orders }: Known<'a>,
    image: &'a Image,
) -> Pools<'a, impl Fn(usize, usize, &Endpoint) -> Option<u16>> {
    let id = move |pool: usize, _: usize, endpoint: &Endpoint| {
        let pool = model.pools.get(pool)?;
        ids.get(&(pool.name.clone(), endpoint.name.clone())).copied()
    };
    Pools::new(model, orders, &image.endpoints, id)
}

/// The table over a pool's endpoints with weight, whatever their health, so that a failure moves only the slots of
/// the endpoint that failed. Where more than half of the weight is unusable, or the sequence of some slot would end
/// before it finds a usable endpoint, it is built over the usable rest.
pub(super) fn usable_table(
    all: &[Member],
    slots: u32,
    endpoints: &BTreeMap<u16, EndpointEntry>,
    built: &Built,
) -> Option<Arc<[u16]>> {
    let takes_new = |id: u16| endpoints.get(&id).is_some_and(takes_new);
    let usable: Vec<Member> = all.iter().copied().filter(|member| takes_new(member.id)).collect();
    let weight = |members: &[Member]| members.iter().map(|member| u32::from(member.weight)).sum::<u32>();
    let table = built.table(all, slots)?;
    if usable.len() == all.len() || weight(&usable) == 0 {
        return Some(table);
    }
    if weight(&usable) * 2 >= weight(all) && every_slot_has_an_owner(&table, takes_new) {
        return Some(table);
    }
    built.table(&usable, slots)
}

/// Whether an endpoint takes new flows.
pub const fn takes_new(entry: &EndpointEntry) -> bool {
    entry.state & ENDPOINT_TAKES_NEW != 0
}

/// The endpoints of a pool that have an id, by their place in it.
pub fn members(pool: &Pool, model: &Model, id: impl Fn(usize, &Endpoint) -> Option<u16>) -> Vec<Member> {
    let member = |(place, endpoint): (usize, &Endpoint)| {
        let id = id(place, endpoint)?;
        let vni = model.vnets.get(endpoint.vnet).map_or(0, |vnet| vnet.vni);
        let port = u64::from(endpoint.port.unwrap_or_default());
        let identity = match endpoint.address {
            IpAddr::V4(address) => maglev::identity([u64::from(vni), u64::from(u32::from(address)), port]),
            IpAddr::V6(address) => {
                let [high, low] = [u128::from(address) >> 64, u128::from(address) & u128::from(u64::MAX)]
                    .map(|half| u64::try_from(half).unwrap_or_default());
                maglev::identity([u64::from(vni), high, low, port])
            }
        };
        Some(Member { identity, weight: endpoint.weight.into(), id })
    };
    pool.endpoints.iter().enumerate().filter_map(member).collect()
}

/// Whether the sequence of each slot finds an endpoint that takes new flows.
pub(super) fn every_slot_has_an_owner(table: &[u16], takes_new: impl Fn(u16) -> bool) -> bool {
    let slots = u32::try_from(table.len()).unwrap_or(u32::MAX);
    let takes_new_at = |slot: u32| table.get(slot as usize).is_some_and(|&id| takes_new(id));
    (0..slots).all(|slot| sequence(slot, slots).any(takes_new_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_built_once_while_an_image_has_it() {
        let members = [1, 2].map(|id| Member { identity: id, weight: 100, id: u16::try_from(id).unwrap() });
        let mut built = Built::default();
        let first = built.table(&members, 251).unwrap();
        built.forget_unused();
        assert!(Arc::ptr_eq(&first, &built.table(&members, 251).unwrap()));
        drop(first);
        built.forget_unused();
        assert_eq!(built.0.get_mut().unwrap().len(), 0);
        assert!(built.table(&members[..0], 251).is_none());
    }
}
