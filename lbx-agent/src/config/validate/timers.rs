//! Rules for `timers`, and for other times in the configuration.

use std::{ops::RangeInclusive, time::Duration};

use humantime::format_duration;
use lbx_common::{
    abi::{MAX_TCP_IDLE_SECS, MAX_UDP_IDLE_SECS},
    api::Config,
};

use super::Report;

const TRANSITION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(48);
const TCP_IDLE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(4);
const UDP_IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(8);
const STEERING: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_hours(1);
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(48);
const AFFINITY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24 * 7);

// What the ages of pins can tell.
const _: () = assert!(TCP_IDLE.end().as_secs() <= MAX_TCP_IDLE_SECS);
const _: () = assert!(UDP_IDLE.end().as_secs() <= MAX_UDP_IDLE_SECS);

pub(super) fn check(config: &Config, report: &mut Report) {
    let timers = &config.timers;
    for (name, found, range) in [
        ("transition", timers.transition, TRANSITION),
        ("tcp_idle", timers.tcp_idle, TCP_IDLE),
        ("udp_idle", timers.udp_idle, UDP_IDLE),
        ("steering", timers.steering, STEERING),
    ] {
        within(&format!("timers.{name}"), found, &range, report);
    }
    for (index, service) in config.services.iter().enumerate() {
        within(&format!("services[{index}].drain"), service.drain, &DRAIN, report);
        if let Some(ttl) = service.session_affinity.and_then(|affinity| affinity.ttl) {
            within(&format!("services[{index}].session_affinity.ttl"), ttl, &AFFINITY, report);
        }
    }
}

fn within(path: &str, found: Duration, range: &RangeInclusive<Duration>, report: &mut Report) {
    if !range.contains(&found) {
        let [found, first, last] = [found, *range.start(), *range.end()].map(format_duration);
        report.note(path, format!("found {found}, expected {first} to {last}"));
    }
}
