//! Health of endpoints: probes them and says what it found.
//!
//! It writes no map and knows no service: what a verdict means is for its receiver to decide. One task for
//! each target; a target's state is in its task alone.

pub mod schedule;
pub mod state;
mod target;
pub mod tcp;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use lbx_common::api::{HealthState, Monitor};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// Which endpoint, and as a member of which pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey {
    /// Name of the pool.
    pub pool: String,
    /// Name of the endpoint.
    pub endpoint: String,
    /// Name of the virtual network.
    pub virtual_network: String,
}

/// Something to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its identity: a target with the same key in the next list is the same one.
    pub key: TargetKey,
    /// Source of the probes: the `probe_source` of the virtual network.
    pub source: Ipv4Addr,
    /// Where it is probed.
    pub address: SocketAddrV4,
    /// How it is probed.
    pub monitor: Arc<Monitor>,
    /// Its state as known from before; counts only when the target is new here.
    pub initial: HealthState,
}

/// What a probe found. One is sent for each probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Which target.
    pub key: TargetKey,
    /// Source of the probe, which says which virtual network it went to.
    pub source: Ipv4Addr,
    /// Where it went.
    pub address: SocketAddrV4,
    /// The verdict after this probe.
    pub state: HealthState,
    /// Why, for a person. Empty after a success.
    pub reason: String,
    /// Time that the answer took; absent without one.
    pub round_trip: Option<Duration>,
    /// Whether the verdict is another one than before this probe.
    pub changed: bool,
    /// When this was found.
    pub at: Instant,
}

/// Probes targets.
#[derive(Debug, Clone)]
pub struct HealthChecker {
    device: Option<Arc<str>>,
}

impl HealthChecker {
    /// Sends probes by a device, marked with [`lbx_common::abi::PROBE_MARK`]; without one, by the host's own routes.
    pub fn new(device: Option<String>) -> Self {
        Self { device: device.map(Arc::from) }
    }

    /// Probes the targets of the current list until `token` is cancelled or `targets` or `tx` is closed.
    ///
    /// A target that is in the next list too keeps its verdict, also with another monitor; with another
    /// address it is unknown again, because nothing is known about that one. A task of a target that panics
    /// makes the returned one panic.
    pub fn spawn(
        self,
        token: CancellationToken,
        targets: watch::Receiver<Arc<Vec<Target>>>,
        tx: mpsc::Sender<Observation>,
    ) -> JoinHandle<()> {
        tokio::spawn(async move {
            token.run_until_cancelled(self.run(targets, tx)).await;
        })
    }

    async fn run(self, mut targets: watch::Receiver<Arc<Vec<Target>>>, tx: mpsc::Sender<Observation>) {
        let epoch = tokio::time::Instant::now();
        // Dropping a sender ends its task.
        let mut running: HashMap<TargetKey, watch::Sender<Target>> = HashMap::new();
        let mut tasks = JoinSet::new();
        loop {
            let list = Arc::clone(&targets.borrow_and_update());
            let wanted: HashSet<&TargetKey> = list.iter().map(|target| &target.key).collect();
            running.retain(|key, _| wanted.contains(key));
            for target in list.iter() {
                if let Some(sender) = running.get(&target.key) {
                    sender.send_if_modified(|current| {
                        let differs = current != target;
                        if differs {
                            current.clone_from(target);
                        }
                        differs
                    });
                } else {
                    let (sender, receiver) = watch::channel(target.clone());
                    running.insert(target.key.clone(), sender);
                    tasks.spawn(target::run(self.device.clone(), epoch, receiver, tx.clone()));
                }
            }
            loop {
                tokio::select! {
                    changed = targets.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    Some(ended) = tasks.join_next() => {
                        if let Err(error) = ended && error.is_panic() {
                            std::panic::resume_unwind(error.into_panic());
                        }
                    }
                    () = tx.closed() => return,
                }
            }
        }
    }
}
