//! Lists of regions in the kernel's tries.
//!
//! They may have millions of prefixes, so no copy of them is held here, and nothing is read but to remove what no list
//! in use has. A list is written whole before anything points at it, and never changed.

use std::{net::IpAddr, os::fd::AsFd};

use aya::{
    Ebpf, EbpfError,
    maps::{
        Map, MapData, MapError,
        lpm_trie::{Key, LpmTrie},
    },
};
use lbx_common::{
    abi::{PrefixV4, PrefixV6, map_name},
    api::Prefix,
};

use super::{
    pins::Pins,
    prefixes::{ListKey, PrefixesError, key},
};

/// The tries of both families.
pub struct RegionMaps {
    v4: LpmTrie<MapData, PrefixV4, u32>,
    v6: LpmTrie<MapData, PrefixV6, u32>,
}

impl RegionMaps {
    /// Those of loaded programs: to ask, and to write.
    pub fn take(programs: &mut Ebpf) -> Result<[Self; 2], EbpfError> {
        let mut take = |name: &str| match programs.take_map(name) {
            Some(Map::LpmTrie(data)) => Ok(data),
            _ => Err(MapError::InvalidName { name: name.to_owned() }),
        };
        let (v4, v6) = (take(map_name::REGIONS_V4)?, take(map_name::REGIONS_V6)?);
        let again = Self::of(same(&v4)?, same(&v6)?)?;
        Ok([again, Self::of(v4, v6)?])
    }

    /// Those that are pinned; an older layout has none.
    pub fn pinned(pins: &Pins) -> Option<Self> {
        let open = |name| MapData::from_pin(pins.map(name)).ok();
        Self::of(open(map_name::REGIONS_V4)?, open(map_name::REGIONS_V6)?).ok()
    }

    fn of(v4: MapData, v6: MapData) -> Result<Self, MapError> {
        Ok(Self { v4: LpmTrie::try_from(Map::LpmTrie(v4))?, v6: LpmTrie::try_from(Map::LpmTrie(v6))? })
    }

    /// The region of the longest prefix in a list that an address is in.
    pub fn region(&self, list: u32, address: IpAddr) -> Option<u32> {
        match key(list, Prefix::around(address, u8::MAX)) {
            ListKey::V4(key) => self.v4.get(&key, 0).ok(),
            ListKey::V6(key) => self.v6.get(&key, 0).ok(),
        }
    }

    /// Writes a list.
    pub fn fill(&mut self, list: u32, entries: &[(Prefix, u32)]) -> Result<(), PrefixesError> {
        for &(prefix, region) in entries {
            match key(list, prefix) {
                ListKey::V4(key) => self.v4.insert(&key, region, 0)?,
                ListKey::V6(key) => self.v6.insert(&key, region, 0)?,
            }
        }
        Ok(())
    }

    /// Removes all lists but these. Returns how many prefixes went.
    pub fn keep_only(&mut self, lists: &[u32]) -> Result<usize, PrefixesError> {
        let is_over = |list: u32| !lists.contains(&list);
        let v4: Vec<_> = self.v4.keys().flatten().filter(|key| is_over(key.data().list)).collect();
        v4.iter().try_for_each(|key| self.v4.remove(key))?;
        let v6: Vec<_> = self.v6.keys().flatten().filter(|key| is_over(key.data().list)).collect();
        v6.iter().try_for_each(|key| self.v6.remove(key))?;
        Ok(v4.len() + v6.len())
    }

    /// Copies lists from other maps.
    pub fn copy(&mut self, from: &Self, lists: [u32; 2]) -> Result<(), PrefixesError> {
        for entry in &from.v4 {
            let (key, region) = entry?;
            if lists.contains(&key.data().list) {
                self.v4.insert(&Key::new(key.prefix_len(), key.data()), region, 0)?;
            }
        }
        for entry in &from.v6 {
            let (key, region) = entry?;
            if lists.contains(&key.data().list) {
                self.v6.insert(&Key::new(key.prefix_len(), key.data()), region, 0)?;
            }
        }
        Ok(())
    }
}

/// The same map by another descriptor.
fn same(data: &MapData) -> Result<MapData, MapError> {
    MapData::from_fd(data.fd().as_fd().try_clone_to_owned()?)
}
