//! Ids that stay: an object keeps the id under which the kernel knows it, a new one gets the lowest free.

use std::collections::{BTreeMap, BTreeSet};

/// There are no ids left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

/// Gives ids out.
pub struct Ids<I> {
    known: BTreeMap<I, u32>,
    taken: BTreeSet<u32>,
    next: u32,
    capacity: u32,
}

impl<I: Ord + Clone> Ids<I> {
    /// From what is known; ids from 1 to `capacity`. Ids that were known are not given to anything else,
    /// even if their owner is gone: packets may still use them until the change is over.
    pub fn new(known: impl IntoIterator<Item = (I, u32)>, capacity: u32) -> Self {
        let known: Vec<(I, u32)> = known.into_iter().collect();
        let taken = known.iter().map(|&(_, id)| id).collect();
        Self { known: known.into_iter().collect(), taken, next: 1, capacity }
    }

    /// Whether an object was known.
    pub fn knows(&self, identity: &I) -> bool {
        self.known.contains_key(identity)
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
