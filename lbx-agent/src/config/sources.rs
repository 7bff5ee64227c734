//! Who may send to a service: what `allow` and `deny` say, as one list of prefixes. Made once for a configuration:
//! lists are long, and the planner runs after every verdict.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use lbx_common::{
    abi::{PREFIX_ALLOWED, PREFIX_DENIED},
    api::Prefix,
};

/// Prefixes of one family with their verdicts, `PREFIX_ALLOWED` or `PREFIX_DENIED`. The longest that an address is
/// in decides.
pub type Sources = BTreeMap<Prefix, u32>;

/// Who may send to an address; `None` = everybody.
pub fn sources_of(address: IpAddr, allow: &[Prefix], deny: &[Prefix]) -> Option<Arc<Sources>> {
    let asks = !allow.is_empty() || !deny.is_empty();
    asks.then(|| Arc::new(compile(allow, deny, Prefix::around(address, 0))))
}

/// The list in which the longest prefix of a source says what `allow` and `deny` say together: what `deny` has is
/// denied, also within `allow`; else what `allow` has is allowed, or all where it is empty.
fn compile(allow: &[Prefix], deny: &[Prefix], every_source: Prefix) -> Sources {
    let others = if allow.is_empty() { PREFIX_ALLOWED } else { PREFIX_DENIED };
    let denied: HashSet<Prefix> = deny.iter().copied().collect();
    let lengths: BTreeSet<u8> = deny.iter().map(|prefix| prefix.length()).collect();
    // A longer prefix would win, so what lies within a denied one is left out.
    let is_denied = |prefix: Prefix| {
        let mut around = lengths.range(..=prefix.length());
        around.any(|&length| denied.contains(&Prefix::around(prefix.address(), length)))
    };
    let mut list = Sources::from([(every_source, others)]);
    list.extend(allow.iter().filter(|&&prefix| !is_denied(prefix)).map(|&prefix| (prefix, PREFIX_ALLOWED)));
    list.extend(deny.iter().map(|&prefix| (prefix, PREFIX_DENIED)));
    list
}

#[cfg(test)]
mod tests;
