//! What is worth saying about each kind of object.

use std::net::SocketAddr;

use lbx_common::api::{
    Collection, Endpoint, GroupMonitor, HealthState, Location, Monitor, MonitorKind, Pool, PoolHealth,
    Service, Tunnel, TunnelStatus, VirtualNetwork,
};
use serde_json::Value;

use super::{
    super::{get, health, stats, status},
    Description, Facts, service,
};
use crate::{
    args::ObjectName,
    output::{Table, cell, duration, maybe, round_trip, span},
};

/// Describes `found`, which is the object of that name.
pub fn describe(object: &ObjectName, found: Value, facts: &Facts) -> Result<Description, serde_json::Error> {
    let parent = object.parent.as_deref().unwrap_or_default();
    Ok(match object.collection {
        Collection::VirtualNetworks => vnet(&serde_json::from_value(found)?, facts),
        Collection::Tunnels => tunnel(parent, &serde_json::from_value(found)?, facts),
        Collection::Monitors => monitor(&serde_json::from_value(found)?, facts),
        Collection::Pools => pool(&serde_json::from_value(found)?, facts),
        Collection::Endpoints => endpoint(parent, &serde_json::from_value(found)?, facts),
        Collection::Services => service::describe(&serde_json::from_value(found)?, facts),
    })
}

fn vnet(vnet: &VirtualNetwork, facts: &Facts) -> Description {
    let mut text = Description::default();
    text.line("Virtual network", &vnet.name);
    text.line("VNI", vnet.vni.to_string());
    let sources = get::probe_sources(vnet);
    text.line("Probe source", if sources.is_empty() { "none: no health checks".to_owned() } else { sources });
    let tunnels: Vec<_> = facts.status.tunnels.iter().filter(|t| t.virtual_network == vnet.name).collect();
    if vnet.tunnels.is_empty() {
        text.line("Tunnels", "none: its endpoints cannot be reached");
    }
    let endpoints = facts.health.pools.iter().flat_map(|pool| pool.endpoints.iter().map(move |e| (pool, e)));
    let endpoints = endpoints
        .filter(|(_, endpoint)| endpoint.virtual_network == vnet.name)
        .map(|(pool, endpoint)| (pool.pool.as_str(), endpoint));
    let drops: Vec<_> =
        facts.stats.drops.iter().filter(|d| d.virtual_network.as_ref() == Some(&vnet.name)).collect();
    let inside = self::endpoints(facts).filter(|(_, endpoint)| endpoint.virtual_network == vnet.name);
    text.used_by(
        inside.map(|(pool, endpoint)| format!("endpoint {}/{}", pool.name, endpoint.name)).collect(),
    );
    text.table("Tunnels", status::tunnel_table(tunnels.iter().copied()));
    text.table("Endpoints", health::endpoint_table(endpoints));
    text.table("Dropped packets", stats::drop_table(drops.iter().copied()));
    text.member("tunnels", tunnels);
    text.member("drops", drops);
    text
}

fn tunnel(vnet: &str, tunnel: &Tunnel, facts: &Facts) -> Description {
    let mut text = Description::default();
    text.line("Tunnel", format!("{vnet}/{}", tunnel.name));
    text.line("Encapsulation", tunnel.encap.as_str());
    text.line("Carries", tunnel.inner().as_str());
    text.line("Remote", tunnel.remote.to_string());
    if let Some(port) = tunnel.port.or(tunnel.encap.default_port()) {
        text.line("UDP port", port.to_string());
    }
    if let Some(mac) = &tunnel.inner_mac {
        text.line("Inner MAC", mac);
    }
    text.line("Enabled", tunnel.enabled.to_string());
    text.line("Monitor", tunnel.monitor.as_deref().unwrap_or("none: the tunnel counts as healthy"));
    let health = facts
        .health
        .tunnels
        .iter()
        .find(|state| state.virtual_network == vnet && state.tunnel == tunnel.name);
    if let Some(health) = health {
        text.line("Checked at", &health.address);
        text.line("Health", verdict(health.state, health.since_secs, &health.reason));
        if let Some(micros) = health.round_trip_us {
            text.line("Round trip", round_trip(micros));
        }
        text.member("health", health);
    }
    text.line("Outer MTU", tunnel.mtu.map_or_else(|| "that of the route".to_owned(), |mtu| mtu.to_string()));
    if let Some(state) = tunnel_status(vnet, &tunnel.name, facts) {
        if let Some(path) = state.path_mtu {
            let left = span(path.expires_secs);
            text.line("Path MTU", format!("{}, as a router said; forgotten in {left}", path.mtu));
        }
        text.line("Inner MTU", state.inner_mtu.to_string());
        text.line("Next hop", status::next_hop(state));
        text.member("status", state);
    }
    let counters =
        facts.stats.tunnels.iter().find(|stats| stats.virtual_network == vnet && stats.tunnel == tunnel.name);
    text.table("Traffic", stats::tunnel_table(counters));
    text.member("stats", counters);
    let named = endpoints(facts)
        .filter(|(_, endpoint)| endpoint.virtual_network == vnet && leads_to(&tunnel.name, endpoint));
    text.used_by(named.map(|(pool, endpoint)| format!("endpoint {}/{}", pool.name, endpoint.name)).collect());
    text
}

/// Whether a tunnel of the endpoint's network leads to it.
fn leads_to(tunnel: &str, endpoint: &Endpoint) -> bool {
    endpoint.tunnels.is_empty() || endpoint.tunnels.iter().any(|name| name == tunnel)
}

/// All endpoints, each with its pool.
fn endpoints(facts: &Facts) -> impl Iterator<Item = (&Pool, &Endpoint)> {
    facts.config.pools.iter().flat_map(|pool| pool.endpoints.iter().map(move |endpoint| (pool, endpoint)))
}

fn tunnel_status<'a>(vnet: &str, tunnel: &str, facts: &'a Facts) -> Option<&'a TunnelStatus> {
    facts.status.tunnels.iter().find(|state| state.virtual_network == vnet && state.tunnel == tunnel)
}

fn monitor(monitor: &Monitor, facts: &Facts) -> Description {
    let mut text = Description::default();
    let detection = duration(monitor.worst_case_detection());
    text.line("Monitor", &monitor.name);
    text.line("Type", monitor.kind.as_str());
    text.line("Interval", duration(monitor.interval));
    text.line("Timeout", duration(monitor.timeout));
    text.line("Retries", monitor.retries.to_string());
    text.line("Consecutive up", monitor.consecutive_up.to_string());
    text.line("Consecutive down", monitor.consecutive_down.to_string());
    for (label, value) in asked(monitor) {
        text.line(label, value);
    }
    text.line("Worst-case detection", &detection);
    text.member("worst_case_detection", detection);
    let pools = facts.config.pools.iter().filter(|pool| pool.monitors().any(|name| name == monitor.name));
    let networks = facts.config.virtual_networks.iter();
    let tunnels = networks.flat_map(|network| network.tunnels.iter().map(move |tunnel| (network, tunnel)));
    let tunnels = tunnels.filter(|(_, tunnel)| tunnel.monitor.as_ref() == Some(&monitor.name));
    let tunnels = tunnels.map(|(network, tunnel)| format!("tunnel {}/{}", network.name, tunnel.name));
    text.used_by(pools.map(|pool| format!("pool {}", pool.name)).chain(tunnels).collect());
    text
}

/// What a probe asks, and what must be answered.
fn asked(monitor: &Monitor) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if monitor.kind.has_port() {
        lines.push((
            "Port",
            monitor.port.map_or_else(|| "the endpoint's".to_owned(), |port| port.to_string()),
        ));
    }
    if matches!(monitor.kind, MonitorKind::Http | MonitorKind::Https) {
        let method = monitor.method.unwrap_or_default().as_str();
        lines.push(("Request", format!("{method} {}", monitor.path.as_deref().unwrap_or("/"))));
        let header =
            monitor.header.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        lines.extend(header.map(|(name, value)| ("Header", format!("{name}: {value}"))));
        lines.push(("Expected codes", monitor.expected_codes.clone().unwrap_or_default().to_string()));
        lines.extend(monitor.expected_body.clone().map(|body| ("Expected body", body)));
        lines.push(("Follow redirects", monitor.follow_redirects.to_string()));
    }
    if monitor.kind == MonitorKind::Https {
        let certificate = if monitor.allow_insecure { "any" } else { "one that this host trusts" };
        lines.push(("Certificate", certificate.to_owned()));
    }
    if monitor.kind.is_udp() {
        lines.push((
            "Payload",
            monitor.payload.as_ref().map_or_else(|| "empty".to_owned(), ToString::to_string),
        ));
    }
    if monitor.kind == MonitorKind::Udp {
        lines.push((
            "Expected",
            monitor.expect.as_ref().map_or_else(|| "any answer".to_owned(), ToString::to_string),
        ));
    }
    lines
}

fn pool(pool: &Pool, facts: &Facts) -> Description {
    let mut text = Description::default();
    text.line("Pool", &pool.name);
    text.line("Monitor", monitors(pool));
    text.line("Minimum endpoints", pool.minimum_endpoints.to_string());
    text.line("Endpoint steering", pool.endpoint_steering.as_str());
    if let Some(micros) = pool_health(&pool.name, facts).and_then(|state| state.latency_us) {
        text.line("Latency", format!("{}, mean of its probes", round_trip(micros)));
    }
    if pool.panic_threshold > 0 {
        text.line("Panic threshold", format!("{}% unhealthy; above, all take flows", pool.panic_threshold));
    }
    if pool.load_shedding > 0 {
        text.line("Load shedding", format!("{}% of new flows go to the next pool", pool.load_shedding));
    }
    if let Some(Location { latitude, longitude }) = pool.location {
        text.line("Location", format!("latitude {latitude}, longitude {longitude}"));
    }
    text.line(
        "Table size",
        pool.table_size.map_or_else(|| "by the number of endpoints".to_owned(), |size| size.to_string()),
    );
    let state = pool_health(&pool.name, facts);
    if let Some(state) = state {
        text.line("State", pool_state(state));
        text.member("health", state);
    }
    let uses = |service: &&Service| get::pools_of(service).contains(&&pool.name);
    let services = facts.config.services.iter().filter(uses);
    text.used_by(services.map(|service| format!("service {}", service.name)).collect());

    let health_of = |name: &str| state?.endpoints.iter().find(|endpoint| endpoint.endpoint == name);
    let takes_flows = |endpoint: &Endpoint| {
        !endpoint.drained
            && health_of(&endpoint.name).is_some_and(|health| health.state == HealthState::Healthy)
    };
    let weight = |endpoint: &Endpoint| {
        let percent = health_of(&endpoint.name).and_then(|health| health.share_percent).unwrap_or(100);
        if takes_flows(endpoint) { endpoint.weight * f64::from(percent) } else { 0.0 }
    };
    let total: f64 = pool.endpoints.iter().map(weight).sum();
    let mut endpoints = Table::new(["ENDPOINT", "VNET", "ADDRESS", "WEIGHT", "NEW FLOWS", "STATE", "REASON"]);
    let mut live = Table::new(["ENDPOINT", "LIVE FLOWS"]);
    for endpoint in &pool.endpoints {
        let share = if total > 0.0 { weight(endpoint) / total } else { 0.0 };
        let health = health_of(&endpoint.name);
        endpoints.row([
            format!("{}/{}", pool.name, endpoint.name),
            cell(&endpoint.virtual_network),
            address(endpoint),
            cell(endpoint.weight),
            format!("{:.0}%", share * 100.0),
            maybe(health.map(|health| health.state.as_str())),
            cell(health.map(|health| health.reason.as_str()).unwrap_or_default()),
        ]);
        if let Some(flows) = health.and_then(|health| health.live_flows) {
            live.row([cell(&endpoint.name), cell(flows)]);
        }
    }
    text.table("Endpoints", endpoints);
    text.table("Connections", live);
    let counters = facts.stats.endpoints.iter().filter(|stats| stats.pool == pool.name);
    text.table("Traffic", stats::endpoint_table(counters.clone()));
    text.member("stats", counters.collect::<Vec<_>>());
    text
}

/// What checks the endpoints of a pool.
fn monitors(pool: &Pool) -> String {
    let voice = |one: &GroupMonitor| match one {
        GroupMonitor { monitoring_only: true, .. } => " (monitoring only)",
        GroupMonitor { must_be_healthy: true, .. } => " (must be healthy)",
        GroupMonitor { .. } => "",
    };
    match (&pool.monitor, pool.monitor_group.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, []) => "none: enabled endpoints count as healthy".to_owned(),
        (None, group) => {
            let each: Vec<_> = group.iter().map(|one| format!("{}{}", one.monitor, voice(one))).collect();
            each.join(", ")
        }
    }
}

fn endpoint(pool: &str, endpoint: &Endpoint, facts: &Facts) -> Description {
    let mut text = Description::default();
    text.line("Endpoint", format!("{pool}/{}", endpoint.name));
    text.line("Virtual network", &endpoint.virtual_network);
    text.line("Address", endpoint.address.to_string());
    text.line(
        "Port",
        endpoint.port.map_or_else(|| "the client's destination port".to_owned(), |port| port.to_string()),
    );
    text.line("Weight", endpoint.weight.to_string());
    text.line("Enabled", endpoint.enabled.to_string());
    text.line("Drained", endpoint.drained.to_string());
    text.line("Tunnels", get::endpoint_tunnels(endpoint));
    let health = pool_health(pool, facts)
        .and_then(|state| state.endpoints.iter().find(|health| health.endpoint == endpoint.name));
    if let Some(health) = health {
        text.line("Health", verdict(health.state, health.since_secs, &health.reason));
        if let Some(micros) = health.round_trip_us {
            text.line("Round trip", round_trip(micros));
        }
        if let Some(drain) = health.drain {
            let left = health::drain_left(drain);
            text.line("Drain", format!("{left}; {} flows are pinned (`lbx-ctl flows`)", drain.pinned_flows));
        }
        let mut monitors = Table::new(["MONITOR", "COUNTS", "STATE", "RTT", "REASON"]);
        for one in &health.monitors {
            let counts = match (one.must_be_healthy, one.monitoring_only) {
                (true, _) => "alone",
                (_, true) => "no",
                _ => "yes",
            };
            monitors.row([
                cell(&one.monitor),
                cell(counts),
                cell(one.state.as_str()),
                maybe(one.round_trip_us.map(round_trip)),
                cell(&one.reason),
            ]);
        }
        text.table("Monitors", monitors);
        text.member("health", health);
    }
    let counters =
        facts.stats.endpoints.iter().find(|stats| stats.pool == pool && stats.endpoint == endpoint.name);
    let tunnels = facts.status.tunnels.iter().filter(|t| t.virtual_network == endpoint.virtual_network);
    let tunnels: Vec<_> = tunnels.filter(|t| leads_to(&t.tunnel, endpoint)).collect();
    text.table("Reached through", status::tunnel_table(tunnels.iter().copied()));
    text.table("Traffic", stats::endpoint_table(counters));
    text.member("tunnels", tunnels);
    text.member("stats", counters);
    text
}

pub(super) fn pool_health<'a>(pool: &str, facts: &'a Facts) -> Option<&'a PoolHealth> {
    facts.health.pools.iter().find(|state| state.pool == pool)
}

fn pool_state(state: &PoolHealth) -> String {
    format!("{}, {} healthy", state.state.as_str(), health::healthy_of_enabled(state))
}

fn verdict(state: HealthState, since_secs: Option<u64>, reason: &str) -> String {
    let mut text = state.as_str().to_owned();
    if let Some(secs) = since_secs {
        text.push_str(" for ");
        text.push_str(&span(secs));
    }
    if !reason.is_empty() {
        text.push_str(": ");
        text.push_str(reason);
    }
    text
}

fn address(endpoint: &Endpoint) -> String {
    match endpoint.port {
        Some(port) => SocketAddr::new(endpoint.address, port).to_string(),
        None => endpoint.address.to_string(),
    }
}
