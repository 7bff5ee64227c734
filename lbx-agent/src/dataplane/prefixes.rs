//! Lists of prefixes: who may send to a service.
//!
//! A list is never changed once a policy points at it: another one is written whole under an id of its own, and the
//! policy is moved. The tries cannot be mapped into memory and are slow to walk, so they are read once, when the
//! agent starts; afterwards nobody else writes to them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use aya::maps::{
    MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use lbx_common::{
    abi::{LIST_BITS, PrefixV4, PrefixV6},
    api::Prefix,
};

/// A list: prefixes of one family, each with `PREFIX_ALLOWED` or `PREFIX_DENIED`. The longest that an address is
/// in decides.
pub type PrefixList = BTreeMap<Prefix, u32>;

/// Lists by id, from 1.
pub type PrefixLists = BTreeMap<u32, Arc<PrefixList>>;

/// A map of prefixes could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot access prefixes of clients: {0}")]
pub struct PrefixesError(#[from] MapError);

/// The lists in the kernel.
pub struct KernelPrefixes {
    v4: LpmTrie<MapData, PrefixV4, u32>,
    v6: LpmTrie<MapData, PrefixV6, u32>,
    lists: PrefixLists,
}

impl KernelPrefixes {
    /// Reads what the maps hold.
    pub fn read(
        v4: LpmTrie<MapData, PrefixV4, u32>,
        v6: LpmTrie<MapData, PrefixV6, u32>,
    ) -> Result<Self, PrefixesError> {
        let mut lists = PrefixLists::default();
        for entry in &v4 {
            let (key, verdict) = entry?;
            let PrefixV4 { list, address } = key.data();
            put(&mut lists, list, prefix(Ipv4Addr::from(address), key.prefix_len()), verdict);
        }
        for entry in &v6 {
            let (key, verdict) = entry?;
            let PrefixV6 { list, address } = key.data();
            put(&mut lists, list, prefix(Ipv6Addr::from(address), key.prefix_len()), verdict);
        }
        Ok(Self { v4, v6, lists })
    }

    /// All lists.
    pub fn lists(&self) -> &PrefixLists {
        &self.lists
    }

    /// Sets the verdict of a prefix in a list.
    pub fn put(&mut self, list: u32, prefix: Prefix, verdict: u32) -> Result<(), PrefixesError> {
        match key(list, prefix) {
            ListKey::V4(key) => self.v4.insert(&key, verdict, 0)?,
            ListKey::V6(key) => self.v6.insert(&key, verdict, 0)?,
        }
        put(&mut self.lists, list, prefix, verdict);
        Ok(())
    }

    /// Removes a prefix of a list.
    pub fn remove(&mut self, list: u32, prefix: Prefix) -> Result<(), PrefixesError> {
        match key(list, prefix) {
            ListKey::V4(key) => self.v4.remove(&key)?,
            ListKey::V6(key) => self.v6.remove(&key)?,
        }
        remove(&mut self.lists, list, prefix);
        Ok(())
    }
}

/// A key of one of the maps.
pub(super) enum ListKey {
    V4(Key<PrefixV4>),
    V6(Key<PrefixV6>),
}

/// The key of a prefix in a list.
pub(super) fn key(list: u32, prefix: Prefix) -> ListKey {
    let length = LIST_BITS + u32::from(prefix.length());
    match prefix.address() {
        IpAddr::V4(address) => ListKey::V4(Key::new(length, PrefixV4 { list, address: address.octets() })),
        IpAddr::V6(address) => ListKey::V6(Key::new(length, PrefixV6 { list, address: address.octets() })),
    }
}

/// The prefix of a key whose length counts the list as well.
fn prefix(address: impl Into<IpAddr>, length: u32) -> Prefix {
    Prefix::around(address.into(), u8::try_from(length.saturating_sub(LIST_BITS)).unwrap_or(u8::MAX))
}

/// Sets the verdict of a prefix in a list of `lists`.
pub(super) fn put(lists: &mut PrefixLists, list: u32, prefix: Prefix, verdict: u32) {
    Arc::make_mut(lists.entry(list).or_default()).insert(prefix, verdict);
}

/// Removes a prefix of a list of `lists`, and a list that is empty then.
pub(super) fn remove(lists: &mut PrefixLists, list: u32, prefix: Prefix) {
    let Some(entries) = lists.get_mut(&list) else { return };
    Arc::make_mut(entries).remove(&prefix);
    if entries.is_empty() {
        lists.remove(&list);
    }
}
