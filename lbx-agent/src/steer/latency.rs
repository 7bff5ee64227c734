//! The order of pools by the round trips of their probes, with so much inertia that two that are alike do not take turns.

/// What the round trip of one more probe weighs in the mean: an eighth, as in RFC 6298 §2.
const GAIN: f64 = 0.125;

/// A pool goes before another one where its round trip is below this part of the other's,
const NEARER: f64 = 0.8;
/// and shorter by this many microseconds: within a rack, a fifth of the round trip is the scheduler's mood.
const NEARER_US: f64 = 100.0;

/// The mean after one more probe, in microseconds.
pub fn smoothed(mean_us: Option<f64>, round_trip_us: f64) -> f64 {
    mean_us.map_or(round_trip_us, |mean_us| mean_us + GAIN * (round_trip_us - mean_us))
}

/// The order of things after that of before, by their mean round trips in microseconds. One that was not measured keeps
/// its place, and no place goes to it.
pub fn order<T: Copy + PartialEq>(before: &[T], latency_us: impl Fn(T) -> Option<f64>) -> Vec<T> {
    let mut left = before.to_vec();
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(&incumbent) = left.first() {
        let measured = left.iter().filter_map(|&one| Some((one, latency_us(one)?)));
        let nearest = measured.min_by(|(_, one), (_, other)| one.total_cmp(other));
        let next = match (nearest, latency_us(incumbent)) {
            (Some((nearest, us)), Some(known)) if us < known * NEARER && known - us >= NEARER_US => nearest,
            _ => incumbent,
        };
        left.retain(|&one| one != next);
        ordered.push(next);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order_of(before: &str, latencies: &[(char, f64)]) -> String {
        let before: Vec<char> = before.chars().collect();
        let latency = |one| latencies.iter().find(|(name, _)| *name == one).map(|(_, us)| *us);
        order(&before, latency).into_iter().collect()
    }

    #[test]
    fn the_nearest_goes_first_and_the_others_follow_in_their_order() {
        assert_eq!(order_of("abc", &[('a', 9000.0), ('b', 5000.0), ('c', 1000.0)]), "cba");
        // In between stands one that is nearly as far as the first.
        assert_eq!(order_of("abc", &[('a', 1000.0), ('b', 900.0), ('c', 780.0)]), "cab");
    }

    #[test]
    fn one_that_is_hardly_nearer_stays_behind_whichever_was_first() {
        for before in ["ab", "ba"] {
            assert_eq!(order_of(before, &[('a', 1000.0), ('b', 850.0)]), before);
            assert_eq!(order_of(before, &[('a', 90.0), ('b', 30.0)]), before);
        }
    }

    #[test]
    fn what_was_not_measured_keeps_its_place() {
        assert_eq!(order_of("abc", &[]), "abc");
        assert_eq!(order_of("abc", &[('b', 9000.0), ('c', 1000.0)]), "acb");
        assert_eq!(order_of("abc", &[('a', 9000.0), ('c', 1000.0)]), "cab");
    }

    #[test]
    fn a_single_slow_probe_moves_the_mean_by_an_eighth() {
        assert!((smoothed(None, 800.0) - 800.0).abs() < f64::EPSILON);
        assert!((smoothed(Some(800.0), 1600.0) - 900.0).abs() < f64::EPSILON);
    }
}
