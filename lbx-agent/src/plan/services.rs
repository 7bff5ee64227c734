//! Plans listeners, lookup tables and reply matches.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lbx_common::{
    abi::{
        ENDPOINT_TAKES_NEW, EndpointEntry, Host, LISTENER_DSR, LISTENER_HAS_ALL, LISTENER_HAS_POLICY,
        LISTENER_HAS_RANGE, LISTENER_KEEPS, LISTENER_REJECTS, LISTENER_UNTRACKED, ListenerKey, ListenerValue,
        ReplyKey, ReplyValue, Target, VIP_ECHO, VIP_REJECTS, VipValue, Words,
    },
    api::{ConnectionTracking, Forwarding, Listen, Ports},
    ip::TCP,
    select::sequence,
};

use super::{
    changes::Changes,
    endpoints::endpoint_ids,
    hosts::{Hosts, known_host},
    ids::Ids,
    maglev::{self, Member},
    planner::{Environment, PlanError},
    policies::{Policies, has_policy},
    ports,
};
use crate::{
    config::model::{Endpoint, Model, Pool, Service},
    dataplane::{Image, MapId, lines_for},
};

/// Plans everything that belongs to services, over the endpoints that `image` already has.
pub fn plan_services(
    model: &Model,
    environment: &Environment<'_>,
    observed: &Image,
    vnets: &[u32],
    hosts: &mut Hosts,
    image: &mut Image,
) -> Result<(), PlanError> {
    let mut plan = Services {
        ids: Ids::new(known_listeners(observed), model.limits.listeners),
        members: endpoint_ids(model, image),
        vnets,
        hosts,
        policies: Policies::new(observed),
        changes: Changes::new(environment, observed, model.timers.transition),
    };
    let mut tables = Tables::new(observed, environment.sizes.of(MapId::Slots));
    let mut targets = BTreeMap::new();
    let dropping: BTreeSet<IpAddr> =
        model.services.iter().filter(|service| !service.reject).map(|service| service.address).collect();
    for service in &model.services {
        let Some(pool) = model.pools.get(service.pool) else { continue };
        let target = match targets.get(&service.pool) {
            Some(&target) => target,
            None => {
                *targets.entry(service.pool).or_insert(tables.place(pool, model, &plan.members, image)?)
            }
        };
        let echo = if service.icmp_echo { VIP_ECHO } else { 0 };
        // To ports that no service has, there is an answer only where nobody wants silence.
        let rejects = if dropping.contains(&service.address) { 0 } else { VIP_REJECTS };
        plan.service(service, pool, target, echo | rejects, image)?;
    }
    Ok(())
}

/// The ids of all listeners of an image.
pub fn listener_ids(image: &Image) -> BTreeMap<ListenerIdentity, u32> {
    known_listeners(image).collect()
}

/// The ids of a service's listeners, by those of all listeners of an image.
pub fn listeners_of<'a>(
    service: &'a Service,
    image: &Image,
    ids: &'a BTreeMap<ListenerIdentity, u32>,
) -> impl Iterator<Item = u32> + use<'a> {
    let vip = known_host(service.address, image);
    let identities = service.listen.iter().filter_map(move |&listen| Some(listener_identity(vip?, listen)));
    identities.filter_map(|identity| ids.get(&identity).copied())
}

/// A listener: VIP, protocol, first port and [`kind`]. It keeps its id by them.
pub type ListenerIdentity = (Host, u8, u16, u16);

/// What a listener of a VIP is known by.
pub fn listener_identity(vip: Host, listen: Listen) -> ListenerIdentity {
    (vip, listen.protocol.number(), listen.ports.first(), kind(listen.ports))
}

/// Whether a listener has one port, a range or all, as flags of its value: a port, a range and all ports of a VIP
/// may begin at the same one. The narrower has the smaller number.
const fn kind(ports: Ports) -> u16 {
    match ports {
        Ports::One(_) => 0,
        Ports::Range(..) => LISTENER_HAS_RANGE,
        Ports::Any => LISTENER_HAS_ALL,
    }
}

/// The kind of the listener that a value is of.
const fn kind_of(value: ListenerValue) -> u16 {
    value.flags & (LISTENER_HAS_RANGE | LISTENER_HAS_ALL)
}

/// The listeners that the kernel knows. The blocks of a range share their id and first port.
fn known_listeners(observed: &Image) -> impl Iterator<Item = (ListenerIdentity, u32)> {
    let values = observed.listener_values();
    values.map(|(vip, protocol, value)| ((vip, protocol, value.first_port, kind_of(value)), value.id))
}

/// What planning services needs.
struct Services<'a> {
    ids: Ids<ListenerIdentity>,
    members: BTreeMap<(String, String), u16>,
    vnets: &'a [u32],
    hosts: &'a mut Hosts,
    policies: Policies,
    changes: Changes<'a>,
}

impl Services<'_> {
    fn service(
        &mut self,
        service: &Service,
        pool: &Pool,
        target: Target,
        vip_flags: u32,
        image: &mut Image,
    ) -> Result<(), PlanError> {
        let vip = self.hosts.of(service.address, image)?;
        let (mut policy, mut first_id) = (None, None);
        for listen in &service.listen {
            let protocol = listen.protocol.number();
            let (first, last) = (listen.ports.first(), listen.ports.last());
            let identity = listener_identity(vip, *listen);
            let id = self.ids.of(&identity).map_err(PlanError::no_room("listener", "listeners"))?;
            if has_policy(service) {
                // The same for all its listeners: the limit is that of the service.
                let entry = match policy {
                    Some(entry) => entry,
                    None => *policy.insert(self.policies.of(service, id, image)?),
                };
                image.policies.insert(id, entry);
            }
            let kind = kind(listen.ports);
            let target = target.by_source(service.source_bits.filter(|_| target.slots() != 0).unwrap_or(0));
            let target = self.changes.of((id, *first_id.get_or_insert(id)), target, service, image);
            let value = ListenerValue { target, id, flags: flags(service) | kind, first_port: first };
            let blocks = ports::blocks(first, last);
            for &ports in &blocks {
                let key = ListenerKey::Ports { vip, protocol, ports };
                // A block of a range may be a single port, and one of all ports may be one of a range.
                let known = image.listeners.entry(key).or_insert(value.to_words());
                if kind < kind_of(ListenerValue::from_words(*known)) {
                    *known = value.to_words();
                }
            }
            let lengths = ports::lengths(&blocks);
            let known = image.listeners.entry(ListenerKey::Vip(vip)).or_default();
            add_lengths(known, protocol, lengths);
            *known = VipValue { flags: vip_flags, ..VipValue::from_words(*known) }.to_words();
            // With direct return lbx sees no replies.
            if service.forwarding == Forwarding::Dsr {
                continue;
            }
            for endpoint in &pool.endpoints {
                self.replies((vip, protocol, first, last), id, (pool, endpoint), image)?;
            }
        }
        Ok(())
    }

    /// What packets of an endpoint are the replies of.
    fn replies(
        &mut self,
        (vip, protocol, first, last): (Host, u8, u16, u16),
        listener: u32,
        (pool, endpoint): (&Pool, &Endpoint),
        image: &mut Image,
    ) -> Result<(), PlanError> {
        let name = (pool.name.clone(), endpoint.name.clone());
        let Some(&id) = self.members.get(&name) else { return Ok(()) };
        let vnet = self.vnets.get(endpoint.vnet).copied().unwrap_or_default();
        let address = self.hosts.of(endpoint.address, image)?;
        let endpoint_port = endpoint.port.unwrap_or(first);
        let value =
            ReplyValue { vip: vip.raw, first_port: first, endpoint_port, listener, endpoint: id, flags: 0 };
        let blocks = ports::blocks(endpoint_port, endpoint_port.saturating_add(last - first));
        for &ports in &blocks {
            let key = ReplyKey::Ports { vnet, address, protocol, ports };
            image.replies.insert(key, value.to_words());
        }
        let lengths = ports::lengths(&blocks);
        if lengths != 0 {
            add_lengths(
                image.replies.entry(ReplyKey::Origin { vnet, address }).or_default(),
                protocol,
                lengths,
            );
        }
        Ok(())
    }
}

/// The flags of a service's listeners.
fn flags(service: &Service) -> u16 {
    let dsr = if service.forwarding == Forwarding::Dsr { LISTENER_DSR } else { 0 };
    let rejects = if service.reject { LISTENER_REJECTS } else { 0 };
    let policy = if has_policy(service) { LISTENER_HAS_POLICY } else { 0 };
    let keeps = if service.keep { LISTENER_KEEPS } else { 0 };
    let off = service.tracking == ConnectionTracking::Off;
    let untracked = if off { LISTENER_UNTRACKED } else { 0 };
    dsr | rejects | policy | keeps | untracked
}

/// Adds lengths of port blocks to a [`VipValue`] in words.
pub(super) fn add_lengths(words: &mut [u64; 2], protocol: u8, lengths: u16) {
    let mut value = VipValue::from_words(*words);
    if protocol == TCP {
        value.tcp_lengths |= lengths;
    } else {
        value.udp_lengths |= lengths;
    }
    *words = value.to_words();
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

/// Whether pools still have the tables that they should have by the states of their endpoints in an image.
pub fn tables_stay(
    model: &Model,
    ids: &BTreeMap<(String, String), u16>,
    image: &Image,
    pools: &BTreeSet<String>,
) -> bool {
    let listeners = listener_ids(image);
    let targets: BTreeMap<u32, Target> =
        image.listener_values().map(|(.., value)| (value.id, value.target)).collect();
    let mut seen = BTreeSet::new();
    model.services.iter().all(|service| {
        let Some(pool) = model.pools.get(service.pool).filter(|pool| pools.contains(&pool.name)) else {
            return true;
        };
        // All services of a pool have the same one.
        if !seen.insert(service.pool) {
            return true;
        }
        let mut of_service = listeners_of(service, image, &listeners).filter_map(|id| targets.get(&id));
        let Some(target) = of_service.next() else { return false };
        let current = image.tables.get(&target.line()).filter(|_| target.slots() != 0);
        current.map(|slots| &slots[..]) == table(pool, model, ids, &image.endpoints).as_deref()
    })
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
        let port = u64::from(endpoint.port.unwrap_or_default());
        let identity = match endpoint.address {
            IpAddr::V4(address) => maglev::identity(&[u64::from(vni), u64::from(u32::from(address)), port]),
            IpAddr::V6(address) => {
                let [high, low] = [u128::from(address) >> 64, u128::from(address) & u128::from(u64::MAX)]
                    .map(|half| u64::try_from(half).unwrap_or_default());
                maglev::identity(&[u64::from(vni), high, low, port])
            }
        };
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
