//! Keeps the last verdicts beyond the maps, for an agent that finds none: after a start of the machine, or `detach`.

use std::time::{Duration, Instant};

use lbx_common::api::HealthState;

use super::Reconciler;
use crate::store::LastVerdicts;

/// Time from a verdict that is another one to the file that has it. Many may come at once, and again.
const SOON: Duration = Duration::from_secs(5);
/// Time after which the file is written again, which tells that they still hold.
const AGAIN: Duration = Duration::from_mins(1);

/// When the file is to be written.
pub struct Keeping {
    pub next: Option<Instant>,
    /// Whether the last attempt failed, which was said.
    failed: bool,
}

impl Default for Keeping {
    /// The verdicts may be those of maps that were taken over, and the file older, or none.
    fn default() -> Self {
        Self { next: Some(Instant::now() + SOON), failed: false }
    }
}

impl Keeping {
    /// A verdict is another one now.
    pub fn soon(&mut self) {
        let soon = Instant::now() + SOON;
        self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
    }
}

impl Reconciler {
    /// Takes over what the file says of what is probed just so today. Probes turn it as they would the verdicts of their
    /// own.
    pub(super) fn recall_verdicts(&mut self) {
        let last = match LastVerdicts::load(&self.state_dir) {
            Ok(Some(last)) => last,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "endpoints wait for their first probes");
                return;
            }
        };
        let (endpoints, tunnels) =
            (self.endpoints.recall(&last.verdicts), self.tunnels.recall(&last.verdicts));
        tracing::info!(endpoints, tunnels, "verdicts of the agent before hold until probes turn them");
    }

    /// Writes the file.
    pub(super) fn keep_verdicts(&mut self) {
        self.keeping.next = Some(Instant::now() + AGAIN);
        // Before the first probes of this agent, what the maps say counts.
        let endpoints = self.endpoints.all(|name| self.state_in_kernel(name));
        let tunnels = self.tunnels.all(|_| HealthState::Unknown);
        let saved = LastVerdicts::new(endpoints.chain(tunnels).collect()).save(&self.state_dir);
        let failed_before = std::mem::replace(&mut self.keeping.failed, saved.is_err());
        if let Err(error) = saved
            && !failed_before
        {
            let dir = self.state_dir.display();
            tracing::warn!(%error, "cannot keep the last verdicts in {dir}: after a start of this machine, endpoints \
                                    wait for their first probes");
        }
    }
}
