//! Which pools serve the services that have a choice: said in the log when it changes.

use std::collections::BTreeMap;

use super::Reconciler;
use crate::{config::model::Service, plan};

/// Names of the pools that served each service last.
pub type Served = BTreeMap<String, Vec<String>>;

impl Reconciler {
    /// Says which services are served by other pools than before this pass.
    pub(super) fn say_who_serves(&mut self) {
        let has_choice = |service: &&Service| service.steering.all().nth(1).is_some();
        let pools = plan::pools_named(&self.model, &self.ids, &self.image);
        let now: Served = self
            .model
            .services
            .iter()
            .filter(has_choice)
            .map(|service| (service.name.clone(), pools.serving(service).names(&self.model)))
            .collect();
        for (service, serving) in &now {
            let before = self.served.get(service);
            if before.is_some_and(|before| before != serving) {
                let (before, serving) = (before.map(|names| names.join(",")), serving.join(","));
                tracing::info!(service, serving, before, "other pools serve");
            }
        }
        self.served = now;
    }
}
