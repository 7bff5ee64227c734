//! The rule that a reply must name its listener: replies carry only the virtual network, the endpoint's
//! address, the protocol and one of the endpoint's ports, so no two listeners may share all of these. Where
//! replies do not come back through lbx (dsr), there is no such rule.

use std::collections::{BTreeMap, HashMap, HashSet};

use lbx_common::api::{Config, Endpoint, Forwarding, Pool};

use super::{
    Report,
    limits::{max_reply_entries, reply_entries},
    listen::{collide, endpoint_ports},
    steering,
};

/// A listener and an endpoint that it sends to, by their places.
#[derive(Clone, Copy)]
struct Pair<'a> {
    service: usize,
    listener: usize,
    pool: &'a Pool,
    endpoint: &'a Endpoint,
}

pub(super) fn check(config: &Config, report: &mut Report) {
    // More entries are refused anyway, and might be too many to go through.
    if reply_entries(config) > max_reply_entries(config) {
        return;
    }
    let pools: HashMap<&str, &Pool> = config.pools.iter().map(|pool| (pool.name.as_str(), pool)).collect();
    // By what replies carry beside the port: ports by the first of each range, none of them in two.
    let mut taken: HashMap<_, BTreeMap<u16, (u16, Pair<'_>)>> = HashMap::new();
    let mut reported = HashSet::new();
    let nat = config.services.iter().enumerate().filter(|(_, service)| service.forwarding == Forwarding::Nat);
    for (service_index, service) in nat {
        let of_service = || steering::all_pools(service).filter_map(|name| pools.get(name.as_str()));
        for (listener_index, listener) in service.listen.iter().enumerate() {
            let endpoints = of_service().flat_map(|pool| pool.endpoints.iter().map(move |one| (pool, one)));
            for (pool, endpoint) in endpoints {
                let pair = Pair { service: service_index, listener: listener_index, pool, endpoint };
                let Some((first_port, last_port)) = endpoint_ports(*listener, endpoint.port) else {
                    continue;
                };
                let key = (endpoint.virtual_network.as_str(), endpoint.address, listener.protocol);
                let taken = taken.entry(key).or_default();
                // Only the last that begins early enough can have a port of this one.
                let nearest = taken.range(..=last_port).next_back();
                let Some((&start, &(end, first))) = nearest.filter(|(_, (end, _))| *end >= first_port) else {
                    taken.insert(first_port, (last_port, pair));
                    continue;
                };
                // The same listeners share most endpoints or none: one mistake says it.
                let listeners = (first.service, first.listener, service_index, listener_index);
                if !is_reported_elsewhere(config, &first, &pair) && reported.insert(listeners) {
                    let shared = (start.max(first_port), end.min(last_port));
                    let message = describe(config, &first, &pair, shared);
                    report.note(format!("services[{service_index}].listen[{listener_index}]"), message);
                }
            }
        }
    }
}

/// Listeners that collide and equal endpoints of a pool have mistakes of their own.
fn is_reported_elsewhere(config: &Config, first: &Pair<'_>, second: &Pair<'_>) -> bool {
    let listener = |pair: &Pair<'_>| {
        let service = config.services.get(pair.service)?;
        Some((service.address, *service.listen.get(pair.listener)?))
    };
    if (first.service, first.listener) == (second.service, second.listener) {
        return first.endpoint.port == second.endpoint.port && first.pool.name == second.pool.name;
    }
    let (Some((address, one)), Some((other_address, other))) = (listener(first), listener(second)) else {
        return false;
    };
    address == other_address && collide(one, other)
}

fn describe(config: &Config, first: &Pair<'_>, second: &Pair<'_>, shared: (u16, u16)) -> String {
    let listener = |pair: &Pair<'_>| {
        let service = config.services.get(pair.service);
        let listen = service.and_then(|service| service.listen.get(pair.listener));
        service.zip(listen).map(|(service, listen)| format!("{listen} of service `{}`", service.name))
    };
    let endpoint =
        |pair: &Pair<'_>| format!("endpoint `{}` of pool `{}`", pair.endpoint.name, pair.pool.name);
    let (Some(one), Some(other)) = (listener(first), listener(second)) else { return String::new() };
    let (address, network) = (second.endpoint.address, &second.endpoint.virtual_network);
    let ports = match shared {
        (only, last) if only == last => format!("port {only}"),
        (first, last) => format!("ports {first}-{last}"),
    };
    if one == other {
        return format!(
            "{one} reaches {address} {ports} in virtual network `{network}` as {} and as {}: keep one",
            endpoint(first),
            endpoint(second),
        );
    }
    format!(
        "{other} and {one} both send to {address} {ports} in virtual network `{network}` ({}), so their \
         replies could not be told apart: give one of them another endpoint or port",
        endpoint(second),
    )
}
