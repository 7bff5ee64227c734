//! The way to each tunnel's gateway: output device, MAC addresses and MTU, kept current by the kernel's own
//! events.
//!
//! The data plane asks no routing table: what this module says is written into the tunnel's entry. Nothing
//! here polls; between two events it holds no timer. Permanent neighbour entries belong to the
//! administrator and are never touched.

mod events;
mod neighbour;
mod resolve;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use rtnetlink::Handle;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::neighbour::release_all;
use self::{
    events::{Dirty, Event, Events},
    resolve::{Via, Way},
};
use super::{NetError, netlink, port::Port};

/// Time in which further events are gathered after the first one: a link that goes down makes many.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// The way to a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Device that takes the frames: the output device of the route, or where that is a VLAN device its
    /// parent.
    pub ifindex: u32,
    /// VLAN id to tag the frames with, by IEEE 802.1Q.
    pub vlan: Option<u16>,
    /// MAC address of the output device of the route.
    pub source_mac: [u8; 6],
    /// MAC address of the gateway or of the router before it.
    pub destination_mac: [u8; 6],
    /// Largest IP packet in bytes: of the route where it says, else of the device.
    pub mtu: u16,
}

/// The way to a gateway has become known, or another one, or unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHopEvent {
    /// Outer address of the gateway.
    pub remote: IpAddr,
    /// The way; `None` while there is no route or nobody answers for the next hop, and where the frames need
    /// more than one tag or leave in another namespace, which only the kernel can do.
    pub next_hop: Option<NextHop>,
    /// MTU of the route; known as soon as there is one, even while the neighbour is not.
    pub route_mtu: Option<u16>,
}

/// Watches the ways to `remotes` until `token` is cancelled or one of the channels closes. Sends one event
/// for each remote at first, then one whenever its answer changes. A remote that left the list gets none.
/// `doubts` names remotes that do not answer: their neighbour may have another MAC address now, which nobody told.
pub fn spawn(
    token: CancellationToken,
    remotes: watch::Receiver<Vec<IpAddr>>,
    doubts: mpsc::Receiver<IpAddr>,
    tx: mpsc::Sender<NextHopEvent>,
) -> Result<JoinHandle<Result<(), NetError>>, NetError> {
    // Listen first, ask later: an event between the two is then seen.
    let events = Events::subscribe()?;
    let resolver = Resolver { handle: netlink::connect()?, tx, known: HashMap::new(), kept: BTreeSet::new() };
    Ok(tokio::spawn(async move {
        token.run_until_cancelled(resolver.run(events, remotes, doubts)).await.unwrap_or(Ok(()))
    }))
}

/// Calls `changed` whenever the way to anybody may have changed, until `token` is cancelled. It waits for nothing else,
/// as [`spawn`] does while it asks.
pub fn watch_all(
    token: CancellationToken,
    changed: impl Fn() + Send + 'static,
) -> Result<JoinHandle<Result<(), NetError>>, NetError> {
    let mut events = Events::subscribe()?;
    // What happened before is not told.
    changed();
    let watch = async move {
        loop {
            if events.next().await? != Event::Nothing {
                changed();
            }
        }
    };
    Ok(tokio::spawn(async move { token.run_until_cancelled(watch).await.unwrap_or(Ok(())) }))
}

/// What is known about a remote.
struct Known {
    way: Way,
    sent: NextHopEvent,
}

struct Resolver {
    handle: Handle,
    tx: mpsc::Sender<NextHopEvent>,
    known: HashMap<IpAddr, Known>,
    /// Neighbours that the kernel was asked to keep fresh.
    kept: BTreeSet<Via>,
}

impl Resolver {
    async fn run(
        mut self,
        mut events: Events,
        mut remotes: watch::Receiver<Vec<IpAddr>>,
        mut doubts: mpsc::Receiver<IpAddr>,
    ) -> Result<(), NetError> {
        // Entries that an agent before this one asked for, and that are not wanted any more, are let go
        // after the first round.
        self.kept = neighbour::kept_by_lbx(&self.handle).await?;
        let mut dirty = Dirty::everything();
        loop {
            let wanted: BTreeSet<IpAddr> = remotes.borrow_and_update().iter().copied().collect();
            self.known.retain(|remote, _| wanted.contains(remote));
            for remote in wanted {
                let stale = self.known.get(&remote).is_none_or(|known| dirty.touches(remote, &known.way));
                if stale && !self.refresh(remote).await? {
                    return Ok(());
                }
            }
            self.release_unused().await?;

            dirty = Dirty::default();
            tokio::select! {
                event = events.next() => dirty.add(event?),
                changed = remotes.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Ok(()),
                },
                doubted = doubts.recv() => {
                    let Some(remote) = doubted else { return Ok(()) };
                    if let Some(via) = self.known.get(&remote).and_then(|known| known.way.via) {
                        neighbour::doubt(&self.handle, via).await?;
                    }
                    continue;
                }
            }
            let deadline = Instant::now() + DEBOUNCE;
            while let Ok(event) = tokio::time::timeout_at(deadline, events.next()).await {
                dirty.add(event?);
            }
        }
    }

    /// Resolves one remote again. Says whether anybody still listens.
    async fn refresh(&mut self, remote: IpAddr) -> Result<bool, NetError> {
        let (way, destination_mac) = resolve::resolve(&self.handle, remote).await?;
        if let Some(via) = way.via {
            self.kept.insert(via);
        }
        let next_hop = way.egress.zip(destination_mac).and_then(|(egress, destination_mac)| {
            let Port { ifindex, vlan } = egress.port?;
            Some(NextHop { ifindex, vlan, source_mac: egress.mac, destination_mac, mtu: egress.mtu })
        });
        let event = NextHopEvent { remote, next_hop, route_mtu: way.egress.map(|egress| egress.mtu) };
        let news = self.known.get(&remote).is_none_or(|known| known.sent != event);
        self.known.insert(remote, Known { way, sent: event });
        if news {
            tracing::debug!(?event, "next hop");
            return Ok(self.tx.send(event).await.is_ok());
        }
        Ok(true)
    }

    /// Neighbours that no remote uses any more age as any other.
    async fn release_unused(&mut self) -> Result<(), NetError> {
        let used: BTreeSet<Via> = self.known.values().filter_map(|known| known.way.via).collect();
        for via in self.kept.difference(&used) {
            neighbour::release(&self.handle, *via).await?;
        }
        self.kept = used;
        Ok(())
    }
}
