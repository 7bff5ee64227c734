//! Services that are not the same to clients of all regions, and lists of regions that change.

use std::collections::{BTreeMap, BTreeSet};

use lbx_common::{
    abi::{
        LISTENER_BY_REGION, NO_REGIONS, NODE_REGIONS_CLOSING, REPLY_BY_REGION, ReplyKey, TRACKING_CLOSING,
        TRACKING_EVERY, TRACKING_ON, TRACKING_OPEN, Target, TrackingEntry, region_id,
    },
    api::{Config, Location, Region, SteeringPolicy},
};

use super::{
    super::endpoints::SETTLE_NS,
    Facts, NOW_NS,
    steering::{config, set, verdicts},
};
use crate::{config as checked, dataplane::Image, plan::FlowFacts};

const SECOND: u64 = 1_000_000_000;
const TRANSITION: u64 = 7800 * SECOND;

/// Pools by region, and what all others have.
fn geo(regions: &[(&str, &[&str])], others: &[&str], change: impl FnOnce(&mut Config)) -> Config {
    config(others, |config| {
        config.node.regions_file = Some("/regions".into());
        config.regions =
            ["eu", "us", "as"].map(|name| Region { name: name.to_owned(), location: None }).into();
        let service = &mut config.services[0];
        service.steering_policy = SteeringPolicy::Geo;
        let names = |pools: &[&str]| pools.iter().map(|name| (*name).to_owned()).collect();
        service.region_pools =
            regions.iter().map(|(region, pools)| ((*region).to_owned(), names(pools))).collect();
        change(config);
    })
}

/// A pass at a time in which a list counts.
fn pass(config: &Config, down: &[(&str, u8)], list: u32, now_ns: u64, observed: &Image) -> Image {
    pass_with(config, down, (list, now_ns), FlowFacts::default(), observed)
}

fn pass_with(
    config: &Config,
    down: &[(&str, u8)],
    (regions, now_ns): (u32, u64),
    flows: FlowFacts,
    observed: &Image,
) -> Image {
    let model = checked::validate(config.clone()).unwrap();
    let verdicts = verdicts(down);
    Facts { now_ns, flows, regions, verdicts, ..Facts::over(observed) }.plan(&model)
}

/// What clients of a region are looked up in, with its index in `TRACKING`; `None` = of none that is told apart.
fn place(image: &Image, region: Option<&str>) -> Option<(Target, u32)> {
    let Some(name) = region else {
        let (.., value) = image.listener_values().next()?;
        return Some((value.target.tracked(false), value.id));
    };
    let mut all = image.regional_values();
    let (.., value) = all.find(|(_, region, _)| *region == region_id(name.as_bytes()))?;
    Some((value.target.tracked(false), value.id))
}

fn entry(image: &Image, region: Option<&str>) -> TrackingEntry {
    place(image, region).and_then(|(_, id)| image.tracking.get(&id).copied()).unwrap_or_default()
}

/// Pools with slots in the table of a region.
fn serving(config: &Config, image: &Image, region: Option<&str>) -> BTreeSet<char> {
    let model = checked::validate(config.clone()).unwrap();
    let ids = crate::plan::endpoint_ids(&model, image);
    let pools: BTreeMap<u16, char> =
        ids.iter().map(|((pool, _), &id)| (id, pool.chars().next().unwrap())).collect();
    let (target, _) = place(image, region).unwrap();
    image.tables[&target.line()].iter().map(|id| pools[id]).collect()
}

#[test]
fn each_region_has_the_first_of_its_pools_that_is_up_and_then_the_fallback() {
    let config = geo(&[("eu", &["a", "b"]), ("us", &["b", "a"])], &["b"], |config| {
        config.services[0].fallback_pool = Some("c".to_owned());
    });
    for (down, eu, us, others) in [
        (&[][..], "a", "b", "b"),
        (&[("a", 0)], "b", "b", "b"),
        (&[("b", 0)], "a", "a", "c"),
        (&[("a", 0), ("b", 0)], "c", "c", "c"),
    ] {
        let image = pass(&config, down, 9, NOW_NS, &Image::default());
        for (region, expected) in [(Some("eu"), eu), (Some("us"), us), (None, others)] {
            assert_eq!(serving(&config, &image, region), set(expected), "{region:?} {down:?}");
        }
        // Who says the same shares a table.
        let tables = set(&[eu, us, others].concat());
        assert_eq!(image.tables.len(), tables.len(), "{down:?}");
        assert_eq!(place(&image, Some("as")), None, "it is not told apart");
        let mut flags = image.listener_values().map(|(.., value)| value.flags);
        assert!(flags.all(|flags| flags & LISTENER_BY_REGION != 0));
        assert!(image.reply_values().all(|(_, value)| value.flags == REPLY_BY_REGION));
    }
}

#[test]
fn a_pool_that_fails_moves_no_table_of_a_region_that_has_others() {
    let config = geo(&[("eu", &["a", "b"]), ("us", &["b", "a"])], &["c"], |_| {});
    let before = pass(&config, &[], 9, SECOND, &Image::default());
    let after = pass(&config, &[("a", 0)], 9, 2 * SECOND, &before);
    assert_eq!(place(&after, Some("us")), place(&before, Some("us")));
    assert_eq!(place(&after, None), place(&before, None));
    assert_eq!(place(&after, Some("eu")).unwrap().0, place(&before, Some("us")).unwrap().0);
    let of_eu = entry(&after, Some("eu"));
    assert_eq!(of_eu.flags & TRACKING_OPEN, TRACKING_OPEN);
    assert_eq!(of_eu.previous, place(&before, Some("eu")).unwrap().0);
    assert_eq!(entry(&after, Some("us")).flags & (TRACKING_OPEN | TRACKING_EVERY), 0);
    // Replies are looked into as soon as anything is.
    assert_eq!(entry(&after, None).flags, TRACKING_ON);
}

#[test]
fn replies_of_a_pool_that_only_a_region_had_are_known_while_the_change_is_under_way() {
    let near = geo(&[("eu", &["b", "a"])], &["a"], |_| {});
    let alone = config(&["a"], |_| {});
    let of_listeners = |image: &Image| -> BTreeSet<u16> {
        let ports = image.reply_values().filter(|(key, _)| matches!(key, ReplyKey::Ports { .. }));
        ports.map(|(_, value)| value.endpoint).collect()
    };
    let before = pass(&near, &[], 9, NOW_NS, &Image::default());
    let opened = pass(&alone, &[], 9, NOW_NS + SECOND, &before);
    assert_eq!(of_listeners(&opened), of_listeners(&before));
    let closing = pass(&alone, &[], 9, NOW_NS + SECOND + TRANSITION, &opened);
    assert_eq!(of_listeners(&closing), of_listeners(&before));
    let now_ns = NOW_NS + 2 * (SECOND + TRANSITION);
    let flows = FlowFacts { since_ns: now_ns, ..FlowFacts::default() };
    let over = pass_with(&alone, &[], (9, now_ns), flows, &closing);
    assert!(over.tracking.is_empty() && of_listeners(&over).len() < of_listeners(&before).len());
}

#[test]
fn what_a_pool_sheds_goes_to_the_next_in_the_order_of_the_region() {
    let config = geo(&[("eu", &["a", "b"]), ("us", &["a", "c"])], &["a"], |config| {
        config.pools[0].load_shedding = 30;
    });
    let image = pass(&config, &[], 9, NOW_NS, &Image::default());
    for (region, expected) in [(Some("eu"), "ab"), (Some("us"), "ac"), (None, "a")] {
        assert_eq!(serving(&config, &image, region), set(expected), "{region:?}");
    }
}

#[test]
fn pools_are_in_the_order_of_their_distance() {
    let at = |latitude, longitude| Some(Location { latitude, longitude });
    let config = geo(&[], &["a", "b", "c"], |config| {
        config.services[0].steering_policy = SteeringPolicy::Proximity;
        let places = [at(52.5, 13.4), at(40.7, -74.0), at(35.7, 139.7)];
        config.pools.iter_mut().zip(places).for_each(|(pool, place)| pool.location = place);
        let places = [at(48.9, 2.4), at(37.8, -122.4), at(-33.9, 151.2)];
        config.regions.iter_mut().zip(places).for_each(|(region, place)| region.location = place);
        config.node.location = at(35.0, 135.0);
    });
    let image = |down: &[(&str, u8)]| pass(&config, down, 9, NOW_NS, &Image::default());
    for (down, eu, us, asia, here) in [
        (&[][..], "a", "b", "c", "c"),
        (&[("a", 0)], "b", "b", "c", "c"),
        (&[("b", 0)], "a", "c", "c", "c"),
        (&[("c", 0)], "a", "b", "b", "a"),
    ] {
        let image = image(down);
        for (region, expected) in [(Some("eu"), eu), (Some("us"), us), (Some("as"), asia), (None, here)] {
            assert_eq!(serving(&config, &image, region), set(expected), "{region:?} {down:?}");
        }
    }
}

#[test]
fn a_region_that_is_told_apart_from_now_on_goes_on_from_what_it_had() {
    let plain = config(&["b"], |_| {});
    let before = pass(&plain, &[], 0, SECOND, &Image::default());
    let geo = geo(&[("eu", &["a"]), ("us", &["b"])], &["b"], |_| {});
    let after = pass(&geo, &[], 9, 2 * SECOND, &before);
    let (had, id) = place(&before, None).unwrap();
    assert_eq!(place(&after, None), Some((had, id)), "the listener stays what it was");
    let eu = entry(&after, Some("eu"));
    assert_eq!((eu.flags & TRACKING_OPEN, eu.previous), (TRACKING_OPEN, had));
    assert_eq!(entry(&after, Some("us")).flags & TRACKING_OPEN, 0, "it has what it had");

    // Another one within that: it goes on from what was under way, too.
    let moved = self::geo(&[("eu", &["a"]), ("as", &["a"])], &["c"], |_| {});
    let moved = pass(&moved, &[], 9, 3 * SECOND, &after);
    let asia = entry(&moved, Some("as"));
    assert_eq!((asia.flags & TRACKING_OPEN, asia.previous), (TRACKING_OPEN, had));
    assert_eq!(entry(&moved, Some("eu")).previous, had);
}

#[test]
fn a_region_that_is_told_apart_no_longer_stays_until_its_change_is_over() {
    let geo = geo(&[("eu", &["a"])], &["b"], |_| {});
    let plain = config(&["b"], |config| config.regions.clear());
    let before = pass(&geo, &[], 9, SECOND, &Image::default());
    let (had, id) = place(&before, Some("eu")).unwrap();
    let open = pass(&plain, &[], 9, 2 * SECOND, &before);
    assert_eq!(place(&open, Some("eu")).unwrap(), (place(&open, None).unwrap().0, id));
    let of_eu = entry(&open, Some("eu"));
    assert_eq!((of_eu.flags & TRACKING_OPEN, of_eu.previous), (TRACKING_OPEN, had));
    assert!(open.tables.contains_key(&had.line()), "the table before stays");

    let deadline = 2 * SECOND + TRANSITION;
    let closing = pass(&plain, &[], 9, deadline, &open);
    assert_eq!(entry(&closing, Some("eu")).flags & TRACKING_CLOSING, TRACKING_CLOSING);
    let look = |listeners: &[u32]| FlowFacts {
        since_ns: deadline + SETTLE_NS,
        listeners: listeners.iter().copied().collect(),
        ..FlowFacts::default()
    };
    let later = deadline + 2 * SETTLE_NS;
    let kept = pass_with(&plain, &[], (9, later), look(&[id]), &closing);
    assert!(place(&kept, Some("eu")).is_some(), "there are pins");
    let over = pass_with(&plain, &[], (9, later), look(&[]), &closing);
    assert_eq!((place(&over, Some("eu")), over.tables.len()), (None, 1));
    assert!(over.listener_values().all(|(.., value)| value.flags & LISTENER_BY_REGION == 0));
    assert!(over.reply_values().all(|(_, value)| value.flags == 0));
    assert!(over.tracking.is_empty());
}

#[test]
fn flows_of_clients_whose_region_is_another_one_go_by_the_list_before_for_a_time() {
    let geo = geo(&[("eu", &["a"])], &["b"], |_| {});
    let lists = |image: &Image| (image.node.regions, image.node.regions_before);
    let before = pass(&geo, &[], 0, SECOND, &Image::default());
    assert_eq!(lists(&before), (0, 0));
    let first = pass(&geo, &[], 7, 2 * SECOND, &before);
    assert_eq!(lists(&first), (7, NO_REGIONS), "nobody was anywhere");
    let mut settled = first;
    settled.node.regions_before = 0;
    let open = pass(&geo, &[], 8, 10 * SECOND, &settled);
    assert_eq!((lists(&open), open.node.regions_opened_ns), ((8, 7), 10 * SECOND));
    // Each region's table is found there by what may have moved from or to it.
    for region in [Some("eu"), None] {
        let entry = entry(&open, region);
        assert_eq!(
            (entry.current, entry.flags),
            (place(&open, region).unwrap().0, TRACKING_ON),
            "{region:?}"
        );
    }
    let deadline = 10 * SECOND + TRANSITION;
    assert_eq!(crate::plan::next_deadline_ns(&open), Some(deadline));
    assert_eq!(pass(&geo, &[], 8, deadline - 1, &open), open);

    // A change of a table meanwhile: both end together.
    let both = pass(&geo, &[("a", 2)], 8, 20 * SECOND, &open);
    assert_eq!(both.node.regions_deadline_ns, deadline);
    let more = self::geo(&[("eu", &["c"])], &["b"], |_| {});
    let both = pass(&more, &[], 8, 20 * SECOND, &open);
    assert_eq!(both.node.regions_deadline_ns, 20 * SECOND + TRANSITION);
    assert_eq!(entry(&both, Some("eu")).deadline_ns, 20 * SECOND + TRANSITION);

    // Another list within that: the older one is kept, and pins are looked up for every packet.
    let again = pass(&geo, &[], 9, 30 * SECOND, &open);
    assert_eq!(lists(&again), (9, 7));
    for region in [Some("eu"), None] {
        assert_eq!(entry(&again, region).flags, TRACKING_OPEN | TRACKING_EVERY | TRACKING_ON, "{region:?}");
    }

    let closing = pass(&geo, &[], 8, deadline, &open);
    assert_eq!((lists(&closing), closing.node.flags & NODE_REGIONS_CLOSING), ((8, 7), NODE_REGIONS_CLOSING));
    assert!(crate::plan::waits_for_flows(&closing));
    // Flows without a pin live by the newer one then, and another list comes after that.
    assert_eq!(lists(&pass(&geo, &[], 9, deadline + SECOND, &closing)), (9, 8));
    let (_, id) = place(&closing, Some("eu")).unwrap();
    let look = |since_ns, listeners: &[u32]| {
        let listeners = listeners.iter().copied().collect();
        let facts = FlowFacts { since_ns, listeners, ..FlowFacts::default() };
        pass_with(&geo, &[], (8, deadline + 9 * SETTLE_NS), facts, &closing)
    };
    assert_eq!(lists(&look(deadline + SETTLE_NS - 1, &[])), (8, 7), "flows may have been about to be pinned");
    assert_eq!(lists(&look(deadline + SETTLE_NS, &[id])), (8, 7), "there are pins");
    let over = look(deadline + SETTLE_NS, &[]);
    assert_eq!((lists(&over), over.node.flags & NODE_REGIONS_CLOSING), ((8, 0), 0));
    assert!(over.tracking.is_empty());
}
