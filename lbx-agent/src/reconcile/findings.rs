//! What probes found out, about endpoints or about tunnels.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use lbx_common::api::HealthState;

use crate::{
    health::{Observation, TargetKey},
    steer::latency::smoothed,
};

/// Pool and endpoint, or virtual network and tunnel.
pub type Name = (String, String);

/// What a verdict is about, with source and destination of the probes. The tunnel that an endpoint's probes leave
/// by is not part of it: the verdict stays when they take another one.
pub type Probed = (TargetKey, IpAddr, SocketAddr);

/// What probes found out about something.
pub struct Seen {
    /// The verdict.
    pub state: HealthState,
    /// Why, as the last probe saw it.
    pub reason: String,
    /// When the verdict last changed.
    pub since: Instant,
    /// Round trip of the last probe, where it succeeded.
    pub round_trip_us: Option<u64>,
    /// Mean of the round trips of successful probes, the last ones before all.
    pub latency_us: Option<f64>,
}

impl Seen {
    /// From the first probe.
    pub fn new(observation: &Observation) -> Self {
        Self {
            state: observation.state,
            reason: String::new(),
            since: observation.at,
            round_trip_us: None,
            latency_us: None,
        }
    }

    /// Adds a probe.
    pub fn update(&mut self, observation: &Observation) {
        if observation.changed {
            self.since = observation.at;
        }
        self.state = observation.state;
        self.reason.clone_from(&observation.reason);
        self.round_trip_us =
            observation.round_trip.and_then(|round_trip| u64::try_from(round_trip.as_micros()).ok());
        if let Some(round_trip) = observation.round_trip {
            self.latency_us = Some(smoothed(self.latency_us, round_trip.as_secs_f64() * 1e6));
        }
    }
}

/// What probes found out about all of a kind.
#[derive(Default)]
pub struct Findings {
    /// The last verdicts; one that no probe has reached yet has none.
    pub verdicts: BTreeMap<Name, HealthState>,
    /// Beside the verdicts, what a person wants to know.
    pub seen: BTreeMap<Name, Seen>,
    probed: BTreeMap<Name, Probed>,
}

impl Findings {
    /// Forgets what was found out about what is not probed any more, or elsewhere. Returns what has
    /// lost its verdict.
    pub fn keep_of(&mut self, now: BTreeMap<Name, Probed>) -> Vec<Name> {
        // Both are sorted.
        let mut later = now.iter().peekable();
        let mut stays = |(name, one): &(&Name, &Probed)| {
            while later.next_if(|(other, _)| other < name).is_some() {}
            later.peek() == Some(&(*name, *one))
        };
        let mut gone: Vec<Name> =
            self.probed.iter().filter(|one| !stays(one)).map(|(name, _)| name.clone()).collect();
        gone.retain(|name| {
            self.seen.remove(name);
            self.verdicts.remove(name).is_some()
        });
        self.probed = now;
        gone
    }

    /// Takes a probe's result. Returns the verdict, where there is one, and the one before.
    pub fn take(&mut self, observation: &Observation) -> Option<(HealthState, Option<HealthState>)> {
        let name = observation.key.name();
        // A probe that was under way when its target moved says nothing about where it is now.
        let is_about = |(key, source, address): &Probed| {
            (key, source, address) == (&observation.key, &observation.source, &observation.address)
        };
        if !self.probed.get(&name).is_some_and(is_about) {
            return None;
        }
        self.seen.entry(name.clone()).or_insert_with(|| Seen::new(observation)).update(observation);
        let state = observation.state;
        (state != HealthState::Unknown).then(|| (state, self.verdicts.insert(name, state)))
    }
}
