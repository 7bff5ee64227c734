//! What probes found out, about endpoints or about tunnels.

use std::{collections::BTreeMap, time::Instant};

use lbx_common::api::HealthState;

use super::{Reconciler, targets::probed};
use crate::{
    health::{Observation, Probed},
    steer::latency::smoothed,
};

/// Pool and endpoint, or virtual network and tunnel.
pub type Name = (String, String);

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

/// What probes found out about all of a kind, by what these are known by.
pub struct Findings<K> {
    /// The last verdicts; one that no probe has reached yet has none.
    pub verdicts: BTreeMap<K, HealthState>,
    /// Beside the verdicts, what a person wants to know.
    pub seen: BTreeMap<K, Seen>,
    probed: BTreeMap<K, Probed>,
}

impl<K> Default for Findings<K> {
    fn default() -> Self {
        Self { verdicts: BTreeMap::new(), seen: BTreeMap::new(), probed: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Findings<K> {
    /// Forgets what was found out about what is not probed any more, or elsewhere. Returns what has
    /// lost its verdict.
    pub fn keep_of(&mut self, now: BTreeMap<K, Probed>) -> Vec<K> {
        // Both are sorted.
        let mut later = now.iter().peekable();
        let mut stays = |(name, one): &(&K, &Probed)| {
            while later.next_if(|(other, _)| other < name).is_some() {}
            later.peek() == Some(&(*name, *one))
        };
        let mut gone: Vec<K> =
            self.probed.iter().filter(|one| !stays(one)).map(|(name, _)| name.clone()).collect();
        gone.retain(|name| {
            self.seen.remove(name);
            self.verdicts.remove(name).is_some()
        });
        self.probed = now;
        gone
    }

    /// Where something is probed; `None` = it is not.
    pub fn probed(&self, name: &K) -> Option<&Probed> {
        self.probed.get(name)
    }

    /// Takes a probe's result. Returns whether it is about what is probed now.
    pub fn note(&mut self, name: &K, observation: &Observation) -> bool {
        // A probe that was under way when its target moved says nothing about where it is now.
        let is_about = |(key, source, address): &Probed| {
            (key, source, address) == (&observation.key, &observation.source, &observation.address)
        };
        if !self.probed.get(name).is_some_and(is_about) {
            return false;
        }
        self.seen.entry(name.clone()).or_insert_with(|| Seen::new(observation)).update(observation);
        true
    }

    /// The same. Returns the verdict, where there is one, and the one before.
    pub fn take(&mut self, name: K, observation: &Observation) -> Option<(HealthState, Option<HealthState>)> {
        let state = observation.state;
        let counts = self.note(&name, observation) && state != HealthState::Unknown;
        counts.then(|| (state, self.verdicts.insert(name, state)))
    }
}

impl Findings<Name> {
    /// Takes verdicts over on what is probed just so. Returns on how many.
    pub fn recall(&mut self, verdicts: &[(Probed, HealthState)]) -> usize {
        let mut count = 0;
        for (probed, state) in verdicts {
            let name = probed.0.name();
            if self.probed(&name) == Some(probed) {
                self.verdicts.insert(name, *state);
                count += 1;
            }
        }
        count
    }

    /// Everything that has a verdict, or had one before, with that.
    pub fn all(&self, before: impl Fn(&Name) -> HealthState) -> impl Iterator<Item = (Probed, HealthState)> {
        let states = self.probed.iter().map(move |(name, probed)| {
            (probed.clone(), self.verdicts.get(name).copied().unwrap_or_else(|| before(name)))
        });
        states.filter(|(_, state)| matches!(state, HealthState::Healthy | HealthState::Unhealthy))
    }
}

impl Reconciler {
    /// Forgets what was found out about what is not probed any more, or elsewhere. Returns whether the plan may be
    /// another one without that.
    pub(super) fn forget_stale_findings(&mut self) -> bool {
        let probed = probed(&self.model);
        self.members.keep_of(probed.members);
        let (endpoints, tunnels) =
            (self.endpoints.keep_of(probed.endpoints), self.tunnels.keep_of(probed.tunnels));
        // What is not there any more is not planned.
        let is_there = |(pool, endpoint): &Name| {
            let mut pools = self.model.pools.iter().filter(|one| one.name == *pool);
            pools.any(|pool| pool.endpoints.iter().any(|one| one.name == *endpoint))
        };
        self.path_mtus.keep_of(&self.model) || !tunnels.is_empty() || endpoints.iter().any(is_there)
    }
}
