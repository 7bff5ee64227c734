//! What a listener is to clients of a region: a table of its own, and an element of `TRACKING`.
//!
//! Costs the packets of services that ask for it one longest match, or two while flows may live where an older list of
//! regions says.

use crate::{
    abi::{LISTENER_BY_REGION, ListenerKey, ListenerValue, Target, Words as _},
    ip::IpAddress,
    tables::Tables,
};

/// What a listener is to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The lookup table.
    pub target: Target,
    /// Index in `TRACKING`.
    pub tracking: u32,
    /// The same of the region that the client was in before; 0 = it is in the same.
    pub before: u32,
}

/// What a listener is to a client.
#[inline(always)]
pub fn place<A: IpAddress, T: Tables>(tables: &T, listener: &ListenerValue, client: A) -> Place {
    let mut target = listener.target;
    if listener.flags & LISTENER_BY_REGION == 0 {
        return Place { target, tracking: listener.id, before: 0 };
    }
    let [first, second] = client.words();
    let found = of_client::<A, T>(tables, first, second, listener.id, &mut target);
    #[expect(clippy::cast_possible_truncation, reason = "two halves of the word")]
    let (before, tracking) = ((found >> 32) as u32, found as u32);
    Place { target, tracking, before }
}

/// [`Place::tracking`], and in the higher half [`Place::before`], of a client that is given as words. Few services ask
/// for regions, so this is a function that is called, and takes what it needs in registers.
#[inline(never)]
fn of_client<A: IpAddress, T: Tables>(
    tables: &T,
    first: u64,
    second: u64,
    listener: u32,
    target: &mut Target,
) -> u64 {
    let same = u64::from(listener);
    let Some(node) = tables.node() else { return same };
    let (list, list_before) = (node.regions, node.regions_before);
    let region_in = |list| tables.region::<A>(list, [first, second]).unwrap_or(0);
    let region = region_in(list);
    let mut tracking = listener;
    if let Some(value) = regional(tables, listener, region) {
        *target = value.target;
        tracking = value.id;
    }
    if list_before == 0 {
        return u64::from(tracking);
    }
    let region_before = region_in(list_before);
    if region_before == region {
        return u64::from(tracking);
    }
    let before = regional(tables, listener, region_before).map_or(listener, |value| value.id);
    if before == tracking { u64::from(tracking) } else { u64::from(before) << 32 | u64::from(tracking) }
}

#[inline(always)]
fn regional<T: Tables>(tables: &T, listener: u32, region: u32) -> Option<ListenerValue> {
    if region == 0 {
        return None;
    }
    tables.listener(ListenerKey::Region { listener, region }).map(ListenerValue::from_words)
}
