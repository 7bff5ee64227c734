//! What a probe has done so far.

use std::time::Duration;

use tokio::time::Instant;

/// Something that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was done, as `connect`.
    pub name: &'static str,
    /// Time that it took.
    pub took: Duration,
    /// What came of it, for a person.
    pub detail: String,
}

/// The steps of a probe, where somebody wants to see them, and what it waits for.
#[derive(Debug)]
pub struct Steps {
    wanted: bool,
    done: Vec<Step>,
    waiting: Option<&'static str>,
    since: Instant,
}

impl Steps {
    /// None yet. Where they are not `wanted`, they are not kept.
    pub fn new(wanted: bool) -> Self {
        Self { wanted, done: Vec::new(), waiting: None, since: Instant::now() }
    }

    /// None yet, and wanted as these are.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.wanted)
    }

    /// What was done, in order.
    pub fn done(&self) -> &[Step] {
        &self.done
    }

    /// What is waited for now; `None` = the first answer.
    pub(super) const fn waiting(&self) -> Option<&'static str> {
        self.waiting
    }

    /// The first step begins.
    pub(super) fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// A step begins, at whose end `what` will have come.
    pub(super) fn wait_for(&mut self, what: &'static str) {
        self.waiting = Some(what);
        self.since = Instant::now();
    }

    /// A step has come to its end. Gives the time that it took.
    pub(super) fn finish(&mut self, name: &'static str, detail: impl FnOnce() -> String) -> Duration {
        let now = Instant::now();
        let took = now - self.since;
        if self.wanted {
            self.done.push(Step { name, took, detail: detail() });
        }
        self.since = now;
        took
    }
}
