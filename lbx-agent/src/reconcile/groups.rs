//! Endpoints that several monitors check: what one of them finds, put together with what the others say.

use lbx_common::api::{HealthState, MonitorHealth};

use super::{
    Reconciler,
    findings::{Name, Seen},
};
use crate::{
    config::model::{Check, Pool, Voice},
    health::{Observation, TargetKey, group},
};

impl Reconciler {
    /// What the monitors of an endpoint say now that one of them was heard; `None` where that one is not asked any more.
    pub(super) fn hear(
        &mut self,
        whole: TargetKey,
        member: &str,
        observation: &Observation,
    ) -> Option<Observation> {
        let name = whole.name();
        if !self.members.note(&(name.clone(), member.to_owned()), observation) {
            return None;
        }
        let pool = self.model.pools.iter().find(|pool| pool.name == name.0)?;
        let &(_, source, address) = self.endpoints.probed(&name)?;
        let state = group::verdict(self.members_of(pool, &name).map(|(_, voice, seen)| {
            (voice, seen.map_or_else(|| self.state_before(&name), |seen| seen.state))
        }));
        let before = self.last_state(&name);
        let heard = self.members_of(pool, &name).find(|(check, ..)| check.monitor.name == member);
        let counts = heard.is_some_and(|(_, voice, _)| voice != Voice::Watches);
        Some(Observation {
            key: whole,
            source,
            address,
            state,
            reason: self.complaints(pool, &name),
            round_trip: observation.round_trip.filter(|_| counts),
            changed: state != before,
            at: observation.at,
        })
    }

    /// The monitors of an endpoint, where they are several.
    fn members_of<'a>(
        &'a self,
        pool: &'a Pool,
        name: &Name,
    ) -> impl Iterator<Item = (&'a Check, Voice, Option<&'a Seen>)> {
        let name = name.clone();
        pool.checks.iter().filter_map(move |check| {
            let member = (name.clone(), check.monitor.name.clone());
            Some((check, check.voice?, self.members.seen.get(&member)))
        })
    }

    /// What one that was not heard yet counts as: an endpoint that takes flows already goes on.
    fn state_before(&self, name: &Name) -> HealthState {
        let is_up = self.state_in_kernel(name) == HealthState::Healthy;
        if is_up { HealthState::Healthy } else { HealthState::Unknown }
    }

    /// What those that fail say.
    fn complaints(&self, pool: &Pool, name: &Name) -> String {
        let failing = self.members_of(pool, name).filter_map(|(check, _, seen)| {
            let seen = seen.filter(|seen| !seen.reason.is_empty())?;
            Some(format!("{}: {}", check.monitor.name, seen.reason))
        });
        failing.collect::<Vec<_>>().join("; ")
    }

    /// The same for a report.
    pub(super) fn monitor_healths(&self, pool: &Pool, name: &Name) -> Vec<MonitorHealth> {
        let each = self.members_of(pool, name).map(|(check, voice, seen)| MonitorHealth {
            monitor: check.monitor.name.clone(),
            state: seen.map_or(HealthState::Unknown, |seen| seen.state),
            must_be_healthy: voice == Voice::Must,
            monitoring_only: voice == Voice::Watches,
            reason: seen.map(|seen| seen.reason.clone()).unwrap_or_default(),
            round_trip_us: seen.and_then(|seen| seen.round_trip_us),
        });
        each.collect()
    }
}
