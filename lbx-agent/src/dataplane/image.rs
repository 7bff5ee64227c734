//! What the maps say, as typed values: observed in the kernel or wanted by the planner.

use std::{collections::BTreeMap, sync::Arc};

use lbx_common::{
    abi::{
        EndpointEntry, ListenerKey, ListenerValue, NodeEntry, PeerKey, PeerValue, PolicyEntry, ReplyKey,
        SLOTS_PER_LINE, SlotLine, TUNNEL_SET, Target, TrackingEntry, TunnelEntry, VnetEntry, Words,
    },
    bytes::Address,
};

use super::{
    buckets,
    memory::{MapId, Memory},
    prefixes::PrefixLists,
};

/// The content of all maps that the agent writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The node. `moves` is the business of whoever writes buckets and is 0 here.
    pub node: NodeEntry,
    /// Virtual networks by id, from 1.
    pub vnets: BTreeMap<u32, VnetEntry>,
    /// Tunnels by id, from 1.
    pub tunnels: BTreeMap<u32, TunnelEntry>,
    /// Endpoints by id, from 1.
    pub endpoints: BTreeMap<u16, EndpointEntry>,
    /// Lookup tables by first line.
    pub tables: BTreeMap<u32, Arc<[u16]>>,
    /// Listeners and VIPs: a [`ListenerValue`] or a [`lbx_common::abi::VipValue`] as words.
    pub listeners: BTreeMap<ListenerKey, [u64; 2]>,
    /// Reply matches and origins: a [`lbx_common::abi::ReplyValue`] or a [`lbx_common::abi::VipValue`].
    pub replies: BTreeMap<ReplyKey, [u64; 2]>,
    /// Tunnel peers and probe sources.
    pub peers: BTreeMap<PeerKey, PeerValue>,
    /// Ids of IPv6 addresses, from 1.
    pub addresses: BTreeMap<Address, u32>,
    /// What listeners ask of packets, by listener id.
    pub policies: BTreeMap<u32, PolicyEntry>,
    /// Lists of prefixes that policies point at.
    pub prefixes: PrefixLists,
    /// What is under way at listeners, by listener id.
    pub tracking: BTreeMap<u32, TrackingEntry>,
}

impl Image {
    /// What the maps hold now.
    pub fn observe(memory: &impl Memory) -> Self {
        let mut node: NodeEntry = memory.read(MapId::Node, 0);
        node.moves = 0;
        let mut image = Self { node, ..Self::default() };
        for id in 1..memory.elements(MapId::Vnets) {
            let entry: VnetEntry = memory.read(MapId::Vnets, id);
            if entry.vni != 0 {
                image.vnets.insert(id, entry);
            }
        }
        for id in 1..memory.elements(MapId::Tunnels) {
            let entry: TunnelEntry = memory.read(MapId::Tunnels, id);
            if entry.flags & TUNNEL_SET != 0 {
                image.tunnels.insert(id, entry);
            }
        }
        for id in 1..memory.elements(MapId::Endpoints) {
            let entry: EndpointEntry = memory.read(MapId::Endpoints, id);
            if let (true, Ok(id)) = (entry.vnet != 0, u16::try_from(id)) {
                image.endpoints.insert(id, entry);
            }
        }
        for id in 1..memory.elements(MapId::Policies) {
            let entry: PolicyEntry = memory.read(MapId::Policies, id);
            if entry != PolicyEntry::default() {
                image.policies.insert(id, entry);
            }
        }
        for id in 1..memory.elements(MapId::Tracking) {
            let entry: TrackingEntry = memory.read(MapId::Tracking, id);
            if entry != TrackingEntry::default() {
                image.tracking.insert(id, entry);
            }
        }
        image.prefixes = memory.prefix_lists().clone();
        image.listeners = typed(memory, MapId::Listeners, ListenerKey::from_words);
        image.replies = typed(memory, MapId::Replies, ReplyKey::from_words);
        let peers = typed(memory, MapId::Peers, PeerKey::from_words);
        image.peers = peers.into_iter().map(|(key, value)| (key, PeerValue::from_words(value))).collect();
        for (address, [id, _]) in buckets::entries(memory, MapId::AddressIds) {
            image.addresses.insert(Address::from_words(address), u32::try_from(id).unwrap_or(0));
        }
        let targets: Vec<_> = image.targets().collect();
        for target in targets {
            let (line, slots) = (target.line(), target.slots());
            image.tables.entry(line).or_insert_with(|| read_table(memory, line, slots));
        }
        image
    }

    /// The lookup tables that listeners point at, and those before a change that is under way.
    fn targets(&self) -> impl Iterator<Item = Target> {
        let listeners = self.listeners.iter().filter(|(key, _)| matches!(key, ListenerKey::Ports { .. }));
        let current = listeners.map(|(_, value)| ListenerValue::from_words(*value).target);
        let previous = self.tracking.values().map(|entry| entry.previous);
        current.chain(previous).filter(|target| target.slots() != 0)
    }
}

fn typed<K: Ord>(
    memory: &impl Memory,
    map: MapId,
    key: impl Fn([u64; 2]) -> Option<K>,
) -> BTreeMap<K, [u64; 2]> {
    let entries = buckets::entries(memory, map).into_iter();
    entries.filter_map(|(words, value)| Some((key(words)?, value))).collect()
}

/// Lines that a table of `slots` slots takes.
pub fn lines_for(slots: u32) -> u32 {
    slots.div_ceil(SLOTS_PER_LINE)
}

fn read_table(memory: &impl Memory, line: u32, slots: u32) -> Arc<[u16]> {
    let lines = (line..line.saturating_add(lines_for(slots))).map(|line| memory.read(MapId::Slots, line));
    lines.flat_map(|SlotLine(slots)| slots).take(slots as usize).collect()
}

/// Writes a table; nothing may point at its lines yet.
pub fn write_table(memory: &mut impl Memory, line: u32, slots: &[u16]) {
    for (line, chunk) in (line..).zip(slots.chunks(SLOTS_PER_LINE as usize)) {
        let mut padded = [0; SLOTS_PER_LINE as usize];
        for (to, from) in padded.iter_mut().zip(chunk) {
            *to = *from;
        }
        memory.write(MapId::Slots, line, SlotLine(padded));
    }
}
