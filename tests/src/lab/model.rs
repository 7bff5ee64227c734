//! The pipeline's questions, answered on the host: a copy of the maps, and routes that a test laid.

use std::{cell::RefCell, collections::BTreeMap};

use lbx_agent::dataplane::{MapId, Memory};
use lbx_common::{
    abi::{Bucket, EndpointEntry, NodeEntry, SlotLine, TunnelEntry, VnetEntry, Words},
    reason::DropReason,
    tables::{Direction, Route, RouteQuery, Tables},
};

use crate::topology::CLIENT;

/// The way to the client; everybody else on its network is unresolved.
#[derive(Debug, Clone, Copy)]
pub struct Routes {
    /// Egress interface.
    pub ifindex: u32,
    /// MAC of that interface.
    pub source: [u8; 6],
    /// MAC of the client.
    pub destination: [u8; 6],
}

/// A copy of the maps.
pub struct ModelTables {
    node: NodeEntry,
    listeners: Vec<Bucket>,
    replies: Vec<Bucket>,
    peers: Vec<Bucket>,
    slots: Vec<SlotLine>,
    endpoints: Vec<EndpointEntry>,
    tunnels: Vec<TunnelEntry>,
    vnets: Vec<VnetEntry>,
    routes: Routes,
    drops: RefCell<BTreeMap<(u32, DropReason), u64>>,
}

impl ModelTables {
    /// Copies the maps as they are now.
    pub fn new(memory: &impl Memory, routes: Routes) -> Self {
        fn all<T: Words<N>, const N: usize>(memory: &impl Memory, map: MapId) -> Vec<T> {
            (0..memory.elements(map)).map(|element| memory.read(map, element)).collect()
        }
        Self {
            node: memory.read(MapId::Node, 0),
            listeners: all(memory, MapId::Listeners),
            replies: all(memory, MapId::Replies),
            peers: all(memory, MapId::Peers),
            slots: all(memory, MapId::Slots),
            endpoints: all(memory, MapId::Endpoints),
            tunnels: all(memory, MapId::Tunnels),
            vnets: all(memory, MapId::Vnets),
            routes,
            drops: RefCell::default(),
        }
    }

    /// Drops counted so far.
    pub fn drops(&self) -> BTreeMap<(u32, DropReason), u64> {
        self.drops.borrow().clone()
    }
}

impl Tables for ModelTables {
    fn node(&self) -> Option<&NodeEntry> {
        Some(&self.node)
    }

    fn listener_bucket(&self, index: u32) -> Option<&Bucket> {
        self.listeners.get(index as usize)
    }

    fn reply_bucket(&self, index: u32) -> Option<&Bucket> {
        self.replies.get(index as usize)
    }

    fn peer_bucket(&self, index: u32) -> Option<&Bucket> {
        self.peers.get(index as usize)
    }

    fn slot_line(&self, index: u32) -> Option<&SlotLine> {
        self.slots.get(index as usize)
    }

    fn endpoint(&self, id: u32) -> Option<&EndpointEntry> {
        self.endpoints.get(id as usize)
    }

    fn tunnel(&self, id: u32) -> Option<&TunnelEntry> {
        self.tunnels.get(id as usize)
    }

    fn vnet(&self, id: u32) -> Option<&VnetEntry> {
        self.vnets.get(id as usize)
    }

    fn route(&self, query: &RouteQuery) -> Route {
        let destination = query.destination.octets();
        if destination == CLIENT.octets() {
            let Routes { ifindex, source, destination } = self.routes;
            return Route::Direct { ifindex, source, destination };
        }
        // The subnet of the public device, less its own and its broadcast addresses.
        match destination {
            [192, 0, 2, 2..=254] => Route::ByHost,
            _ => Route::Unreachable,
        }
    }

    fn count_listener(&self, _: u32, _: Direction, _: u64) {}

    fn count_endpoint(&self, _: u32, _: Direction, _: u64) {}

    fn count_drop(&self, vnet: u32, reason: DropReason) {
        *self.drops.borrow_mut().entry((vnet, reason)).or_default() += 1;
    }
}
