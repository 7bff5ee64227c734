//! Rules for `monitors`.

use std::{sync::Arc, time::Duration};

use humantime::format_duration;
use lbx_common::api::{Config, Monitor};

use super::{Report, monitor_fields};
use crate::config::names::Index;

const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_hours(1);
const MIN_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_RETRIES: u8 = 10;

/// All monitors, to be found by name.
pub(super) struct Monitors<'a> {
    all: Vec<Arc<Monitor>>,
    names: Index<'a>,
}

impl Monitors<'_> {
    /// The monitor called `name`; one that is not there is noted at `path`.
    pub(super) fn find(
        &self,
        name: &str,
        path: impl FnOnce() -> String,
        report: &mut Report,
    ) -> Option<Arc<Monitor>> {
        let index = report.take(path, self.names.find("monitor", name))?;
        self.all.get(index).cloned()
    }
}

pub(super) fn check<'a>(config: &'a Config, report: &mut Report) -> Monitors<'a> {
    let monitors = &config.monitors;
    report.names("monitors", "monitor", monitors.iter().map(|monitor| monitor.name.as_str()));
    for (index, monitor) in monitors.iter().enumerate() {
        check_one(monitor, &format!("monitors[{index}]"), report);
    }
    Monitors {
        all: monitors.iter().cloned().map(Arc::new).collect(),
        names: Index::new(monitors.iter().map(|monitor| monitor.name.as_str())),
    }
}

/// The port that a monitor probes; `of_target` is that of what it checks. 0 = it is about none. `None` = nobody says
/// which.
pub(super) fn probed_port(monitor: &Monitor, of_target: Option<u16>) -> Option<u16> {
    let kind = monitor.kind;
    if !kind.has_port() {
        return Some(0);
    }
    monitor.port.or(of_target).or(kind.default_port())
}

fn check_one(monitor: &Monitor, path: &str, report: &mut Report) {
    let &Monitor { interval, timeout, retries, consecutive_up, consecutive_down, .. } = monitor;
    let at = |field: &str| format!("{path}.{field}");
    monitor_fields::check(monitor, path, report);
    let mut sound = true;
    if !(MIN_INTERVAL..=MAX_INTERVAL).contains(&interval) {
        sound = false;
        let message = format!("found {}, expected 100ms to 1h", format_duration(interval));
        report.note(at("interval"), message);
    }
    if retries > MAX_RETRIES {
        sound = false;
        report.note(at("retries"), format!("found {retries}, expected 0 to {MAX_RETRIES}"));
    }
    if timeout < MIN_TIMEOUT {
        report.note(at("timeout"), format!("found {}, expected 1ms or more", format_duration(timeout)));
    } else if sound {
        let attempts = u32::from(retries) + 1;
        if timeout.saturating_mul(attempts) > interval {
            let message = format!(
                "{attempts} attempt(s) of {} each take longer than the interval, {}: write {} or less, or \
                 lower `retries`",
                format_duration(timeout),
                format_duration(interval),
                format_duration(Duration::from_millis(whole_millis(interval / attempts))),
            );
            report.note(at("timeout"), message);
        }
    }
    for (field, count) in [("consecutive_up", consecutive_up), ("consecutive_down", consecutive_down)] {
        if count == 0 {
            report.note(at(field), "found 0, expected 1 to 255");
        }
    }
}

/// Rounded down, for a proposal that reads well.
fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
