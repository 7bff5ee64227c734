//! One probe now, with what it does step by step. It counts for no verdict.

use lbx_common::api::{TrialReport, TrialStep};

use super::{
    Target,
    probe::{Path, ProbeError, Steps, probe},
};
use crate::net::probe_path::LBX0;

/// Something to try, by the probe path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// What is probed, and how.
    pub target: Target,
    /// Name of the tunnel at its place.
    pub tunnel: Option<String>,
}

impl Trial {
    /// Makes the probe. It goes by the first tunnel alone: with two, nobody could tell what was tried.
    pub async fn run(self) -> TrialReport {
        let Target { source, address, place, monitor, .. } = self.target;
        let mut steps = Steps::new(true);
        let result = match place {
            Some(place) => {
                let path = Path { device: Some(LBX0), source, place, other: None };
                probe(path, address, &monitor, &mut steps).await
            }
            None => Err(ProbeError::Endpoint("no tunnel that is on leads there".to_owned())),
        };
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let step = |step: &super::probe::Step| TrialStep {
            name: step.name.to_owned(),
            took_us: micros(step.took),
            detail: step.detail.clone(),
        };
        TrialReport {
            monitor: monitor.name.clone(),
            source,
            target: address,
            tunnel: self.tunnel,
            success: result.is_ok(),
            round_trip_us: result.as_ref().ok().map(|&took| micros(took)),
            reason: result.err().map(|error| error.to_string()).unwrap_or_default(),
            steps: steps.done().iter().map(step).collect(),
        }
    }
}
