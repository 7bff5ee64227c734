//! What is remembered of flows, and for how long.

use std::time::Duration;

use lbx_common::api::{ConnectionTracking, Timers};
use serde_json::{Value, json};

use super::{accepts, refuses};

#[test]
fn without_a_word_flows_survive_changes_and_nothing_keeps_sources_together() {
    let model = accepts(&[]);
    let service = &model.services[0];
    assert_eq!((service.drain, service.keep), (Duration::from_mins(5), true));
    assert_eq!(
        (service.tracking, service.source_bits, service.affinity),
        (ConnectionTracking::Auto, None, None)
    );
    assert_eq!(model.timers, Timers::default());
    assert_eq!((model.limits.pins, model.limits.affinities), (262_144, 65_536));
}

#[test]
fn all_of_it_is_taken_as_it_is_written() {
    let model = accepts(&[
        ("/services/0/drain", json!("48h")),
        ("/services/0/on_endpoint_down", json!("reset")),
        ("/services/0/connection_tracking", json!("always")),
        ("/services/0/session_affinity", json!({"type": "source_ip", "prefix_ipv4": 24, "ttl": "7d"})),
        ("/services/1/drain", json!("0s")),
        ("/services/1/connection_tracking", json!("off")),
        ("/services/1/session_affinity", json!({})),
        ("/timers", json!({"transition": "1s", "tcp_idle": "4h", "udp_idle": "8m"})),
        ("/limits", json!({"pins": 4_194_304, "affinities": 1})),
    ]);
    let [first, second] = &model.services[..] else { panic!("{:?}", model.services) };
    assert_eq!((first.drain, first.keep), (Duration::from_hours(48), false));
    assert_eq!((first.tracking, first.source_bits), (ConnectionTracking::Always, Some(24)));
    assert_eq!(first.affinity, Some(Duration::from_hours(7 * 24)));
    assert_eq!((second.drain, second.tracking), (Duration::ZERO, ConnectionTracking::Off));
    assert_eq!((second.source_bits, second.affinity), (Some(32), None));
    assert_eq!(model.timers.udp_idle, Duration::from_mins(8));
    assert_eq!((model.limits.pins, model.limits.affinities), (4_194_304, 1));
}

#[test]
fn what_is_out_of_range_is_named_with_the_range() {
    let cases: [(&str, Value, &str, &str); 16] = [
        ("/services/0/drain", json!("49h"), "services[0].drain", "found 2days 1h, expected 0s to 2days"),
        ("/timers", json!({"transition": "500ms"}), "timers.transition", "found 500ms, expected 1s to 2days"),
        (
            "/timers",
            json!({"transition": "49h"}),
            "timers.transition",
            "found 2days 1h, expected 1s to 2days",
        ),
        ("/timers", json!({"tcp_idle": "9s"}), "timers.tcp_idle", "found 9s, expected 10s to 4h"),
        ("/timers", json!({"tcp_idle": "5h"}), "timers.tcp_idle", "found 5h, expected 10s to 4h"),
        ("/timers", json!({"udp_idle": "0s"}), "timers.udp_idle", "found 0s, expected 1s to 8m"),
        ("/timers", json!({"udp_idle": "9m"}), "timers.udp_idle", "found 9m, expected 1s to 8m"),
        ("/limits", json!({"pins": 0}), "limits.pins", "found 0, expected 1 to 4194304"),
        ("/limits", json!({"pins": 4_194_305}), "limits.pins", "found 4194305, expected 1 to 4194304"),
        ("/limits", json!({"affinities": 0}), "limits.affinities", "found 0, expected 1 to 4194304"),
        (
            "/services/0/session_affinity",
            json!({"ttl": "8d"}),
            "services[0].session_affinity.ttl",
            "found 8days, expected 1s to 7days",
        ),
        (
            "/services/0/session_affinity",
            json!({"ttl": "0s"}),
            "services[0].session_affinity.ttl",
            "found 0s, expected 1s to 7days",
        ),
        (
            "/services/0/session_affinity",
            json!({"prefix_ipv4": 33}),
            "services[0].session_affinity.prefix_ipv4",
            "found 33, expected 1 to 32: the leading bits of a source that count",
        ),
        (
            "/services/0/session_affinity",
            json!({"prefix_ipv4": 0}),
            "services[0].session_affinity.prefix_ipv4",
            "found 0, expected 1 to 32: the leading bits of a source that count",
        ),
        (
            "/services/0/session_affinity",
            json!({"prefix_ipv6": 129}),
            "services[0].session_affinity.prefix_ipv6",
            "found 129, expected 1 to 128: the leading bits of a source that count",
        ),
        (
            "/services/0/session_affinity",
            json!({"prefix_ipv6": 0}),
            "services[0].session_affinity.prefix_ipv6",
            "found 0, expected 1 to 128: the leading bits of a source that count",
        ),
    ];
    for (place, value, path, message) in cases {
        refuses(&[(place, value)], &format!("{path}: {message}"));
    }
}

#[test]
fn sources_cannot_be_remembered_where_nothing_is() {
    refuses(
        &[
            ("/services/0/connection_tracking", json!("off")),
            ("/services/0/session_affinity", json!({"ttl": "1h"})),
        ],
        "services[0].session_affinity.ttl: flows must be remembered for that: set `connection_tracking` to auto or always, or take `ttl` away",
    );
}
