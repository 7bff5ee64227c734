//! What a service asks of its packets before one of them finds an endpoint: flags that make sense, a source that
//! may send, and a rate at which flows begin.
//!
//! Every packet of a service with prefixes is looked up, so a source that is denied from now on loses its open
//! flows as well. Rates are about flows that begin: a TCP SYN without ACK. A datagram of UDP does not say whether
//! it begins anything, and nothing remembers those before it, so each one counts.

use crate::{
    abi::{LISTENER_HAS_POLICY, ListenerValue, PREFIX_ALLOWED, SOURCE_BUCKETS, service_bucket},
    hash::{mix, scale},
    ip::{Ip, IpAddress, TCP},
    reason::DropReason,
    tables::Tables,
    transport::Transport,
};

/// What a bucket holds when it is full: the flows of this much time.
pub const BURST_NS: u64 = 1_000_000_000;

/// Stands for "none" where BPF needs a single register.
const PERMITTED: u32 = 0;
const DENIED: u32 = DropReason::Denied as u32;
const RATE_LIMITED: u32 = DropReason::RateLimited as u32;
const INCONSISTENT: u32 = DropReason::Inconsistent as u32;

/// Why a packet of a listener is refused, if it is.
#[inline(always)]
pub fn refusal<A: IpAddress, T: Tables>(
    tables: &T,
    ip: &Ip<A>,
    transport: &Transport,
    listener: &ListenerValue,
) -> Option<DropReason> {
    let tcp = ip.protocol == TCP;
    if tcp && transport.flags.is_absurd() {
        return Some(DropReason::TcpFlags);
    }
    if listener.flags & LISTENER_HAS_POLICY == 0 {
        return None;
    }
    let [first, second] = ip.source.words();
    match judge::<A, T>(tables, first, second, listener.id, !tcp || transport.flags.is_syn()) {
        PERMITTED => None,
        DENIED => Some(DropReason::Denied),
        RATE_LIMITED => Some(DropReason::RateLimited),
        _ => Some(DropReason::Inconsistent),
    }
}

/// The number of a reason to refuse a packet from a source, which is given as words. Few services have a policy, so
/// this is a function that is called, and takes what it needs in registers: the stack of its callers is full.
#[inline(never)]
fn judge<A: IpAddress, T: Tables>(tables: &T, first: u64, second: u64, listener: u32, begins: bool) -> u32 {
    let (Some(policy), Some(node)) = (tables.policy(listener), tables.node()) else { return INCONSISTENT };
    if policy.bucket == 0 {
        return INCONSISTENT;
    }
    if policy.list != 0 && tables.verdict::<A>(policy.list, [first, second]) != Some(PREFIX_ALLOWED) {
        return DENIED;
    }
    if !begins || (policy.source_interval_ns | policy.flow_interval_ns) == 0 {
        return PERMITTED;
    }
    let now = tables.now_ns();
    // The source first: one that floods has then used up its own rate and not that of the service.
    if policy.source_interval_ns != 0 {
        let index = source_bucket(policy.bucket, first, &node.seed);
        if !take(tables, index, now, policy.source_interval_ns) {
            return RATE_LIMITED;
        }
    }
    if policy.flow_interval_ns != 0 {
        let index = service_bucket(policy.bucket);
        if !take(tables, index, now, policy.flow_interval_ns) {
            return RATE_LIMITED;
        }
    }
    PERMITTED
}

/// Index in `LIMITS` of the bucket of a source, by its first word: an IPv4 address, or the first 64 bits of an IPv6
/// address, of which a host may have any other (RFC 4291 §2.5.1). The secret seed keeps an outsider from choosing
/// whom to share a bucket with.
#[inline(always)]
const fn source_bucket(service: u32, first: u64, seed: &[u64; 2]) -> u32 {
    let hash = mix(mix(first ^ seed[0]) ^ service as u64 ^ seed[1]);
    scale((hash >> 32) as u32, SOURCE_BUCKETS)
}

/// Takes a flow out of a bucket, if one is left; says whether one was.
///
/// Reading and writing are not one atomic step: where CPUs take from a bucket within the same few nanoseconds, all
/// but one of these flows go uncounted. So a rate is kept but for what arrives at the very same moment, and nobody
/// is refused too early. BPF has the instruction that would do better, but Rust does not offer it: `core` has no
/// read-modify-write for a target without compare-and-exchange, and such is the compiler's BPF target.
#[inline(always)]
fn take<T: Tables>(tables: &T, index: u32, now_ns: u64, interval_ns: u32) -> bool {
    let Some(full_at) = tables.limit(index).and_then(|bucket| taken(bucket, now_ns, interval_ns)) else {
        return false;
    };
    tables.set_limit(index, full_at);
    true
}

/// A bucket after a flow was taken out of it; `None` where none is left.
///
/// A bucket is one number, the time at which it will be full again: each flow moves that on by its interval, and
/// none is left where it would be more than [`BURST_NS`] away. So a bucket that was never used is full, and one
/// whose rate changes goes on with the share that it holds.
#[inline(always)]
const fn taken(full_at_ns: u64, now_ns: u64, interval_ns: u32) -> Option<u64> {
    let since = if full_at_ns > now_ns { full_at_ns } else { now_ns };
    let full_at_ns = since.wrapping_add(interval_ns as u64);
    if full_at_ns.wrapping_sub(now_ns) > BURST_NS { None } else { Some(full_at_ns) }
}

/// The interval of a rate, rounded so that a full bucket holds no flow less; 0 = no limit.
pub const fn interval_ns(flows_per_second: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "one second")]
    match (BURST_NS as u32).checked_div(flows_per_second) {
        None => 0,
        Some(0) => 1,
        Some(interval) => interval,
    }
}

#[cfg(test)]
mod tests;
