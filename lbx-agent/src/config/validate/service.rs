//! Rules for `services`.

use std::net::Ipv4Addr;

use lbx_common::api::{Config, Protocol, Service};

use crate::config::{model, names::Index};

use super::{Report, Seen, unicast};

pub(super) fn check(config: &Config, report: &mut Report) -> Vec<model::Service> {
    let services = &config.services;
    report.names("services", "service", services.iter().map(|service| service.name.as_str()));
    let pools = Index::new(config.pools.iter().map(|pool| pool.name.as_str()));
    let mut listeners = Seen::default();
    let mut resolved = Vec::with_capacity(services.len());
    for (index, service) in services.iter().enumerate() {
        let path = format!("services[{index}]");
        address(config, service, &path, report);
        listen(service, &path, &mut listeners, report);
        resolved.extend(pool(service, &path, &pools, report).map(|pool| model::Service {
            name: service.name.clone(),
            address: service.address,
            listen: service.listen.clone(),
            pool,
        }));
    }
    resolved
}

fn address(config: &Config, service: &Service, path: &str, report: &mut Report) {
    let here = || format!("{path}.address");
    let address = service.address;
    report.take(here, unicast(address));
    if config.node.tunnel_source.ipv4 == Some(address) {
        let message = format!("{address} is node.tunnel_source: clients need an address of their own");
        report.note(here(), message);
    }
}

fn listen(service: &Service, path: &str, seen: &mut Seen<(Ipv4Addr, Protocol, u16)>, report: &mut Report) {
    if service.listen.is_empty() {
        report.note(format!("{path}.listen"), "the list is empty: write what is served, as `[tcp/443]`");
    }
    for (index, listener) in service.listen.iter().enumerate() {
        let here = format!("{path}.listen[{index}]");
        let key = (service.address, listener.protocol, listener.port);
        if let Some(first) = seen.before(key, &format!("`{}` ({here})", service.name)) {
            let message = format!(
                "service `{}` and service {first} both listen on {} {listener}: a listener belongs to one",
                service.name, service.address,
            );
            report.note(here, message);
        }
    }
}

fn pool(service: &Service, path: &str, pools: &Index<'_>, report: &mut Report) -> Option<usize> {
    let mut found = None;
    for (index, name) in service.pools.iter().enumerate() {
        let pool = report.take(|| format!("{path}.pools[{index}]"), pools.find("pool", name));
        found = found.or(pool);
    }
    match service.pools.len() {
        0 => report.note(format!("{path}.pools"), "the list is empty: name the pool that serves the clients"),
        1 => {}
        _ => report.note(
            format!("{path}.pools"),
            "several pools per service are not supported yet: name one and put all endpoints into it",
        ),
    }
    found
}
