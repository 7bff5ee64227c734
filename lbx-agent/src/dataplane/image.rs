//! What the maps say, as typed values: observed in the kernel or wanted by the planner.

use std::{collections::BTreeMap, sync::Arc};

use lbx_common::{
    abi::{
        EndpointEntry, Host, ListenerKey, ListenerValue, NodeEntry, PeerKey, PeerValue, PolicyEntry,
        ReplyKey, ReplyValue, SLOTS_PER_LINE, SlotLine, TUNNEL_SET, Target, TrackingEntry, TunnelEntry,
        VnetEntry, Words,
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
        image.vnets = by_id(memory, MapId::Vnets, |entry: &VnetEntry| entry.vni != 0);
        image.tunnels = by_id(memory, MapId::Tunnels, |entry: &TunnelEntry| entry.flags & TUNNEL_SET != 0);
        let endpoints = by_id(memory, MapId::Endpoints, |entry: &EndpointEntry| entry.vnet != 0).into_iter();
        image.endpoints =
            endpoints.filter_map(|(id, entry)| Some((u16::try_from(id).ok()?, entry))).collect();
        image.policies = by_id(memory, MapId::Policies, |entry| *entry != PolicyEntry::default());
        image.tracking = by_id(memory, MapId::Tracking, |entry| *entry != TrackingEntry::default());
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

    /// Each block of ports of a listener: the VIP, the protocol's number, and its value. The blocks of one listener
    /// have the same value.
    pub fn listener_values(&self) -> impl Iterator<Item = (Host, u8, ListenerValue)> {
        self.listeners.iter().filter_map(|(key, words)| {
            let ListenerKey::Ports { vip, protocol, .. } = *key else { return None };
            Some((vip, protocol, ListenerValue::from_words(*words)))
        })
    }

    /// What each listener is to clients of a region: ids of both, and the value.
    pub fn regional_values(&self) -> impl Iterator<Item = (u32, u32, ListenerValue)> {
        self.listeners.iter().filter_map(|(key, words)| {
            let ListenerKey::Region { listener, region } = *key else { return None };
            Some((listener, region, ListenerValue::from_words(*words)))
        })
    }

    /// The value of each listener, and of what it is to clients of regions.
    pub fn tracked_values(&self) -> impl Iterator<Item = ListenerValue> {
        let of_regions = self.regional_values().map(|(.., value)| value);
        self.listener_values().map(|(.., value)| value).chain(of_regions)
    }

    /// Each block of ports of what endpoints send, with what it is the reply of.
    pub fn reply_values(&self) -> impl Iterator<Item = (ReplyKey, ReplyValue)> {
        let ports = self.replies.iter().filter(|(key, _)| matches!(key, ReplyKey::Ports { .. }));
        ports.map(|(key, words)| (*key, ReplyValue::from_words(*words)))
    }

    /// The lookup tables that listeners point at, and those before a change that is under way.
    fn targets(&self) -> impl Iterator<Item = Target> {
        let current = self.tracked_values().map(|value| value.target);
        let previous = self.tracking.values().map(|entry| entry.previous);
        current.chain(previous).filter(|target| target.slots() != 0)
    }
}

/// The entries of a map that are set. Id 0 stands for none.
fn by_id<T: Words<N>, const N: usize>(
    memory: &impl Memory,
    map: MapId,
    is_set: impl Fn(&T) -> bool,
) -> BTreeMap<u32, T> {
    let entries = (1..memory.elements(map)).map(|id| (id, memory.read(map, id)));
    entries.filter(|(_, entry)| is_set(entry)).collect()
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
