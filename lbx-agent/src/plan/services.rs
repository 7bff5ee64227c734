//! Plans listeners, lookup tables and reply matches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lbx_common::{
    abi::{ENDPOINT_TAKES_NEW, EndpointEntry, ListenerKey, ListenerValue, ReplyKey, ReplyValue, Target},
    bytes::Be16,
    select::sequence,
};

use super::{
    ids::Ids,
    maglev::{self, Member},
    planner::{Environment, PlanError, be32, endpoint_ids},
};
use crate::{
    config::model::{Endpoint, Model, Pool},
    dataplane::{Image, MapId, lines_for},
};

/// Plans everything that belongs to services, over the endpoints that `image` already has.
pub fn plan_services(
    model: &Model,
    environment: &Environment<'_>,
    observed: &Image,
    vnets: &[u32],
    image: &mut Image,
) -> Result<(), PlanError> {
    let capacity = model.limits.listeners;
    let known = observed.listeners.iter().filter(|(key, _)| matches!(key, ListenerKey::Exact { .. }));
    let mut ids = Ids::new(known.map(|(&key, value)| (key, value.id)), capacity);
    let members = endpoint_ids(model, image);
    let mut tables = Tables::new(observed, environment.sizes.of(MapId::Slots));
    let mut targets = BTreeMap::new();
    for service in &model.services {
        let Some(pool) = model.pools.get(service.pool) else { continue };
        let target = match targets.get(&service.pool) {
            Some(&target) => target,
            None => *targets.entry(service.pool).or_insert(tables.place(pool, model, &members, image)?),
        };
        let vip = be32(service.address);
        image.listeners.insert(ListenerKey::Vip(vip), ListenerValue::default());
        for listen in &service.listen {
            let (protocol, port) = (listen.protocol.number(), Be16::new(listen.port));
            let key = ListenerKey::Exact { vip, protocol, port };
            let id = ids.of(&key).map_err(PlanError::no_room("listener", "listeners"))?;
            image.listeners.insert(key, ListenerValue { target, id, flags: 0 });
            for endpoint in &pool.endpoints {
                let Some(&id_of) = members.get(&(pool.name.clone(), endpoint.name.clone())) else { continue };
                let reply = ReplyKey {
                    vnet: vnets.get(endpoint.vnet).copied().unwrap_or_default(),
                    address: be32(endpoint.address),
                    protocol,
                    port: endpoint.port.map_or(port, Be16::new),
                };
                let value = ReplyValue { vip, port, endpoint: id_of, listener: id, flags: 0 };
                image.replies.insert(reply, value);
            }
        }
    }
    Ok(())
}

/// Lookup tables: what stands in the kernel already is pointed at again; the rest goes into free lines.
struct Tables {
    placed: BTreeMap<Arc<[u16]>, u32>,
    used: BTreeSet<(u32, u32)>,
    capacity: u32,
}

impl Tables {
    fn new(observed: &Image, capacity: u32) -> Self {
        let length = |slots: &Arc<[u16]>| lines_for(u32::try_from(slots.len()).unwrap_or(u32::MAX));
        Self {
            placed: observed.tables.iter().map(|(&line, slots)| (slots.clone(), line)).collect(),
            // What goes away now is in use until the change is over.
            used: observed.tables.iter().map(|(&line, slots)| (line, length(slots))).collect(),
            capacity,
        }
    }

    /// The table of a pool, added to the image.
    fn place(
        &mut self,
        pool: &Pool,
        model: &Model,
        ids: &BTreeMap<(String, String), u16>,
        image: &mut Image,
    ) -> Result<Target, PlanError> {
        let Some(slots) = table(pool, model, ids, &image.endpoints) else {
            return Ok(Target::default());
        };
        let slots: Arc<[u16]> = slots.into();
        let line = match self.placed.get(&slots) {
            Some(&line) => line,
            None => self.allocate(lines_for(pool.table_size))?,
        };
        self.placed.insert(slots.clone(), line);
        image.tables.insert(line, slots);
        Ok(Target::new(line, pool.table_size))
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

/// The table of a pool: over all endpoints with weight, whatever their health, so that a failure moves only
/// the slots of the endpoint that failed. Where more than half of the weight is unusable, or the sequence of
/// some slot would end before it finds a usable endpoint, it is built over the usable rest.
fn table(
    pool: &Pool,
    model: &Model,
    ids: &BTreeMap<(String, String), u16>,
    endpoints: &BTreeMap<u16, EndpointEntry>,
) -> Option<Vec<u16>> {
    let all = members(pool, model, ids);
    let takes_new = |id: u16| endpoints.get(&id).is_some_and(|e| e.state & ENDPOINT_TAKES_NEW != 0);
    let usable: Vec<Member> = all.iter().copied().filter(|member| takes_new(member.id)).collect();
    let weight = |members: &[Member]| members.iter().map(|member| u32::from(member.weight)).sum::<u32>();
    let table = maglev::build(&all, pool.table_size)?;
    if usable.len() == all.len() || weight(&usable) == 0 {
        return Some(table);
    }
    if weight(&usable) * 2 >= weight(&all) && every_slot_has_an_owner(&table, takes_new) {
        return Some(table);
    }
    maglev::build(&usable, pool.table_size)
}

fn members(pool: &Pool, model: &Model, ids: &BTreeMap<(String, String), u16>) -> Vec<Member> {
    let member = |endpoint: &Endpoint| {
        let &id = ids.get(&(pool.name.clone(), endpoint.name.clone()))?;
        let vni = model.vnets.get(endpoint.vnet).map_or(0, |vnet| vnet.vni);
        let address = u64::from(be32(endpoint.address).to_host());
        let port = u64::from(endpoint.port.unwrap_or_default());
        let identity = maglev::identity(&[u64::from(vni), address, port]);
        Some(Member { identity, weight: endpoint.weight, id })
    };
    pool.endpoints.iter().filter_map(member).collect()
}

/// Whether the sequence of each slot finds an endpoint that takes new flows.
fn every_slot_has_an_owner(table: &[u16], takes_new: impl Fn(u16) -> bool) -> bool {
    let slots = u32::try_from(table.len()).unwrap_or(u32::MAX);
    let takes_new_at = |slot: u32| table.get(slot as usize).is_some_and(|&id| takes_new(id));
    (0..slots).all(|slot| sequence(slot, slots).any(takes_new_at))
}
