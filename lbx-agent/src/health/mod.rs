//! Health of endpoints and tunnels: probes them and says what it found.
//!
//! It writes no map and knows no service: what a verdict means is for its receiver to decide. One task for
//! each target; a target's state is in its task alone.

pub mod group;
pub mod probe;
pub mod schedule;
pub mod state;
mod target;
#[cfg(test)]
mod tests;
mod trial;

pub use trial::Trial;

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use lbx_common::api::{Encap, HealthState, Monitor};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// What is probed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TargetKey {
    /// An endpoint, as a member of a pool.
    Endpoint {
        /// Name of the pool.
        pool: String,
        /// Name of the endpoint.
        endpoint: String,
        /// Name of the virtual network.
        virtual_network: String,
        /// Name of the monitor, where the pool has several.
        member: Option<String>,
    },
    /// A tunnel, by its gateway's address inside.
    Tunnel {
        /// Name of the virtual network.
        virtual_network: String,
        /// Name of the tunnel.
        tunnel: String,
        /// Encapsulation, gateway and port: with another one of these it is another tunnel.
        path: (Encap, IpAddr, u16),
    },
}

impl TargetKey {
    /// Of an endpoint that is checked by one monitor of several: the endpoint as a whole, and the monitor's name.
    pub fn whole(&self) -> Option<(Self, String)> {
        let Self::Endpoint { pool, endpoint, virtual_network, member: Some(member) } = self else {
            return None;
        };
        let whole = Self::Endpoint {
            pool: pool.clone(),
            endpoint: endpoint.clone(),
            virtual_network: virtual_network.clone(),
            member: None,
        };
        Some((whole, member.clone()))
    }

    /// Names that tell it apart from others of its kind: pool and endpoint, or virtual network and tunnel.
    pub fn name(&self) -> (String, String) {
        match self {
            Self::Endpoint { pool, endpoint, .. } => (pool.clone(), endpoint.clone()),
            Self::Tunnel { virtual_network, tunnel, .. } => (virtual_network.clone(), tunnel.clone()),
        }
    }
}

/// What a verdict is about, with source and destination of the probes. The tunnel that an endpoint's probes leave
/// by is not part of it: the verdict stays when they take another one.
pub type Probed = (TargetKey, IpAddr, SocketAddr);

/// Something to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its identity: a target with the same key in the next list is the same one.
    pub key: TargetKey,
    /// Source of the probes: the `probe_source` of the virtual network, of the family of `address`.
    pub source: IpAddr,
    /// Where it is probed.
    pub address: SocketAddr,
    /// Place in its virtual network of the tunnel that probes leave by, below
    /// [`lbx_common::abi::PROBE_PLACES`]; `None` where no tunnel leads there.
    pub place: Option<u8>,
    /// Place of a tunnel to try as well where the first one keeps silent; `None` = that is held against the target.
    pub other: Option<u8>,
    /// How it is probed.
    pub monitor: Arc<Monitor>,
    /// Its state as known from before; counts only when the target is new here.
    pub initial: HealthState,
}

impl Target {
    /// Whether the other one is probed in just the same way.
    fn is_probed_like(&self, other: &Self) -> bool {
        let Self { key, source, address, place, other: way, monitor, initial: _ } = self;
        (key, source, address, place, way, monitor)
            == (&other.key, &other.source, &other.address, &other.place, &other.other, &other.monitor)
    }
}

/// What a probe found. One is sent for each probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Which target.
    pub key: TargetKey,
    /// Source of the probe, which says which virtual network it went to.
    pub source: IpAddr,
    /// Where it went.
    pub address: SocketAddr,
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
    /// A target that is in the next list too keeps its verdict, also with another monitor and the port that this brings;
    /// with another address it is unknown again, because nothing is known about that one; by another tunnel it begins to
    /// count anew, and soon. A task of a target that panics makes the returned one panic.
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
                        let differs = !current.is_probed_like(target);
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
