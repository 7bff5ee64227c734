//! Which endpoint gets a flow: by table and hash alone, without per-flow state.
//!
//! The base owner of a flow is the endpoint in its slot. Where that one takes no new flows, the flow goes to
//! the next one in the slot's own sequence that does. The sequence depends on nothing but slot and table
//! size, so one more failure moves exactly the slots of the endpoint that failed, whatever else is down,
//! and its recovery moves exactly those back.
//!
//! This is the path of a service without an open table change. Flows that must stay where a table no longer
//! sends them (drained endpoints, changed tables) are for the tracked path, which will branch off in
//! [`select`] on [`crate::abi::ENDPOINT_TRACKED`].

use crate::{
    abi::{ENDPOINT_TAKES_NEW, EndpointEntry, SEQUENCE_LENGTH, Target},
    hash::{mix, scale},
    tables::Tables,
};

/// Stands for "no endpoint" where BPF needs a single register.
const NOBODY: u32 = u32::MAX;

/// The endpoint for a flow, with its id.
#[inline(always)]
pub fn select<T: Tables>(tables: &T, target: Target, hash: u32) -> Option<(u16, &EndpointEntry)> {
    if target.slots() == 0 {
        return None;
    }
    let slot = scale(hash, target.slots());
    let base = tables.slot(target, slot)?;
    let endpoint = tables.endpoint(u32::from(base))?;
    if endpoint.state & ENDPOINT_TAKES_NEW != 0 {
        return Some((base, endpoint));
    }
    let next = next_in_sequence(tables, target, slot);
    let id = u16::try_from(next).ok()?;
    Some((id, tables.endpoint(next)?))
}

/// The first endpoint of the slot's sequence, the base owner excluded, that takes new flows.
#[inline(never)]
fn next_in_sequence<T: Tables>(tables: &T, target: Target, slot: u32) -> u32 {
    let slots = target.slots();
    let mut state = sequence_start(slot);
    for _ in 0..SEQUENCE_LENGTH {
        state = mix(state);
        let Some(id) = tables.slot(target, sequence_slot(state, slots)) else { return NOBODY };
        let Some(endpoint) = tables.endpoint(u32::from(id)) else { return NOBODY };
        if endpoint.state & ENDPOINT_TAKES_NEW != 0 {
            return u32::from(id);
        }
    }
    NOBODY
}

/// The slots whose owners are asked for a new flow in slot `slot`, in order: its own, then those of its
/// sequence. What [`select`] does, told to who plans tables.
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
