//! Policies in the maps: at no time is a packet measured by anything but what was or what will be in force.

use std::sync::Arc;

use lbx_common::{
    abi::{LISTENER_HAS_POLICY, PREFIX_ALLOWED, PREFIX_DENIED},
    api::{Prefix, RateLimit},
};

use super::*;
use crate::dataplane::PrefixList;

/// What a service says: numbers of prefixes allowed and denied, and its rate. `None` = there is no such service.
type Says = Option<(Vec<u8>, Vec<u8>, u32)>;

/// What packets of a listener are measured by: prefixes, interval of the service's flows.
type Measure = Option<(Option<PrefixList>, u32)>;

fn prefixes(numbers: &[u8], v6: bool) -> Vec<Prefix> {
    let mut prefixes: Vec<_> =
        numbers.iter().map(|&n| Prefix::around(address(v6, [198, 18, n % 4], 0), 8 + n)).collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}

/// What services that say this make of the maps as `observed`. Every second one is of IPv6.
fn planned_as(says: &[Says], observed: &Image) -> Image {
    let v6 = |i: usize| i % 2 == 1;
    let pool = |(i, says): (usize, &Says)| (vec![(0, 0, 100, true, true)], false, says.is_some(), v6(i));
    let pools = says.iter().enumerate().map(pool).collect();
    let world = World { vnets: vec![(true, (Encap::Gre, false), true)], pools };
    let mut model = world.model();
    for service in &mut model.services {
        let place: usize = service.name[1..].parse().unwrap();
        let (allow, deny, rate) = says[place].as_ref().unwrap();
        let (allow, deny) = (prefixes(allow, v6(place)), prefixes(deny, v6(place)));
        service.sources = config::sources_of(service.address, &allow, &deny);
        service.rate_limit = RateLimit { new_flows_per_second: *rate, per_source: 0 };
    }
    Facts::of(&world, observed).plan(&model)
}

fn measures(image: &Image) -> BTreeMap<ListenerKey, Measure> {
    let listeners = image.listeners.iter().filter(|(key, _)| matches!(key, ListenerKey::Ports { .. }));
    let measure = |(&key, &words): (&ListenerKey, &[u64; 2])| {
        let listener = ListenerValue::from_words(words);
        let measure = (listener.flags & LISTENER_HAS_POLICY != 0).then(|| {
            let policy = image.policies[&listener.id];
            assert!(policy.bucket != 0, "{key:?} has a policy that is there");
            let list = (policy.list != 0).then(|| PrefixList::clone(&image.prefixes[&policy.list]));
            (list, policy.flow_interval_ns)
        });
        (key, measure)
    };
    listeners.map(measure).collect()
}

fn says() -> impl Strategy<Value = Vec<Says>> {
    let numbers = || prop::collection::vec(0_u8..8, 0..4);
    let one = (numbers(), numbers(), prop::sample::select(vec![0_u32, 10]));
    prop::collection::vec(prop::option::weighted(0.8, one), 4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_packet_is_measured_by_the_policy_before_or_after_and_nothing_is_left(
        rounds in prop::collection::vec(says(), 1..5),
    ) {
        let mut memory = memory();
        for says in rounds {
            let observed = Image::observe(&memory);
            let wanted = planned_as(&says, &observed);
            let (before, after) = (measures(&observed), measures(&wanted));
            for step in diff(&observed, &wanted) {
                apply(&mut memory, &mut NoCounters, std::slice::from_ref(&step)).unwrap();
                for (key, measure) in measures(&Image::observe(&memory)) {
                    let known = before.get(&key) == Some(&measure) || after.get(&key) == Some(&measure);
                    prop_assert!(known, "after {:?}: {:?} is measured by {:?}", step, key, measure);
                }
            }
            let now = Image::observe(&memory);
            prop_assert_eq!(&now, &wanted);
            prop_assert_eq!(diff(&now, &planned_as(&says, &now)), Vec::<Step>::new());
        }
    }
}

#[test]
fn services_that_say_the_same_share_a_list_and_no_rate() {
    let says: Says = Some((vec![0], vec![9], 10));
    let image = planned_as(&[says.clone(), None, says], &Image::default());
    assert_eq!((image.policies.len(), image.prefixes.len()), (2, 1));
    let policies: Vec<_> = image.policies.values().collect();
    assert_eq!(policies[0].list, policies[1].list);
    assert_ne!(policies[0].bucket, policies[1].bucket);
    assert_eq!(policies[0].flow_interval_ns, 100_000_000);
}

#[test]
fn what_a_killed_agent_has_left_of_a_list_is_removed_first_and_no_service_is_measured_by_it() {
    let says = [Some((vec![0], vec![5], 0))];
    let mut memory = memory();
    let every = Prefix::around(address(false, [0; 3], 0), 0);
    memory.put_prefix(1, every, PREFIX_DENIED).unwrap();
    let observed = Image::observe(&memory);
    let wanted = planned_as(&says, &observed);
    let left = Arc::new(PrefixList::from([(every, PREFIX_DENIED)]));
    assert!(!wanted.prefixes.contains_key(&1), "its id is not used again at once");
    let steps = diff(&observed, &wanted);
    assert_eq!(steps.first(), Some(&Step::ClearPrefixes(1, left)));
    apply(&mut memory, &mut NoCounters, &steps).unwrap();
    assert_eq!(Image::observe(&memory), wanted);

    // One that nothing points at yet but that is whole is used as it is.
    let list = planned_as(&says, &Image::default()).prefixes.remove(&1).unwrap();
    assert!(list.values().any(|&verdict| verdict == PREFIX_ALLOWED));
    let mut memory = self::memory();
    list.iter().for_each(|(&prefix, &verdict)| memory.put_prefix(3, prefix, verdict).unwrap());
    let observed = Image::observe(&memory);
    assert_eq!(planned_as(&says, &observed).prefixes, observed.prefixes);
}
