//! The properties of tables and of the sequences over them, at the sizes that matter.

use std::collections::BTreeSet;

use lbx_common::select::sequence;
use proptest::prelude::*;

use super::*;

const SLOTS: u32 = 65_537;

fn member(i: usize, weight: u8) -> Member {
    Member {
        identity: identity([42, i as u64, 80]),
        weight: weight.into(),
        id: u16::try_from(i + 1).unwrap(),
    }
}

fn counts(table: &[u16], members: usize) -> Vec<u32> {
    let mut counts = vec![0; members + 1];
    for &id in table {
        counts[usize::from(id)] += 1;
    }
    counts
}

/// The owner of a new flow in each slot while some endpoints are down.
fn owners(table: &[u16], down: &BTreeSet<u16>) -> Vec<Option<u16>> {
    let slots = u32::try_from(table.len()).unwrap();
    let owner = |slot| sequence(slot, slots).map(|at| table[at as usize]).find(|id| !down.contains(id));
    (0..slots).map(owner).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_slot_is_filled_and_shares_follow_the_weights(weights in prop::collection::vec(1_u8..=100, 1..=100)) {
        let members: Vec<Member> = weights.iter().enumerate().map(|(i, &w)| member(i, w)).collect();
        let table = build(&members, SLOTS).unwrap();
        prop_assert_eq!(table.len(), SLOTS as usize);
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let counts = counts(&table, members.len());
        prop_assert_eq!(counts[0], 0);
        for (count, &weight) in counts[1..].iter().zip(&weights) {
            let ideal = f64::from(SLOTS) * f64::from(weight) / total;
            let off = (f64::from(*count) - ideal).abs();
            prop_assert!(off <= (ideal * 0.01).max(2.0), "{count} slots for weight {weight}, ideal {ideal}");
        }
    }

    #[test]
    fn order_does_not_matter(weights in prop::collection::vec(0_u8..=100, 2..=40), seed: u64) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let members: Vec<Member> = weights.iter().enumerate().map(|(i, &w)| member(i, w)).collect();
        let mut shuffled = members.clone();
        shuffled.sort_by_key(|m| mix(m.identity ^ seed));
        prop_assert_eq!(build(&members, 4093), build(&shuffled, 4093));
    }

    #[test]
    fn one_member_more_moves_little_beyond_its_own_share(n in 2_usize..=60) {
        let members: Vec<Member> = (0..=n).map(|i| member(i, 100)).collect();
        let before = build(&members[..n], SLOTS).unwrap();
        let after = build(&members, SLOTS).unwrap();
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let own = SLOTS as usize / (n + 1);
        prop_assert!(moved < own * 2, "{moved} slots moved for a share of {own}");
    }

    #[test]
    fn a_member_of_any_weight_gets_a_slot(weights in prop::collection::vec(1_u8..=100, 500..=1000)) {
        let members: Vec<Member> = weights.iter().enumerate().map(|(i, &w)| member(i, w)).collect();
        let counts = counts(&build(&members, 1021).unwrap(), members.len());
        prop_assert!(counts[1..].iter().all(|&count| count > 0));
    }
}

#[test]
fn one_more_failure_moves_exactly_its_slots_and_recovery_restores_them() {
    let n = 100;
    let members: Vec<Member> = (0..n).map(|i| member(i, 100)).collect();
    let table = build(&members, SLOTS).unwrap();
    for already in [0_u16, 1, 5, 20] {
        let mut down: BTreeSet<u16> = (0..already).map(|i| i * 5 + 1).collect();
        let before = owners(&table, &down);
        for victim in [3_u16, 50, 99] {
            down.insert(victim);
            let after = owners(&table, &down);
            for (old, new) in before.iter().zip(&after) {
                if *old == Some(victim) {
                    assert!(
                        new.is_some_and(|new| !down.contains(&new)),
                        "{already} down: a slot has no owner"
                    );
                } else {
                    assert_eq!(old, new, "{already} down: a slot moved that was not the victim's");
                }
            }
            let ideal = f64::from(SLOTS) / f64::from(100 - already - 1);
            let owned: Vec<u16> = after.iter().flatten().copied().collect();
            let busiest = counts(&owned, n).into_iter().max().unwrap();
            let ratio = f64::from(busiest) / ideal;
            assert!(ratio <= 1.06, "{already} down: the busiest has {ratio} × its ideal share");
            down.remove(&victim);
            assert_eq!(owners(&table, &down), before, "recovery restores every slot");
        }
    }
}

#[test]
fn without_weight_there_is_no_table() {
    assert_eq!(build(&[], 1021), None);
    assert_eq!(build(&[member(0, 0)], 1021), None);
}
