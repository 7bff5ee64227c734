//! The verdict on one endpoint or tunnel: rise and fall over the outcomes of its probes.
//!
//! Pure: no clock, no socket, no task. Whoever calls it passes the time in.

use std::time::Instant;

use lbx_common::api::{HealthState, Monitor};

/// How many outcomes in a row turn the verdict. Zero counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes that make an endpoint healthy.
    pub up: u8,
    /// Failures that make it unhealthy.
    pub down: u8,
}

impl From<&Monitor> for Thresholds {
    fn from(monitor: &Monitor) -> Self {
        Self { up: monitor.consecutive_up, down: monitor.consecutive_down }
    }
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered.
    Success,
    /// It did not.
    Failure,
}

/// Verdict on an endpoint, and how far the outcomes since have spoken against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    state: HealthState,
    since: Instant,
    /// The outcome that the streak is made of.
    last: Option<Outcome>,
    streak: u8,
}

impl Verdict {
    /// Begins with a state known from before; one that no probe can have found counts as unknown.
    pub fn new(initial: HealthState, now: Instant) -> Self {
        let state = match initial {
            HealthState::Healthy | HealthState::Unhealthy => initial,
            HealthState::Unknown | HealthState::Disabled => HealthState::Unknown,
        };
        Self { state, since: now, last: None, streak: 0 }
    }

    /// The verdict; never [`HealthState::Disabled`].
    pub const fn state(&self) -> HealthState {
        self.state
    }

    /// When it last changed.
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// Forgets the outcomes that have not turned the verdict.
    pub fn begin_anew(&mut self) {
        (self.last, self.streak) = (None, 0);
    }

    /// Takes an outcome in. Says whether the verdict changed.
    pub fn observe(&mut self, outcome: Outcome, thresholds: Thresholds, now: Instant) -> bool {
        self.streak = if self.last == Some(outcome) { self.streak.saturating_add(1) } else { 1 };
        self.last = Some(outcome);
        let (state, needed) = match outcome {
            Outcome::Success => (HealthState::Healthy, thresholds.up),
            Outcome::Failure => (HealthState::Unhealthy, thresholds.down),
        };
        if self.state == state || self.streak < needed {
            return false;
        }
        self.state = state;
        self.since = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use lbx_common::api::HealthState;
    use proptest::{collection::vec, prelude::*};

    use super::{Outcome, Thresholds, Verdict};

    const TWO_UP_THREE_DOWN: Thresholds = Thresholds { up: 2, down: 3 };

    /// States after each outcome; `+` is a success.
    fn run(initial: HealthState, thresholds: Thresholds, outcomes: &str) -> String {
        let now = Instant::now();
        let mut verdict = Verdict::new(initial, now);
        outcomes
            .chars()
            .map(|outcome| {
                let outcome = if outcome == '+' { Outcome::Success } else { Outcome::Failure };
                verdict.observe(outcome, thresholds, now);
                match verdict.state() {
                    HealthState::Healthy => 'H',
                    HealthState::Unhealthy => 'U',
                    HealthState::Unknown => '?',
                    HealthState::Disabled => 'D',
                }
            })
            .collect()
    }

    #[test]
    fn an_unknown_endpoint_needs_the_whole_streak_either_way() {
        assert_eq!(run(HealthState::Unknown, TWO_UP_THREE_DOWN, "++"), "?H");
        assert_eq!(run(HealthState::Unknown, TWO_UP_THREE_DOWN, "---"), "??U");
        assert_eq!(run(HealthState::Unknown, TWO_UP_THREE_DOWN, "-+-+--+-++"), "?????????H");
    }

    #[test]
    fn a_single_outcome_to_the_contrary_starts_the_streak_again() {
        assert_eq!(run(HealthState::Healthy, TWO_UP_THREE_DOWN, "--+--+---"), "HHHHHHHHU");
        assert_eq!(run(HealthState::Unhealthy, TWO_UP_THREE_DOWN, "+-+-++"), "UUUUUH");
    }

    #[test]
    fn a_known_state_holds_until_probes_speak_against_it() {
        assert_eq!(run(HealthState::Healthy, TWO_UP_THREE_DOWN, "--"), "HH");
        assert_eq!(run(HealthState::Disabled, TWO_UP_THREE_DOWN, "-"), "?");
    }

    #[test]
    fn begun_anew_it_stands_and_the_streak_does_not() {
        let now = Instant::now();
        let mut verdict = Verdict::new(HealthState::Healthy, now);
        let fails = |verdict: &mut Verdict| verdict.observe(Outcome::Failure, TWO_UP_THREE_DOWN, now);
        assert!(!fails(&mut verdict) && !fails(&mut verdict));
        verdict.begin_anew();
        assert!(!fails(&mut verdict) && !fails(&mut verdict));
        assert_eq!(verdict.state(), HealthState::Healthy);
        assert!(fails(&mut verdict));
    }

    #[test]
    fn thresholds_of_zero_and_one_turn_at_once() {
        for thresholds in [Thresholds { up: 0, down: 0 }, Thresholds { up: 1, down: 1 }] {
            assert_eq!(run(HealthState::Unknown, thresholds, "+-+"), "HUH");
        }
    }

    #[test]
    fn since_is_the_time_of_the_last_change() {
        let start = Instant::now();
        let mut verdict = Verdict::new(HealthState::Healthy, start);
        let thresholds = Thresholds { up: 1, down: 2 };
        let at = |secs| start + Duration::from_secs(secs);
        assert!(!verdict.observe(Outcome::Failure, thresholds, at(1)));
        assert_eq!(verdict.since(), start);
        assert!(verdict.observe(Outcome::Failure, thresholds, at(2)));
        assert!(!verdict.observe(Outcome::Failure, thresholds, at(3)));
        assert_eq!(verdict.since(), at(2));
    }

    proptest! {
        /// The verdict is what the history says: the last streak that was long enough decided it.
        #[test]
        fn the_verdict_is_decided_by_the_last_streak_that_was_long_enough(
            up in 1_u8..=5,
            down in 1_u8..=5,
            history in vec(any::<bool>(), 0..64),
        ) {
            let now = Instant::now();
            let mut verdict = Verdict::new(HealthState::Unknown, now);
            let mut changes = 0;
            for success in &history {
                let outcome = if *success { Outcome::Success } else { Outcome::Failure };
                changes += u32::from(verdict.observe(outcome, Thresholds { up, down }, now));
            }
            let runs: Vec<_> = history.chunk_by(|a, b| a == b).collect();
            let decisive: Vec<bool> = runs
                .into_iter()
                .filter(|run| run.len() >= usize::from(if run[0] { up } else { down }))
                .map(|run| run[0])
                .collect();
            let expected = match decisive.last() {
                Some(true) => HealthState::Healthy,
                Some(false) => HealthState::Unhealthy,
                None => HealthState::Unknown,
            };
            prop_assert_eq!(verdict.state(), expected);
            prop_assert_eq!(changes as usize, decisive.chunk_by(|a, b| a == b).count());
        }
    }
}
