//! The list of regions, and what becomes of flows of clients whom another list has in another region.
//!
//! Such a change is like that of a table: while it is open, flows that nothing is remembered of go where they went in
//! their region from before; then only pins are looked up, until none is left that needs it. It and the changes of
//! tables that depend on regions end together, or a flow that both have moved would be looked for in a mixture.

use std::collections::BTreeSet;

use lbx_common::abi::{
    LISTENER_BY_REGION, NO_REGIONS, NODE_REGIONS_CLOSING, NodeEntry, REPLY_BY_REGION, ReplyKey, ReplyValue,
    TRACKING_ON, TRACKING_OPEN, Words as _,
};

use super::{endpoints::SETTLE_NS, planner::Environment};
use crate::dataplane::Image;

/// What a change of the list means to listeners.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegionsChange {
    /// Clients may have been in another region.
    pub under_way: bool,
    /// The list has changed once more before that was over.
    pub again: bool,
}

/// Whether flows live where the list before says.
pub const fn is_open(node: &NodeEntry) -> bool {
    node.regions_before != 0 && node.flags & NODE_REGIONS_CLOSING == 0
}

/// Says in the node's entry which list counts, and what is under way.
pub fn plan(
    environment: &Environment<'_>,
    observed: &Image,
    transition_ns: u64,
    node: &mut NodeEntry,
) -> RegionsChange {
    let (before, now_ns) = (&observed.node, environment.now_ns);
    node.regions = environment.regions;
    let ids = ids_by_region(observed);
    if ids.is_empty() {
        return RegionsChange::default();
    }
    let mut again = false;
    if before.regions != node.regions {
        again = before.regions_before != 0;
        let list = if before.regions == 0 { NO_REGIONS } else { before.regions };
        // Once a change is closing, flows without a pin live by the list that it has brought.
        node.regions_before = if is_open(before) { before.regions_before } else { list };
        node.regions_opened_ns = now_ns;
        node.regions_deadline_ns = now_ns.saturating_add(transition_ns);
    } else if before.regions_before != 0 {
        let facts = environment.flows;
        let is_over = before.regions_deadline_ns <= now_ns;
        let is_clean = before.flags & NODE_REGIONS_CLOSING != 0
            && facts.since_ns >= before.regions_deadline_ns.saturating_add(SETTLE_NS)
            && ids.is_disjoint(&facts.listeners);
        if is_clean {
            return RegionsChange::default();
        }
        node.regions_before = before.regions_before;
        node.regions_opened_ns = before.regions_opened_ns;
        node.regions_deadline_ns = before.regions_deadline_ns;
        node.flags |= if is_over { NODE_REGIONS_CLOSING } else { 0 };
    }
    RegionsChange { under_way: node.regions_before != 0, again }
}

/// Has the changes of all that depends on regions end together, and replies of it be known as such.
pub fn finish(image: &mut Image) {
    let ids = ids_by_region(image);
    if is_open(&image.node) {
        let open = |id| image.tracking.get(id).filter(|entry| entry.flags & TRACKING_OPEN != 0);
        let last = ids.iter().filter_map(open).map(|entry| entry.deadline_ns).max().unwrap_or_default();
        let deadline_ns = image.node.regions_deadline_ns.max(last);
        image.node.regions_deadline_ns = deadline_ns;
        for id in &ids {
            if let Some(entry) = image.tracking.get_mut(id)
                && entry.flags & TRACKING_OPEN != 0
            {
                entry.deadline_ns = deadline_ns;
            }
        }
    }
    // Replies are looked into where the listener says so.
    let regional: Vec<(u32, u32)> = image.regional_values().map(|(id, _, value)| (id, value.id)).collect();
    for (listener, id) in regional {
        if image.tracking.contains_key(&id) {
            image.tracking.entry(listener).or_default().flags |= TRACKING_ON;
        }
    }
    for (key, words) in &mut image.replies {
        if let ReplyKey::Ports { .. } = key {
            let mut value = ReplyValue::from_words(*words);
            value.flags = if ids.contains(&value.listener) { REPLY_BY_REGION } else { 0 };
            *words = value.to_words();
        }
    }
}

/// The ids of listeners that are not the same to clients of all regions, and of what they are to each.
fn ids_by_region(image: &Image) -> BTreeSet<u32> {
    let values = image.listener_values().map(|(.., value)| value);
    let listeners = values.filter(|value| value.flags & LISTENER_BY_REGION != 0);
    let regional = image.regional_values().map(|(.., value)| value.id);
    listeners.map(|value| value.id).chain(regional).collect()
}
