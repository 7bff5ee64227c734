//! Plans endpoints: their state, what becomes of those that are drained, and of those that are not configured any more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lbx_common::{
    abi::{
        ENDPOINT_CLOSED, ENDPOINT_DOWN, ENDPOINT_FORCED, ENDPOINT_HEALTHY, ENDPOINT_REMOVED, ENDPOINT_SHARE,
        ENDPOINT_SHARE_SHIFT, ENDPOINT_TAKES_NEW, ENDPOINT_TRACKED, ENDPOINT_TUNNELS, ENDPOINT_UNHEALTHY,
        ENDPOINT_USABLE, EndpointEntry, PortBlock, ReplyKey, TRACKING_CLOSING, TRACKING_OPEN, TUNNEL_DOWN,
        TrackingEntry, Words,
    },
    api::HealthState,
    bytes::{Address, Be16},
};

use super::{
    hosts::entry_address,
    ids::{EndpointIds, Exhausted, Ids},
    maglev::identity,
    nanoseconds,
    planner::{Environment, PlanError},
    services::add_lengths,
    uses::Uses,
};
use crate::{
    config::model::{Endpoint, Model, Pool},
    dataplane::{Image, MapId},
    steer::connections::WHOLE,
};

/// How long flows that were about to be remembered may still be, and fragments under way: then what is remembered is
/// all that there is.
pub const SETTLE_NS: u64 = 16_000_000_000;

/// What an endpoint's entry says of its health.
pub const fn health_of(entry: &EndpointEntry) -> HealthState {
    if entry.state & ENDPOINT_HEALTHY != 0 {
        HealthState::Healthy
    } else if entry.state & ENDPOINT_UNHEALTHY != 0 {
        HealthState::Unhealthy
    } else {
        HealthState::Unknown
    }
}

/// The share that an endpoint has of what its weight says, in 255ths.
pub const fn share_of(entry: &EndpointEntry) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "eight bits")]
    match (entry.state & ENDPOINT_SHARE) >> ENDPOINT_SHARE_SHIFT {
        0 => WHOLE,
        share => share as u8,
    }
}

/// Whether an endpoint's time to keep flows is over.
pub const fn is_released(entry: &EndpointEntry, now_ns: u64) -> bool {
    entry.until_ns != 0 && entry.until_ns <= now_ns
}

/// An endpoint's entry with the state that health, configuration and time give it. All else stays.
#[must_use]
pub fn with_health(entry: EndpointEntry, health: HealthState, now_ns: u64) -> EndpointEntry {
    let kept = entry.state & (ENDPOINT_REMOVED | ENDPOINT_CLOSED | ENDPOINT_FORCED | ENDPOINT_SHARE);
    let released = is_released(&entry, now_ns);
    let forced = kept & ENDPOINT_FORCED != 0;
    let (verdict, flows) = match health {
        HealthState::Healthy => (ENDPOINT_HEALTHY, ENDPOINT_USABLE),
        HealthState::Unhealthy => (ENDPOINT_UNHEALTHY, ENDPOINT_DOWN),
        HealthState::Unknown | HealthState::Disabled => (0, 0),
    };
    let takes_new =
        (health == HealthState::Healthy || forced) && kept & (ENDPOINT_REMOVED | ENDPOINT_CLOSED) == 0;
    let flows = match flows {
        _ if released => 0,
        _ if forced => ENDPOINT_USABLE,
        flows => flows,
    };
    let new = if takes_new { ENDPOINT_TAKES_NEW } else { 0 };
    let tracked = if takes_new { entry.state & ENDPOINT_TRACKED } else { ENDPOINT_TRACKED };
    let turned = (entry.state ^ new) & ENDPOINT_TAKES_NEW != 0 && entry.state != 0;
    let since_ns = if turned { now_ns } else { entry.since_ns };
    EndpointEntry { state: kept | verdict | flows | new | tracked, since_ns, ..entry }
}

/// What makes an endpoint the same one: network, address, port, and the names of pool and endpoint.
type EndpointIdentity = (u32, Address, Be16, u32);

fn identity_in(entry: &EndpointEntry) -> EndpointIdentity {
    (entry.vnet, entry.address, entry.port, entry.tag)
}

fn identity_of(pool: &Pool, endpoint: &Endpoint, vnets: &[u32]) -> EndpointIdentity {
    let names = pool.name.bytes().chain([0]).chain(endpoint.name.bytes()).map(u64::from);
    #[expect(clippy::cast_possible_truncation, reason = "half of the hash tells names apart well enough")]
    let tag = identity(names) as u32;
    let vnet = vnets.get(endpoint.vnet).copied().unwrap_or_default();
    (vnet, entry_address(endpoint.address), Be16::new(endpoint.port.unwrap_or(0)), tag)
}

/// Ids of all endpoints that are on. One whose names alone changed keeps its id, and so its flows. One that was removed, and
/// whose time is over, comes back as another: tables of before name the old one, and no replies of it are known.
fn known_ids(
    model: &Model,
    environment: &Environment<'_>,
    observed: &Image,
    vnets: &[u32],
) -> Ids<EndpointIdentity> {
    let capacity = environment.sizes.of(MapId::Endpoints).saturating_sub(1);
    let is_over =
        |entry: &EndpointEntry| entry.state & ENDPOINT_REMOVED != 0 && is_released(entry, environment.now_ns);
    let (over, there): (Vec<_>, Vec<_>) = observed.endpoints.iter().partition(|(_, entry)| is_over(entry));
    let known = there.iter().map(|&(&id, entry)| (identity_in(entry), u32::from(id)));
    let mut ids = Ids::new(known, capacity);
    for (&id, _) in over {
        ids.set_aside(u32::from(id));
    }
    let all = model.pools.iter().flat_map(|pool| pool.endpoints.iter().map(move |one| (pool, one)));
    let on = all.filter(|(_, endpoint)| endpoint.enabled);
    let (mut kept, mut unknown) = (HashSet::new(), BTreeSet::new());
    for (pool, endpoint) in on {
        let identity = identity_of(pool, endpoint, vnets);
        match ids.known(&identity) {
            Some(id) => _ = kept.insert(id),
            None => _ = unknown.insert(identity),
        }
    }
    if unknown.is_empty() {
        return ids;
    }
    let renamed = there.into_iter().filter(|&(&id, _)| !kept.contains(&u32::from(id)));
    let mut renamed: BTreeMap<_, u16> =
        renamed.map(|(&id, entry)| ((entry.vnet, entry.address, entry.port), id)).collect();
    for identity in unknown {
        let (vnet, address, port, _) = identity;
        if let Some(id) = renamed.remove(&(vnet, address, port)) {
            ids.adopt(identity, u32::from(id));
        }
    }
    ids
}

/// Ids of the endpoints that are on, by the place of the pool and the place in it.
pub struct Places(Vec<Vec<Option<u16>>>);

impl Places {
    /// The id of an endpoint; `None` where it is off.
    pub fn id(&self, pool: usize, place: usize) -> Option<u16> {
        self.0.get(pool)?.get(place).copied().flatten()
    }
}

pub(super) fn plan_endpoints(
    model: &Model,
    environment: &Environment<'_>,
    observed: &Image,
    (vnets, tunnels): (&[u32], &[Vec<Option<u32>>]),
    uses: &Uses<'_>,
    image: &mut Image,
) -> Result<Places, PlanError> {
    let mut ids = known_ids(model, environment, observed, vnets);
    let no_room = PlanError::no_room("endpoint", "endpoints");
    let mut places = Vec::with_capacity(model.pools.len());
    for (pool, drain_ns) in model.pools.iter().zip(drains_ns(model)) {
        let verdicts = verdicts_of(pool, environment);
        let mut of_pool = Vec::with_capacity(pool.endpoints.len());
        for endpoint in &pool.endpoints {
            if !endpoint.enabled {
                of_pool.push(None);
                continue;
            }
            let identity = identity_of(pool, endpoint, vnets);
            let id = ids.of(&identity).map_err(&no_room)?;
            let id = u16::try_from(id).map_err(|_| no_room(Exhausted))?;
            let of_vnet = tunnels.get(endpoint.vnet).map(Vec::as_slice).unwrap_or_default();
            let on = endpoint.tunnels.iter().filter_map(|&place| of_vnet.get(place).copied().flatten());
            let up = on.filter(|id| image.tunnels.get(id).is_some_and(|one| one.flags & TUNNEL_DOWN == 0));
            let (tunnel_count, tunnels) = spread(&up.collect::<Vec<_>>());
            let (vnet, address, port, tag) = identity;
            let known = observed.endpoints.get(&id);
            // In another pool it is the same server: what is known of its health counts.
            let same =
                || observed.endpoints.values().find(|e| (e.vnet, e.address, e.port) == (vnet, address, port));
            let verdict = verdicts.get(endpoint.name.as_str()).copied();
            let health = health(pool, verdict, known.or_else(same));
            let before = known.copied().unwrap_or_default();
            let state = before.state & !ENDPOINT_SHARE | share(pool, &endpoint.name, &before, environment);
            let entry = EndpointEntry { address, port, tunnel_count, vnet, tag, tunnels, state, ..before };
            image.endpoints.insert(id, settle((id, entry), endpoint, health, (drain_ns, uses), environment));
            of_pool.push(Some(id));
        }
        places.push(of_pool);
    }
    Ok(Places(places))
}

/// The state bits that say the share of an endpoint: what was decided now, else as before.
fn share(pool: &Pool, endpoint: &str, before: &EndpointEntry, environment: &Environment<'_>) -> u32 {
    if !pool.least_connections {
        return 0;
    }
    let decided = environment.steered.shares.get(&(pool.name.clone(), endpoint.to_owned()));
    let bits = |&share: &u8| u32::from(share) << ENDPOINT_SHARE_SHIFT;
    decided.map_or(before.state & ENDPOINT_SHARE, bits)
}

/// How long endpoints of each pool keep their flows when they are drained: as long as any of its services says. Where
/// it has none, it may have had one just now.
fn drains_ns(model: &Model) -> Vec<u64> {
    let mut longest = vec![None; model.pools.len()];
    for service in &model.services {
        for pool in service.steering.all() {
            if let Some(of_pool) = longest.get_mut(pool) {
                *of_pool = (*of_pool).max(Some(nanoseconds(service.drain)));
            }
        }
    }
    let of_any = longest_drain_ns(model);
    longest.into_iter().map(|of_pool| of_pool.unwrap_or(of_any)).collect()
}

/// The longest time of any service.
pub(super) fn longest_drain_ns(model: &Model) -> u64 {
    nanoseconds(model.services.iter().map(|service| service.drain).max().unwrap_or_default())
}

/// The state of an endpoint that is configured.
fn settle(
    (id, entry): (u16, EndpointEntry),
    endpoint: &Endpoint,
    health: HealthState,
    (drain_ns, uses): (u64, &Uses<'_>),
    environment: &Environment<'_>,
) -> EndpointEntry {
    let now_ns = environment.now_ns;
    let was_drained = entry.state & ENDPOINT_REMOVED == 0 && entry.until_ns != 0;
    let until_ns = match (endpoint.drained, was_drained) {
        (false, _) => 0,
        (true, true) if uses.is_empty(id, &entry, environment.flows) => entry.until_ns.min(now_ns.max(1)),
        (true, true) => entry.until_ns,
        (true, false) => now_ns.saturating_add(drain_ns).max(1),
    };
    let closed = if endpoint.drained || endpoint.weight == 0 { ENDPOINT_CLOSED } else { 0 };
    let state = (entry.state & !(ENDPOINT_REMOVED | ENDPOINT_CLOSED)) | closed;
    let mut entry = with_health(EndpointEntry { state, until_ns, ..entry }, health, now_ns);
    let tracked_up = ENDPOINT_TAKES_NEW | ENDPOINT_TRACKED;
    if entry.state & tracked_up == tracked_up
        && entry.since_ns.saturating_add(SETTLE_NS) <= environment.flows.since_ns
        // All flows that began elsewhere have pins by then, and there are none.
        && !environment.flows.bases.contains(&id)
    {
        entry.state &= !ENDPOINT_TRACKED;
    }
    entry
}

/// The tunnels that flows are spread over, as an entry holds them.
fn spread(tunnels: &[u32]) -> (u16, [u16; ENDPOINT_TUNNELS]) {
    let mut places = [0; ENDPOINT_TUNNELS];
    for (place, &id) in places.iter_mut().zip(tunnels.iter().take(ENDPOINT_TUNNELS).cycle()) {
        *place = u16::try_from(id).unwrap_or(0);
    }
    (u16::try_from(tunnels.len().min(ENDPOINT_TUNNELS)).unwrap_or(0), places)
}

/// The verdicts about a pool's endpoints, by their names.
fn verdicts_of<'a>(pool: &Pool, environment: &Environment<'a>) -> HashMap<&'a str, HealthState> {
    let from_there = environment.verdicts.range((pool.name.clone(), String::new())..);
    let of_pool = from_there.take_while(|((of, _), _)| *of == pool.name);
    of_pool.map(|((_, name), &verdict)| (name.as_str(), verdict)).collect()
}

/// The verdict where there is one, else what the kernel knows, else nothing is sent there yet.
fn health(pool: &Pool, verdict: Option<HealthState>, known: Option<&EndpointEntry>) -> HealthState {
    if pool.checks.is_empty() {
        return HealthState::Healthy;
    }
    match verdict {
        Some(verdict @ (HealthState::Healthy | HealthState::Unhealthy)) => verdict,
        Some(HealthState::Unknown | HealthState::Disabled) | None => {
            known.map_or(HealthState::Unknown, health_of)
        }
    }
}

/// Keeps endpoints that are not configured any more, while flows may be on them or something names them.
pub(super) fn plan_removed(
    model: &Model,
    environment: &Environment<'_>,
    observed: &Image,
    vnets: &[u32],
    uses: &Uses<'_>,
    image: &mut Image,
) {
    let removed: Vec<(u16, EndpointEntry)> = observed
        .endpoints
        .iter()
        .filter(|(id, _)| !image.endpoints.contains_key(id))
        .map(|(&id, entry)| (id, *entry))
        .collect();
    if removed.is_empty() {
        return;
    }
    let named: EndpointIds = image.tables.values().flat_map(|slots| slots.iter().copied()).collect();
    let all = model.pools.iter().flat_map(|pool| pool.endpoints.iter().map(move |one| (pool, one)));
    let off = all.filter(|(_, endpoint)| !endpoint.enabled);
    let off: BTreeSet<_> = off.map(|(pool, one)| identity_of(pool, one, vnets)).collect();
    for (id, entry) in removed {
        // One that is switched off ends from one moment to the next.
        let ends = off.contains(&identity_in(&entry));
        let empty = entry.state & ENDPOINT_REMOVED != 0 && uses.is_empty(id, &entry, environment.flows);
        let entry = tombstone(entry, uses.drain_ns(id), ends || empty, environment.now_ns, image);
        let settled = entry.until_ns.saturating_add(SETTLE_NS) <= environment.flows.since_ns;
        if !settled || named.contains(id) || environment.flows.endpoints.contains(&id) {
            image.endpoints.insert(id, entry);
            // Its address has an id as long as it is there.
            if let Some(&id) = observed.addresses.get(&entry.address) {
                image.addresses.insert(entry.address, id);
            }
        }
    }
}

/// The entry of an endpoint that is not configured any more.
fn tombstone(entry: EndpointEntry, drain_ns: u64, ends: bool, now_ns: u64, image: &Image) -> EndpointEntry {
    // It was removed or drained before: that time goes on, and what is over stays over.
    let known = (entry.until_ns != 0).then_some(entry.until_ns);
    let until_ns = known.unwrap_or_else(|| now_ns.saturating_add(drain_ns).max(1));
    // What leads there may have gone as well.
    let there = image.vnets.contains_key(&entry.vnet);
    let of_entry = entry.tunnels.iter().take(usize::from(entry.tunnel_count)).map(|&id| u32::from(id));
    let tunnels: Vec<u32> = of_entry.filter(|id| there && image.tunnels.contains_key(id)).collect();
    let (tunnel_count, tunnels) = spread(&tunnels);
    let until_ns = if ends || tunnel_count == 0 { until_ns.min(now_ns.max(1)) } else { until_ns };
    let state = (entry.state & !ENDPOINT_FORCED) | ENDPOINT_REMOVED;
    let tag = if there { entry.tag } else { 0 };
    let entry = EndpointEntry { state, until_ns, tunnel_count, tunnels, tag, ..entry };
    with_health(entry, health_of(&entry), now_ns)
}

/// Replies of endpoints that a listener has no more and that may still have flows of it: they were removed, or its pool
/// is another one and the change is under way.
pub(super) fn keep_replies(environment: &Environment<'_>, observed: &Image, image: &mut Image) {
    let under_way = |entry: &TrackingEntry| entry.flags & (TRACKING_OPEN | TRACKING_CLOSING) != 0;
    let mut changing: BTreeSet<u32> =
        image.tracking.iter().filter(|(_, entry)| under_way(entry)).map(|(&id, _)| id).collect();
    // What a listener is to clients of a region may change alone; replies are those of the listener.
    let by_region = image.regional_values().filter(|(.., value)| changing.contains(&value.id));
    let by_region: Vec<u32> = by_region.map(|(listener, ..)| listener).collect();
    changing.extend(by_region);
    let removed = |entry: &EndpointEntry| entry.state & ENDPOINT_REMOVED != 0;
    if changing.is_empty() && !image.endpoints.values().any(removed) {
        return;
    }
    let listeners: BTreeSet<u32> = image.listener_values().map(|(.., value)| value.id).collect();
    for (key, value) in observed.reply_values() {
        let ReplyKey::Ports { vnet, address, protocol, ports } = key else { continue };
        let Some(entry) = image.endpoints.get(&value.endpoint) else { continue };
        let kept = if removed(entry) {
            !is_released(entry, environment.now_ns)
        } else {
            changing.contains(&value.listener)
        };
        if !kept || !listeners.contains(&value.listener) || image.replies.contains_key(&key) {
            continue;
        }
        image.replies.insert(key, value.to_words());
        if let Some(&id) = observed.addresses.get(&entry.address) {
            image.addresses.insert(entry.address, id);
        }
        if ports.length < PortBlock::WHOLE {
            let origin = image.replies.entry(ReplyKey::Origin { vnet, address }).or_default();
            add_lengths(origin, protocol, 1 << ports.length);
        }
    }
}

/// Endpoint ids by (pool, endpoint) name, as an image has them.
pub fn endpoint_ids(model: &Model, image: &Image) -> BTreeMap<(String, String), u16> {
    let vnet_ids: BTreeMap<u32, u32> = image.vnets.iter().map(|(&id, entry)| (entry.vni, id)).collect();
    let vnets: Vec<u32> =
        model.vnets.iter().map(|vnet| vnet_ids.get(&vnet.vni).copied().unwrap_or(0)).collect();
    let on = image.endpoints.iter().filter(|(_, entry)| entry.state & ENDPOINT_REMOVED == 0);
    let known: BTreeMap<EndpointIdentity, u16> = on.map(|(&id, entry)| (identity_in(entry), id)).collect();
    let mut ids = BTreeMap::new();
    for pool in &model.pools {
        for endpoint in &pool.endpoints {
            if let Some(&id) = known.get(&identity_of(pool, endpoint, &vnets)) {
                ids.insert((pool.name.clone(), endpoint.name.clone()), id);
            }
        }
    }
    ids
}
