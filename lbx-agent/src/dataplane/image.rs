//! What the maps say, as typed values: observed in the kernel or wanted by the planner.

use std::{collections::BTreeMap, sync::Arc};

use lbx_common::abi::{
    EndpointEntry, ListenerKey, ListenerValue, NodeEntry, PeerKey, PeerValue, ReplyKey, ReplyValue,
    SLOTS_PER_LINE, SlotLine, TUNNEL_SET, TunnelEntry, VnetEntry, Words,
};

use super::{
    buckets,
    memory::{MapId, Memory},
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
    /// Listeners and VIPs.
    pub listeners: BTreeMap<ListenerKey, ListenerValue>,
    /// Reply matches.
    pub replies: BTreeMap<ReplyKey, ReplyValue>,
    /// Tunnel peers and probe sources.
    pub peers: BTreeMap<PeerKey, PeerValue>,
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
        image.listeners = typed(memory, MapId::Listeners, ListenerKey::from_words);
        image.replies = typed(memory, MapId::Replies, ReplyKey::from_words);
        image.peers = typed(memory, MapId::Peers, PeerKey::from_words);
        for value in image.listeners.values() {
            let (line, slots) = (value.target.line(), value.target.slots());
            if slots != 0 {
                image.tables.entry(line).or_insert_with(|| read_table(memory, line, slots));
            }
        }
        image
    }
}

fn typed<K: Ord, V: Words<2>>(
    memory: &impl Memory,
    map: MapId,
    key: impl Fn([u64; 2]) -> Option<K>,
) -> BTreeMap<K, V> {
    let entries = buckets::entries(memory, map).into_iter();
    entries.filter_map(|(words, value)| Some((key(words)?, V::from_words(value)))).collect()
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
