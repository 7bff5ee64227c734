//! Memory that others write to as well, or that forgets: for tests.

use std::net::IpAddr;

use lbx_common::api::Prefix;

use super::{FakeMemory, MapId, Memory};
use crate::dataplane::{PrefixLists, PrefixesError};

/// What is about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// A store.
    Store,
    /// A word of a map is replaced.
    Replace(MapId, usize),
}

/// Before each write the function is called; what it says no to is lost.
pub struct Interfered<F> {
    /// What is left in the end.
    pub memory: FakeMemory,
    /// The function.
    pub before: F,
}

impl<F: FnMut(&mut FakeMemory, Write) -> bool> Memory for Interfered<F> {
    fn elements(&self, map: MapId) -> u32 {
        self.memory.elements(map)
    }
    fn load(&self, map: MapId, index: usize) -> u64 {
        self.memory.load(map, index)
    }
    fn store(&mut self, map: MapId, index: usize, value: u64) {
        if (self.before)(&mut self.memory, Write::Store) {
            self.memory.store(map, index, value);
        }
    }
    fn replace(&mut self, map: MapId, index: usize, old: u64, new: u64) -> bool {
        (self.before)(&mut self.memory, Write::Replace(map, index))
            && self.memory.replace(map, index, old, new)
    }
    fn grace(&mut self) {}
    fn writes(&self) -> u64 {
        self.memory.writes()
    }
    fn prefix_lists(&self) -> &PrefixLists {
        self.memory.prefix_lists()
    }
    fn put_prefix(&mut self, _: u32, _: Prefix, _: u32) -> Result<(), PrefixesError> {
        Ok(())
    }
    fn remove_prefix(&mut self, _: u32, _: Prefix) -> Result<(), PrefixesError> {
        Ok(())
    }
    fn region(&self, list: u32, address: IpAddr) -> Option<u32> {
        self.memory.region(list, address)
    }
}
