//! When verdicts make other lookup tables necessary, and when their bits are all there is to write.

use std::collections::BTreeSet;

use super::*;

/// Whether the tables of `image` are still right when the endpoints in `down` are down, and all others up.
fn stay(image: &Image, count: u8, down: &[u8]) -> bool {
    let world = pool_of(count, down);
    let model = world.model();
    let ids = endpoint_ids(&model, image);
    let mut image = image.clone();
    for ((_, name), state) in world.verdicts() {
        let entry = image.endpoints.get_mut(&ids[&("p0".to_owned(), name)]).unwrap();
        *entry = with_health(*entry, state, NOW_NS);
    }
    let (known, reach) = (Known { ids: &ids, orders: &BTreeMap::new() }, Reach::new(&model, &image));
    let stay = tables_stay(&model, known, &image, (&reach, &BTreeSet::from(["p0".to_owned()])));
    // The planner is of the same opinion.
    let planned = planned(&world, &image);
    assert_eq!(stay, current_table(&planned) == current_table(&image), "{down:?} of {count} down");
    stay
}

#[test]
fn tables_stay_while_at_least_half_of_a_pool_is_up_and_when_none_is() {
    let image = planned(&pool_of(6, &[]), &Image::default());
    assert!(stay(&image, 6, &[]) && stay(&image, 6, &[2]) && stay(&image, 6, &[0, 1, 2]));
    assert!(!stay(&image, 6, &[0, 1, 2, 3]) && !stay(&image, 6, &[1, 2, 3, 4, 5]));
    assert!(stay(&image, 6, &[0, 1, 2, 3, 4, 5]));
}

#[test]
fn the_table_of_the_rest_is_left_when_the_others_come_back() {
    let all_up = planned(&pool_of(6, &[]), &Image::default());
    let two_up = planned(&pool_of(6, &[0, 1, 2, 3]), &all_up);
    assert!(stay(&two_up, 6, &[0, 1, 2, 3]));
    assert!(!stay(&two_up, 6, &[0, 1, 2]), "the table before is there, but it is not the current one");
    assert!(!stay(&two_up, 6, &[0, 1, 2, 3, 4]) && !stay(&two_up, 6, &[]));
}

#[test]
fn other_pools_are_not_looked_at() {
    let image = planned(&pool_of(6, &[]), &Image::default());
    let model = pool_of(6, &[]).model();
    assert!(tables_stay(
        &model,
        Known { ids: &BTreeMap::new(), orders: &BTreeMap::new() },
        &image,
        (&Reach::new(&model, &image), &BTreeSet::from(["another".to_owned()]))
    ));
}
