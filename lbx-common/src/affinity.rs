//! Sources whose flows stay together for a time, whatever becomes of the table: where the last one began is remembered
//! by the source's prefix, for services that ask for it.

use crate::{
    abi::{Affinity, AffinityKey, TrackingEntry},
    hash::source_prefix,
    ip::IpAddress,
    pins::{Flow, NANOSECONDS},
    select::NOBODY,
    tables::Tables,
    track::{client, is_possible, takes_new},
};

/// What is known already is written again when it is this old.
const REFRESH_NS: u64 = NANOSECONDS;

/// The owner of a flow that begins, where those of a source stay together: that of the one before, else `fresh`.
#[inline(always)]
pub fn owner<A: IpAddress, T: Tables>(tables: &T, flow: &Flow, tracking: &TrackingEntry, fresh: u32) -> u32 {
    let known = tables.forget(known::<A, T>(tables, flow, tracking));
    let stays = takes_new(tables, known) && is_possible::<A, T>(tables, flow, known);
    let endpoint = tables.forget(if stays { known } else { fresh });
    if flow.quoted == 0 {
        remember::<A, T>(tables, flow, tracking, endpoint);
    }
    endpoint
}

/// The endpoint that flows of a source go to, or [`NOBODY`].
#[inline(never)]
fn known<A: IpAddress, T: Tables>(tables: &T, flow: &Flow, tracking: &TrackingEntry) -> u32 {
    let Some(known) = tables.affinity(&source::<A>(flow, tracking)) else { return NOBODY };
    let lasts_ns = u64::from(tracking.affinity_secs).wrapping_mul(NANOSECONDS);
    // Another CPU may be ahead.
    if flow.now_ns.saturating_sub(known.time) > lasts_ns { NOBODY } else { known.endpoint }
}

/// Remembers where flows of a source go; what is known already, at most once a second.
#[inline(never)]
fn remember<A: IpAddress, T: Tables>(tables: &T, flow: &Flow, tracking: &TrackingEntry, endpoint: u32) {
    let key = source::<A>(flow, tracking);
    let time = flow.now_ns;
    let known = tables.affinity(&key).unwrap_or_default();
    if endpoint != NOBODY && (known.endpoint != endpoint || time.saturating_sub(known.time) > REFRESH_NS) {
        tables.set_affinity(&key, Affinity { time, endpoint, spare: 0 });
    }
}

#[inline(always)]
fn source<A: IpAddress>(flow: &Flow, tracking: &TrackingEntry) -> AffinityKey {
    let prefix = source_prefix(client::<A>(flow), flow.listener.target.source_bits());
    AffinityKey { prefix, service: tracking.affinity_service, v6: u32::from(A::V6) }
}
