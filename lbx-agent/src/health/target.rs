//! The life of one target: wait, probe, judge, tell.

use std::sync::Arc;

use lbx_common::api::HealthState;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    Observation, Target,
    probe::{Path, ProbeError, Steps, probe as ask},
    schedule::Schedule,
    state::{Outcome, Thresholds, Verdict},
};

use crate::metrics::own::{ProbeResult, count_probe};

/// Probes until the target's channel or `tx` is closed.
pub(super) async fn run(
    device: Option<Arc<str>>,
    epoch: Instant,
    mut targets: watch::Receiver<Target>,
    tx: mpsc::Sender<Observation>,
) {
    let mut target = targets.borrow_and_update().clone();
    let now = Instant::now();
    let mut verdict = Verdict::new(target.initial, now.into_std());
    let mut schedule = Schedule::new(epoch, &target.key, target.monitor.interval, now);
    loop {
        // A change cuts a probe short: what it would find is about what the target was before.
        let observation = tokio::select! {
            biased;
            changed = targets.changed() => {
                if changed.is_err() {
                    return;
                }
                let next = targets.borrow_and_update().clone();
                // A monitor may bring its own port: what is checked otherwise is the same endpoint.
                let edited = next.monitor != target.monitor;
                let moved = (next.source, next.address.ip()) != (target.source, target.address.ip())
                    || next.address.port() != target.address.port() && !edited;
                let rerouted = next.place != target.place;
                target = next;
                let now = Instant::now();
                schedule.set_interval(target.monitor.interval, now);
                if rerouted {
                    // What failed so far may have been the tunnel's fault.
                    verdict.begin_anew();
                    schedule.hurry(now);
                }
                if !moved {
                    continue;
                }
                verdict = Verdict::new(HealthState::Unknown, now.into_std());
                schedule = Schedule::new(epoch, &target.key, target.monitor.interval, now);
                let reason = format!("the address is now {}: not yet probed", target.address);
                Observation {
                    key: target.key.clone(),
                    source: target.source,
                    address: target.address,
                    state: verdict.state(),
                    reason,
                    round_trip: None,
                    changed: true,
                    at: now.into_std(),
                }
            }
            observation = probe(device.as_deref(), &target, schedule.due(), &mut verdict) => {
                schedule.advance(Instant::now());
                observation
            }
        };
        if tx.send(observation).await.is_err() {
            return;
        }
    }
}

/// Waits until a probe is due, makes it and takes its outcome into the verdict.
async fn probe(device: Option<&str>, target: &Target, due: Instant, verdict: &mut Verdict) -> Observation {
    sleep_until(due).await;
    let result = match target.place {
        None => Err(ProbeError::Endpoint("no tunnel that is on leads there".to_owned())),
        Some(place) => {
            let path = Path { device, source: target.source, place, other: target.other };
            let mut steps = Steps::new(false);
            // Of thousands of targets, few are being probed at a time: the rest shall take no memory for it.
            Box::pin(ask(path, target.address, &target.monitor, &mut steps)).await
        }
    };
    let at = Instant::now().into_std();
    let thresholds = Thresholds::from(&*target.monitor);
    let (reason, round_trip, outcome) = match result {
        Ok(round_trip) => (String::new(), Some(round_trip), Some(Outcome::Success)),
        Err(error @ ProbeError::Endpoint(_)) => (error.to_string(), None, Some(Outcome::Failure)),
        Err(error @ ProbeError::Host(_)) => (error.to_string(), None, None),
    };
    let counted = match outcome {
        Some(Outcome::Success) => ProbeResult::Success,
        Some(Outcome::Failure) => ProbeResult::Failure,
        None => ProbeResult::NotProbed,
    };
    count_probe(target.monitor.kind, counted, round_trip);
    let changed = outcome.is_some_and(|outcome| verdict.observe(outcome, thresholds, at));
    let Target { key, source, address, .. } = target.clone();
    Observation { key, source, address, state: verdict.state(), reason, round_trip, changed, at }
}
