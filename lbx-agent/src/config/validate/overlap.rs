//! The rule that a reply must name its listener: replies carry only the virtual network, the endpoint's
//! address, the protocol and the endpoint's port, so no two listeners may share all of these.

use std::collections::{HashMap, HashSet};

use lbx_common::api::{Config, Endpoint, Pool};

use super::{
    Report,
    limits::{max_reply_entries, reply_entries},
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
    let mut taken: HashMap<_, Pair<'_>> = HashMap::new();
    let mut reported = HashSet::new();
    for (service_index, service) in config.services.iter().enumerate() {
        let Some(pool) = service.pools.first().and_then(|name| pools.get(name.as_str())) else { continue };
        for (listener_index, listener) in service.listen.iter().enumerate() {
            for endpoint in &pool.endpoints {
                let pair = Pair { service: service_index, listener: listener_index, pool, endpoint };
                let port = endpoint.port.unwrap_or(listener.port);
                let key = (endpoint.virtual_network.as_str(), endpoint.address, listener.protocol, port);
                let Some(first) = taken.get(&key) else {
                    taken.insert(key, pair);
                    continue;
                };
                // The same listeners share most endpoints or none: one mistake says it.
                let listeners = (first.service, first.listener, service_index, listener_index);
                if !is_reported_elsewhere(config, first, &pair) && reported.insert(listeners) {
                    let message = describe(config, first, &pair, port);
                    report.note(format!("services[{service_index}].listen[{listener_index}]"), message);
                }
            }
        }
    }
}

/// Equal listeners and equal endpoints of a pool have mistakes of their own.
fn is_reported_elsewhere(config: &Config, first: &Pair<'_>, second: &Pair<'_>) -> bool {
    let listener = |pair: &Pair<'_>| {
        let service = config.services.get(pair.service)?;
        Some((service.address, *service.listen.get(pair.listener)?))
    };
    let same_listener = listener(first) == listener(second);
    let same_place = (first.service, first.listener) == (second.service, second.listener);
    if same_place { first.endpoint.port == second.endpoint.port } else { same_listener }
}

fn describe(config: &Config, first: &Pair<'_>, second: &Pair<'_>, port: u16) -> String {
    let listener = |pair: &Pair<'_>| {
        let service = config.services.get(pair.service);
        let listen = service.and_then(|service| service.listen.get(pair.listener));
        service.zip(listen).map(|(service, listen)| format!("{listen} of service `{}`", service.name))
    };
    let endpoint =
        |pair: &Pair<'_>| format!("endpoint `{}` of pool `{}`", pair.endpoint.name, pair.pool.name);
    let (Some(one), Some(other)) = (listener(first), listener(second)) else { return String::new() };
    let (address, network) = (second.endpoint.address, &second.endpoint.virtual_network);
    if one == other {
        return format!(
            "{one} reaches {address} port {port} in virtual network `{network}` as {} and as {}: keep one",
            endpoint(first),
            endpoint(second),
        );
    }
    format!(
        "{other} and {one} both send to {address} port {port} in virtual network `{network}` ({}), so their \
         replies could not be told apart: give one of them another endpoint or port",
        endpoint(second),
    )
}
