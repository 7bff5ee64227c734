//! Which of the kernel's answers about ways to clients the programs may use again.

use std::sync::atomic::Ordering;

use aya::Ebpf;
use lbx_common::{abi::map_name, routes::RouteTerm};
use nix::time::{ClockId, clock_getres};

use super::{programs::LoadError, word::Word};

/// The word that says it, of the programs that were loaded with it. No answer counts before [`Self::keep_answers`].
pub struct KnownRoutes(Word);

impl KnownRoutes {
    /// That of loaded programs.
    pub(super) fn of(programs: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self(Word::of(programs, map_name::ROUTE_TERM)?))
    }

    /// From now on answers count for a second, whoever may live or die, or not at all.
    pub fn keep_answers(&self, keep: bool) {
        let ticks = if keep { ticks_per_second() } else { 0 };
        self.change(|term| RouteTerm::new(ticks, term.next().generation()));
    }

    /// All answers so far are void.
    pub fn forget(&self) {
        self.change(RouteTerm::next);
    }

    fn change(&self, change: impl Fn(RouteTerm) -> RouteTerm) {
        if let Some(word) = self.0.get() {
            let next = |term| Some(change(RouteTerm(term)).0);
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        }
    }
}

/// Of the kernel's `jiffies`: the coarse clock goes on by one of them at a time.
fn ticks_per_second() -> u32 {
    // Fails for no clock that there is.
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |tick| tick.tv_nsec());
    u32::try_from(1_000_000_000_i64.checked_div(tick).unwrap_or(0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::ticks_per_second;

    #[test]
    fn a_second_has_as_many_ticks_as_kernels_are_built_with() {
        assert!((100..=1000).contains(&ticks_per_second()), "{}", ticks_per_second());
    }
}
