//! The one task that owns the data plane: configuration, next hops, verdicts come in, changes of the maps go out.
//!
//! Every change takes the same way: plan (pure) → diff → apply. A pass that finds no difference writes
//! nothing. A verdict writes the endpoint's bits at once and only then asks whether the plan is another one.

mod change;
mod devices;
mod drains;
mod explain;
mod findings;
mod groups;
mod handle;
mod kernel;
mod last_verdicts;
mod news;
mod pass;
mod path_mtus;
mod regions;
mod reports;
mod samples;
mod steering;
mod sweep;
mod targets;
mod trials;
mod verdicts;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use lbx_common::api::{Happening, Revision};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::{
    devices::Devices,
    findings::{Findings, Name},
    handle::Command,
    last_verdicts::Keeping,
    news::Told,
    path_mtus::PathMtus,
    regions::InForce,
    samples::Sampler,
    steering::Measured,
    targets::{remotes, targets},
    verdicts::Verdicts,
};
pub use self::{
    handle::Handle,
    kernel::{Found, Kernel, KernelError},
    sweep::{Meaning, Sweeper},
    verdicts::begin_tracking,
};
use crate::{
    config::model::Model,
    dataplane::Image,
    events::Events,
    health::{Observation, Target},
    heap,
    net::{
        devices::Changed,
        next_hop::{NextHop, NextHopEvent},
        path_mtu::TooBig,
    },
    plan::{self, Built},
    regions::{LoadFailed, Loaded, Regions},
    service_manager::Watchdog,
    steer::Steered,
    store::Store,
};

/// Time after a change at which the memory that it took is given back: it makes configuration, model and image anew, and
/// frees those before. The next change may come at once and need it.
const TIDY: Duration = Duration::from_secs(1);

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
    /// Where what happens is told.
    pub events: Events,
    /// Whoever reads the file of regions.
    pub regions: Regions,
}

/// What comes in beside commands.
pub struct Inputs {
    /// From the API.
    pub commands: mpsc::Receiver<Command>,
    /// From the health checker.
    pub observations: mpsc::Receiver<Observation>,
    /// From the next-hop watcher.
    pub next_hops: mpsc::Receiver<NextHopEvent>,
    /// From routers.
    pub too_big: mpsc::Receiver<TooBig>,
    /// From the watcher of devices.
    pub devices: mpsc::Receiver<Changed>,
    /// The file of regions has changed.
    pub regions: mpsc::UnboundedReceiver<Result<Loaded, LoadFailed>>,
    /// Each message asks to read the configuration file again.
    pub reload: mpsc::Receiver<()>,
}

/// What goes out beside answers.
pub struct Outputs {
    /// To the health checker.
    pub targets: watch::Sender<Arc<Vec<Target>>>,
    /// To the next-hop watcher.
    pub remotes: watch::Sender<Vec<IpAddr>>,
    /// To the next-hop watcher: gateways that do not answer.
    pub doubts: mpsc::Sender<IpAddr>,
}

/// The task's state.
pub struct Reconciler {
    store: Store,
    revision: Revision,
    model: Model,
    kernel: Kernel,
    state_dir: PathBuf,
    seed: [u64; 2],
    next_hops: BTreeMap<IpAddr, (Option<NextHop>, Option<u16>)>,
    path_mtus: PathMtus,
    endpoints: Findings<Name>,
    /// By each of several monitors.
    members: Findings<(Name, String)>,
    tunnels: Findings<Name>,
    ids: BTreeMap<Name, u16>,
    /// A tunnel went down or came up: probes of endpoints may have to take other ones.
    rerouted: bool,
    /// When to try again: the maps are not what they should be, since something failed.
    retry: Option<Instant>,
    devices: Devices,
    verdicts: Verdicts,
    keeping: Keeping,
    regions: InForce,
    sampler: Sampler,
    outputs: Outputs,
    started: Instant,
    /// What the maps hold: nobody else writes to them.
    image: Image,
    built: Built,
    /// What became of it.
    events: Events,
    told: Told,
    steered: Steered,
    measured: Measured,
    sweeper: Sweeper,
    /// What pins mean to the look that is under way.
    meaning: Option<Meaning>,
    /// When the look began, or the last one did.
    sweep_began: Instant,
    next_sweep: Option<Instant>,
    /// When something changes by itself.
    deadline: Option<Instant>,
    /// When to give memory back.
    tidy: Option<Instant>,
}

impl Reconciler {
    /// Puts the model in force: takes over what the kernel holds and changes what differs.
    pub async fn start(start: Start, outputs: Outputs) -> Result<Self, KernelError> {
        let Start { store, revision, model, kernel, state_dir, seed, events, regions } = start;
        let mut this = Self {
            store,
            revision,
            model,
            kernel,
            state_dir,
            seed,
            next_hops: BTreeMap::new(),
            path_mtus: PathMtus::default(),
            endpoints: Findings::default(),
            members: Findings::default(),
            tunnels: Findings::default(),
            ids: BTreeMap::new(),
            rerouted: false,
            retry: None,
            devices: Devices::default(),
            verdicts: Verdicts::default(),
            keeping: Keeping::default(),
            regions: InForce::new(regions),
            sampler: Sampler::default(),
            outputs,
            started: Instant::now(),
            image: Image::default(),
            built: Built::default(),
            events,
            told: Told::default(),
            steered: Steered::default(),
            measured: Measured::default(),
            sweeper: Sweeper::default(),
            meaning: None,
            sweep_began: Instant::now(),
            next_sweep: None,
            deadline: None,
            tidy: None,
        };
        this.forget_stale_findings();
        if !this.kernel.adopted {
            this.recall_verdicts();
        }
        this.begin_with_regions().await;
        if let Some(before) = &this.kernel.before {
            let wanted = this.plan(&this.model, this.seed, this.regions.list_id(), &before.image())?;
            this.kernel.fill_beside(&wanted)?;
        }
        this.kernel.prepare(&this.model).await?;
        this.kernel.leave_before()?;
        this.look();
        this.adopt_orders();
        this.converge(None)?;
        this.kernel.attachments.release_others(&this.model.interfaces)?;
        this.tell_interfaces().await;
        this.events.record(Happening::AgentStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: this.revision,
            adopted: this.kernel.adopted,
        });
        this.publish();
        Ok(this)
    }

    /// Works until `token` is cancelled or every sender of commands is gone.
    pub async fn run(mut self, token: CancellationToken, mut inputs: Inputs) {
        let mut watchdog = Watchdog::from_environment();
        loop {
            let again = tokio::select! {
                () = token.cancelled() => break,
                () = watchdog.due() => { watchdog.alive(); false }
                command = inputs.commands.recv() => match command {
                    Some(command) => { self.command(command).await; false }
                    None => break,
                },
                Some(observation) = inputs.observations.recv() => {
                    let mut changed = self.observe(&observation);
                    while let Ok(observation) = inputs.observations.try_recv() {
                        changed |= self.observe(&observation);
                    }
                    self.verdicts_change_tables() || changed
                }
                Some(event) = inputs.next_hops.recv() => {
                    self.take_next_hop(event);
                    while let Ok(event) = inputs.next_hops.try_recv() {
                        self.take_next_hop(event);
                    }
                    true
                }
                Some(message) = inputs.too_big.recv() => {
                    self.path_mtus.learn(&message, &self.model, Instant::now())
                }
                () = at(self.keeping.next) => { self.keep_verdicts(); false }
                () = at(self.sampler.next) => { self.samples_due(); false }
                () = at(self.next_sweep) => self.sweep(),
                () = at(self.measured.next_look()) => self.look_at_latencies(),
                () = at(self.verdicts.pass) => true,
                () = at(self.deadline) => { self.deadline = None; true }
                Some(mut changed) = inputs.devices.recv() => {
                    while let Ok(more) = inputs.devices.try_recv() {
                        changed.merge(more);
                    }
                    self.devices_changed(&changed).await
                }
                () = at(self.devices.retry) => self.renew_devices().await,
                () = at(self.path_mtus.next_expiry()) => self.path_mtus.expire(Instant::now()),
                Some(read) = inputs.regions.recv() => self.take_regions(read),
                Some(()) = inputs.reload.recv() => { self.reload().await; false }
                changed = self.store.changed() => {
                    match changed {
                        Ok(()) => self.reload().await,
                        Err(error) => {
                            tracing::error!(%error, "changes of the configuration file are no longer seen");
                            break;
                        }
                    }
                    false
                }
                () = at(self.retry) => true,
                () = at(self.tidy) => { self.tidy = None; heap::give_back(); false }
            };
            if again {
                self.look();
                if let Err(error) = self.converge(None) {
                    tracing::error!(%error, "cannot bring the data plane up to date; trying again");
                }
            }
            self.keep_regions().await;
            if self.rerouted && self.retry.is_none() {
                self.rerouted = false;
                self.publish();
            }
        }
        self.keep_verdicts();
    }

    fn take_next_hop(&mut self, event: NextHopEvent) {
        let remote = event.remote;
        if let Some(hop) = &event.next_hop {
            tracing::info!(%remote, ifindex = hop.ifindex, mtu = hop.mtu, "next hop");
        } else {
            tracing::warn!(%remote, "no next hop: packets go by the slow path");
        }
        self.next_hops.insert(remote, (event.next_hop, event.route_mtu));
    }

    /// Tells the health checker and the next-hop watcher what is wanted now.
    fn publish(&mut self) {
        self.measure();
        let targets = targets(&self.model, self);
        let remotes = remotes(&self.model);
        self.outputs.targets.send_replace(Arc::new(targets));
        self.outputs.remotes.send_if_modified(|current| {
            let differs = *current != remotes;
            *current = remotes;
            differs
        });
        self.tidy = Some(Instant::now() + TIDY);
    }
}

/// The clock of the kernel programs: `CLOCK_MONOTONIC`, in nanoseconds.
fn now_ns() -> u64 {
    // Fails for no clock that there is.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    plan::nanoseconds(now)
}

/// Ends at a time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
