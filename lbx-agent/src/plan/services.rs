//! Plans listeners, lookup tables and reply matches.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lbx_common::{
    abi::{
        Host, LISTENER_BY_REGION, LISTENER_DSR, LISTENER_HAS_ALL, LISTENER_HAS_POLICY, LISTENER_HAS_RANGE,
        LISTENER_KEEPS, LISTENER_REJECTS, LISTENER_SAMPLED, LISTENER_UNTRACKED, ListenerKey, ListenerValue,
        ReplyKey, ReplyValue, TRACKING_CLOSING, TRACKING_OPEN, Target, VIP_ECHO, VIP_REJECTS, VipValue,
        Words,
    },
    api::{ConnectionTracking, Forwarding, Listen, Ports},
    ip::TCP,
};

use super::{
    changes::{Changes, Tracked},
    endpoints::Places,
    hosts::{Hosts, known_host},
    ids::Ids,
    planner::{Environment, PlanError},
    policies::{Policies, has_policy},
    ports,
    regions::RegionsChange,
    steering::{Pools, Serving},
    tables::{Table, Tables},
};
use crate::{
    config::model::{Endpoint, Model, Service},
    dataplane::Image,
};

/// Plans everything that belongs to services, over the endpoints that `image` already has.
pub fn plan_services(
    model: &Model,
    environment: &Environment<'_>,
    observed: &Image,
    (vnets, places, regions): (&[u32], &Places, RegionsChange),
    hosts: &mut Hosts,
    image: &mut Image,
) -> Result<(), PlanError> {
    let mut told_apart: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (listener, region, _) in observed.regional_values() {
        told_apart.entry(listener).or_default().push(region);
    }
    let mut plan = Services {
        ids: Ids::new(known(observed), model.limits.listeners),
        places,
        vnets,
        hosts,
        policies: Policies::new(observed),
        changes: Changes::new(environment, observed, model.timers.transition, regions),
        told_apart,
    };
    let mut tables = Tables::new(observed, environment);
    let servings = servings(model, environment, places, image);
    let mut targets: BTreeMap<&Serving, Target> = BTreeMap::new();
    for (serving, table) in &servings.tables {
        targets.insert(serving, tables.place(table.clone(), image)?);
    }
    let dropping: BTreeSet<IpAddr> =
        model.services.iter().filter(|service| !service.reject).map(|service| service.address).collect();
    for (service, serving) in model.services.iter().zip(&servings.of_services) {
        let target = |serving: &Serving| targets.get(serving).copied().unwrap_or_default();
        let target = Targets {
            of_all: target(&serving.of_all),
            of_regions: serving
                .of_regions
                .iter()
                .map(|(&region, serving)| (region, target(serving)))
                .collect(),
        };
        let echo = if service.icmp_echo { VIP_ECHO } else { 0 };
        // To ports that no service has, there is an answer only where nobody wants silence.
        let rejects = if dropping.contains(&service.address) { 0 } else { VIP_REJECTS };
        plan.service(model, service, &target, echo | rejects, image)?;
    }
    Ok(())
}

/// Tables of a service.
struct Targets {
    of_all: Target,
    /// By the region's id, of those that it tells apart.
    of_regions: BTreeMap<u32, Target>,
}

/// Where the flows of a service go.
struct ServingOf {
    of_all: Serving,
    of_regions: BTreeMap<u32, Serving>,
}

/// Where the flows of services go.
struct Servings {
    /// In the order of the services.
    of_services: Vec<ServingOf>,
    /// The tables that say so.
    tables: BTreeMap<Serving, Option<Table>>,
}

fn servings(model: &Model, environment: &Environment<'_>, places: &Places, image: &Image) -> Servings {
    let pools = Pools::new(model, &environment.steered.orders, &image.endpoints, |pool, place, _| {
        places.id(pool, place)
    });
    let of_service = |service: &Service| {
        let regions = service.steering.regions.keys();
        let of_regions = regions.map(|&region| (region, pools.serving_in(service, region))).collect();
        ServingOf { of_all: pools.serving(service), of_regions }
    };
    let of_services: Vec<ServingOf> = model.services.iter().map(of_service).collect();
    let mut tables = BTreeMap::new();
    let all = of_services.iter();
    for serving in all.flat_map(|one| std::iter::once(&one.of_all).chain(one.of_regions.values())) {
        if !tables.contains_key(serving) {
            tables.insert(serving.clone(), pools.table(serving, environment.built));
        }
    }
    Servings { of_services, tables }
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

/// The same, and what they are to clients of regions. Region 0 stands for the listener itself.
fn known(observed: &Image) -> impl Iterator<Item = ((ListenerIdentity, u32), u32)> {
    let listeners: BTreeMap<u32, ListenerIdentity> =
        known_listeners(observed).map(|(identity, id)| (id, identity)).collect();
    let own: Vec<_> = listeners.iter().map(|(&id, &identity)| ((identity, 0), id)).collect();
    let regional = observed
        .regional_values()
        .filter_map(move |(listener, region, value)| Some(((*listeners.get(&listener)?, region), value.id)));
    own.into_iter().chain(regional)
}

/// What planning services needs.
struct Services<'a> {
    ids: Ids<(ListenerIdentity, u32)>,
    places: &'a Places,
    vnets: &'a [u32],
    hosts: &'a mut Hosts,
    policies: Policies,
    changes: Changes<'a>,
    /// The regions that each listener tells apart now.
    told_apart: BTreeMap<u32, Vec<u32>>,
}

impl Services<'_> {
    fn service(
        &mut self,
        model: &Model,
        service: &Service,
        targets: &Targets,
        vip_flags: u32,
        image: &mut Image,
    ) -> Result<(), PlanError> {
        let vip = self.hosts.of(service.address, image)?;
        let (mut policy, mut first_id) = (None, None);
        for listen in &service.listen {
            let protocol = listen.protocol.number();
            let (first, last) = (listen.ports.first(), listen.ports.last());
            let identity = listener_identity(vip, *listen);
            let id = self.id((identity, 0))?;
            if has_policy(service) {
                // The same for all its listeners: the limit is that of the service.
                let entry = match policy {
                    Some(entry) => entry,
                    None => *policy.insert(self.policies.of(service, id, image)?),
                };
                image.policies.insert(id, entry);
            }
            let kind = kind(listen.ports);
            let first_id = *first_id.get_or_insert(id);
            let mut value = ListenerValue {
                target: Target::default(),
                id,
                flags: flags(model, service) | kind,
                first_port: first,
            };
            let gone = self.told_apart.remove(&id).unwrap_or_default();
            let by_region = !(gone.is_empty() && targets.of_regions.is_empty());
            let who = Tracked { id, listener: id, first: first_id, by_region };
            value.target = self.changes.of(who, by_source(targets.of_all, service), service, image);
            if by_region && self.regions(service, identity, (targets, gone), (who, value), image)? {
                value.flags |= LISTENER_BY_REGION;
            }
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
            // Of all pools, for when they serve: and flows that they had go on.
            for index in service.steering.all() {
                let endpoints =
                    model.pools.get(index).map(|pool| pool.endpoints.as_slice()).unwrap_or_default();
                for (place, endpoint) in endpoints.iter().enumerate() {
                    if let Some(endpoint_id) = self.places.id(index, place) {
                        self.replies((vip, protocol, first, last), id, (endpoint_id, endpoint), image)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn id(&mut self, identity: (ListenerIdentity, u32)) -> Result<u32, PlanError> {
        self.ids.of(&identity).map_err(PlanError::no_room("listener", "listeners"))
    }

    /// Plans what a listener is to clients of each region that its service tells apart. One that it does no longer is
    /// what the listener is to all others, and stays until the change to that is over. Returns whether there is any.
    fn regions(
        &mut self,
        service: &Service,
        identity: ListenerIdentity,
        (targets, before): (&Targets, Vec<u32>),
        (own, listener): (Tracked, ListenerValue),
        image: &mut Image,
    ) -> Result<bool, PlanError> {
        let gone = before.into_iter().filter(|region| !targets.of_regions.contains_key(region));
        let mut all = targets.of_regions.clone();
        all.extend(gone.map(|region| (region, targets.of_all)));
        let mut any = false;
        for (region, target) in all {
            let id = self.id((identity, region))?;
            let target = self.changes.of(Tracked { id, ..own }, by_source(target, service), service, image);
            let changes = |id| {
                image.tracking.get(&id).is_some_and(|e| e.flags & (TRACKING_OPEN | TRACKING_CLOSING) != 0)
            };
            let is_needed = targets.of_regions.contains_key(&region)
                || changes(id)
                || changes(own.id)
                || self.changes.may_have_moved();
            if !is_needed {
                image.tracking.remove(&id);
                continue;
            }
            any = true;
            let key = ListenerKey::Region { listener: own.id, region };
            image.listeners.insert(key, ListenerValue { target, id, ..listener }.to_words());
        }
        Ok(any)
    }

    /// What packets of an endpoint are the replies of.
    fn replies(
        &mut self,
        (vip, protocol, first, last): (Host, u8, u16, u16),
        listener: u32,
        (id, endpoint): (u16, &Endpoint),
        image: &mut Image,
    ) -> Result<(), PlanError> {
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

/// A table, looked up by as much of the source as a service says.
fn by_source(target: Target, service: &Service) -> Target {
    target.by_source(service.source_bits.filter(|_| target.slots() != 0).unwrap_or(0))
}

/// The flags of a service's listeners.
fn flags(model: &Model, service: &Service) -> u16 {
    let dsr = if service.forwarding == Forwarding::Dsr { LISTENER_DSR } else { 0 };
    let rejects = if service.reject { LISTENER_REJECTS } else { 0 };
    let policy = if has_policy(service) { LISTENER_HAS_POLICY } else { 0 };
    let keeps = if service.keep { LISTENER_KEEPS } else { 0 };
    let off = service.tracking == ConnectionTracking::Off;
    let untracked = if off { LISTENER_UNTRACKED } else { 0 };
    let sampled = if model.sampled_one_in == 0 { 0 } else { LISTENER_SAMPLED };
    dsr | rejects | policy | keeps | untracked | sampled
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
