//! Writes exact-match tables: cuckoo hashing over a bucket map.
//!
//! Packets read while the agent writes. An entry becomes visible by its first key word, which is written
//! last and cleared first; an entry that moves stands in both places for a moment; and a place that was
//! cleared is used again only after a grace period, so that no packet reads another key's value.

use std::collections::{BTreeSet, VecDeque};

use lbx_common::abi::{ENTRIES_PER_BUCKET, KeyWords, NodeEntry, bucket_pair};

use super::memory::{MapId, Memory};

/// Words of an entry: two of key, two of value.
const ENTRY_WORDS: usize = 4;
/// How many entries are looked at for one that can move: far more than a table at half load needs.
const SEARCH_LIMIT: usize = 4096;
/// Word of `NODE` that says that entries move: [`NodeEntry::moves`] is the upper half of the first word.
const MOVES_WORD: usize = std::mem::offset_of!(NodeEntry, moves) / 8;

/// There is no room for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("map {} is full: raise its limit under `limits`", .0.name())]
pub struct Full(pub MapId);

/// Buckets for `entries` entries: at most half of the places are used, so that there is always room.
pub const fn buckets_for(entries: u32) -> u32 {
    (if entries < 8 { 8 } else { entries }).next_power_of_two()
}

/// All entries of a bucket map.
pub fn entries(memory: &impl Memory, map: MapId) -> Vec<(KeyWords, [u64; 2])> {
    let places = memory.elements(map) as usize * ENTRIES_PER_BUCKET;
    (0..places)
        .map(|place| (key_at(memory, map, place), value_at(memory, map, place)))
        .filter(|(key, _)| key[0] != 0)
        .collect()
}

/// Sets the value of a key, which may be new.
pub fn put(memory: &mut impl Memory, map: MapId, key: KeyWords, value: [u64; 2]) -> Result<(), Full> {
    if let Some(place) = find(memory, map, key) {
        write_value(memory, map, place, value);
        return Ok(());
    }
    let place = free_place(memory, map, key)?;
    write_value(memory, map, place, value);
    memory.store(map, place * ENTRY_WORDS + 1, key[1]);
    memory.store(map, place * ENTRY_WORDS, key[0]);
    Ok(())
}

/// Removes a key. Its place may be used again after a grace period.
pub fn remove(memory: &mut impl Memory, map: MapId, key: KeyWords) {
    if let Some(place) = find(memory, map, key) {
        clear(memory, map, place);
    }
}

/// Ends moves that an agent began and did not live to end: an entry that stands in two places keeps the one
/// that is found first. Returns whether there was anything to mend.
pub fn mend(memory: &mut impl Memory) -> bool {
    if memory.load(MapId::Node, MOVES_WORD) >> 32 & 1 == 0 {
        return false;
    }
    for map in [MapId::Listeners, MapId::Replies, MapId::Peers, MapId::AddressIds] {
        for place in 0..memory.elements(map) as usize * ENTRIES_PER_BUCKET {
            let key = key_at(memory, map, place);
            if key[0] != 0 && find(memory, map, key) != Some(place) {
                clear(memory, map, place);
            }
        }
    }
    memory.grace();
    end_moves(memory);
    true
}

/// Only the key's first word: a packet that has matched the entry just now still reads its value whole.
fn clear(memory: &mut impl Memory, map: MapId, place: usize) {
    memory.store(map, place * ENTRY_WORDS, 0);
}

fn key_at(memory: &impl Memory, map: MapId, place: usize) -> KeyWords {
    [memory.load(map, place * ENTRY_WORDS), memory.load(map, place * ENTRY_WORDS + 1)]
}

fn value_at(memory: &impl Memory, map: MapId, place: usize) -> [u64; 2] {
    [memory.load(map, place * ENTRY_WORDS + 2), memory.load(map, place * ENTRY_WORDS + 3)]
}

fn write_value(memory: &mut impl Memory, map: MapId, place: usize, value: [u64; 2]) {
    for (i, word) in value.into_iter().enumerate() {
        let index = place * ENTRY_WORDS + 2 + i;
        if memory.load(map, index) != word {
            memory.store(map, index, word);
        }
    }
}

/// The places that may hold a key.
fn places(memory: &impl Memory, map: MapId, key: KeyWords) -> [usize; 2 * ENTRIES_PER_BUCKET] {
    let (first, second) = bucket_pair(key, memory.elements(map).saturating_sub(1));
    let (first, second) = (first as usize * ENTRIES_PER_BUCKET, second as usize * ENTRIES_PER_BUCKET);
    [first, first + 1, second, second + 1]
}

fn find(memory: &impl Memory, map: MapId, key: KeyWords) -> Option<usize> {
    places(memory, map, key).into_iter().find(|&place| key_at(memory, map, place) == key)
}

/// A free place for `key`, made by moving other entries where there is none. The search is breadth-first,
/// so the fewest entries move.
fn free_place(memory: &mut impl Memory, map: MapId, key: KeyWords) -> Result<usize, Full> {
    // Each step: a place, and the step whose entry would move there.
    let mut steps: Vec<(usize, Option<usize>)> = places(memory, map, key).map(|place| (place, None)).into();
    let mut seen: BTreeSet<usize> = steps.iter().map(|&(place, _)| place).collect();
    let mut queue: VecDeque<usize> = (0..steps.len()).collect();
    while let Some(step) = queue.pop_front() {
        let Some(&(place, _)) = steps.get(step) else { break };
        let occupant = key_at(memory, map, place);
        if occupant[0] == 0 {
            return Ok(move_along(memory, map, &steps, step));
        }
        if steps.len() < SEARCH_LIMIT {
            for next in places(memory, map, occupant) {
                if seen.insert(next) {
                    queue.push_back(steps.len());
                    steps.push((next, Some(step)));
                }
            }
        }
    }
    Err(Full(map))
}

/// Moves the entries on the way to the free place at `step`, the last first; returns the place that is free
/// then, where the way began.
fn move_along(
    memory: &mut impl Memory,
    map: MapId,
    steps: &[(usize, Option<usize>)],
    mut step: usize,
) -> usize {
    let mut moving = false;
    while let Some(&(free, from)) = steps.get(step) {
        let Some((previous, place)) = from.and_then(|from| Some((from, steps.get(from)?.0))) else {
            if moving {
                end_moves(memory);
            }
            return free;
        };
        if !moving {
            moving = true;
            begin_moves(memory);
        }
        let (key, value) = (key_at(memory, map, place), value_at(memory, map, place));
        write_value(memory, map, free, value);
        memory.store(map, free * ENTRY_WORDS + 1, key[1]);
        memory.store(map, free * ENTRY_WORDS, key[0]);
        clear(memory, map, place);
        memory.grace();
        step = previous;
    }
    unreachable!("every way begins at one of the key's own places")
}

/// Makes `moves` odd: from now on entries may stand in two places.
fn begin_moves(memory: &mut impl Memory) {
    let words = memory.load(MapId::Node, MOVES_WORD);
    memory.store(MapId::Node, MOVES_WORD, words | 1 << 32);
}

/// Makes `moves` even, and another number than before.
fn end_moves(memory: &mut impl Memory) {
    let words = memory.load(MapId::Node, MOVES_WORD);
    memory.store(MapId::Node, MOVES_WORD, (words | 1 << 32).wrapping_add(1 << 32));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::{FakeMemory, Interfered, Write};

    const MAP: MapId = MapId::Listeners;

    fn memory(buckets: u32) -> FakeMemory {
        FakeMemory::new(|map| if map == MapId::Node { 1 } else { buckets })
    }

    #[test]
    fn a_table_takes_its_limit_of_entries_with_moves() {
        let limit = 4096;
        let mut memory = memory(buckets_for(limit));
        for i in 0..u64::from(limit) {
            put(&mut memory, MAP, [i + 1, 0], [i, i]).unwrap();
        }
        assert_eq!(entries(&memory, MAP).len(), limit as usize);
        // It holds more, up to a load of about 0.9; then it says so.
        let mut i = u64::from(limit);
        while put(&mut memory, MAP, [i + 1, 0], [i, i]).is_ok() {
            i += 1;
        }
        assert!(i > 7000, "full at {i} of 8192");
        let moves = memory.load(MapId::Node, MOVES_WORD) >> 32;
        assert!(moves > 0 && moves.is_multiple_of(2), "moves must have happened and have ended: {moves}");
        for (key, value) in entries(&memory, MAP) {
            assert_eq!(value, [key[0] - 1, key[0] - 1]);
        }
    }

    /// Memory that loses everything written after some number of stores: an agent that was killed there.
    fn killed(memory: FakeMemory, mut left: u64) -> Interfered<impl FnMut(&mut FakeMemory, Write) -> bool> {
        let before = move |_: &mut FakeMemory, write| {
            assert_eq!(write, Write::Store, "buckets are the agent's alone");
            let alive = left > 0;
            left = left.saturating_sub(1);
            alive
        };
        Interfered { memory, before }
    }

    #[test]
    fn moves_that_a_kill_cut_short_are_mended_and_nothing_is_lost() {
        // Twelve entries in eight buckets, put one by one until one has to make others move.
        let mut before = memory(8);
        let mut i = 0;
        let moving = loop {
            i += 1;
            let mut after = before.clone();
            put(&mut after, MAP, [i, i], [i, i]).unwrap();
            if after.load(MapId::Node, MOVES_WORD) >> 32 > 0 {
                break i;
            }
            before = after;
        };
        let old: BTreeSet<_> = entries(&before, MAP).into_iter().collect();
        let mut mended = 0;
        for stores in 0..40 {
            let mut killed = killed(before.clone(), stores);
            put(&mut killed, MAP, [moving, moving], [moving, moving]).unwrap();
            let mut memory = killed.memory;
            mended += u32::from(mend(&mut memory));
            assert!(!mend(&mut memory), "a second time there is nothing to mend");
            let found = entries(&memory, MAP);
            let unique: BTreeSet<_> = found.iter().copied().collect();
            assert_eq!(found.len(), unique.len(), "after {stores} stores an entry stands twice");
            let new = ([moving, moving], [moving, moving]);
            assert!(unique.iter().all(|entry| old.contains(entry) || *entry == new));
            assert!(unique.is_superset(&old), "after {stores} stores an entry is lost");
            // And what is removed is gone.
            for (key, _) in &old {
                remove(&mut memory, MAP, *key);
                assert!(entries(&memory, MAP).iter().all(|(left, _)| left != key));
            }
        }
        assert!(mended > 2, "no kill came while entries moved");
    }

    proptest! {
        #[test]
        fn a_table_is_a_map(steps in prop::collection::vec((0_u64..200, any::<Option<u64>>()), 0..600)) {
            let mut memory = memory(128);
            let mut model = BTreeMap::new();
            for (key, value) in steps {
                let key = [key + 1, key / 2];
                if let Some(value) = value {
                    put(&mut memory, MAP, key, [value, !value]).unwrap();
                    model.insert(key, [value, !value]);
                } else {
                    remove(&mut memory, MAP, key);
                    model.remove(&key);
                }
            }
            let found: BTreeMap<_, _> = entries(&memory, MAP).into_iter().collect();
            prop_assert_eq!(found, model);
        }
    }
}
