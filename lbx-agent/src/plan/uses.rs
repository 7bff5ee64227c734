//! What services say of the endpoints in their tables, those of before a change included: how long they keep their
//! flows when they take no new ones, and since when each of their flows has a pin.

use std::{cell::OnceCell, collections::BTreeMap};

use lbx_common::{
    abi::{EndpointEntry, TRACKING_ALWAYS, TRACKING_FULL, Target},
    api::{ConnectionTracking, Forwarding},
    pins::NANOSECONDS,
};

use super::{
    changes::FlowFacts,
    endpoints::{SETTLE_NS, longest_drain_ns},
    ids::EndpointIds,
    nanoseconds,
    services::{listener_ids, listeners_of},
};
use crate::{config::model::Model, dataplane::Image};

/// What the services say that an endpoint is, or was, an endpoint of.
#[derive(Debug, Clone, Copy)]
struct Use {
    /// The longest time of any.
    drain_ns: u64,
    /// When the flows that have no pin are over; `None` = flows need no pin.
    pinned_ns: Option<u64>,
}

/// What the services say, found out when somebody asks: most passes do not.
pub struct Uses<'a> {
    model: &'a Model,
    observed: &'a Image,
    /// By endpoint id.
    by_endpoint: OnceCell<BTreeMap<u16, Use>>,
}

impl<'a> Uses<'a> {
    /// By the tables that the maps hold.
    pub const fn new(model: &'a Model, observed: &'a Image) -> Self {
        Self { model, observed, by_endpoint: OnceCell::new() }
    }

    fn get(&self, id: u16) -> Option<&Use> {
        self.by_endpoint.get_or_init(|| uses(self.model, self.observed)).get(&id)
    }

    /// How long an endpoint keeps its flows that is not configured any more.
    pub fn drain_ns(&self, id: u16) -> u64 {
        // One without weight is in no table, and one that came while a change was open may not be in the one before.
        self.get(id).map_or_else(|| longest_drain_ns(self.model), |one| one.drain_ns)
    }

    /// Whether an endpoint that takes no new flows has none left. Known only where every flow has a pin.
    pub fn is_empty(&self, id: u16, entry: &EndpointEntry, flows: &FlowFacts) -> bool {
        let Some(pinned_ns) = self.get(id).and_then(|one| one.pinned_ns) else { return false };
        pinned_ns.max(entry.since_ns).saturating_add(SETTLE_NS) <= flows.since_ns
            && !flows.endpoints.contains(&id)
    }
}

fn uses(model: &Model, observed: &Image) -> BTreeMap<u16, Use> {
    let idle_ns = nanoseconds(model.timers.tcp_idle.max(model.timers.udp_idle));
    let ids = listener_ids(observed);
    let mut by_listener = BTreeMap::new();
    for service in &model.services {
        for id in listeners_of(service, observed, &ids) {
            let entry = observed.tracking.get(&id).copied().unwrap_or_default();
            // In direct return the endpoint's packets, which pin flows from before, are not seen.
            let all = service.tracking == ConnectionTracking::Always
                && service.forwarding != Forwarding::Dsr
                && entry.flags & (TRACKING_ALWAYS | TRACKING_FULL) == TRACKING_ALWAYS;
            let pinned_ns = match entry.always_secs {
                0 => None,
                1 => Some(0),
                since_secs => Some((u64::from(since_secs) * NANOSECONDS).saturating_add(idle_ns)),
            };
            let drain_ns = nanoseconds(service.drain);
            by_listener.insert(id, Use { drain_ns, pinned_ns: pinned_ns.filter(|_| all) });
        }
    }
    // Thousands of services may share a table.
    let mut by_line: BTreeMap<u32, Use> = BTreeMap::new();
    let own = observed.listener_values().map(|(.., value)| (value.id, value));
    for (listener, value) in own.chain(observed.regional_values().map(|(id, _, value)| (id, value))) {
        let Some(&one) = by_listener.get(&listener) else { continue };
        let previous = observed.tracking.get(&value.id).map_or(Target::default(), |entry| entry.previous);
        for target in [value.target, previous].into_iter().filter(|target| target.slots() != 0) {
            by_line.entry(target.line()).and_modify(|known| *known = known.with(one)).or_insert(one);
        }
    }
    let mut uses: BTreeMap<u16, Use> = BTreeMap::new();
    for (line, one) in by_line {
        let mut members = EndpointIds::default();
        let slots = observed.tables.get(&line).into_iter().flat_map(|slots| slots.iter().copied());
        for id in slots.filter(|&id| members.insert(id)) {
            uses.entry(id).and_modify(|known| *known = known.with(one)).or_insert(one);
        }
    }
    uses
}

impl Use {
    fn with(self, other: Self) -> Self {
        Self {
            drain_ns: self.drain_ns.max(other.drain_ns),
            pinned_ns: self.pinned_ns.zip(other.pinned_ns).map(|(one, other)| one.max(other)),
        }
    }
}
