//! `endpoint … --wait`: what is left of a drain, until it is over.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use lbx_common::api::{Drain, EndpointHealth, HealthReport, HealthState};
use tokio::time::{MissedTickBehavior, interval};

use super::Context;
use crate::{
    args::{EndpointAction, ObjectName},
    error::CliError,
    output::{self, span},
};

/// How often the agent is asked.
const INTERVAL: Duration = Duration::from_millis(500);

/// Waits until an action has had its effect.
pub async fn wait(
    context: &Context,
    action: EndpointAction,
    object: &ObjectName,
    timeout: Option<Duration>,
) -> Result<(), CliError> {
    let began = Instant::now();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut progress = Progress::default();
    loop {
        ticks.tick().await;
        let report: HealthReport = context.client.get(&["health"]).await?;
        let pool = report.pools.into_iter().find(|pool| Some(&pool.pool) == object.parent.as_ref());
        let endpoints = pool.map(|pool| pool.endpoints).unwrap_or_default();
        let endpoint = endpoints.into_iter().find(|endpoint| endpoint.endpoint == object.name);
        let what = match step(action, endpoint.as_ref(), &object.full()) {
            Step::Over(text) => {
                progress.end(&text);
                return Ok(());
            }
            Step::Wait(what) => what,
        };
        if timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
            progress.clear();
            return Err(CliError::TimedOut(format!(
                "after {}: {what}; the change is in force and goes on",
                output::duration(timeout.unwrap_or_default())
            )));
        }
        progress.show(&what);
    }
}

enum Step {
    Over(String),
    Wait(String),
}

fn step(action: EndpointAction, endpoint: Option<&EndpointHealth>, name: &str) -> Step {
    let Some(endpoint) = endpoint else {
        return Step::Over(format!("{name} is not configured any more"));
    };
    match (action, endpoint.drain) {
        (EndpointAction::Disable, _) => Step::Over(format!("{name} keeps no flow")),
        (EndpointAction::Drain, Some(Drain { secs_left: 0, .. })) => {
            Step::Over(format!("{name} is drained: it keeps no flow"))
        }
        (EndpointAction::Drain, None) if endpoint.state == HealthState::Disabled => {
            Step::Over(format!("{name} is disabled: it keeps no flow"))
        }
        (EndpointAction::Drain, None) => {
            Step::Over(format!("{name} is not drained any more: somebody undid it"))
        }
        (EndpointAction::Drain, Some(Drain { secs_left, pinned_flows })) => Step::Wait(format!(
            "{name} keeps its flows for {} more at most; {pinned_flows} of them are pinned",
            span(secs_left)
        )),
        (EndpointAction::Undrain | EndpointAction::Enable, Some(_)) => {
            Step::Wait(format!("{name} is drained and takes no new flows"))
        }
        (EndpointAction::Undrain | EndpointAction::Enable, None) => match endpoint.state {
            HealthState::Healthy => Step::Over(format!("{name} takes new flows")),
            state @ (HealthState::Unhealthy | HealthState::Unknown | HealthState::Disabled) => {
                let reason =
                    if endpoint.reason.is_empty() { String::new() } else { format!(": {}", endpoint.reason) };
                Step::Wait(format!("{name} is {}{reason}, and takes no new flows", state.as_str()))
            }
        },
    }
}

/// Says on standard error what is waited for: all the time in one line of a terminal, else once.
#[derive(Default)]
struct Progress {
    shown: bool,
}

impl Progress {
    fn show(&mut self, what: &str) {
        let mut out = io::stderr().lock();
        // Who cannot be told waits all the same.
        let _ = if out.is_terminal() {
            // To the start of the line, and clear it (ECMA-48 EL).
            write!(out, "\r\x1b[K{what}").and_then(|()| out.flush())
        } else if self.shown {
            Ok(())
        } else {
            writeln!(out, "{what}")
        };
        self.shown = true;
    }

    fn end(&self, text: &str) {
        self.clear();
        let _ = writeln!(io::stderr(), "{text}");
    }

    fn clear(&self) {
        if self.shown && io::stderr().is_terminal() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
