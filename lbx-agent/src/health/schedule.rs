//! When a target is probed: at a place of its own within the interval, so that thousands of probes are
//! spread evenly and the place stays the same when other targets come and go.
//!
//! Pure: it computes times, it does not wait.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::Instant;

/// A new target's first probe comes within this time, however long the interval is.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// The times at which one target is due.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    epoch: Instant,
    interval: Duration,
    /// Where in the interval, 0 … 2^32-1.
    place: u32,
    due: Instant,
}

impl Schedule {
    /// Begins now. `epoch` is the same for all targets, `identity` is the target's own.
    pub fn new(epoch: Instant, identity: &impl Hash, interval: Duration, now: Instant) -> Self {
        // With the fixed keys of `DefaultHasher::new`: the place outlives a restart.
        let mut hasher = DefaultHasher::new();
        identity.hash(&mut hasher);
        let place = u32::try_from(hasher.finish() >> 32).unwrap_or(0);
        let mut schedule = Self { epoch, interval, place, due: now };
        let regular = schedule.slot_after(now);
        schedule.due = regular.min(now + schedule.share_of(FIRST_WITHIN.min(interval)));
        schedule
    }

    /// When the next probe is due.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// The due probe has ended: the next one is due one interval after it, on the target's place. One that
    /// was missed because the probe took longer is made up for at once, several missed ones by one.
    pub fn advance(&mut self, now: Instant) {
        // The first probe is off the regular place. Half an interval at least lies between it and the
        // next one, so that one short trouble is not counted as two failures in a row.
        let next = self.slot_after(self.due + self.interval / 2);
        self.due = if next >= now { next } else { self.slot_after(now - self.interval) };
    }

    /// Makes the next probe come as soon as that of a new target, if it would come later.
    pub fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now + self.share_of(FIRST_WITHIN.min(self.interval)));
    }

    /// Takes a new interval from now on.
    pub fn set_interval(&mut self, interval: Duration, now: Instant) {
        if interval != self.interval {
            self.interval = interval;
            self.due = self.slot_after(now);
        }
    }

    /// The first regular time after `time`.
    fn slot_after(&self, time: Instant) -> Instant {
        let interval = self.interval.as_nanos().max(1);
        let offset = self.share_of(self.interval);
        let passed = time.saturating_duration_since(self.epoch).as_nanos();
        let slots = (passed + interval).saturating_sub(offset.as_nanos()) / interval;
        let nanos = slots * interval;
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.epoch + Duration::from_nanos(nanos) + offset
    }

    fn share_of(&self, duration: Duration) -> Duration {
        let nanos = (duration.as_nanos() * u128::from(self.place)) >> 32;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::Schedule;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn ten_thousand_targets_are_spread_evenly_over_every_interval() {
        let epoch = Instant::now();
        let mut schedules: Vec<_> =
            (0..10_000).map(|id| Schedule::new(epoch, &id, 5 * SECOND, epoch)).collect();
        for round in 0..4_u32 {
            let mut buckets = [0_u32; 50];
            for schedule in &mut schedules {
                let due = schedule.due();
                if round > 0 {
                    let place = (due - epoch).as_millis() % 5000 / 100;
                    buckets[usize::try_from(place).unwrap()] += 1;
                }
                schedule.advance(due);
            }
            // 200 expected in each tenth of a second; 290 is more than six standard deviations away.
            assert!(buckets.iter().all(|count| *count < 290), "round {round}: {buckets:?}");
        }
    }

    #[test]
    fn a_new_target_is_probed_soon_even_with_a_long_interval() {
        let epoch = Instant::now();
        let now = epoch + 17 * SECOND;
        let dues: Vec<_> = (0..1000).map(|id| Schedule::new(epoch, &id, 3600 * SECOND, now).due()).collect();
        assert!(dues.iter().all(|due| *due <= now + SECOND));
        let early = dues.iter().filter(|due| **due <= now + SECOND / 2).count();
        assert!((400..600).contains(&early), "{early} in the first half");
    }

    #[test]
    fn the_place_of_a_target_is_stable() {
        let epoch = Instant::now();
        let place = |now| {
            let mut schedule = Schedule::new(epoch, &("pool", "endpoint"), SECOND, now);
            schedule.advance(schedule.due());
            (schedule.due() - epoch).subsec_nanos()
        };
        assert_eq!(place(epoch), place(epoch + 12_345 * Duration::from_millis(7)));
    }

    #[test]
    fn a_probe_that_takes_longer_than_the_interval_is_followed_at_once_by_one_other() {
        let epoch = Instant::now();
        let mut schedule = Schedule::new(epoch, &1, SECOND, epoch);
        schedule.advance(schedule.due());
        let due = schedule.due();
        let ended = due + 3 * SECOND + SECOND / 2;
        schedule.advance(ended);
        assert!(schedule.due() <= ended, "late ones are due at once");
        schedule.advance(ended);
        assert!(schedule.due() > ended, "only one is made up for");
    }

    proptest! {
        #[test]
        fn probes_are_one_interval_apart_whatever_the_start(
            id: u64,
            interval_ms in 100_u64..10_000,
            start_ms in 0_u64..100_000,
            probe_share in 0.0..1.0_f64,
        ) {
            let epoch = Instant::now();
            let interval = Duration::from_millis(interval_ms);
            let start = epoch + Duration::from_millis(start_ms);
            let mut schedule = Schedule::new(epoch, &id, interval, start);
            prop_assert!(schedule.due() >= start && schedule.due() <= start + interval);
            let first = schedule.due();
            schedule.advance(first + interval.mul_f64(probe_share / 2.0));
            let gap = schedule.due() - first;
            prop_assert!(gap >= interval / 2 && gap <= interval * 3 / 2 + Duration::from_nanos(1), "{gap:?}");
            for _ in 0..5 {
                let due = schedule.due();
                schedule.advance(due + interval.mul_f64(probe_share));
                prop_assert_eq!(schedule.due() - due, interval);
            }
        }
    }
}
