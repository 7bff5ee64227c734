//! What an agent might answer, for the tests of this crate.

use lbx_common::api::{Config, HealthReport, StatsReport, StatusReport};
use serde_json::json;

pub fn config() -> Config {
    serde_json::from_value(json!({
        "version": 1,
        "virtual_networks": [
            {"name": "east", "vni": 42, "probe_source": {"ipv4": "10.255.42.1"},
             "tunnels": [{"name": "a", "encap": "gre", "remote": "198.51.100.7"}]},
            {"name": "west", "vni": 43, "probe_source": {"ipv4": "10.255.43.1", "ipv6": "fd00:255::1"},
             "tunnels": [{"name": "b", "encap": "geneve", "remote": "2001:db8::7", "monitor": "tcp1",
                          "probe_address": "fd00::254", "probe_port": 22}]},
            {"name": "bare", "vni": 44},
        ],
        "monitors": [{"name": "tcp1", "interval": "1s", "timeout": "500ms", "retries": 1, "consecutive_down": 2}],
        "pools": [{"name": "web", "monitor": "tcp1", "endpoints": [
            {"name": "a", "virtual_network": "east", "address": "10.0.0.10", "port": 80, "weight": 0.5},
            {"name": "b", "virtual_network": "east", "address": "10.0.0.11", "enabled": false},
        ]}, {"name": "web6", "endpoints": [
            {"name": "a", "virtual_network": "west", "address": "fd00::1", "port": 80},
        ]}, {"name": "direct", "endpoints": [
            {"name": "a", "virtual_network": "west", "address": "fd00::2", "tunnels": ["b"]},
        ]}],
        "services": [
            {"name": "web", "address": "203.0.113.80", "listen": ["tcp/80", "udp/53"], "pools": ["web"]},
            {"name": "web6", "address": "2001:db8:80::1", "listen": ["tcp/80"], "pools": ["web6"]},
            {"name": "direct", "address": "2001:db8:80::2", "listen": ["tcp/80-89", "udp/any"], "pools": ["direct"],
             "forwarding": "dsr", "icmp_echo": false, "no_endpoint": "reject", "allow": ["2001:db8::/32", "fd00::/8"],
             "deny": ["2001:db8:bad::/48"], "rate_limit": {"new_flows_per_second": 1000}},
        ],
    }))
    .unwrap()
}

pub fn health() -> HealthReport {
    serde_json::from_value(
        json!({"pools": [{"pool": "web", "monitor": "tcp1", "state": "critical", "endpoints": [
            {"endpoint": "a", "virtual_network": "east", "address": "10.0.0.10:80", "state": "unhealthy",
             "reason": "connection refused", "since_secs": 3661, "round_trip_us": 1250},
            {"endpoint": "b", "virtual_network": "east", "address": "10.0.0.11", "state": "disabled"},
        ]}, {"pool": "web6", "state": "healthy", "endpoints": [
            {"endpoint": "a", "virtual_network": "west", "address": "[fd00::1]:80", "state": "healthy",
             "drain": {"secs_left": 290, "pinned_flows": 7}},
        ]}], "removed": [{"virtual_network": "west", "address": "[fd00::9]:80", "secs_left": 9, "pinned_flows": 2}], "tunnels": [
            {"virtual_network": "west", "tunnel": "b", "monitor": "tcp1", "address": "[fd00::254]:22",
             "state": "healthy", "since_secs": 61, "round_trip_us": 250},
        ]}),
    )
    .unwrap()
}

pub fn stats() -> StatsReport {
    let traffic =
        json!({"in_packets": 10, "in_bytes": 1000, "out_packets": 9, "out_bytes": 90_000, "tcp_syns": 2});
    let with = |extra: serde_json::Value| {
        let mut entry = traffic.clone();
        entry.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        entry
    };
    serde_json::from_value(json!({
        "services": [with(json!({"service": "web"}))],
        "endpoints": [with(json!({"pool": "web", "endpoint": "a", "virtual_network": "east"}))],
        "tunnels": [with(json!({"virtual_network": "east", "tunnel": "a"}))],
        "drops": [{"virtual_network": "east", "reason": "unknown_remote", "packets": 3},
                  {"reason": "no_listener", "packets": 7}],
        "flows": [{"event": "half_open", "count": 5}, {"event": "pinned", "count": 4}],
    }))
    .unwrap()
}

pub fn status() -> StatusReport {
    serde_json::from_value(json!({
        "version": "0.1.0", "abi_version": 1, "pid": 77, "uptime_secs": 61, "store": "embedded /var/lib/lbx",
        "revision": 8, "adopted": true, "map_writes": 12,
        "interfaces": [{"name": "eth0", "role": "both", "link": "up", "mode": "generic",
                        "warnings": ["the driver has no XDP"]},
                       {"name": "eth9", "role": "both", "link": "missing", "warnings": ["it does not exist"]}],
        "tunnels": [{"virtual_network": "east", "tunnel": "a", "encap": "gre", "remote": "198.51.100.7",
                     "inner_mtu": 1472, "next_hop": {"interface": "eth1", "mac": "02:00:00:00:00:01"}},
                    {"virtual_network": "west", "tunnel": "b", "encap": "geneve", "remote": "2001:db8::7",
                     "inner_mtu": 1344, "path_mtu": {"mtu": 1400, "expires_secs": 599}}],
        "maps": [{"map": "endpoints", "used": 2, "capacity": 16384}],
        "changes": [{"service": "web", "state": "open", "since_secs": 60, "closes_in_secs": 7740}],
    }))
    .unwrap()
}
