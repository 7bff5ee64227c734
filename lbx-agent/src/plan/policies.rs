//! Plans what services ask of their packets: lists of prefixes, and rates at which flows may begin.
//!
//! A list is known by what it says, like a lookup table: services that say the same share one, and a service that
//! says something else gets another one, which is complete before the first packet is measured by it.

use std::sync::Arc;

use lbx_common::{abi::PolicyEntry, policy::interval_ns};

use super::{ids::Ids, planner::PlanError};
use crate::{
    config::model::Service,
    dataplane::{Image, PrefixList},
};

/// Whether a service asks anything of its packets.
pub fn has_policy(service: &Service) -> bool {
    service.sources.is_some() || !service.rate_limit.is_off()
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
        if let Some(sources) = &service.sources {
            let no_room = PlanError::no_room("list of prefixes", "prefixes");
            list = self.lists.of(sources).map_err(no_room)?;
            image.prefixes.insert(list, Arc::clone(sources));
        }
        Ok(PolicyEntry {
            list,
            bucket: listener,
            flow_interval_ns: interval_ns(service.rate_limit.new_flows_per_second),
            source_interval_ns: interval_ns(service.rate_limit.per_source),
        })
    }
}
