//! `monitors`: how endpoints are checked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Definition of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitor {
    /// Name, unique among monitors.
    pub name: String,
    /// What a probe does.
    #[serde(rename = "type", default)]
    pub kind: MonitorKind,
    /// Time between two probes of an endpoint; 100ms … 1h.
    #[serde(with = "humantime_serde", default = "default_interval")]
    pub interval: Duration,
    /// Time after which one attempt has failed; at most `interval`.
    #[serde(with = "humantime_serde", default = "default_timeout")]
    pub timeout: Duration,
    /// Further attempts, at once, before a probe counts as failed.
    #[serde(default)]
    pub retries: u8,
    /// Successful probes in a row that make an endpoint healthy.
    #[serde(default = "one")]
    pub consecutive_up: u8,
    /// Failed probes in a row that make an endpoint unhealthy.
    #[serde(default = "one")]
    pub consecutive_down: u8,
}

impl Monitor {
    /// A monitor of which no more is said than its name: all else has its default.
    pub fn new(name: String) -> Self {
        Self {
            name,
            kind: MonitorKind::default(),
            interval: default_interval(),
            timeout: default_timeout(),
            retries: 0,
            consecutive_up: one(),
            consecutive_down: one(),
        }
    }

    /// Longest time from the first packet that would fail a probe to the verdict:
    /// `consecutive_down` probes, one `interval` apart, each failing after all its attempts.
    pub fn worst_case_detection(&self) -> Duration {
        let attempts = self.timeout.saturating_mul(u32::from(self.retries).saturating_add(1));
        self.interval.saturating_mul(u32::from(self.consecutive_down)).saturating_add(attempts)
    }
}

/// What a probe does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorKind {
    /// Opens a TCP connection and closes it.
    #[default]
    Tcp,
}

const fn default_interval() -> Duration {
    Duration::from_secs(5)
}

const fn default_timeout() -> Duration {
    Duration::from_secs(1)
}

const fn one() -> u8 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_is_what_the_least_text_says() {
        let least: Monitor = serde_json::from_str(r#"{"name": "m"}"#).unwrap();
        assert_eq!(Monitor::new("m".into()), least);
    }
}
