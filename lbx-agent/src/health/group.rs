//! The verdict of several monitors on one endpoint.
//!
//! Pure, like that of one monitor.

use lbx_common::api::HealthState;

use crate::config::model::Voice;

/// The verdict of monitors that have come to these. What is not known yet decides neither way.
pub fn verdict(monitors: impl IntoIterator<Item = (Voice, HealthState)>) -> HealthState {
    let (mut all, mut failed, mut passed, mut must_fails, mut must_waits) =
        (0_u32, 0_u32, 0_u32, false, false);
    for (voice, state) in monitors.into_iter().filter(|(voice, _)| *voice != Voice::Watches) {
        all += 1;
        failed += u32::from(state == HealthState::Unhealthy);
        passed += u32::from(state == HealthState::Healthy);
        must_fails |= voice == Voice::Must && state == HealthState::Unhealthy;
        must_waits |= voice == Voice::Must && state != HealthState::Healthy;
    }
    if must_fails || failed * 2 > all {
        HealthState::Unhealthy
    } else if !must_waits && passed * 2 >= all {
        // Whatever the rest comes to, more than half cannot fail.
        HealthState::Healthy
    } else {
        HealthState::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` is healthy, `-` is not, `?` is not known; behind `!` is one that must be healthy, behind `~` one that only
    /// watches.
    fn of(group: &str) -> char {
        let (mut voice, mut monitors) = (Voice::One, Vec::new());
        for sign in group.chars() {
            let state = match sign {
                '+' => HealthState::Healthy,
                '-' => HealthState::Unhealthy,
                '?' => HealthState::Unknown,
                _ => {
                    voice = if sign == '!' { Voice::Must } else { Voice::Watches };
                    continue;
                }
            };
            monitors.push((std::mem::replace(&mut voice, Voice::One), state));
        }
        match verdict(monitors) {
            HealthState::Healthy => '+',
            HealthState::Unhealthy => '-',
            HealthState::Unknown | HealthState::Disabled => '?',
        }
    }

    #[test]
    fn more_than_half_take_an_endpoint_down_and_so_does_one_that_must_be_healthy() {
        for (group, expected) in [
            ("+", '+'),
            ("-", '-'),
            ("?", '?'),
            ("+-", '+'),
            ("--", '-'),
            ("+--", '-'),
            ("++-", '+'),
            ("++--", '+'),
            ("+---", '-'),
            ("!-++", '-'),
            ("!+--", '-'),
            ("!+-", '+'),
            ("!+!-+", '-'),
        ] {
            assert_eq!(of(group), expected, "{group}");
        }
    }

    #[test]
    fn what_is_not_known_decides_neither_way() {
        for (group, expected) in [
            ("+?", '+'),
            ("-?", '?'),
            ("+-?", '?'),
            ("++?", '+'),
            ("--?", '-'),
            ("!?+", '?'),
            ("!?++", '?'),
            ("!?--", '-'),
        ] {
            assert_eq!(of(group), expected, "{group}");
        }
    }

    #[test]
    fn one_that_only_watches_is_not_asked() {
        for (group, expected) in [("~-+", '+'), ("~+-", '-'), ("~-~-+", '+'), ("~?+", '+')] {
            assert_eq!(of(group), expected, "{group}");
        }
    }
}
