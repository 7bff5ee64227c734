//! Rules for `services`.

use std::collections::HashMap;

use lbx_common::api::{
    Config, ConnectionTracking, Endpoint, EndpointSteering, Family, Forwarding, NoEndpoint, OnEndpointDown,
    Pool, Service,
};

use crate::config::{model, sources_of};

use super::{
    Report,
    listen::{self, Listeners},
    policy::{self, Echo},
    region::Orders,
    steering, unicast,
};

pub(super) fn check(config: &Config, report: &mut Report) -> Vec<model::Service> {
    let services = &config.services;
    report.names("services", "service", services.iter().map(|service| service.name.as_str()));
    let orders = Orders::new(config);
    let first_members = first_members(config);
    let (mut listeners, mut echo) = (Listeners::default(), Echo::default());
    let mut resolved = Vec::with_capacity(services.len());
    for (index, service) in services.iter().enumerate() {
        let path = format!("services[{index}]");
        address(config, service, &path, report);
        listeners.check(service, &path, report);
        echo.check(service, &path, report);
        policy::prefixes(service, &path, report);
        let Some(steering) = steering::check(service, &path, &orders, report) else { continue };
        for (field, pool) in fields(service) {
            let Some(pool) = orders.pools().find("pool", pool).ok().and_then(|pool| config.pools.get(pool))
            else {
                continue;
            };
            family(service, pool, &format!("{path}.{field}"), &first_members, report);
            listen::room(service, pool, &path, report);
        }
        let source_bits =
            affinity(service, &path, report).or_else(|| by_source(service, &steering, config, &path, report));
        let tracking = tracking(service, &steering, config, &path, report);
        latency(service, &steering, config, &path, report);
        resolved.push(model::Service {
            name: service.name.clone(),
            address: service.address,
            listen: service.listen.clone(),
            mixed_slots: steering::mixed_slots(
                steering.listed().into_iter().filter_map(|pool| config.pools.get(pool)),
            ),
            steering,
            forwarding: service.forwarding,
            icmp_echo: service.icmp_echo,
            reject: service.no_endpoint == NoEndpoint::Reject,
            sources: sources_of(service.address, &service.allow, &service.deny),
            rate_limit: service.rate_limit,
            drain: service.drain,
            keep: service.on_endpoint_down == OnEndpointDown::Keep,
            tracking,
            source_bits,
            affinity: service.session_affinity.and_then(|affinity| affinity.ttl),
        });
    }
    resolved
}

/// How many bits of a source keep its flows together because its pools say so.
fn by_source(
    service: &Service,
    steering: &model::Steering,
    config: &Config,
    path: &str,
    report: &mut Report,
) -> Option<u8> {
    let mut pools = steering.all().filter_map(|pool| config.pools.get(pool));
    let first = pools.next()?;
    // A flow has one hash, whichever pool it goes to.
    if let Some(other) = pools.find(|pool| pool.endpoint_steering != first.endpoint_steering) {
        let message = format!(
            "pool `{}` has `endpoint_steering: {}`, and pool `{}` has `{}`: give all pools of a service the same",
            first.name,
            first.endpoint_steering.as_str(),
            other.name,
            other.endpoint_steering.as_str(),
        );
        report.note(format!("{path}.pools"), message);
    }
    let whole = if service.address.is_ipv4() { 32 } else { 128 };
    (first.endpoint_steering == EndpointSteering::Hash).then_some(whole)
}

/// Which flows are remembered: where live ones are counted, all.
fn tracking(
    service: &Service,
    steering: &model::Steering,
    config: &Config,
    path: &str,
    report: &mut Report,
) -> ConnectionTracking {
    let mut pools = steering.all().filter_map(|pool| config.pools.get(pool));
    let Some(pool) = pools.find(|pool| pool.endpoint_steering == EndpointSteering::LeastConnections) else {
        return service.connection_tracking;
    };
    let counts =
        format!("pool `{}` has `endpoint_steering: least_connections`, which counts live flows", pool.name);
    if service.connection_tracking == ConnectionTracking::Off {
        let message = format!("{counts}: all must be remembered; set `always`, or leave this out");
        report.note(format!("{path}.connection_tracking"), message);
    }
    if service.forwarding == Forwarding::Dsr {
        let message =
            format!("{counts}: with dsr nobody sees how they end; forward by nat, or give the pool `random`");
        report.note(format!("{path}.forwarding"), message);
    }
    ConnectionTracking::Always
}

/// Pools are as near as their probes say.
fn latency(service: &Service, steering: &model::Steering, config: &Config, path: &str, report: &mut Report) {
    if !steering.by_latency {
        return;
    }
    for (index, &pool) in steering.pools.iter().enumerate() {
        let Some(pool) = config.pools.get(pool).filter(|pool| pool.monitors().next().is_none()) else {
            continue;
        };
        let message = format!(
            "pool `{}` has no monitor, and by `steering_policy: dynamic_latency` service `{}` goes by the round trips \
             of probes: give the pool one",
            pool.name, service.name,
        );
        report.note(format!("{path}.pools[{index}]"), message);
    }
}

/// How many bits of a source keep its flows together, where something does.
fn affinity(service: &Service, path: &str, report: &mut Report) -> Option<u8> {
    let affinity = service.session_affinity?;
    for (field, found, most) in
        [("prefix_ipv4", affinity.prefix_ipv4, 32), ("prefix_ipv6", affinity.prefix_ipv6, 128)]
    {
        if !(1..=most).contains(&found) {
            let message =
                format!("found {found}, expected 1 to {most}: the leading bits of a source that count");
            report.note(format!("{path}.session_affinity.{field}"), message);
        }
    }
    if affinity.ttl.is_some() && service.connection_tracking == ConnectionTracking::Off {
        let message = "flows must be remembered for that: set `connection_tracking` to auto or always, or take `ttl` away";
        report.note(format!("{path}.session_affinity.ttl"), message);
    }
    Some(match Family::of(service.address) {
        Family::Ipv4 => affinity.prefix_ipv4,
        Family::Ipv6 => affinity.prefix_ipv6,
    })
}

fn address(config: &Config, service: &Service, path: &str, report: &mut Report) {
    let here = || format!("{path}.address");
    let address = service.address;
    report.take(here, unicast(address));
    if config.node.tunnel_source.contains(address) {
        let message = format!("{address} is node.tunnel_source: clients need an address of their own");
        report.note(here(), message);
    }
}

/// The first endpoint of each family in each pool.
fn first_members(config: &Config) -> HashMap<(&str, Family), &Endpoint> {
    let mut first = HashMap::new();
    for pool in &config.pools {
        for endpoint in &pool.endpoints {
            first.entry((pool.name.as_str(), Family::of(endpoint.address))).or_insert(endpoint);
        }
    }
    first
}

/// The pools that a service may send to, with the field that names each.
fn fields(service: &Service) -> impl Iterator<Item = (String, &str)> {
    let listed =
        service.pools.iter().enumerate().map(|(index, name)| (format!("pools[{index}]"), name.as_str()));
    // One that is in the list as well has been looked at.
    let fallback = service.fallback_pool.as_ref().filter(|name| !service.pools.contains(name));
    let of_regions = service.region_pools.iter().flat_map(|(region, pools)| {
        let each = pools.iter().enumerate();
        each.map(move |(index, name)| (format!("region_pools.{region}[{index}]"), name.as_str()))
    });
    let of_regions = of_regions.filter(|(_, name)| !service.pools.iter().any(|pool| pool == name));
    listed.chain(fallback.map(|name| ("fallback_pool".to_owned(), name.as_str()))).chain(of_regions)
}

/// Packets are not translated from one family to the other.
fn family(
    service: &Service,
    pool: &Pool,
    here: &str,
    first_members: &HashMap<(&str, Family), &Endpoint>,
    report: &mut Report,
) {
    let own = Family::of(service.address);
    let others = Family::ALL.into_iter().filter(|&family| family != own);
    for other in others {
        let Some(endpoint) = first_members.get(&(pool.name.as_str(), other)) else { continue };
        let message = format!(
            "{}, the address of service `{}`, is {own}, but endpoint `{}` of pool `{}` has {other}, {}: name a pool \
             with {own} endpoints only",
            service.address, service.name, endpoint.name, pool.name, endpoint.address,
        );
        report.note(here, message);
    }
}
