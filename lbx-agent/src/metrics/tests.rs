//! What a scrape gets.

use std::collections::{BTreeMap, BTreeSet};

use lbx_common::api::{HealthReport, MonitorKind, StatsReport, StatusReport};
use serde_json::json;

use super::{
    own::{
        ConnectionResult, ProbeResult, count_connection, count_pass, count_probe, count_steering,
        set_certificate_end,
    },
    render,
    server::{ListenError, listen},
};

fn page() -> String {
    let stats: StatsReport = serde_json::from_value(json!({
        "services": [{"service": "web", "in_packets": 7, "in_bytes": 700, "out_packets": 5, "out_bytes": 9000, "tcp_syns": 2}],
        "endpoints": [{"pool": "p", "endpoint": "a", "virtual_network": "east", "in_packets": 1, "in_bytes": 2,
                       "out_packets": 3, "out_bytes": 4, "tcp_syns": 5}],
        "tunnels": [{"virtual_network": "east", "tunnel": "t", "in_packets": 6, "in_bytes": 7, "out_packets": 8,
                     "out_bytes": 9, "tcp_syns": 1}],
        "drops": [{"reason": "malformed", "packets": 3}, {"virtual_network": "east", "reason": "no_tunnel", "packets": 4}],
        "flows": [{"event": "pinned", "count": 6}],
    }))
    .unwrap();
    let health: HealthReport = serde_json::from_value(json!({
        "pools": [{"pool": "p", "state": "degraded", "latency_us": 2500, "endpoints": [
            {"endpoint": "a", "virtual_network": "east", "address": "10.0.0.1", "state": "healthy", "round_trip_us": 1500,
             "live_flows": 9, "drain": {"secs_left": 5, "pinned_flows": 8}},
            {"endpoint": "b", "virtual_network": "east", "address": "10.0.0.2", "state": "unhealthy"},
        ]}],
        "services": [{"service": "web", "serving": ["p"], "standby": ["q"]}],
        "tunnels": [{"virtual_network": "east", "tunnel": "t", "monitor": "m", "address": "10.0.0.1", "state": "unhealthy"}],
    }))
    .unwrap();
    let node: StatusReport = serde_json::from_value(json!({
        "version": "1.2.3", "abi_version": 9, "pid": 1, "uptime_secs": 60, "store": "", "revision": 12, "adopted": true,
        "map_writes": 34,
        "interfaces": [{"name": "eth0", "role": "public", "link": "up", "mode": "native"}],
        "tunnels": [{"virtual_network": "east", "tunnel": "t", "encap": "gre", "remote": "192.0.2.1", "inner_mtu": 1472}],
        "maps": [{"map": "SLOTS", "used": 5, "capacity": 10}],
        "changes": [{"service": "web", "state": "open", "since_secs": 1}],
        "regions": {"file": "/r", "prefixes": 9, "mistake": "line 1", "regions": [{"region": "eu", "prefixes": 7}]},
    }))
    .unwrap();
    render(&stats, &health, &node).unwrap()
}

#[test]
fn every_report_is_on_the_page() {
    let page = page();
    for line in [
        r#"lbx_build_info{abi="9",version="1.2.3"} 1"#,
        "lbx_config_revision 12",
        "lbx_uptime_seconds 60",
        "lbx_map_writes_total 34",
        r#"lbx_interface_up{interface="eth0",role="public"} 1"#,
        r#"lbx_service_packets_total{direction="in",service="web"} 7"#,
        r#"lbx_service_bytes_total{direction="out",service="web"} 9000"#,
        r#"lbx_service_tcp_syns_total{service="web"} 2"#,
        r#"lbx_endpoint_packets_total{direction="out",endpoint="a",pool="p",virtual_network="east"} 3"#,
        r#"lbx_tunnel_packets_total{direction="in",tunnel="t",virtual_network="east"} 6"#,
        r#"lbx_tunnel_bytes_total{direction="out",tunnel="t",virtual_network="east"} 9"#,
        r#"lbx_tunnel_tcp_syns_total{tunnel="t",virtual_network="east"} 1"#,
        r#"lbx_dropped_packets_total{reason="malformed",virtual_network=""} 3"#,
        r#"lbx_dropped_packets_total{reason="no_tunnel",virtual_network="east"} 4"#,
        r#"lbx_flow_events_total{event="pinned"} 6"#,
        r#"lbx_endpoint_healthy{endpoint="a",pool="p",virtual_network="east"} 1"#,
        r#"lbx_endpoint_healthy{endpoint="b",pool="p",virtual_network="east"} 0"#,
        r#"lbx_endpoint_live_flows{endpoint="a",pool="p",virtual_network="east"} 9"#,
        r#"lbx_pool_probe_round_trip_seconds{pool="p"} 0.0025"#,
        r#"lbx_endpoint_probe_round_trip_seconds{endpoint="a",pool="p",virtual_network="east"} 0.0015"#,
        r#"lbx_endpoint_draining_flows{endpoint="a",pool="p",virtual_network="east"} 8"#,
        r#"lbx_pool_up{pool="p"} 1"#,
        r#"lbx_pool_endpoints{pool="p",state="unhealthy"} 1"#,
        r#"lbx_service_pool_serving{pool="p",service="web"} 1"#,
        r#"lbx_service_pool_serving{pool="q",service="web"} 0"#,
        r#"lbx_tunnel_healthy{tunnel="t",virtual_network="east"} 0"#,
        r#"lbx_tunnel_resolved{tunnel="t",virtual_network="east"} 0"#,
        r#"lbx_tunnel_inner_mtu_bytes{tunnel="t",virtual_network="east"} 1472"#,
        r#"lbx_map_entries{map="SLOTS"} 5"#,
        r#"lbx_map_capacity{map="SLOTS"} 10"#,
        r#"lbx_table_changes{state="open"} 1"#,
        r#"lbx_region_prefixes{region="eu"} 7"#,
        "lbx_regions_file_valid 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

#[test]
fn what_the_agent_does_itself_is_counted() {
    count_probe(MonitorKind::Smtp, ProbeResult::Success, Some(std::time::Duration::from_millis(2)));
    count_probe(MonitorKind::Smtp, ProbeResult::Failure, None);
    count_probe(MonitorKind::Smtp, ProbeResult::NotProbed, None);
    count_pass(std::time::Duration::from_millis(3));
    let page = page();
    for result in ["success", "failure", "not_probed"] {
        assert!(page.contains(&format!(r#"lbx_probes_total{{result="{result}",type="smtp"}} 1"#)), "{page}");
    }
    assert!(
        page.contains("lbx_probe_round_trip_seconds_count")
            && page.contains("lbx_reconcile_duration_seconds_sum")
    );
}

/// Every metric of the README is on the page, and none beside them.
#[test]
fn readme_lists_every_metric_and_no_other() {
    count_probe(MonitorKind::Tcp, ProbeResult::Success, None);
    count_connection(ConnectionResult::Accepted);
    set_certificate_end(4_102_444_800);
    count_steering("least_connections");
    let page = page();
    let types: BTreeMap<&str, &str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let found: BTreeSet<(&str, &str)> = types.into_iter().collect();
    let readme = include_str!("../../../README.md");
    let table = readme.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    let listed: BTreeSet<(&str, &str)> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            let name = cells.next()?.trim().trim_end_matches('`');
            Some((name, cells.next()?.trim()))
        })
        .collect();
    assert_eq!(listed, found);
}

#[tokio::test]
async fn only_this_machine_can_reach_the_port() {
    for (address, right) in
        [("192.0.2.1:9469", false), ("0.0.0.0:9469", false), ("[::]:9469", false), ("127.0.0.1:0", true)]
    {
        match listen(address.parse().unwrap()).await {
            Ok(_) => assert!(right, "{address}"),
            Err(error @ ListenError::NotLoopback(_)) => {
                assert!(!right && error.to_string().ends_with("127.0.0.1:9469 or [::1]:9469"), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    let taken = listen("127.0.0.1:0".parse().unwrap()).await.unwrap().local_addr().unwrap();
    let _holder = std::net::TcpListener::bind(taken).unwrap();
    assert!(matches!(listen(taken).await, Err(ListenError::Busy(..))));
}
