//! What is worth saying about each kind of object.

use lbx_common::api::{
    Collection, Endpoint, EndpointHealth, HealthState, Monitor, Pool, PoolHealth, Service, Tunnel,
    TunnelStatus, VirtualNetwork,
};
use serde_json::Value;

use super::{
    super::{get, health, stats, status},
    Description, Facts,
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
        Collection::Services => service(&serde_json::from_value(found)?, facts),
    })
}

fn vnet(vnet: &VirtualNetwork, facts: &Facts) -> Description {
    let mut text = Description::default();
    text.line("Virtual network", &vnet.name);
    text.line("VNI", vnet.vni.to_string());
    text.line(
        "Probe source",
        vnet.probe_source
            .ipv4
            .map_or_else(|| "none: no health checks".to_owned(), |source| source.to_string()),
    );
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
    text.used_by(
        facts
            .config
            .pools
            .iter()
            .flat_map(|pool| pool.endpoints.iter().map(move |endpoint| (pool, endpoint)))
            .filter(|(_, endpoint)| endpoint.virtual_network == vnet.name)
            .map(|(pool, endpoint)| format!("endpoint {}/{}", pool.name, endpoint.name))
            .collect(),
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
    text.line("Remote", tunnel.remote.to_string());
    if let Some(port) = tunnel.port {
        text.line("UDP port", port.to_string());
    }
    if let Some(mac) = &tunnel.inner_mac {
        text.line("Inner MAC", mac);
    }
    text.line("Outer MTU", tunnel.mtu.map_or_else(|| "that of the route".to_owned(), |mtu| mtu.to_string()));
    if let Some(state) = tunnel_status(vnet, &tunnel.name, facts) {
        text.line("Inner MTU", state.inner_mtu.to_string());
        text.line("Next hop", status::next_hop(state));
        text.member("status", state);
    }
    text
}

fn tunnel_status<'a>(vnet: &str, tunnel: &str, facts: &'a Facts) -> Option<&'a TunnelStatus> {
    facts.status.tunnels.iter().find(|state| state.virtual_network == vnet && state.tunnel == tunnel)
}

fn monitor(monitor: &Monitor, facts: &Facts) -> Description {
    let mut text = Description::default();
    let detection = duration(monitor.worst_case_detection());
    text.line("Monitor", &monitor.name);
    text.line("Type", get::monitor_type(monitor));
    text.line("Interval", duration(monitor.interval));
    text.line("Timeout", duration(monitor.timeout));
    text.line("Retries", monitor.retries.to_string());
    text.line("Consecutive up", monitor.consecutive_up.to_string());
    text.line("Consecutive down", monitor.consecutive_down.to_string());
    text.line("Worst-case detection", &detection);
    text.member("worst_case_detection", detection);
    let pools = facts.config.pools.iter().filter(|pool| pool.monitor.as_ref() == Some(&monitor.name));
    text.used_by(pools.map(|pool| format!("pool {}", pool.name)).collect());
    text
}

fn pool(pool: &Pool, facts: &Facts) -> Description {
    let mut text = Description::default();
    text.line("Pool", &pool.name);
    text.line("Monitor", pool.monitor.as_deref().unwrap_or("none: enabled endpoints count as healthy"));
    text.line(
        "Table size",
        pool.table_size.map_or_else(|| "by the number of endpoints".to_owned(), |size| size.to_string()),
    );
    let state = pool_health(&pool.name, facts);
    if let Some(state) = state {
        text.line("State", pool_state(state));
        text.member("health", state);
    }
    let services = facts.config.services.iter().filter(|service| service.pools.contains(&pool.name));
    text.used_by(services.map(|service| format!("service {}", service.name)).collect());

    let health_of = |name: &str| state?.endpoints.iter().find(|endpoint| endpoint.endpoint == name);
    let takes_flows = |endpoint: &Endpoint| {
        health_of(&endpoint.name).is_some_and(|health| health.state == HealthState::Healthy)
    };
    let total: f64 = pool.endpoints.iter().filter(|e| takes_flows(e)).map(|e| e.weight).sum();
    let mut endpoints = Table::new(["ENDPOINT", "VNET", "ADDRESS", "WEIGHT", "NEW FLOWS", "STATE", "REASON"]);
    for endpoint in &pool.endpoints {
        let share = if takes_flows(endpoint) && total > 0.0 { endpoint.weight / total } else { 0.0 };
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
    }
    text.table("Endpoints", endpoints);
    let counters = facts.stats.endpoints.iter().filter(|stats| stats.pool == pool.name);
    text.table("Traffic", stats::endpoint_table(counters.clone()));
    text.member("stats", counters.collect::<Vec<_>>());
    text
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
    let health = pool_health(pool, facts)
        .and_then(|state| state.endpoints.iter().find(|health| health.endpoint == endpoint.name));
    if let Some(health) = health {
        text.line("Health", verdict(health));
        if let Some(micros) = health.round_trip_us {
            text.line("Round trip", round_trip(micros));
        }
        text.member("health", health);
    }
    let counters =
        facts.stats.endpoints.iter().find(|stats| stats.pool == pool && stats.endpoint == endpoint.name);
    let tunnels: Vec<_> =
        facts.status.tunnels.iter().filter(|t| t.virtual_network == endpoint.virtual_network).collect();
    text.table("Reached through", status::tunnel_table(tunnels.iter().copied()));
    text.table("Traffic", stats::endpoint_table(counters));
    text.member("tunnels", tunnels);
    text.member("stats", counters);
    text
}

fn service(service: &Service, facts: &Facts) -> Description {
    let mut text = Description::default();
    text.line("Service", &service.name);
    text.line("Address", service.address.to_string());
    text.line("Listens on", get::listen(service));
    text.line("Forwarding", get::forwarding(service));
    let mut pools = Table::new(["POOL", "STATE", "HEALTHY"]);
    let mut states = Vec::new();
    for name in &service.pools {
        let state = pool_health(name, facts);
        pools.row([
            cell(name),
            maybe(state.map(|state| state.state.as_str())),
            maybe(state.map(health::healthy_of_enabled)),
        ]);
        states.extend(state);
    }
    text.table("Pools", pools);
    let counters = facts.stats.services.iter().find(|stats| stats.service == service.name);
    text.table("Traffic", stats::service_table(counters));
    text.member("health", states);
    text.member("stats", counters);
    text
}

fn pool_health<'a>(pool: &str, facts: &'a Facts) -> Option<&'a PoolHealth> {
    facts.health.pools.iter().find(|state| state.pool == pool)
}

fn pool_state(state: &PoolHealth) -> String {
    format!("{}, {} healthy", state.state.as_str(), health::healthy_of_enabled(state))
}

fn verdict(health: &EndpointHealth) -> String {
    let mut text = health.state.as_str().to_owned();
    if let Some(secs) = health.since_secs {
        text.push_str(" for ");
        text.push_str(&span(secs));
    }
    if !health.reason.is_empty() {
        text.push_str(": ");
        text.push_str(&health.reason);
    }
    text
}

fn address(endpoint: &Endpoint) -> String {
    match endpoint.port {
        Some(port) => format!("{}:{port}", endpoint.address),
        None => endpoint.address.to_string(),
    }
}
