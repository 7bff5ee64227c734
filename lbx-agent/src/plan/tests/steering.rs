//! Services with several pools: which of them serve, and what moves when that changes.

use std::collections::{BTreeMap, BTreeSet};

use lbx_common::{
    abi::{ENDPOINT_FORCED, ENDPOINT_TAKES_NEW, ListenerKey, ListenerValue, Words},
    api::{Config, Endpoint, EndpointSteering, HealthState, Pool, RandomSteering, Service, SteeringPolicy},
};

use super::{Facts, NOW_NS, address, service, virtual_network};
use crate::{config, dataplane::Image, plan, steer::Steered};

/// Endpoints in each pool.
const ENDPOINTS: u8 = 4;

/// Pools a, b and c, each with a monitor, and one service of `pools`.
pub(super) fn config(pools: &[&str], change: impl FnOnce(&mut Config)) -> Config {
    let pool = |index: u8| {
        let name = char::from(b'a' + index).to_string();
        let endpoints = (0..ENDPOINTS).map(|n| Endpoint {
            port: Some(80),
            ..Endpoint::new(format!("e{n}"), "v0".to_owned(), address(false, [10, 0, index], n + 1))
        });
        Pool { monitor: Some("m".to_owned()), endpoints: endpoints.collect(), ..Pool::new(name) }
    };
    let mut world = super::World { vnets: Vec::new(), pools: Vec::new() }.config();
    world.virtual_networks = vec![virtual_network(0, (lbx_common::api::Encap::Gre, false))];
    world.pools = (0..3).map(pool).collect();
    let pools = pools.iter().map(|name| (*name).to_owned()).collect();
    world.services = vec![Service { pools, ..service(0, false) }];
    change(&mut world);
    world
}

/// Verdicts: the pools that are named are down, with so many endpoints up.
pub(super) fn verdicts(down: &[(&str, u8)]) -> BTreeMap<(String, String), HealthState> {
    let mut verdicts = BTreeMap::new();
    for pool in ["a", "b", "c"] {
        let up = down.iter().find(|(name, _)| *name == pool).map_or(ENDPOINTS, |&(_, up)| up);
        for n in 0..ENDPOINTS {
            let state = if n < up { HealthState::Healthy } else { HealthState::Unhealthy };
            verdicts.insert((pool.to_owned(), format!("e{n}")), state);
        }
    }
    verdicts
}

fn planned(config: &Config, down: &[(&str, u8)], observed: &Image) -> Image {
    let model = config::validate(config.clone()).unwrap();
    Facts { verdicts: verdicts(down), now_ns: NOW_NS, ..Facts::over(observed) }.plan(&model)
}

/// The pool in each slot of the service's table.
fn slots(config: &Config, image: &Image) -> Vec<char> {
    let target = image
        .listeners
        .iter()
        .find_map(|(key, &words)| {
            let of_port = matches!(key, ListenerKey::Ports { .. });
            of_port.then(|| ListenerValue::from_words(words).target)
        })
        .unwrap();
    let model = config::validate(config.clone()).unwrap();
    let ids = plan::endpoint_ids(&model, image);
    let pools: BTreeMap<u16, char> =
        ids.iter().map(|((pool, _), &id)| (id, pool.chars().next().unwrap())).collect();
    image.tables[&target.line()].iter().map(|id| pools[id]).collect()
}

fn serving(config: &Config, down: &[(&str, u8)]) -> BTreeSet<char> {
    slots(config, &planned(config, down, &Image::default())).into_iter().collect()
}

/// Share of a pool in hundredths.
fn share(slots: &[char], pool: char) -> f64 {
    let of_pool = slots.iter().filter(|&&one| one == pool).count();
    f64::from(u32::try_from(of_pool).unwrap()) * 100.0 / f64::from(u32::try_from(slots.len()).unwrap())
}

pub(super) fn set(names: &str) -> BTreeSet<char> {
    names.chars().collect()
}

#[test]
fn the_first_pool_that_is_up_serves_and_then_the_fallback() {
    let config = config(&["a", "b"], |config| config.services[0].fallback_pool = Some("c".to_owned()));
    for (down, expected) in [
        (&[][..], "a"),
        (&[("a", 1)], "a"),
        (&[("a", 0)], "b"),
        (&[("b", 0)], "a"),
        (&[("a", 0), ("b", 0)], "c"),
        (&[("a", 0), ("b", 0), ("c", 0)], "c"),
    ] {
        assert_eq!(serving(&config, down), set(expected), "{down:?}");
    }
}

#[test]
fn by_latency_the_first_pool_of_the_measured_order_that_is_up_serves() {
    let by_latency = config(&["a", "b", "c"], |config| {
        config.services[0].steering_policy = SteeringPolicy::DynamicLatency;
    });
    let model = config::validate(by_latency.clone()).unwrap();
    let observed = Image::default();
    let serving = |order: &[&str], down: &[(&str, u8)]| {
        let order = order.iter().map(|name| (*name).to_owned()).collect();
        let steered = Steered { orders: [("s0".to_owned(), order)].into(), ..Steered::default() };
        let facts = Facts { verdicts: verdicts(down), steered, ..Facts::over(&observed) };
        slots(&by_latency, &facts.plan(&model)).into_iter().collect::<BTreeSet<_>>()
    };
    assert_eq!(serving(&[], &[]), set("a"));
    assert_eq!(serving(&["b", "c", "a"], &[]), set("b"));
    assert_eq!(serving(&["b", "c", "a"], &[("b", 0)]), set("c"));
    // One that came later is behind those that were measured.
    assert_eq!(serving(&["c", "b"], &[]), set("c"));
    assert_eq!(serving(&["c", "b"], &[("c", 0), ("b", 0)]), set("a"));
}

#[test]
fn shares_go_into_the_entries_and_stay_there_until_others_are_decided() {
    let least = config(&["a"], |config| {
        for pool in &mut config.pools {
            pool.endpoint_steering = EndpointSteering::LeastConnections;
        }
        config.pools[0].endpoints[3].weight = 0.5;
    });
    let model = config::validate(least.clone()).unwrap();
    let before = planned(&least, &[], &Image::default());
    let counts = |image: &Image| -> Vec<usize> {
        let ids = plan::endpoint_ids(&model, image);
        let target = image.listener_values().next().unwrap().2.target;
        let table = &image.tables[&target.line()];
        (0..ENDPOINTS)
            .map(|n| {
                let id = ids[&("a".to_owned(), format!("e{n}"))];
                table.iter().filter(|&&slot| slot == id).count()
            })
            .collect()
    };
    let near = |found: &[usize], expected: [usize; 4]| {
        assert!(
            found.iter().zip(expected).all(|(&found, expected)| found.abs_diff(expected) <= 2),
            "{found:?}"
        );
    };
    near(&counts(&before), [292, 292, 292, 146]);
    let shares = [("e0", 51), ("e1", 255), ("e2", 255), ("e3", 255)];
    let steered = Steered {
        shares: shares.map(|(name, share)| (("a".to_owned(), name.to_owned()), share)).into(),
        ..Steered::default()
    };
    let decided = Facts { verdicts: verdicts(&[]), steered, ..Facts::over(&before) }.plan(&model);
    near(&counts(&decided), [76, 378, 378, 189]);
    // The next pass decides nothing, nor does a verdict.
    assert_eq!(planned(&least, &[], &decided), decided);
    let one_down = planned(&least, &[("a", 3)], &decided);
    assert_eq!(counts(&one_down), counts(&decided));
    // In a pool that goes by chance again, weights are all there is.
    let plain = config(&["a"], |config| config.pools[0].endpoints[3].weight = 0.5);
    near(&counts(&planned(&plain, &[], &decided)), [292, 292, 292, 146]);
}

#[test]
fn a_pool_is_down_with_fewer_than_its_minimum_of_endpoints_that_take_flows() {
    let with_minimum = |change: fn(&mut Config)| {
        config(&["a", "b"], |config| {
            config.pools[0].minimum_endpoints = 3;
            change(config);
        })
    };
    let plain = with_minimum(|_| {});
    assert_eq!(serving(&plain, &[("a", 3)]), set("a"));
    assert_eq!(serving(&plain, &[("a", 2)]), set("b"));
    // What is left of the first one is better than nothing.
    assert_eq!(serving(&plain, &[("a", 2), ("b", 0)]), set("a"));
    // Those that are drained, off or without weight do not count.
    for change in [
        (|config| config.pools[0].endpoints[..2].iter_mut().for_each(|one| one.drained = true))
            as fn(&mut Config),
        |config| config.pools[0].endpoints[..2].iter_mut().for_each(|one| one.enabled = false),
        |config| config.pools[0].endpoints[..2].iter_mut().for_each(|one| one.weight = 0.0),
    ] {
        assert_eq!(serving(&with_minimum(change), &[]), set("b"));
    }
}

#[test]
fn a_pool_that_is_not_probed_yet_is_not_passed_over() {
    let config = config(&["a", "b"], |_| {});
    let model = config::validate(config.clone()).unwrap();
    let observed = Image::default();
    let mut known = verdicts(&[]);
    known.retain(|(pool, _), _| pool == "b");
    let image = Facts { verdicts: known.clone(), ..Facts::over(&observed) }.plan(&model);
    assert_eq!(slots(&config, &image).into_iter().collect::<BTreeSet<_>>(), set("a"));
    // With one verdict that it is down, the rest decides.
    for n in 0..ENDPOINTS {
        known.insert(("a".to_owned(), format!("e{n}")), HealthState::Unhealthy);
        let image = Facts { verdicts: known.clone(), ..Facts::over(&observed) }.plan(&model);
        let expected = if n + 1 < ENDPOINTS { "a" } else { "b" };
        assert_eq!(slots(&config, &image).into_iter().collect::<BTreeSet<_>>(), set(expected), "{n}");
    }
}

#[test]
fn the_health_of_a_fallback_pool_is_ignored_while_it_serves_and_none_of_it_is_healthy() {
    let config = config(&["a"], |config| config.services[0].fallback_pool = Some("b".to_owned()));
    let model = config::validate(config.clone()).unwrap();
    let of_fallback = |image: &Image| -> Vec<bool> {
        let ids = plan::endpoint_ids(&model, image);
        let of_pool =
            ids.iter().filter(|((pool, _), _)| pool == "b").map(|(_, id)| image.endpoints[id].state);
        of_pool.map(|state| state & ENDPOINT_TAKES_NEW != 0).collect()
    };
    let all = usize::from(ENDPOINTS);
    let mut image = Image::default();
    for (down, taking) in [
        (&[("a", 0), ("b", 0)][..], vec![true; all]),
        // One that is healthy is better than those that are not.
        (&[("a", 0), ("b", 1)], vec![true, false, false, false]),
        (&[("a", 0), ("b", 0)], vec![true; all]),
        (&[("b", 0)], vec![false; all]),
    ] {
        image = planned(&config, down, &image);
        assert_eq!(of_fallback(&image), taking, "{down:?}");
        let forced = image.endpoints.values().filter(|entry| entry.state & ENDPOINT_FORCED != 0).count();
        assert_eq!(forced, if taking == vec![true; all] { all } else { 0 });
        let again = planned(&config, down, &image);
        assert_eq!(again, image, "a second pass finds nothing to do");
    }
}

#[test]
fn shares_of_pools_are_as_their_weights_say() {
    let weights = |default: f64, of: &[(&str, f64)]| {
        let pool_weights = of.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect();
        let random = RandomSteering { default_weight: default, pool_weights };
        config(&["a", "b", "c"], move |config| {
            config.services[0].steering_policy = SteeringPolicy::Random;
            config.services[0].random_steering = Some(random);
        })
    };
    for (config, expected) in [
        (weights(1.0, &[]), [33.3, 33.3, 33.3]),
        (weights(1.0, &[("a", 0.5)]), [20.0, 40.0, 40.0]),
        (weights(0.0, &[("a", 0.6), ("b", 0.2)]), [75.0, 25.0, 0.0]),
    ] {
        let found = slots(&config, &planned(&config, &[], &Image::default()));
        for (pool, expected) in ["a", "b", "c"].iter().zip(expected) {
            let share = share(&found, pool.chars().next().unwrap());
            assert!((share - expected).abs() < 2.0, "{pool} has {share} %, expected {expected}");
        }
    }
    // One without weight serves when there is no other.
    assert_eq!(serving(&weights(0.0, &[("a", 1.0)]), &[("a", 0)]), set("b"));
}

#[test]
fn when_a_pool_fails_only_its_slots_move() {
    let config =
        config(&["a", "b", "c"], |config| config.services[0].steering_policy = SteeringPolicy::Random);
    let before = planned(&config, &[], &Image::default());
    let after = planned(&config, &[("b", 0)], &before);
    let (before, after) = (slots(&config, &before), slots(&config, &after));
    assert_eq!(before.len(), after.len());
    for (was, is) in before.iter().zip(&after) {
        assert!(was == is || *was == 'b' && *is != 'b', "a slot of {was} went to {is}");
    }
    // Evenly to the others.
    assert!((share(&after, 'a') - 50.0).abs() < 4.0, "{}", share(&after, 'a'));
}

#[test]
fn what_a_pool_sheds_goes_to_the_next_one_that_is_up() {
    let config = config(&["a", "b", "c"], |config| {
        config.pools[0].load_shedding = 30;
        config.pools[1].load_shedding = 50;
    });
    for (down, expected) in [
        (&[][..], [70.0, 15.0, 15.0]),
        (&[("b", 0)], [70.0, 0.0, 30.0]),
        (&[("a", 0)], [0.0, 50.0, 50.0]),
        (&[("b", 0), ("c", 0)], [100.0, 0.0, 0.0]),
    ] {
        let found = slots(&config, &planned(&config, down, &Image::default()));
        for (pool, expected) in ['a', 'b', 'c'].into_iter().zip(expected) {
            let share = share(&found, pool);
            assert!((share - expected).abs() < 3.0, "{down:?}: {pool} has {share} %, expected {expected}");
        }
    }
}

#[test]
fn a_mixed_table_is_the_same_whatever_the_order_of_pools_and_endpoints_in_the_file() {
    let change = |config: &mut Config| config.services[0].steering_policy = SteeringPolicy::Random;
    let one = config(&["a", "b", "c"], change);
    let mut other = one.clone();
    other.pools.reverse();
    other.pools.iter_mut().for_each(|pool| pool.endpoints.reverse());
    let of = |config: &Config| slots(config, &planned(config, &[("c", 2)], &Image::default()));
    assert_eq!(of(&one), of(&other));
}

#[test]
fn replies_of_all_pools_are_known() {
    let config = config(&["a", "b"], |config| config.services[0].fallback_pool = Some("c".to_owned()));
    let image = planned(&config, &[], &Image::default());
    let endpoints: BTreeSet<u16> = image.reply_values().map(|(_, value)| value.endpoint).collect();
    assert_eq!(endpoints.len(), 3 * usize::from(ENDPOINTS));
}

#[test]
fn a_pool_in_panic_is_up_and_all_its_endpoints_take_flows() {
    let config = config(&["a", "b"], |config| config.pools[0].panic_threshold = 50);
    let model = config::validate(config.clone()).unwrap();
    let mut image = Image::default();
    for (up, taking) in [(4, 4), (3, 3), (2, 2), (1, 4), (0, 4), (2, 2)] {
        image = planned(&config, &[("a", up)], &image);
        assert_eq!(slots(&config, &image).into_iter().collect::<BTreeSet<_>>(), set("a"), "{up} up");
        let ids = plan::endpoint_ids(&model, &image);
        let of_pool =
            ids.iter().filter(|((pool, _), _)| pool == "a").map(|(_, id)| image.endpoints[id].state);
        assert_eq!(of_pool.filter(|state| state & ENDPOINT_TAKES_NEW != 0).count(), taking, "{up} up");
        assert_eq!(planned(&config, &[("a", up)], &image), image, "a second pass finds nothing to do");
    }
}
