//! What is worth saying about a service.

use lbx_common::api::{Prefix, RateLimit, Service, SessionAffinity, SteeringPolicy, TableChange};

use super::{
    super::{get, health, stats},
    Description, Facts,
    kinds::pool_health,
};
use crate::output::{Table, cell, duration, maybe, round_trip, span};

/// How many prefixes of a list are shown.
const MAX_PREFIXES: usize = 10;

pub(super) fn describe(service: &Service, facts: &Facts) -> Description {
    let mut text = Description::default();
    text.line("Service", &service.name);
    text.line("Address", service.address.to_string());
    text.line("Listens on", get::listen(service));
    text.line("Forwarding", service.forwarding.as_str());
    text.line("Answers pings", service.icmp_echo.to_string());
    text.line("Without endpoint", service.no_endpoint.as_str());
    text.line("Allows", prefixes(&service.allow, "all clients"));
    text.line("Denies", prefixes(&service.deny, "no client"));
    let RateLimit { new_flows_per_second, per_source } = service.rate_limit;
    text.line("New flows", rate(new_flows_per_second));
    text.line("Of one source", rate(per_source));
    text.line("Affinity", affinity(service));
    text.line("Drain", duration(service.drain));
    text.line("On endpoint down", service.on_endpoint_down.as_str());
    text.line("Tracking", service.connection_tracking.as_str());
    let change = facts.status.changes.iter().find(|change| change.service == service.name);
    text.line("Table change", change.map_or_else(|| "none under way".to_owned(), table_change));
    text.member("table_change", change);
    text.line("Steering", steering(service));
    if service.steering_policy == SteeringPolicy::DynamicLatency {
        let each = |name: &String| {
            let micros = pool_health(name, facts).and_then(|state| state.latency_us);
            format!("{name} {}", maybe(micros.map(round_trip)))
        };
        text.line("Latencies", service.pools.iter().map(each).collect::<Vec<_>>().join(", "));
    }
    let serving = facts.health.services.iter().find(|health| health.service == service.name);
    let serves = |name: &String| serving.is_some_and(|health| health.is_served_by(name));
    let mut pools = Table::new(["POOL", "STATE", "HEALTHY", "NEW FLOWS"]);
    let mut states = Vec::new();
    for name in get::pools_of(service) {
        let state = pool_health(name, facts);
        pools.row([
            cell(name),
            maybe(state.map(|state| state.state.as_str())),
            maybe(state.map(health::healthy_of_enabled)),
            cell(if serves(name) { "yes" } else { "no" }),
        ]);
        states.extend(state);
    }
    text.member("serving", serving);
    text.table("Pools", pools);
    text.table(
        "Regions",
        serving.map(|one| health::region_table(std::slice::from_ref(one))).unwrap_or_default(),
    );
    let counters = facts.stats.services.iter().find(|stats| stats.service == service.name);
    text.table("Traffic", stats::service_table(counters));
    text.member("health", states);
    text.member("stats", counters);
    text
}

/// How pools share the flows.
fn steering(service: &Service) -> String {
    let policy = match (service.steering_policy, &service.random_steering) {
        (SteeringPolicy::Failover, _) => "failover: the first pool that is up".to_owned(),
        (SteeringPolicy::Geo, _) => {
            "geo: the first pool that is up, in the order of the client's region".to_owned()
        }
        (SteeringPolicy::Proximity, _) => {
            "proximity: the pool that is up and nearest to the client's region".to_owned()
        }
        (SteeringPolicy::DynamicLatency, _) => {
            "dynamic_latency: the pool that is up whose endpoints answer probes soonest".to_owned()
        }
        (SteeringPolicy::Random, None) => "random: all pools that are up, alike".to_owned(),
        (SteeringPolicy::Random, Some(random)) => {
            let weight =
                |name: &String| random.pool_weights.get(name).copied().unwrap_or(random.default_weight);
            let each: Vec<_> = service.pools.iter().map(|name| format!("{name} {}", weight(name))).collect();
            format!("random: all pools that are up, by weight: {}", each.join(", "))
        }
    };
    let fallback = service.fallback_pool.as_ref();
    policy + &fallback.map_or_else(String::new, |name| format!("; else {name}, whatever its health"))
}

/// What keeps flows of one client together.
fn affinity(service: &Service) -> String {
    let by_source = |affinity: SessionAffinity| {
        let length = if service.address.is_ipv4() { affinity.prefix_ipv4 } else { affinity.prefix_ipv6 };
        let ttl = affinity.ttl.map_or_else(String::new, |ttl| {
            format!(", also through changes of the pool, for {} after the last one", duration(ttl))
        });
        format!("flows whose sources agree in {length} bits stay together{ttl}")
    };
    service.session_affinity.map_or_else(|| "none: each flow goes its own way".to_owned(), by_source)
}

/// How far a change of a service's table is.
fn table_change(change: &TableChange) -> String {
    let since = span(change.since_secs);
    match change.closes_in_secs {
        Some(secs) => format!("open since {since}: flows from before stay; closes in {}", span(secs)),
        None => {
            format!("closing, {since} after the change: until no pin is left that says other than the table")
        }
    }
}

/// The first prefixes; there may be thousands.
fn prefixes(prefixes: &[Prefix], none: &str) -> String {
    if prefixes.is_empty() {
        return none.to_owned();
    }
    let shown: Vec<String> = prefixes.iter().take(MAX_PREFIXES).map(ToString::to_string).collect();
    let more = prefixes.len().saturating_sub(MAX_PREFIXES);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

/// A limit of new flows.
fn rate(per_second: u32) -> String {
    if per_second == 0 { "any number".to_owned() } else { format!("{per_second} a second") }
}
