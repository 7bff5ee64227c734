//! Changes of tables: open while unpinned flows go by the table before, then closing while pins are left.
//!
//! What is under way is observed, not remembered: an agent that starts again finds it in the maps and goes on.

use std::collections::{BTreeMap, BTreeSet};

use lbx_common::{
    abi::{
        ENDPOINT_DOWN, ENDPOINT_REMOVED, ENDPOINT_TAKES_NEW, ENDPOINT_TRACKED, ENDPOINT_USABLE,
        EndpointEntry, ListenerKey, NODE_REGIONS_CLOSING, TRACKING_AFFINITY, TRACKING_ALWAYS,
        TRACKING_CLOSING, TRACKING_EVERY, TRACKING_FULL, TRACKING_ON, TRACKING_OPEN, TRACKING_REHASHED,
        Target, TrackingEntry,
    },
    api::ConnectionTracking,
    pins::NANOSECONDS,
};

use super::{
    endpoints::SETTLE_NS,
    hosts::known_host,
    ids::EndpointIds,
    nanoseconds,
    planner::Environment,
    regions::{self, RegionsChange},
};
use crate::{config::model::Service, dataplane::Image};

/// What is known of flows that live elsewhere than their hash says: the last two looks at all pins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowFacts {
    /// When the earlier of the two began; 0 = there were no two.
    pub since_ns: u64,
    /// Listeners with pins that current table and endpoints make necessary.
    pub listeners: BTreeSet<u32>,
    /// Base owners in whose slots such pins are.
    pub bases: BTreeSet<u16>,
    /// Endpoints that any pin names.
    pub endpoints: BTreeSet<u16>,
    /// Listeners that have their share of the pins.
    pub full: BTreeSet<u32>,
}

/// A listener, or what it is to clients of a region.
#[derive(Debug, Clone, Copy)]
pub struct Tracked {
    /// Its index in `TRACKING`.
    pub id: u32,
    /// The listener's id.
    pub listener: u32,
    /// The id of the service's first listener.
    pub first: u32,
    /// Whether it is not the same to clients of all regions.
    pub by_region: bool,
}

/// The changes of all listeners.
pub struct Changes<'a> {
    environment: &'a Environment<'a>,
    observed: &'a Image,
    targets: BTreeMap<u32, Target>,
    transition_ns: u64,
    reseeded: bool,
    regions: RegionsChange,
    /// Once somebody has asked.
    tracked_endpoints: Option<EndpointIds>,
    /// Tables with tracked endpoints, by first line.
    tracked: BTreeMap<u32, bool>,
}

impl<'a> Changes<'a> {
    /// From what the maps hold.
    pub fn new(
        environment: &'a Environment<'a>,
        observed: &'a Image,
        transition: std::time::Duration,
        regions: RegionsChange,
    ) -> Self {
        Self {
            environment,
            observed,
            targets: observed.tracked_values().map(|value| (value.id, value.target)).collect(),
            transition_ns: nanoseconds(transition),
            reseeded: observed.node.abi != 0 && observed.node.seed != environment.node.seed,
            regions,
            tracked_endpoints: None,
            tracked: BTreeMap::new(),
        }
    }

    /// The target of a listener whose table is to be `wanted`, and what is under way there, which goes into the
    /// image.
    ///
    /// A region that was not told apart before goes on from what the listener is to all others.
    pub fn of(&mut self, who: Tracked, wanted: Target, service: &Service, image: &mut Image) -> Target {
        if service.tracking == ConnectionTracking::Off {
            return wanted;
        }
        let Tracked { id, listener, first, by_region } = who;
        let seen = if self.targets.contains_key(&id) { id } else { listener };
        let always = service.tracking == ConnectionTracking::Always;
        let before = self.observed.tracking.get(&seen).copied().unwrap_or_default();
        let wants_pins = always || service.affinity.is_some();
        let again = by_region && self.regions.again;
        let mut entry = self.under_way(seen, wanted, (wants_pins, again), before);

        if always {
            entry.flags |= TRACKING_ALWAYS | TRACKING_EVERY;
            entry.always_secs = self.always_since(service, before);
        }
        if let Some(ttl) = service.affinity {
            entry.flags |= TRACKING_AFFINITY | TRACKING_EVERY;
            entry.affinity_secs = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
            entry.affinity_service = first;
        }
        self.keep_table(entry.previous, image);
        let is_tracked = entry.flags != 0;
        // Flows of clients that are in another region now are looked for by it.
        let may_have_moved = by_region && self.regions.under_way;
        if is_tracked || may_have_moved {
            entry.current = wanted;
        }
        if is_tracked || may_have_moved || self.has_tracked_endpoints(wanted, image) {
            entry.flags |= TRACKING_ON;
            if self.environment.flows.full.contains(&listener) {
                entry.flags |= TRACKING_FULL;
            }
            image.tracking.insert(id, entry);
        }
        wanted.tracked(is_tracked)
    }

    /// Whether clients may have been in another region.
    pub const fn may_have_moved(&self) -> bool {
        self.regions.under_way
    }

    /// Since when every flow of a service is pinned.
    fn always_since(&self, service: &Service, before: TrackingEntry) -> u32 {
        let vip = known_host(service.address, self.observed);
        let is_known = || vip.is_some_and(|vip| self.observed.listeners.contains_key(&ListenerKey::Vip(vip)));
        match before.always_secs {
            // Also listeners that are gone now may have flows.
            0 if is_known() => seconds(self.environment.now_ns).max(2),
            0 => 1,
            since_secs => since_secs,
        }
    }

    /// The change of a listener, begun, carried on or at its end.
    ///
    /// With `again` the regions have changed another time, which the tables do not show.
    fn under_way(
        &self,
        id: u32,
        wanted: Target,
        (wants_pins, again): (bool, bool),
        before: TrackingEntry,
    ) -> TrackingEntry {
        let now_ns = self.environment.now_ns;
        let current = self.targets.get(&id).map_or(Target::default(), |target| target.tracked(false));
        let mut entry = TrackingEntry { always_secs: 0, affinity_secs: 0, affinity_service: 0, ..before };
        // Pins may be where the two tables do not show it.
        let had_pins = before.flags & (TRACKING_ALWAYS | TRACKING_AFFINITY) != 0;
        entry.flags &= TRACKING_OPEN | TRACKING_CLOSING | TRACKING_EVERY | TRACKING_REHASHED;
        if current.slots() != 0 && (current != wanted || self.reseeded || again) {
            if had_pins || again || before.flags & (TRACKING_OPEN | TRACKING_CLOSING) != 0 {
                entry.flags |= TRACKING_EVERY;
            }
            if before.flags & TRACKING_OPEN == 0 {
                entry.previous = current;
                entry.previous_seed = self.observed.node.seed;
            }
            entry.flags = entry.flags & !TRACKING_CLOSING | TRACKING_OPEN;
            entry.opened_ns = now_ns;
            entry.deadline_ns = now_ns.saturating_add(self.transition_ns);
        } else if before.flags & TRACKING_OPEN != 0 && before.deadline_ns <= now_ns {
            entry.flags = entry.flags & !TRACKING_OPEN | TRACKING_CLOSING;
        } else if had_pins && !wants_pins && before.flags & TRACKING_OPEN == 0 {
            entry.flags |= TRACKING_CLOSING | TRACKING_EVERY;
            entry.deadline_ns = now_ns;
        } else if before.flags & TRACKING_CLOSING != 0 && self.is_clean(id, before.deadline_ns) {
            return TrackingEntry::default();
        }
        if entry.flags & (TRACKING_OPEN | TRACKING_CLOSING) == 0 {
            return TrackingEntry::default();
        }
        // The entry is written before the seed is: a seed that comes back is another one until then.
        let other_hash = entry.previous.slots() != 0
            && (self.reseeded
                || entry.previous_seed != self.environment.node.seed
                || entry.previous.source_bits() != wanted.source_bits());
        let rehashed = if other_hash { TRACKING_REHASHED } else { 0 };
        entry.flags = entry.flags & !TRACKING_REHASHED | rehashed;
        entry
    }

    /// Whether two looks since a change began to close found nothing left of it.
    fn is_clean(&self, id: u32, closing_ns: u64) -> bool {
        let facts = &self.environment.flows;
        facts.since_ns >= closing_ns.saturating_add(SETTLE_NS) && !facts.listeners.contains(&id)
    }

    fn keep_table(&self, previous: Target, image: &mut Image) {
        if previous.slots() != 0
            && let Some(slots) = self.observed.tables.get(&previous.line())
        {
            image.tables.entry(previous.line()).or_insert_with(|| slots.clone());
        }
    }

    fn has_tracked_endpoints(&mut self, target: Target, image: &Image) -> bool {
        let tracked = self.tracked_endpoints.get_or_insert_with(|| {
            let all = image.endpoints.iter();
            let tracked = all.filter(|(_, endpoint)| endpoint.state & ENDPOINT_TRACKED != 0);
            tracked.map(|(&id, _)| id).collect()
        });
        target.slots() != 0
            && *self.tracked.entry(target.line()).or_insert_with(|| {
                let slots = image.tables.get(&target.line());
                slots.is_some_and(|slots| slots.iter().any(|&id| tracked.contains(id)))
            })
    }
}

/// A time in whole seconds, not before it.
fn seconds(time_ns: u64) -> u32 {
    u32::try_from(time_ns.div_ceil(NANOSECONDS)).unwrap_or(u32::MAX)
}

/// The next time at which something changes by itself: a change begins to close, or an endpoint's time to keep flows
/// is over.
pub fn next_deadline_ns(image: &Image) -> Option<u64> {
    let open = image.tracking.values().filter(|entry| entry.flags & TRACKING_OPEN != 0);
    let closing = open.map(|entry| entry.deadline_ns);
    let drained = image.endpoints.values().filter(|entry| keeps_flows_for_a_while(entry));
    let regions = regions::is_open(&image.node).then_some(image.node.regions_deadline_ns);
    closing.chain(regions).chain(drained.map(|entry| entry.until_ns)).min()
}

/// Whether an endpoint is to lose the flows that it has.
pub const fn keeps_flows_for_a_while(entry: &EndpointEntry) -> bool {
    entry.until_ns != 0 && entry.state & (ENDPOINT_USABLE | ENDPOINT_DOWN) != 0
}

/// Whether something ends when pins are gone: a change that is closing, or an endpoint that is tracked although it
/// takes new flows, or that is not configured any more, or the time of a drained one whose flows all have pins.
pub fn waits_for_flows(image: &Image) -> bool {
    let any = |flags: u32| image.tracking.values().any(|entry| entry.flags & flags != 0);
    let up = ENDPOINT_TAKES_NEW | ENDPOINT_TRACKED;
    let may_be_empty = any(TRACKING_ALWAYS) && image.endpoints.values().any(keeps_flows_for_a_while);
    any(TRACKING_CLOSING)
        || image.node.flags & NODE_REGIONS_CLOSING != 0
        || may_be_empty
        || image.endpoints.values().any(|e| e.state & up == up || e.state & ENDPOINT_REMOVED != 0)
}

/// Whether pins have to be looked at: flows may live elsewhere than their hash says, or something waits for them to
/// go.
pub fn needs_sweeps(image: &Image) -> bool {
    !image.tracking.is_empty() || image.endpoints.values().any(|entry| entry.state & ENDPOINT_TRACKED != 0)
}
