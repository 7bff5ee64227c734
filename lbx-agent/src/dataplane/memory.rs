//! Maps as arrays of 64-bit words: all that planning and applying need of the kernel.

#[cfg(test)]
pub mod interfered;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use lbx_common::{
    abi::{
        Bucket, EndpointEntry, NodeEntry, PinBucket, PinRecord, PolicyEntry, SlotLine, TrackingEntry,
        TunnelEntry, VnetEntry, Words, map_name,
    },
    api::Prefix,
    bytes::Address,
};

use super::prefixes::{self, PrefixLists, PrefixesError};
use crate::regions::RegionList;

/// A map that the agent writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapId {
    /// The node's entry.
    Node,
    /// Listeners.
    Listeners,
    /// Reply matches.
    Replies,
    /// Tunnel peers and probe sources.
    Peers,
    /// Ids of IPv6 addresses.
    AddressIds,
    /// IPv6 addresses by id.
    Addresses,
    /// Lookup tables.
    Slots,
    /// Endpoints.
    Endpoints,
    /// Tunnels.
    Tunnels,
    /// Virtual networks.
    Vnets,
    /// What listeners ask of packets.
    Policies,
    /// What is under way at listeners.
    Tracking,
    /// Pins of TCP, which the programs write.
    PinsTcp,
    /// Pins of UDP.
    PinsUdp,
    /// Whose the pins of TCP are.
    RecordsTcp,
    /// Whose the pins of UDP are.
    RecordsUdp,
}

impl MapId {
    /// All maps that the agent writes.
    pub const ALL: [Self; 16] = [
        Self::Node,
        Self::Listeners,
        Self::Replies,
        Self::Peers,
        Self::AddressIds,
        Self::Addresses,
        Self::Slots,
        Self::Endpoints,
        Self::Tunnels,
        Self::Vnets,
        Self::Policies,
        Self::Tracking,
        Self::PinsTcp,
        Self::PinsUdp,
        Self::RecordsTcp,
        Self::RecordsUdp,
    ];

    /// The maps of pins, those that say whose they are, and whether they are of UDP.
    pub const PINS: [(Self, Self, bool); 2] =
        [(Self::PinsTcp, Self::RecordsTcp, false), (Self::PinsUdp, Self::RecordsUdp, true)];

    /// Name in the object file and as pinned.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => map_name::NODE,
            Self::Listeners => map_name::LISTENERS,
            Self::Replies => map_name::REPLIES,
            Self::Peers => map_name::PEERS,
            Self::AddressIds => map_name::ADDRESS_IDS,
            Self::Addresses => map_name::ADDRESSES,
            Self::Slots => map_name::SLOTS,
            Self::Endpoints => map_name::ENDPOINTS,
            Self::Tunnels => map_name::TUNNELS,
            Self::Vnets => map_name::VNETS,
            Self::Policies => map_name::POLICIES,
            Self::Tracking => map_name::TRACKING,
            Self::PinsTcp => map_name::PINS_TCP,
            Self::PinsUdp => map_name::PINS_UDP,
            Self::RecordsTcp => map_name::RECORDS_TCP,
            Self::RecordsUdp => map_name::RECORDS_UDP,
        }
    }

    /// Bytes of an element.
    pub const fn value_size(self) -> usize {
        match self {
            Self::Node => size_of::<NodeEntry>(),
            Self::Listeners | Self::Replies | Self::Peers | Self::AddressIds => size_of::<Bucket>(),
            Self::Addresses => size_of::<Address>(),
            Self::Slots => size_of::<SlotLine>(),
            Self::Endpoints => size_of::<EndpointEntry>(),
            Self::Tunnels => size_of::<TunnelEntry>(),
            Self::Vnets => size_of::<VnetEntry>(),
            Self::Policies => size_of::<PolicyEntry>(),
            Self::Tracking => size_of::<TrackingEntry>(),
            Self::PinsTcp | Self::PinsUdp => size_of::<PinBucket>(),
            Self::RecordsTcp | Self::RecordsUdp => size_of::<PinRecord>(),
        }
    }

    /// Words of an element.
    pub const fn words(self) -> usize {
        self.value_size() / 8
    }
}

/// Word-wise access to the maps, and the lists of prefixes, which have no words. Words out of range read as 0 and take no writes.
pub trait Memory {
    /// Elements of a map.
    fn elements(&self, map: MapId) -> u32;

    /// A word of a map; `index` counts words from the map's start.
    fn load(&self, map: MapId, index: usize) -> u64;

    /// Sets a word by one aligned 64-bit store.
    fn store(&mut self, map: MapId, index: usize, value: u64);

    /// Sets a word that is `old` still; returns whether it was.
    fn replace(&mut self, map: MapId, index: usize, old: u64, new: u64) -> bool;

    /// Returns when no packet is under way that has seen the maps as they were before.
    fn grace(&mut self);

    /// Stores since the start.
    fn writes(&self) -> u64;

    /// The lists of prefixes.
    fn prefix_lists(&self) -> &PrefixLists;

    /// Sets the verdict of a prefix in a list.
    fn put_prefix(&mut self, list: u32, prefix: Prefix, verdict: u32) -> Result<(), PrefixesError>;

    /// Removes a prefix of a list.
    fn remove_prefix(&mut self, list: u32, prefix: Prefix) -> Result<(), PrefixesError>;

    /// The region of the longest prefix in a list of regions that an address is in.
    fn region(&self, list: u32, address: IpAddr) -> Option<u32>;

    /// An element as a value.
    fn read<T: Words<N>, const N: usize>(&self, map: MapId, element: u32) -> T {
        let start = element as usize * N;
        T::from_words(std::array::from_fn(|i| self.load(map, start + i)))
    }

    /// Writes those words of an element that differ, the last first, so that an entry whose first word says
    /// that it is set is never seen half written.
    fn write<T: Words<N>, const N: usize>(&mut self, map: MapId, element: u32, value: T) {
        let start = element as usize * N;
        for (i, word) in value.to_words().into_iter().enumerate().rev() {
            if self.load(map, start + i) != word {
                self.store(map, start + i, word);
            }
        }
    }
}

/// Maps in plain memory, for tests and for planning without a kernel.
#[derive(Debug, Clone)]
pub struct FakeMemory {
    maps: BTreeMap<MapId, Vec<u64>>,
    prefixes: PrefixLists,
    regions: BTreeMap<u32, Arc<RegionList>>,
    writes: u64,
}

impl FakeMemory {
    /// Keeps a list of regions.
    pub fn put_regions(&mut self, list: Arc<RegionList>) {
        self.regions.insert(list.id(), list);
    }

    /// Maps with as many elements as `elements` says.
    pub fn new(elements: impl Fn(MapId) -> u32) -> Self {
        let maps = MapId::ALL.map(|map| (map, vec![0; elements(map) as usize * map.words()]));
        Self { maps: maps.into(), prefixes: PrefixLists::default(), regions: BTreeMap::new(), writes: 0 }
    }
}

impl Memory for FakeMemory {
    fn elements(&self, map: MapId) -> u32 {
        let words = self.maps.get(&map).map_or(0, Vec::len);
        u32::try_from(words / map.words()).unwrap_or(u32::MAX)
    }

    fn load(&self, map: MapId, index: usize) -> u64 {
        self.maps.get(&map).and_then(|words| words.get(index)).copied().unwrap_or(0)
    }

    fn store(&mut self, map: MapId, index: usize, value: u64) {
        if let Some(word) = self.maps.get_mut(&map).and_then(|words| words.get_mut(index)) {
            *word = value;
            self.writes += 1;
        }
    }

    fn replace(&mut self, map: MapId, index: usize, old: u64, new: u64) -> bool {
        let is_old = self.load(map, index) == old;
        if is_old {
            self.store(map, index, new);
        }
        is_old
    }

    fn grace(&mut self) {}

    fn writes(&self) -> u64 {
        self.writes
    }

    fn prefix_lists(&self) -> &PrefixLists {
        &self.prefixes
    }

    fn put_prefix(&mut self, list: u32, prefix: Prefix, verdict: u32) -> Result<(), PrefixesError> {
        prefixes::put(&mut self.prefixes, list, prefix, verdict);
        self.writes += 1;
        Ok(())
    }

    fn remove_prefix(&mut self, list: u32, prefix: Prefix) -> Result<(), PrefixesError> {
        prefixes::remove(&mut self.prefixes, list, prefix);
        self.writes += 1;
        Ok(())
    }

    fn region(&self, list: u32, address: IpAddr) -> Option<u32> {
        self.regions.get(&list)?.find(address).map(|(_, region)| region)
    }
}
