//! A pass: plan, diff, apply, and what follows from it.

use std::time::{Duration, Instant};

use super::{KernelError, Reconciler, now_ns, verdicts::Verdicts};
use crate::{
    config::model::Model,
    dataplane::{Image, Sizes, apply, diff},
    metrics::own::count_pass,
    plan::{self, Environment, NodeFacts},
};

/// Time after which a change that failed is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Nanoseconds between two answers of a CPU to packets that it refuses, and to pings: 1,000 a second, as many as a
/// busy router's. More would make lbx a tool against whoever's address is in the packets.
const ANSWER_INTERVAL: u32 = 1_000_000;

impl Reconciler {
    /// Looks at what the maps hold. Where there is no hurry that is done before each pass: somebody may have been at
    /// them by hand.
    pub(super) fn look(&mut self) {
        self.image = Image::observe(&self.kernel.memory);
    }

    /// Plans, where that was not done before, and makes the maps so.
    pub(super) fn converge(&mut self, planned: Option<Image>) -> Result<(), KernelError> {
        let began = Instant::now();
        self.retry = Some(began + RETRY);
        self.verdicts = Verdicts::default();
        let wanted = match planned {
            Some(planned) => planned,
            None => self.plan(&self.model, self.seed, self.regions.list_id(), &self.image)?,
        };
        self.take_samples();
        let steps = diff(&self.image, &wanted);
        tracing::debug!(?steps, "applying");
        let applied = apply(&mut self.kernel.memory, &mut self.kernel.counters, &steps);
        if applied.is_ok() {
            self.image = wanted;
        } else {
            self.look();
        }
        self.sample_from_now_on();
        self.built.forget_unused();
        let ids = std::mem::replace(&mut self.ids, plan::endpoint_ids(&self.model, &self.image));
        applied?;
        self.tell_of_pass(&ids);
        // They are in the entries now.
        self.steered.shares.clear();
        let left = |deadline_ns: u64| Duration::from_nanos(deadline_ns.saturating_sub(now_ns()));
        self.deadline =
            plan::next_deadline_ns(&self.image).map(|deadline_ns| Instant::now() + left(deadline_ns));
        self.retry = None;
        count_pass(began.elapsed());
        self.schedule_sweep();
        Ok(())
    }

    pub(super) fn plan(
        &self,
        model: &Model,
        seed: [u64; 2],
        regions: u32,
        observed: &Image,
    ) -> Result<Image, KernelError> {
        let environment = Environment {
            node: NodeFacts {
                lbx0: self.kernel.lbx0(),
                lbx1: self.kernel.lbx1(),
                seed,
                answer_interval: ANSWER_INTERVAL,
            },
            vlans: self.kernel.vlans(),
            sizes: &Sizes::new(&model.limits),
            next_hops: &self.next_hops,
            path_mtus: &self.path_mtus.mtus,
            verdicts: &self.endpoints.verdicts,
            steered: &self.steered,
            tunnel_verdicts: &self.tunnels.verdicts,
            regions,
            now_ns: now_ns(),
            flows: &self.sweeper.facts,
            built: &self.built,
        };
        Ok(plan::plan(model, &environment, observed)?)
    }
}
