//! The one task that owns the data plane: configuration, next hops and verdicts come in, changes of the maps
//! go out.
//!
//! Every change takes the same way: plan (pure) → diff → apply. A pass that finds no difference writes
//! nothing. A verdict writes the endpoint's bits at once and only then asks whether the plan is another one.

mod change;
mod handle;
mod kernel;
mod reports;
mod targets;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use lbx_common::api::{HealthState, Revision};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::{
    handle::Command,
    reports::Seen,
    targets::{Probed, probed, remotes, targets},
};
pub use self::{
    handle::Handle,
    kernel::{Found, Kernel, KernelError},
};
use crate::{
    config::model::Model,
    dataplane::{Image, Memory, Sizes, apply, diff, set_endpoint_state},
    health::{Observation, Target},
    net::next_hop::{NextHop, NextHopEvent},
    plan::{self, Environment, NodeFacts, UP},
    store::Store,
};

/// Time after which a change that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Name of an endpoint: pool and endpoint.
type EndpointName = (String, String);

/// What the task starts from.
pub struct Start {
    /// Where the configuration lives.
    pub store: Store,
    /// Revision of the model.
    pub revision: Revision,
    /// What is in force.
    pub model: Model,
    /// The data plane.
    pub kernel: Kernel,
    /// Folder of the hash seed.
    pub state_dir: PathBuf,
    /// Seed of the flow hash.
    pub seed: [u64; 2],
}

/// What comes in beside commands.
pub struct Inputs {
    /// From the API.
    pub commands: mpsc::Receiver<Command>,
    /// From the health checker.
    pub observations: mpsc::Receiver<Observation>,
    /// From the next-hop watcher.
    pub next_hops: mpsc::Receiver<NextHopEvent>,
    /// Each message asks to read the configuration file again.
    pub reload: mpsc::Receiver<()>,
}

/// What goes out beside answers.
pub struct Outputs {
    /// To the health checker.
    pub targets: watch::Sender<Arc<Vec<Target>>>,
    /// To the next-hop watcher.
    pub remotes: watch::Sender<Vec<Ipv4Addr>>,
}

/// The task's state.
pub struct Reconciler {
    store: Store,
    revision: Revision,
    model: Model,
    kernel: Kernel,
    state_dir: PathBuf,
    seed: [u64; 2],
    next_hops: BTreeMap<Ipv4Addr, (Option<NextHop>, Option<u16>)>,
    verdicts: BTreeMap<EndpointName, HealthState>,
    seen: BTreeMap<EndpointName, Seen>,
    ids: BTreeMap<EndpointName, u16>,
    /// Where each endpoint is probed: what verdicts are about.
    probed: BTreeMap<EndpointName, Probed>,
    /// The maps are not what they should be: something failed.
    unfinished: bool,
    outputs: Outputs,
    started: Instant,
}

impl Reconciler {
    /// Puts the model in force: takes over what the kernel holds and changes what differs.
    pub async fn start(start: Start, outputs: Outputs) -> Result<Self, KernelError> {
        let Start { store, revision, model, kernel, state_dir, seed } = start;
        let mut this = Self {
            store,
            revision,
            model,
            kernel,
            state_dir,
            seed,
            next_hops: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            seen: BTreeMap::new(),
            ids: BTreeMap::new(),
            probed: BTreeMap::new(),
            unfinished: false,
            outputs,
            started: Instant::now(),
        };
        this.probed = probed(&this.model);
        this.kernel.prepare(&this.model).await?;
        this.converge()?;
        this.kernel.attachments.release_others(&this.model.interfaces)?;
        this.publish();
        Ok(this)
    }

    /// Works until `token` is cancelled or every sender of commands is gone.
    pub async fn run(mut self, token: CancellationToken, mut inputs: Inputs) {
        loop {
            let again = tokio::select! {
                () = token.cancelled() => return,
                command = inputs.commands.recv() => match command {
                    Some(command) => { self.command(command).await; false }
                    None => return,
                },
                Some(observation) = inputs.observations.recv() => {
                    let mut changed = self.observe(&observation);
                    while let Ok(observation) = inputs.observations.try_recv() {
                        changed |= self.observe(&observation);
                    }
                    changed
                }
                Some(event) = inputs.next_hops.recv() => {
                    self.take_next_hop(event);
                    while let Ok(event) = inputs.next_hops.try_recv() {
                        self.take_next_hop(event);
                    }
                    true
                }
                Some(()) = inputs.reload.recv() => { self.reload().await; false }
                changed = self.store.changed() => {
                    match changed {
                        Ok(()) => self.reload().await,
                        Err(error) => {
                            tracing::error!(%error, "changes of the configuration file are no longer seen");
                            return;
                        }
                    }
                    false
                }
                () = tokio::time::sleep(RETRY), if self.unfinished => true,
            };
            if again && let Err(error) = self.converge() {
                tracing::error!(%error, "cannot bring the data plane up to date; trying again");
            }
        }
    }

    /// Plans, and makes the maps so.
    fn converge(&mut self) -> Result<(), KernelError> {
        self.unfinished = true;
        let observed = Image::observe(&self.kernel.memory);
        let wanted = self.plan(&self.model, self.seed, &observed)?;
        self.ids = plan::endpoint_ids(&self.model, &wanted);
        let steps = diff(&observed, &wanted);
        tracing::debug!(?steps, "applying");
        apply(&mut self.kernel.memory, &mut self.kernel.counters, &steps)?;
        self.unfinished = false;
        Ok(())
    }

    fn plan(&self, model: &Model, seed: [u64; 2], observed: &Image) -> Result<Image, KernelError> {
        let environment = Environment {
            node: NodeFacts { lbx0: self.kernel.lbx0(), lbx1: self.kernel.lbx1(), seed },
            sizes: &Sizes::new(&model.limits),
            next_hops: &self.next_hops,
            verdicts: &self.verdicts,
        };
        Ok(plan::plan(model, &environment, observed)?)
    }

    /// Forgets what was found out about endpoints that are not probed any more, or elsewhere.
    fn forget_stale_verdicts(&mut self) {
        let now = probed(&self.model);
        let same = |name: &EndpointName| now.get(name).is_some_and(|one| self.probed.get(name) == Some(one));
        self.verdicts.retain(|name, _| same(name));
        self.seen.retain(|name, _| same(name));
        self.probed = now;
    }

    /// Takes a probe's result: the verdict goes into the endpoint's bits at once. Returns whether the plan
    /// may be another one now.
    fn observe(&mut self, observation: &Observation) -> bool {
        let name = (observation.key.pool.clone(), observation.key.endpoint.clone());
        let Some(&id) = self.ids.get(&name) else { return false };
        // A probe that was under way when the endpoint got another address says nothing about that one.
        if self.probed.get(&name) != Some(&(observation.source, observation.address)) {
            return false;
        }
        let state = observation.state;
        if observation.changed {
            let Observation { key, reason, .. } = observation;
            let (pool, endpoint) = (&key.pool, &key.endpoint);
            tracing::info!(pool, endpoint, state = state.as_str(), reason, "health changed");
        }
        self.seen.entry(name.clone()).or_insert_with(|| Seen::new(observation)).update(observation);
        if state == HealthState::Unknown {
            return false;
        }
        self.verdicts.insert(name, state);
        let bits = if state == HealthState::Healthy { UP } else { 0 };
        set_endpoint_state(&mut self.kernel.memory, id, bits)
    }

    fn take_next_hop(&mut self, event: NextHopEvent) {
        let remote = event.remote;
        if let Some(hop) = &event.next_hop {
            tracing::info!(%remote, ifindex = hop.ifindex, mtu = hop.mtu, "next hop");
        } else {
            tracing::warn!(%remote, "no next hop: packets go by the slow path");
        }
        self.next_hops.insert(event.remote, (event.next_hop, event.route_mtu));
    }

    /// Tells the health checker and the next-hop watcher what is wanted now.
    fn publish(&mut self) {
        let model = &self.model;
        let known = |name: &EndpointName| {
            let id = self.ids.get(name)?;
            let entry: lbx_common::abi::EndpointEntry =
                self.kernel.memory.read(crate::dataplane::MapId::Endpoints, u32::from(*id));
            Some(entry.state == UP)
        };
        let targets = targets(model, known);
        let remotes = remotes(model);
        self.outputs.targets.send_replace(Arc::new(targets));
        self.outputs.remotes.send_if_modified(|current| {
            let differs = *current != remotes;
            *current = remotes;
            differs
        });
    }
}
