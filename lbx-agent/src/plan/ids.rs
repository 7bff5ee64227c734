//! Ids that stay: an object keeps the id under which the kernel knows it, a new one gets the lowest free.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// There are no ids left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

/// Gives ids out.
pub struct Ids<I> {
    known: HashMap<I, u32>,
    taken: HashSet<u32>,
    next: u32,
    capacity: u32,
}

impl<I: Hash + Eq + Clone> Ids<I> {
    /// From what is known; ids from 1 to `capacity`. Ids that were known are not given to anything else,
    /// even if their owner is gone: packets may still use them until the change is over.
    pub fn new(known: impl IntoIterator<Item = (I, u32)>, capacity: u32) -> Self {
        let known: Vec<(I, u32)> = known.into_iter().collect();
        let taken = known.iter().map(|&(_, id)| id).collect();
        Self { known: known.into_iter().collect(), taken, next: 1, capacity }
    }

    /// The id of an object that was known.
    pub fn known(&self, identity: &I) -> Option<u32> {
        self.known.get(identity).copied()
    }

    /// Keeps an id from being given to anything.
    pub fn set_aside(&mut self, id: u32) {
        self.taken.insert(id);
    }

    /// Gives an object an id that was known under another identity.
    pub fn adopt(&mut self, identity: I, id: u32) {
        self.known.insert(identity, id);
    }

    /// The id of an object.
    pub fn of(&mut self, identity: &I) -> Result<u32, Exhausted> {
        if let Some(&id) = self.known.get(identity) {
            return Ok(id);
        }
        while self.taken.contains(&self.next) {
            self.next += 1;
        }
        if self.next > self.capacity {
            return Err(Exhausted);
        }
        self.taken.insert(self.next);
        self.known.insert(identity.clone(), self.next);
        Ok(self.next)
    }
}

/// A set of endpoint ids. The slots of many tables are put into it, so that is quick.
pub struct EndpointIds(Vec<bool>);

impl EndpointIds {
    /// Whether an id is in it.
    pub fn contains(&self, id: u16) -> bool {
        self.0.get(usize::from(id)).copied().unwrap_or(false)
    }

    /// Puts an id in; returns whether it is new there.
    pub fn insert(&mut self, id: u16) -> bool {
        self.0.get_mut(usize::from(id)).is_some_and(|there| !std::mem::replace(there, true))
    }
}

impl Default for EndpointIds {
    fn default() -> Self {
        Self(vec![false; 1 << u16::BITS])
    }
}

impl FromIterator<u16> for EndpointIds {
    fn from_iter<T: IntoIterator<Item = u16>>(all: T) -> Self {
        let mut ids = Self::default();
        for id in all {
            ids.insert(id);
        }
        ids
    }
}
