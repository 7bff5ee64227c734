//! From what the maps hold to what they should hold: the steps, in an order in which every packet finds
//! what it is pointed at.
//!
//! What is pointed at comes first (networks, tunnels, endpoints, tables, lists of prefixes, then policies), then what
//! points (peers, replies, listeners); what no longer points goes next, and after a grace period what nothing points at any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lbx_common::{
    abi::{
        ENDPOINT_TRACKED, EndpointEntry, ListenerKey, NODE_TRACKS, NodeEntry, PeerKey, PeerValue,
        PolicyEntry, ReplyKey, TrackingEntry, TunnelEntry, VnetEntry, Words,
    },
    bytes::Address,
};

use super::{
    buckets::{self, Full},
    counters::{Counters, CountersError, Owner},
    image::{Image, write_table},
    memory::{MapId, Memory},
    prefixes::{PrefixList, PrefixesError},
};

/// One change to the maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Sets the node's entry.
    Node(NodeEntry),
    /// Gives an IPv6 address its id.
    Address(Address, u32),
    /// Sets a virtual network.
    Vnet(u32, VnetEntry),
    /// Sets a tunnel.
    Tunnel(u32, TunnelEntry),
    /// Sets an endpoint.
    Endpoint(u16, EndpointEntry),
    /// Writes a table into free lines.
    Table(u32, Arc<[u16]>),
    /// Writes a list of prefixes under a free id.
    Prefixes(u32, Arc<PrefixList>),
    /// Sets what a listener asks of packets.
    Policy(u32, PolicyEntry),
    /// Says what is under way at a listener.
    Tracking(u32, TrackingEntry),
    /// Sets a tunnel peer or probe source.
    Peer(PeerKey, PeerValue),
    /// Sets a reply match.
    Reply(ReplyKey, [u64; 2]),
    /// Sets a listener.
    Listener(ListenerKey, [u64; 2]),
    /// Removes a listener.
    DropListener(ListenerKey),
    /// Removes a reply match.
    DropReply(ReplyKey),
    /// Removes a tunnel peer or probe source.
    DropPeer(PeerKey),
    /// Waits until no packet uses what was removed.
    Grace,
    /// Clears an endpoint.
    ClearEndpoint(u16),
    /// Clears a tunnel.
    ClearTunnel(u32),
    /// Clears a virtual network.
    ClearVnet(u32),
    /// Clears what a listener asked of packets.
    ClearPolicy(u32),
    /// Says that nothing is under way at a listener.
    ClearTracking(u32),
    /// Removes a list of prefixes.
    ClearPrefixes(u32, Arc<PrefixList>),
    /// Takes an IPv6 address its id.
    DropAddress(Address),
    /// Starts somebody's counters anew.
    Zero(Owner),
    /// Starts the drop counters of a vnet id anew.
    ZeroVnet(u32),
}

/// A step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// No room.
    #[error(transparent)]
    Full(#[from] Full),
    /// Prefixes could not be written.
    #[error(transparent)]
    Prefixes(#[from] PrefixesError),
    /// Counters could not be cleared.
    #[error(transparent)]
    Counters(#[from] CountersError),
}

/// The steps from one image to another. Equal images give none.
pub fn diff(from: &Image, to: &Image) -> Vec<Step> {
    // Lists that nothing points at are those of an agent that was killed before it could: they only take up room.
    let in_use: BTreeSet<u32> = from.policies.values().map(|policy| policy.list).collect();
    let (used, unused): (Vec<_>, Vec<_>) = (from.prefixes.iter())
        .filter(|(id, _)| !to.prefixes.contains_key(id))
        .partition(|(id, _)| in_use.contains(id));
    let clear_list = |(&id, list): (&u32, &Arc<PrefixList>)| Step::ClearPrefixes(id, list.clone());
    let mut steps: Vec<Step> = unused.into_iter().map(clear_list).collect();
    set(&from.addresses, &to.addresses, &mut steps, |&address, &id| Step::Address(address, id));
    // Another seed is another hash for every packet, and another list of regions another table for some: they come when
    // the listeners know of those before.
    let lists = |node: &NodeEntry| (node.seed, node.regions, node.regions_before);
    let comes_late = from.node.abi != 0 && lists(&from.node) != lists(&to.node);
    let NodeEntry { seed, regions, regions_before, .. } = if comes_late { from.node } else { to.node };
    let node = NodeEntry { seed, regions, regions_before, ..to.node };
    if from.node != node {
        steps.push(Step::Node(node));
    }
    // Counters are zeroed when an id is given out: whoever had it before may have been killed before it could.
    gone(&to.vnets, &from.vnets, &mut steps, |&id, _| Step::ZeroVnet(id));
    gone(&to.tunnels, &from.tunnels, &mut steps, |&id, _| Step::Zero(Owner::Tunnel(id)));
    gone(&to.endpoints, &from.endpoints, &mut steps, |&id, _| Step::Zero(Owner::Endpoint(id)));
    let (before, after) = (listener_ids(from), listener_ids(to));
    steps.extend(after.difference(&before).map(|&id| Step::Zero(Owner::Listener(id))));

    set(&from.vnets, &to.vnets, &mut steps, |&id, &entry| Step::Vnet(id, entry));
    set(&from.tunnels, &to.tunnels, &mut steps, |&id, &entry| Step::Tunnel(id, entry));
    set(&from.endpoints, &to.endpoints, &mut steps, |&id, &entry| Step::Endpoint(id, entry));
    set(&from.tables, &to.tables, &mut steps, |&line, slots| Step::Table(line, slots.clone()));
    set(&from.prefixes, &to.prefixes, &mut steps, |&id, list| Step::Prefixes(id, list.clone()));
    set(&from.policies, &to.policies, &mut steps, |&id, &entry| Step::Policy(id, entry));
    set(&from.peers, &to.peers, &mut steps, |&key, &value| Step::Peer(key, value));
    set(&from.replies, &to.replies, &mut steps, |&key, &value| Step::Reply(key, value));
    set(&from.tracking, &to.tracking, &mut steps, |&id, &entry| Step::Tracking(id, entry));
    set(&from.listeners, &to.listeners, &mut steps, |&key, &value| Step::Listener(key, value));

    if comes_late {
        steps.push(Step::Node(to.node));
    }
    let before = steps.len();
    gone(&from.listeners, &to.listeners, &mut steps, |&key, _| Step::DropListener(key));
    gone(&from.replies, &to.replies, &mut steps, |&key, _| Step::DropReply(key));
    gone(&from.peers, &to.peers, &mut steps, |&key, _| Step::DropPeer(key));
    // Lines of a table that is no longer pointed at are free after the same wait.
    let unused_table = from.tables.keys().any(|line| !to.tables.contains_key(line));
    let mut clears = Vec::new();
    gone(&from.endpoints, &to.endpoints, &mut clears, |&id, _| Step::ClearEndpoint(id));
    gone(&from.tunnels, &to.tunnels, &mut clears, |&id, _| Step::ClearTunnel(id));
    gone(&from.vnets, &to.vnets, &mut clears, |&id, _| Step::ClearVnet(id));
    gone(&from.tracking, &to.tracking, &mut clears, |&id, _| Step::ClearTracking(id));
    gone(&from.policies, &to.policies, &mut clears, |&id, _| Step::ClearPolicy(id));
    clears.extend(used.into_iter().map(clear_list));
    if steps.len() > before || !clears.is_empty() || unused_table {
        steps.push(Step::Grace);
    }
    steps.append(&mut clears);
    let before = steps.len();
    gone(&from.addresses, &to.addresses, &mut steps, |&address, _| Step::DropAddress(address));
    if steps.len() > before {
        // A packet may have looked an id up just now; after this nobody has it any more.
        steps.push(Step::Grace);
    }
    steps
}

fn listener_ids(image: &Image) -> BTreeSet<u32> {
    image.listener_values().map(|(.., value)| value.id).collect()
}

/// A step for each entry that is new or differs.
fn set<K: Ord, V: PartialEq>(
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
    steps: &mut Vec<Step>,
    step: impl Fn(&K, &V) -> Step,
) {
    steps.extend(to.iter().filter(|(key, value)| from.get(key) != Some(value)).map(|(k, v)| step(k, v)));
}

/// A step for each entry of one that the other has not.
fn gone<K: Ord, V>(
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
    steps: &mut Vec<Step>,
    step: impl Fn(&K, &V) -> Step,
) {
    steps.extend(from.iter().filter(|(key, _)| !to.contains_key(key)).map(|(k, v)| step(k, v)));
}

/// Does the steps in their order. What finds no room waits until all that goes has gone.
pub fn apply(
    memory: &mut impl Memory,
    counters: &mut impl Counters,
    steps: &[Step],
) -> Result<(), ApplyError> {
    let mut crowded_out = Vec::new();
    for step in steps {
        match do_step(memory, counters, step) {
            Err(ApplyError::Full(_)) => crowded_out.push(step),
            done => done?,
        }
    }
    crowded_out.into_iter().try_for_each(|step| do_step(memory, counters, step))
}

fn do_step(memory: &mut impl Memory, counters: &mut impl Counters, step: &Step) -> Result<(), ApplyError> {
    match step {
        Step::Node(entry) => {
            let current: NodeEntry = memory.read(MapId::Node, 0);
            memory.write(MapId::Node, 0, NodeEntry { moves: current.moves, ..*entry });
        }
        Step::Address(address, id) => {
            memory.write(MapId::Addresses, *id, *address);
            buckets::put(memory, MapId::AddressIds, address.words(), [u64::from(*id), 0])?;
        }
        Step::DropAddress(address) => buckets::remove(memory, MapId::AddressIds, address.words()),
        Step::Vnet(id, entry) => memory.write(MapId::Vnets, *id, *entry),
        Step::Tunnel(id, entry) => memory.write(MapId::Tunnels, *id, *entry),
        Step::Endpoint(id, entry) => memory.write(MapId::Endpoints, u32::from(*id), *entry),
        Step::Table(line, slots) => write_table(memory, *line, slots),
        Step::Prefixes(id, list) => {
            list.iter().try_for_each(|(&prefix, &verdict)| memory.put_prefix(*id, prefix, verdict))?;
        }
        Step::Tracking(id, entry) => memory.write(MapId::Tracking, *id, *entry),
        Step::ClearTracking(id) => memory.write(MapId::Tracking, *id, TrackingEntry::default()),
        Step::Policy(id, entry) => memory.write(MapId::Policies, *id, *entry),
        Step::Peer(key, value) => buckets::put(memory, MapId::Peers, key.words(), value.to_words())?,
        Step::Reply(key, value) => buckets::put(memory, MapId::Replies, key.words(), *value)?,
        Step::Listener(key, value) => buckets::put(memory, MapId::Listeners, key.words(), *value)?,
        Step::DropListener(key) => buckets::remove(memory, MapId::Listeners, key.words()),
        Step::DropReply(key) => buckets::remove(memory, MapId::Replies, key.words()),
        Step::DropPeer(key) => buckets::remove(memory, MapId::Peers, key.words()),
        Step::Grace => memory.grace(),
        Step::ClearEndpoint(id) => memory.write(MapId::Endpoints, u32::from(*id), EndpointEntry::default()),
        Step::ClearTunnel(id) => memory.write(MapId::Tunnels, *id, TunnelEntry::default()),
        Step::ClearVnet(id) => memory.write(MapId::Vnets, *id, VnetEntry::default()),
        Step::ClearPolicy(id) => memory.write(MapId::Policies, *id, PolicyEntry::default()),
        Step::ClearPrefixes(id, list) => {
            list.keys().try_for_each(|&prefix| memory.remove_prefix(*id, prefix))?;
        }
        Step::Zero(owner) => counters.clear(*owner)?,
        Step::ZeroVnet(id) => counters.clear_drops(*id)?,
    }
    Ok(())
}

/// Changes the state of an endpoint: two words, no table. Returns whether it is another one.
pub fn update_endpoint(
    memory: &mut impl Memory,
    id: u16,
    update: impl FnOnce(EndpointEntry) -> EndpointEntry,
) -> bool {
    let entry: EndpointEntry = memory.read(MapId::Endpoints, u32::from(id));
    if entry.vnet == 0 {
        return false;
    }
    let updated = update(entry);
    if updated.state & ENDPOINT_TRACKED != 0 {
        // First, or replies would prove nothing of flows that begin elsewhere from now on.
        let node: NodeEntry = memory.read(MapId::Node, 0);
        memory.write(MapId::Node, 0, NodeEntry { flags: node.flags | NODE_TRACKS, ..node });
    }
    memory.write(MapId::Endpoints, u32::from(id), updated);
    updated != entry
}
