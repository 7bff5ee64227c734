//! Verdicts of health checks: written at once, planned for only where a lookup table is to be another one. A pass takes
//! long where services are many, and no verdict may wait for that of another endpoint.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lbx_common::{
    abi::{NODE_TRACKS, NodeEntry, TRACKING_ON},
    api::{ConnectionTracking, Happening, HealthState},
};

use super::{Reconciler, now_ns, reports::address_of};
use crate::{
    config::model::Model,
    dataplane::{Image, MapId, Memory, update_endpoint},
    health::{Observation, TargetKey},
    plan::{self, Known, Reach},
};

/// A pass follows when verdicts have been silent for this time,
const SILENCE: Duration = Duration::from_secs(1);
/// and this long after the first one at the latest. What it finds to do is for looks at pins alone.
const LONGEST: Duration = Duration::from_secs(5);

/// What has come since the last pass.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// Pools with endpoints whose bits changed, and that were not looked at yet.
    pools: BTreeSet<String>,
    first: Option<Instant>,
    /// When a pass is to follow.
    pub pass: Option<Instant>,
    /// Whom verdicts reach, once there was one.
    reach: Option<Reach>,
}

/// Has listeners of pools look at what is remembered of their flows, as a plan says that they must while an endpoint in
/// their tables may have flows of others. That waits for no pass: flows begin elsewhere from now on.
pub fn begin_tracking(
    memory: &mut impl Memory,
    image: &mut Image,
    model: &Model,
    (reach, pools): (&Reach, &BTreeSet<String>),
) {
    let tracked =
        reach.services(model, pools).filter(|(service, _)| service.tracking != ConnectionTracking::Off);
    for id in tracked.flat_map(|(_, listeners)| reach.tracked(listeners)) {
        let entry = image.tracking.entry(id).or_default();
        if entry.flags & TRACKING_ON == 0 {
            entry.flags |= TRACKING_ON;
            memory.write(MapId::Tracking, id, *entry);
        }
    }
    if !image.tracking.is_empty() && image.node.flags & NODE_TRACKS == 0 {
        image.node.flags |= NODE_TRACKS;
        let node: NodeEntry = memory.read(MapId::Node, 0);
        memory.write(MapId::Node, 0, NodeEntry { flags: image.node.flags, ..node });
    }
}

impl Reconciler {
    /// Takes a probe's result: an endpoint's verdict goes into its bits at once. Returns whether the plan is another one
    /// now, as far as tunnels go; see [`Self::verdicts_change_tables`].
    pub(super) fn observe(&mut self, observation: &Observation) -> bool {
        let of_all;
        let observation = match observation.key.whole() {
            Some((whole, member)) => {
                let Some(found) = self.hear(whole, &member, observation) else { return false };
                of_all = found;
                &of_all
            }
            None => observation,
        };
        let Observation { key, reason, .. } = observation;
        match key {
            TargetKey::Endpoint { pool, endpoint, .. } => {
                let name = key.name();
                let Some(&id) = self.ids.get(&name) else { return false };
                let from = self.last_state(&name);
                let Some((state, _)) = self.endpoints.take(name, observation) else { return false };
                if from != state {
                    self.keeping.soon();
                    self.tell_verdict(pool, endpoint, (from, state), reason);
                }
                let now_ns = now_ns();
                let update = |entry| plan::with_health(entry, state, now_ns);
                if update_endpoint(&mut self.kernel.memory, id, update) {
                    let entry = self.kernel.memory.read(MapId::Endpoints, u32::from(id));
                    self.image.endpoints.insert(id, entry);
                    self.verdicts.pools.insert(pool.clone());
                }
                false
            }
            TargetKey::Tunnel { virtual_network, tunnel, path: (_, remote, _) } => {
                if observation.round_trip.is_none() {
                    // Where there is no room, it is doubted already; the next probe says it again.
                    let _ = self.outputs.doubts.try_send(*remote);
                }
                let Some((state, before)) = self.tunnels.take(key.name(), observation) else { return false };
                let differs = before != Some(state);
                if differs {
                    self.keeping.soon();
                    self.events.record(Happening::TunnelHealth {
                        virtual_network: virtual_network.clone(),
                        tunnel: tunnel.clone(),
                        from: before.unwrap_or(HealthState::Unknown),
                        to: state,
                        reason: reason.clone(),
                    });
                }
                self.rerouted |= differs;
                differs
            }
        }
    }

    fn tell_verdict(&self, pool: &str, endpoint: &str, (from, to): (HealthState, HealthState), reason: &str) {
        let Some(of_pool) = self.model.pools.iter().find(|one| one.name == pool) else { return };
        let Some(configured) = of_pool.endpoints.iter().find(|one| one.name == endpoint) else { return };
        self.events.record(Happening::EndpointHealth {
            pool: pool.to_owned(),
            endpoint: endpoint.to_owned(),
            virtual_network: self.vnet_name(configured.vnet),
            address: address_of(configured),
            from,
            to,
            reason: reason.to_owned(),
        });
    }

    /// Whether the verdicts that were taken make other tables necessary. Where they do not, a pass follows when there is
    /// time.
    pub(super) fn verdicts_change_tables(&mut self) -> bool {
        let pools = std::mem::take(&mut self.verdicts.pools);
        if pools.is_empty() {
            return false;
        }
        self.tell_verdicts(&pools);
        let reach = self.verdicts.reach.get_or_insert_with(|| Reach::new(&self.model, &self.image));
        begin_tracking(&mut self.kernel.memory, &mut self.image, &self.model, (reach, &pools));
        let known = Known { ids: &self.ids, orders: &self.steered.orders };
        if !plan::tables_stay(&self.model, known, &self.image, (reach, &pools)) {
            return true;
        }
        let now = Instant::now();
        let first = *self.verdicts.first.get_or_insert(now);
        self.verdicts.pass = Some((now + SILENCE).min(first + LONGEST));
        false
    }
}
