//! The last verdicts, in a file: those of a machine that was started anew, which has no maps that hold them.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use lbx_common::api::HealthState;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::embedded::make_dir;
use crate::health::Probed;

/// File in the state directory.
const FILE: &str = "health.json";
/// What is older says nothing of how things are now.
const COUNTS_FOR: Duration = Duration::from_mins(10);

/// Verdicts at a time.
#[derive(Debug, Serialize, Deserialize)]
pub struct LastVerdicts {
    /// When they were so.
    at: SystemTime,
    /// On what, with the verdict.
    pub verdicts: Vec<(Probed, HealthState)>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum NoVerdictsError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Io(PathBuf, io::Error),
    /// It holds something else.
    #[error("{0} does not hold verdicts: {1}")]
    Content(PathBuf, serde_json::Error),
}

impl LastVerdicts {
    /// Verdicts of now.
    pub fn new(verdicts: Vec<(Probed, HealthState)>) -> Self {
        Self { at: SystemTime::now(), verdicts }
    }

    /// Reads those of the agent before; `None` where there are none that count.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, NoVerdictsError> {
        let path = state_dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(NoVerdictsError::Io(path, error)),
        };
        let last: Self =
            serde_json::from_slice(&text).map_err(|error| NoVerdictsError::Content(path, error))?;
        // In the future = the clock was set back, and nobody knows how old they are.
        let counts = last.at.elapsed().is_ok_and(|age| age <= COUNTS_FOR);
        Ok(counts.then_some(last))
    }

    /// Puts them in the place of those before. What a loss of power leaves is one or the other, or a file that counts as
    /// none: they are a help, and nothing is waited for.
    pub fn save(&self, state_dir: &Path) -> io::Result<()> {
        make_dir(state_dir).map_err(io::Error::other)?;
        let mut file = NamedTempFile::new_in(state_dir)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.persist(state_dir.join(FILE))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lbx_common::api::Encap;

    use super::*;
    use crate::health::TargetKey;

    fn verdicts() -> Vec<(Probed, HealthState)> {
        let source = [10, 255, 0, 1].into();
        let endpoint = TargetKey::Endpoint {
            pool: "web".to_owned(),
            endpoint: "a".to_owned(),
            virtual_network: "east".to_owned(),
            member: None,
        };
        let tunnel = TargetKey::Tunnel {
            virtual_network: "east".to_owned(),
            tunnel: "gre".to_owned(),
            path: (Encap::Gre, [192, 0, 2, 9].into(), 0),
        };
        vec![
            ((endpoint, source, ([10, 0, 0, 10], 80).into()), HealthState::Healthy),
            ((tunnel, source, ([10, 0, 0, 1], 7).into()), HealthState::Unhealthy),
        ]
    }

    #[test]
    fn what_was_saved_is_there_for_ten_minutes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(LastVerdicts::load(dir.path()).unwrap().is_none());
        let mut last = LastVerdicts::new(verdicts());
        let dir = dir.path().join("made/when/it/is/needed");
        last.save(&dir).unwrap();
        assert_eq!(LastVerdicts::load(&dir).unwrap().unwrap().verdicts, verdicts());
        let now = last.at;
        for (at, counts) in [
            (now - COUNTS_FOR + Duration::from_mins(1), true),
            (now - COUNTS_FOR - Duration::from_secs(1), false),
            (now + Duration::from_hours(1), false),
        ] {
            last.at = at;
            last.save(&dir).unwrap();
            assert_eq!(LastVerdicts::load(&dir).unwrap().is_some(), counts, "{at:?}");
        }
    }

    #[test]
    fn a_file_with_something_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "").unwrap();
        let error = LastVerdicts::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("health.json does not hold verdicts: EOF"), "{error}");
    }
}
