//! Drains that begin and end, and why: from what the maps say of endpoints after a pass.

use std::collections::{BTreeMap, HashMap};

use lbx_common::{
    abi::{ENDPOINT_REMOVED, EndpointEntry},
    api::{DrainEnd, Drained, Happening},
};

use super::{
    Reconciler,
    findings::Name,
    now_ns,
    reports::{secs_left, shown_address},
};
use crate::plan::is_released;

/// An endpoint that is to lose the flows that it has, or has lost them.
#[derive(Debug, Clone)]
pub(super) struct Draining {
    endpoint: Drained,
    /// When it keeps none any more.
    until_ns: u64,
    /// Whether its end was told.
    over: bool,
}

impl Reconciler {
    /// Looks at all of them. `ids` are those of endpoints before this pass.
    pub(super) fn tell_drains(&mut self, ids: &BTreeMap<Name, u16>, first: bool) {
        let now_ns = now_ns();
        let mut before = std::mem::take(&mut self.told.drains);
        let mut now = BTreeMap::new();
        let mut names: Option<HashMap<u16, &Name>> = None;
        for (&id, entry) in self.image.endpoints.iter().filter(|(_, entry)| entry.until_ns != 0) {
            let (until_ns, over) = (entry.until_ns, is_released(entry, now_ns));
            let removed = entry.state & ENDPOINT_REMOVED != 0;
            let known = before.remove(&id);
            let is_new = known.is_none();
            let known = known.unwrap_or_else(|| {
                let names = names.get_or_insert_with(|| {
                    ids.iter().chain(&self.ids).map(|(name, &id)| (id, name)).collect()
                });
                let endpoint = self.drained(entry, names.get(&id).copied());
                // One that was disabled, or ended before anybody looked, is not told of.
                Draining { endpoint, until_ns, over: over && (first || removed) }
            });
            if is_new && !first && !known.over {
                let (endpoint, secs) = (known.endpoint.clone(), secs_left(entry, now_ns));
                self.events.record(Happening::DrainBegun { endpoint, removed, secs });
            }
            if over && !known.over {
                let (endpoint, why) = (known.endpoint.clone(), self.why_it_ended(&known, entry));
                self.events.record(Happening::DrainEnded { endpoint, why });
            }
            now.insert(id, Draining { endpoint: known.endpoint, until_ns, over });
        }
        self.told.drains = now;
        for (id, known) in before.into_iter().filter(|(_, known)| !known.over) {
            let why = if self.image.endpoints.contains_key(&id) {
                DrainEnd::Undrained
            } else if known.until_ns <= now_ns {
                DrainEnd::TimeOver
            } else {
                DrainEnd::NoFlowsLeft
            };
            self.events.record(Happening::DrainEnded { endpoint: known.endpoint, why });
        }
    }

    fn why_it_ended(&self, known: &Draining, entry: &EndpointEntry) -> DrainEnd {
        if entry.until_ns >= known.until_ns {
            return DrainEnd::TimeOver;
        }
        let Drained { pool, endpoint, .. } = &known.endpoint;
        let mut pools = self.model.pools.iter().filter(|one| Some(&one.name) == pool.as_ref());
        let configured =
            pools.find_map(|pool| pool.endpoints.iter().find(|one| Some(&one.name) == endpoint.as_ref()));
        if configured.is_some_and(|configured| !configured.enabled) {
            DrainEnd::Disabled
        } else if entry.tunnel_count == 0 {
            DrainEnd::NoTunnel
        } else {
            DrainEnd::NoFlowsLeft
        }
    }

    fn drained(&self, entry: &EndpointEntry, name: Option<&Name>) -> Drained {
        Drained {
            pool: name.map(|(pool, _)| pool.clone()),
            endpoint: name.map(|(_, endpoint)| endpoint.clone()),
            virtual_network: self.vnet_names(&self.image).get(&entry.vnet).map(|&name| name.to_owned()),
            address: shown_address(entry),
        }
    }
}
