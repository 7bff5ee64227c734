//! Plans what services ask of their packets: lists of prefixes, and rates at which flows may begin.
//!
//! A list is known by what it says, like a lookup table: services that say the same share one, and a service that
//! says something else gets another one, which is complete before the first packet is measured by it.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use lbx_common::{
    abi::{PREFIX_ALLOWED, PREFIX_DENIED, PolicyEntry},
    api::Prefix,
    policy::interval_ns,
};

use super::{ids::Ids, planner::PlanError};
use crate::{
    config::model::Service,
    dataplane::{Image, PrefixList},
};

/// Whether a service asks anything of its packets.
pub fn has_policy(service: &Service) -> bool {
    has_prefixes(service) || !service.rate_limit.is_off()
}

fn has_prefixes(service: &Service) -> bool {
    !service.allow.is_empty() || !service.deny.is_empty()
}

/// Gives out lists.
pub struct Policies {
    lists: Ids<Arc<PrefixList>>,
}

impl Policies {
    /// Goes on from the lists that are observed.
    pub fn new(observed: &Image) -> Self {
        let known = observed.prefixes.iter().map(|(&id, list)| (list.clone(), id));
        // Prefixes run out long before their lists' ids do.
        Self { lists: Ids::new(known, u32::MAX) }
    }

    /// What the listeners of a service ask, the first of which has the id `listener`; the image then has its list.
    pub fn of(
        &mut self,
        service: &Service,
        listener: u32,
        image: &mut Image,
    ) -> Result<PolicyEntry, PlanError> {
        let mut list = 0;
        if has_prefixes(service) {
            let prefixes = Arc::new(compile(&service.allow, &service.deny, every_source(service)));
            let no_room = PlanError::no_room("list of prefixes", "prefixes");
            list = self.lists.of(&prefixes).map_err(no_room)?;
            image.prefixes.insert(list, prefixes);
        }
        Ok(PolicyEntry {
            list,
            bucket: listener,
            flow_interval_ns: interval_ns(service.rate_limit.new_flows_per_second),
            source_interval_ns: interval_ns(service.rate_limit.per_source),
        })
    }
}

fn every_source(service: &Service) -> Prefix {
    Prefix::around(service.address, 0)
}

/// The list in which the longest prefix of a source says what `allow` and `deny` say together: what `deny` has is
/// denied, also within `allow`; else what `allow` has is allowed, or all where it is empty.
fn compile(allow: &[Prefix], deny: &[Prefix], every_source: Prefix) -> PrefixList {
    let others = if allow.is_empty() { PREFIX_ALLOWED } else { PREFIX_DENIED };
    let denied: HashSet<Prefix> = deny.iter().copied().collect();
    let lengths: BTreeSet<u8> = deny.iter().map(|prefix| prefix.length()).collect();
    // A longer prefix would win, so what lies within a denied one is left out.
    let is_denied = |prefix: Prefix| {
        let mut around = lengths.range(..=prefix.length());
        around.any(|&length| denied.contains(&Prefix::around(prefix.address(), length)))
    };
    let mut list = PrefixList::from([(every_source, others)]);
    list.extend(allow.iter().filter(|&&prefix| !is_denied(prefix)).map(|&prefix| (prefix, PREFIX_ALLOWED)));
    list.extend(deny.iter().map(|&prefix| (prefix, PREFIX_DENIED)));
    list
}

#[cfg(test)]
mod tests;
