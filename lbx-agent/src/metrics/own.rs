//! What the agent counts of its own work.

use std::{sync::LazyLock, time::Duration};

use lbx_common::api::{EventType, MonitorKind};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts};

use super::page::Page;

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// It was answered as it should be.
    Success,
    /// It was not.
    Failure,
    /// This host could not send it.
    NotProbed,
}

/// What came of a connection from another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionResult {
    /// It has shown a certificate of the right authority.
    Accepted,
    /// It has none, or spoke no TLS.
    Refused,
    /// It said nothing for too long.
    Silent,
    /// There were too many others.
    TooMany,
}

/// Upper bounds of the times that are told apart, in seconds.
const PASS_SECONDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
const ROUND_TRIP_SECONDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// All that is counted here. The names and labels are constants, which the tests check.
struct Own {
    events: IntCounterVec,
    lost_samples: IntCounter,
    probes: IntCounterVec,
    round_trips: Histogram,
    passes: Histogram,
    connections: IntCounterVec,
    /// Empty where the agent has no certificate.
    certificate_end: IntGaugeVec,
    steering: IntCounterVec,
}

static OWN: LazyLock<Option<Own>> = LazyLock::new(|| {
    let histogram = |name: &str, help: &str, buckets: &[f64]| {
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())).ok()
    };
    let events = Opts::new("lbx_events_total", "Events by type, as `lbx-ctl events` shows them.");
    let events = IntCounterVec::new(events, &["type"]).ok()?;
    for of_type in EventType::ALL {
        // What has not happened yet has happened 0 times.
        events.with_label_values(&[of_type.as_str()]);
    }
    Some(Own {
        events,
        lost_samples: IntCounter::new(
            "lbx_flow_samples_lost_total",
            "Samples of flows that became no event: there were too many, or something of it was removed.",
        )
        .ok()?,
        probes: IntCounterVec::new(
            Opts::new("lbx_probes_total", "Probes by type of their monitor, and by what came of them."),
            &["type", "result"],
        )
        .ok()?,
        round_trips: histogram(
            "lbx_probe_round_trip_seconds",
            "Time that answers to probes took.",
            &ROUND_TRIP_SECONDS,
        )?,
        passes: histogram(
            "lbx_reconcile_duration_seconds",
            "Time that passes over the kernel's maps took: planning and writing.",
            &PASS_SECONDS,
        )?,
        connections: IntCounterVec::new(
            Opts::new("lbx_api_connections_total", "Connections to the API over TCP, by what came of them."),
            &["result"],
        )
        .ok()?,
        certificate_end: IntGaugeVec::new(
            Opts::new(
                "lbx_api_certificate_expiry_timestamp_seconds",
                "When the agent's certificate for the API over TCP ends, in seconds since the epoch.",
            ),
            &[],
        )
        .ok()?,
        steering: IntCounterVec::new(
            Opts::new("lbx_steering_changes_total", "Decisions for other tables that follow from measuring."),
            &["policy"],
        )
        .ok()?,
    })
});

/// Counts a probe.
pub fn count_probe(kind: MonitorKind, result: ProbeResult, round_trip: Option<Duration>) {
    let Some(own) = &*OWN else { return };
    let result = match result {
        ProbeResult::Success => "success",
        ProbeResult::Failure => "failure",
        ProbeResult::NotProbed => "not_probed",
    };
    own.probes.with_label_values(&[kind.as_str(), result]).inc();
    if let Some(round_trip) = round_trip {
        own.round_trips.observe(round_trip.as_secs_f64());
    }
}

/// Counts an event.
pub fn count_event(of_type: EventType) {
    if let Some(own) = &*OWN {
        own.events.with_label_values(&[of_type.as_str()]).inc();
    }
}

/// Counts samples of flows that became no event.
pub fn count_lost_samples(count: u64) {
    if let Some(own) = &*OWN {
        own.lost_samples.inc_by(count);
    }
}

/// Counts a pass over the maps.
pub fn count_pass(took: Duration) {
    if let Some(own) = &*OWN {
        own.passes.observe(took.as_secs_f64());
    }
}

/// Counts a connection to the API over TCP.
pub fn count_connection(result: ConnectionResult) {
    let result = match result {
        ConnectionResult::Accepted => "accepted",
        ConnectionResult::Refused => "refused",
        ConnectionResult::Silent => "silent",
        ConnectionResult::TooMany => "too_many",
    };
    if let Some(own) = &*OWN {
        own.connections.with_label_values(&[result]).inc();
    }
}

/// Says when the agent's certificate ends.
pub fn set_certificate_end(secs: i64) {
    if let Some(own) = &*OWN {
        own.certificate_end.with_label_values::<&str>(&[]).set(secs);
    }
}

/// Counts a decision for another table that follows from measuring.
pub fn count_steering(policy: &str) {
    if let Some(own) = &*OWN {
        own.steering.with_label_values(&[policy]).inc();
    }
}

pub(super) fn add_to(page: &Page) -> prometheus::Result<()> {
    let Some(own) = &*OWN else { return Ok(()) };
    page.add(Box::new(own.events.clone()))?;
    page.add(Box::new(own.lost_samples.clone()))?;
    page.add(Box::new(own.probes.clone()))?;
    page.add(Box::new(own.round_trips.clone()))?;
    page.add(Box::new(own.passes.clone()))?;
    page.add(Box::new(own.connections.clone()))?;
    page.add(Box::new(own.certificate_end.clone()))?;
    page.add(Box::new(own.steering.clone()))
}
