//! Changes of tables: open, closing, over; several at a time; and what else makes flows be looked for.

use lbx_common::abi::{
    TRACKING_ALWAYS, TRACKING_CLOSING, TRACKING_EVERY, TRACKING_FULL, TRACKING_ON, TRACKING_OPEN,
    TRACKING_REHASHED, Target, TrackingEntry,
};
use serde_json::json;

use super::*;
use crate::plan::endpoints::SETTLE_NS;

const SECOND: u64 = 1_000_000_000;
/// The default of `timers.transition`.
const TRANSITION: u64 = 7800 * SECOND;
const SEED: [u64; 2] = [1, 2];

/// One service over a pool of `count` endpoints that nobody probes.
fn model_with(count: u8, tracking: &str, by_source: bool) -> Model {
    let endpoint = |place: u8| {
        json!({"name": format!("e{place}"), "virtual_network": "v", "address": format!("10.0.0.{}", place + 1),
               "port": 80})
    };
    let mut service = json!({"name": "s", "address": "203.0.113.1", "listen": ["tcp/80"], "pools": ["p"],
                             "connection_tracking": tracking});
    if by_source {
        service["session_affinity"] = json!({"type": "source_ip"});
    }
    let config = json!({
        "version": 1,
        "node": {"interfaces": [{"name": "eth0", "role": "both"}], "tunnel_source": {"ipv4": "192.0.2.1"}},
        "limits": {"listeners": 16, "endpoints": 64, "tunnels": 8, "virtual_networks": 8, "table_slots": 65_536},
        "virtual_networks": [{"name": "v", "vni": 42, "probe_source": {"ipv4": "10.255.0.1"},
                              "tunnels": [{"name": "t", "encap": "gre", "remote": "198.51.100.1"}]}],
        "pools": [{"name": "p", "endpoints": (0..count).map(endpoint).collect::<Vec<_>>()}],
        "services": [service],
    });
    config::validate(config::decode(config).unwrap()).unwrap()
}

/// A pass at a time.
fn pass_with(model: &Model, seed: [u64; 2], now_ns: u64, flows: &FlowFacts, observed: &Image) -> Image {
    Facts { now_ns, seed, flows: flows.clone(), ..Facts::over(observed) }.plan(model)
}

fn pass(model: &Model, now_ns: u64, observed: &Image) -> Image {
    pass_with(model, SEED, now_ns, &FlowFacts::default(), observed)
}

/// A pool of `count` endpoints, by `connection_tracking: auto` and the hash of addresses and ports.
fn of(count: u8) -> Model {
    model_with(count, "auto", false)
}

/// Two looks at the pins, of which the earlier began then, that found these listeners to need some.
fn looks(since_ns: u64, listeners: &[u32]) -> FlowFacts {
    FlowFacts { since_ns, listeners: listeners.iter().copied().collect(), ..FlowFacts::default() }
}

/// The only listener.
fn listener(image: &Image) -> ListenerValue {
    image.listener_values().next().unwrap().2
}

fn target(image: &Image) -> Target {
    listener(image).target.tracked(false)
}

/// What is under way there.
fn entry(image: &Image) -> TrackingEntry {
    image.tracking.get(&listener(image).id).copied().unwrap_or_default()
}

fn flags(image: &Image) -> u32 {
    let flags = entry(image).flags;
    let under_way = flags & !(TRACKING_ON | TRACKING_FULL) != 0;
    assert_eq!(listener(image).target.is_tracked(), under_way, "packets look at it when they have to");
    flags
}

#[test]
fn a_change_is_open_for_its_time_then_closing_until_two_looks_find_nothing_of_it() {
    let start = 100 * SECOND;
    let deadline = start + TRANSITION;
    let before = pass(&of(3), SECOND, &Image::default());
    assert_eq!((entry(&before), next_deadline_ns(&before)), (TrackingEntry::default(), None));
    assert!(!needs_sweeps(&before) && !waits_for_flows(&before));

    let open = pass(&of(4), start, &before);
    let expected = TrackingEntry {
        previous: target(&before),
        previous_seed: SEED,
        opened_ns: start,
        deadline_ns: deadline,
        current: target(&open),
        flags: TRACKING_OPEN | TRACKING_ON,
        ..TrackingEntry::default()
    };
    assert_ne!(target(&open), target(&before));
    assert_eq!((entry(&open), flags(&open)), (expected, TRACKING_OPEN | TRACKING_ON));
    let kept = |image: &Image| image.tables.get(&target(&before).line()).cloned();
    assert_eq!(kept(&open), kept(&before), "the table before stays");
    assert_eq!(next_deadline_ns(&open), Some(deadline));
    assert!(needs_sweeps(&open) && !waits_for_flows(&open));
    // Passes in between, an agent that starts anew among them, change nothing.
    assert_eq!(pass(&of(4), deadline - 1, &open), open);
    assert_eq!(pass_with(&of(4), SEED, deadline - 1, &looks(deadline - 2, &[]), &open), open);

    let closing = pass(&of(4), deadline, &open);
    assert_eq!(flags(&closing), TRACKING_CLOSING | TRACKING_ON);
    assert_eq!(entry(&closing), TrackingEntry { flags: TRACKING_CLOSING | TRACKING_ON, ..expected });
    assert!(kept(&closing).is_some() && waits_for_flows(&closing));
    assert_eq!(next_deadline_ns(&closing), None);

    let (id, settled) = (listener(&open).id, deadline + SETTLE_NS);
    let later = |facts| pass_with(&of(4), SEED, settled + 100 * SECOND, &facts, &closing);
    assert_eq!(later(looks(settled - 1, &[])), closing, "flows may have been about to be pinned");
    assert_eq!(later(looks(settled, &[id])), closing, "there are pins");
    let over = later(looks(settled, &[id + 1]));
    assert_eq!((entry(&over), flags(&over), kept(&over)), (TrackingEntry::default(), 0, None));
    assert_eq!(target(&over), target(&open));
}

#[test]
fn a_change_within_another_keeps_the_table_before_both_and_gets_the_time_of_its_own() {
    let before = pass(&of(3), SECOND, &Image::default());
    let first = pass(&of(4), 100 * SECOND, &before);
    let second = pass(&of(5), 300 * SECOND, &first);
    let TrackingEntry { previous, opened_ns, deadline_ns, current, .. } = entry(&second);
    assert_eq!((previous, current), (target(&before), target(&second)));
    assert_eq!((opened_ns, deadline_ns), (300 * SECOND, 300 * SECOND + TRANSITION));
    assert_eq!(flags(&second), TRACKING_OPEN | TRACKING_EVERY | TRACKING_ON);
    assert!(!second.tables.contains_key(&target(&first).line()), "nobody looks at the one between");
    // Back to where it was: flows have begun by the tables between.
    let back = pass(&of(3), 400 * SECOND, &second);
    assert_eq!((target(&back), entry(&back).previous), (target(&before), target(&before)));
    assert_eq!(flags(&back), TRACKING_OPEN | TRACKING_EVERY | TRACKING_ON);
    // At the deadline of the first one nothing happens.
    assert_eq!(entry(&pass(&of(3), 100 * SECOND + TRANSITION, &back)), entry(&back));
}

#[test]
fn a_change_while_one_is_closing_is_from_the_table_of_then() {
    let before = pass(&of(3), SECOND, &Image::default());
    let open = pass(&of(4), 100 * SECOND, &before);
    let closing = pass(&of(4), 100 * SECOND + TRANSITION, &open);
    let next = pass(&of(5), 200 * SECOND + TRANSITION, &closing);
    assert_eq!(entry(&next).previous, target(&closing));
    assert_eq!(flags(&next), TRACKING_OPEN | TRACKING_EVERY | TRACKING_ON, "pins may be in any slot");
    assert_eq!(entry(&next).deadline_ns, 200 * SECOND + 2 * TRANSITION);
}

#[test]
fn another_hash_is_a_change_of_the_same_table() {
    let flags_rehashed = TRACKING_OPEN | TRACKING_REHASHED | TRACKING_ON;
    let before = pass(&of(3), SECOND, &Image::default());
    let pass_by =
        |seed, now_ns, observed: &Image| pass_with(&of(3), seed, now_ns, &FlowFacts::default(), observed);
    let reseeded = pass_by([3, 4], 100 * SECOND, &before);
    assert_eq!((target(&reseeded), entry(&reseeded).previous), (target(&before), target(&before)));
    assert_eq!((entry(&reseeded).previous_seed, flags(&reseeded)), (SEED, flags_rehashed));
    assert_eq!(pass_by([3, 4], 200 * SECOND, &reseeded), reseeded, "once");
    // The seed that flows were begun by stays the first one; when it is back, hashes are those of then. This entry is
    // written before that seed is, and says so.
    let third = pass_by([5, 6], 300 * SECOND, &reseeded);
    assert_eq!((entry(&third).previous_seed, flags(&third)), (SEED, flags_rehashed | TRACKING_EVERY));
    let back = pass_by(SEED, 400 * SECOND, &third);
    assert_eq!(flags(&back), flags_rehashed | TRACKING_EVERY);
    let settled = pass_by(SEED, 500 * SECOND, &back);
    assert_eq!(flags(&settled), TRACKING_OPEN | TRACKING_EVERY | TRACKING_ON);

    let by_source = pass(&model_with(3, "auto", true), 100 * SECOND, &before);
    assert_eq!((entry(&by_source).previous, flags(&by_source)), (target(&before), flags_rehashed));
    assert_eq!(target(&by_source).line(), target(&before).line());
}

#[test]
fn services_that_remember_all_flows_end_that_like_a_change() {
    let always = model_with(3, "always", false);
    let all = TRACKING_ALWAYS | TRACKING_EVERY | TRACKING_ON;
    let before = pass(&always, SECOND, &Image::default());
    assert_eq!(flags(&before), all);
    let open = pass(&model_with(4, "always", false), 50 * SECOND, &before);
    assert_eq!(flags(&open), all | TRACKING_OPEN);
    // In the middle of a change that goes on, without one it is closing.
    assert_eq!(flags(&pass(&of(4), 60 * SECOND, &open)), TRACKING_OPEN | TRACKING_EVERY | TRACKING_ON);
    let closing = pass(&of(3), 100 * SECOND, &before);
    assert_eq!(flags(&closing), TRACKING_CLOSING | TRACKING_EVERY | TRACKING_ON);
    assert_eq!(entry(&closing).deadline_ns, 100 * SECOND);
    let settled = 100 * SECOND + SETTLE_NS;
    let over = pass_with(&of(3), SEED, 200 * SECOND, &looks(settled, &[]), &closing);
    assert_eq!(entry(&over), TrackingEntry::default());
    // With a change of tables at the same time, it is open.
    let both = pass(&of(4), 100 * SECOND, &before);
    assert_eq!(flags(&both), TRACKING_OPEN | TRACKING_EVERY | TRACKING_ON);
}

#[test]
fn services_that_remember_nothing_have_no_changes() {
    let off = |count| model_with(count, "off", false);
    let before = pass(&off(3), SECOND, &Image::default());
    let after = pass(&off(4), 100 * SECOND, &before);
    assert!(target(&before) != target(&after) && after.tracking.is_empty() && flags(&after) == 0);
    let open = pass(&of(4), 100 * SECOND, &pass(&of(3), SECOND, &Image::default()));
    let switched = pass(&off(4), 200 * SECOND, &open);
    assert!(switched.tracking.is_empty() && flags(&switched) == 0);
    assert_eq!(switched.tables.len(), 1, "the table before is gone");
}

#[test]
fn a_service_with_its_share_of_the_pins_gets_no_more() {
    let before = pass(&of(3), SECOND, &Image::default());
    let id = listener(&before).id;
    let full = FlowFacts { full: [id].into(), ..FlowFacts::default() };
    let quiet = pass_with(&of(3), SEED, 2 * SECOND, &full, &before);
    assert_eq!(entry(&quiet), TrackingEntry::default());
    let open = pass_with(&of(4), SEED, 100 * SECOND, &full, &before);
    assert_eq!(flags(&open), TRACKING_OPEN | TRACKING_ON | TRACKING_FULL);
    assert_eq!(flags(&pass(&of(4), 200 * SECOND, &open)), TRACKING_OPEN | TRACKING_ON);
}
