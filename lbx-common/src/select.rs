//! Which endpoint gets a flow: by table and hash alone, without per-flow state.
//!
//! The base owner of a flow is the endpoint in its slot. Where that one takes no new flows, a new flow goes to
//! the next one in the slot's own sequence that does. The sequence depends on nothing but slot and table
//! size, so one more failure moves exactly the slots of the endpoint that failed, whatever else is down,
//! and its recovery moves exactly those back.
//!
//! [`steady`] is the path of nearly every packet. Where a flow may live elsewhere than its hash says, it gives up,
//! and [`crate::track`] looks for what is remembered.

use crate::{
    abi::{
        ENDPOINT_TAKES_NEW, ENDPOINT_TRACKED, EndpointEntry, SEQUENCE_LENGTH, TRACKING_EVERY,
        TRACKING_REHASHED, Target,
    },
    hash::{mix, scale, source_hash},
    ip::IpAddress,
    region::Place,
    tables::Tables,
};

/// Stands for "no endpoint" where BPF needs a single register. Entry 0 is never set.
pub const NOBODY: u32 = 0;

/// What a table is looked up by: the hash of the flow, or that of its source.
#[inline(always)]
pub fn table_hash<A: IpAddress>(target: Target, source: A, flow_hash: u32, seed: &[u64; 2]) -> u32 {
    match target.source_bits() {
        0 => flow_hash,
        bits => source_hash(source, bits, seed),
    }
}

/// The endpoint for every packet of a flow, with its id, where hash and table say it; `hash` is [`table_hash`].
#[inline(always)]
pub fn steady<'a, T: Tables>(tables: &'a T, place: &Place, hash: u32) -> Option<(u16, &'a EndpointEntry)> {
    let target = place.target;
    if target.slots() == 0 || place.before != 0 {
        return None;
    }
    let base = tables.slot(target, scale(hash, target.slots()))?;
    let endpoint = tables.endpoint(u32::from(base))?;
    let steady = endpoint.state & (ENDPOINT_TAKES_NEW | ENDPOINT_TRACKED) == ENDPOINT_TAKES_NEW
        && (!target.is_tracked() || agrees_with_previous(tables, place.tracking, base, hash));
    steady.then_some((base, endpoint))
}

/// Whether a change of the table leaves a slot as it was, and nothing else speaks against it.
#[inline(always)]
fn agrees_with_previous<T: Tables>(tables: &T, tracking: u32, base: u16, hash: u32) -> bool {
    let Some(tracking) = tables.tracking(tracking) else { return false };
    if tracking.flags & (TRACKING_EVERY | TRACKING_REHASHED) != 0 {
        return false;
    }
    let previous = tracking.previous;
    previous.slots() == 0 || tables.slot(previous, scale(hash, previous.slots())) == Some(base)
}

/// Owner of a new flow in a slot: the base owner, or the first of the slot's sequence that takes new flows.
#[inline(never)]
pub fn owner_of_new<T: Tables>(tables: &T, target: Target, slot: u32) -> u32 {
    let slots = target.slots();
    if slots == 0 {
        return NOBODY;
    }
    let (mut at, mut state) = (slot, sequence_start(slot));
    for _ in 0..=SEQUENCE_LENGTH {
        let Some(id) = tables.slot(target, at) else { return NOBODY };
        let Some(endpoint) = tables.endpoint(u32::from(id)) else { return NOBODY };
        if endpoint.state & ENDPOINT_TAKES_NEW != 0 {
            return u32::from(id);
        }
        state = mix(state);
        at = sequence_slot(state, slots);
    }
    NOBODY
}

/// The slots whose owners are asked for a new flow in slot `slot`, in order: its own, then those of its
/// sequence. What [`owner_of_new`] does, told to who plans tables.
pub fn sequence(slot: u32, slots: u32) -> impl Iterator<Item = u32> {
    let states = core::iter::successors(Some(mix(sequence_start(slot))), |&state| Some(mix(state)));
    let others = states.map(move |state| sequence_slot(state, slots)).take(SEQUENCE_LENGTH as usize);
    core::iter::once(slot).chain(others)
}

/// A sequence jumps by hash. One that walked by equal steps would follow a member's own permutation where
/// the steps agree, which is one too, and meet that member alone.
#[inline(always)]
const fn sequence_start(slot: u32) -> u64 {
    slot as u64 ^ 0x5851_f42d_4c95_7f2d
}

#[inline(always)]
const fn sequence_slot(state: u64, slots: u32) -> u32 {
    scale((state >> 32) as u32, slots)
}
