//! Rules for the `endpoints` of pools.

use std::net::SocketAddr;

use lbx_common::api::{Config, Endpoint, Monitor, MonitorKind, Pool, Ports, Service, VirtualNetwork};

use crate::config::{
    model::{self, Check},
    names::Index,
};

use super::{Report, Seen, monitor::probed_port, pool::Users, unicast};

/// What endpoints are checked against.
pub(super) struct Checker<'a> {
    config: &'a Config,
    networks: Index<'a>,
    /// Names of the tunnels of each network, in the order of the configuration.
    tunnels: Vec<Index<'a>>,
}

/// What the endpoints of a pool are checked against.
pub(super) struct OfPool<'a> {
    pub(super) pool: &'a Pool,
    /// Who sends to it.
    pub(super) users: Users<'a>,
    pub(super) checks: &'a [Check],
}

impl<'a> Checker<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        let networks = &config.virtual_networks;
        let tunnels = |network: &'a VirtualNetwork| {
            Index::new(network.tunnels.iter().map(|tunnel| tunnel.name.as_str()))
        };
        Self {
            config,
            networks: Index::new(networks.iter().map(|network| network.name.as_str())),
            tunnels: networks.iter().map(tunnels).collect(),
        }
    }

    pub(super) fn check(
        &self,
        endpoint: &Endpoint,
        of_pool: &OfPool<'_>,
        path: &str,
        report: &mut Report,
    ) -> Option<model::Endpoint> {
        let at = |field: &str| format!("{path}.{field}");
        report.take(|| at("address"), unicast(endpoint.address));
        let probes = port(endpoint, of_pool, path, report);
        let weight = report.take(|| at("weight"), hundredths(endpoint.weight));
        let found = self.networks.find("virtual network", &endpoint.virtual_network);
        let vnet = report.take(|| at("virtual_network"), found)?;
        let network = self.config.virtual_networks.get(vnet)?;
        if network.tunnels.is_empty() && of_pool.users.any() {
            let message = format!(
                "`{}` has no tunnel, so the services of pool `{}` cannot reach this endpoint: give \
                 virtual_networks[{vnet}] one",
                network.name, of_pool.pool.name,
            );
            report.note(at("virtual_network"), message);
        }
        let tunnels = self.tunnels(endpoint, vnet, path, report);
        if let Some(dsr) = of_pool.users.dsr
            && endpoint.tunnels.len() != 1
        {
            let message = format!(
                "service `{}` forwards by dsr, and the endpoint ends its tunnel itself: name this one tunnel",
                dsr.name,
            );
            report.note(at("tunnels"), message);
        }
        if network.probe_source.contains(endpoint.address) {
            let message =
                format!("{} is the probe_source of `{}`: they must differ", endpoint.address, network.name);
            report.note(at("address"), message);
        }
        Some(model::Endpoint {
            name: endpoint.name.clone(),
            vnet,
            tunnels,
            address: endpoint.address,
            port: endpoint.port,
            probes,
            weight: weight?,
            enabled: endpoint.enabled,
            drained: endpoint.drained,
        })
    }

    /// The tunnels that lead to the endpoint, by their place in the network.
    fn tunnels(&self, endpoint: &Endpoint, vnet: usize, path: &str, report: &mut Report) -> Vec<usize> {
        let of_network = self.config.virtual_networks.get(vnet).map_or(0, |network| network.tunnels.len());
        if endpoint.tunnels.is_empty() {
            return (0..of_network).collect();
        }
        let Some(names) = self.tunnels.get(vnet) else { return Vec::new() };
        let mut seen = Seen::default();
        let mut found = Vec::with_capacity(endpoint.tunnels.len());
        for (index, name) in endpoint.tunnels.iter().enumerate() {
            let here = format!("{path}.tunnels[{index}]");
            let place = names.find("tunnel", name);
            let place = place
                .map_err(|message| format!("in virtual network `{}` {message}", endpoint.virtual_network));
            found.extend(report.take(|| here.clone(), place));
            if let Some(first) = seen.before(name.as_str(), index) {
                report.note(
                    here,
                    format!("`{name}` is named by {path}.tunnels[{first}] already: name it once"),
                );
            }
        }
        found
    }
}

/// Checks the port; returns where each monitor connects to.
fn port(endpoint: &Endpoint, of_pool: &OfPool<'_>, path: &str, report: &mut Report) -> Vec<SocketAddr> {
    let here = || format!("{path}.port");
    let &OfPool { users: Users { nat, dsr }, checks, .. } = of_pool;
    if let (Some(dsr), Some(port)) = (dsr, endpoint.port) {
        let instead = match nat {
            Some(nat) => format!("give service `{}`, which forwards by nat, a pool of its own", nat.name),
            None => "leave it out".to_owned(),
        };
        let message = format!(
            "service `{}` forwards by dsr, which keeps the client's destination port instead of {port}: {instead}",
            dsr.name,
        );
        report.note(here(), message);
        return Vec::new();
    }
    if endpoint.port == Some(0) {
        report.note(here(), "0 is not a port: write 1 to 65535, or leave it out to keep the client's");
    }
    if !endpoint.enabled {
        return Vec::new();
    }
    checks.iter().filter_map(|check| report.take(here, probed(endpoint, &check.monitor, dsr))).collect()
}

/// Where a monitor of an endpoint connects to.
fn probed(endpoint: &Endpoint, monitor: &Monitor, dsr: Option<&Service>) -> Result<SocketAddr, String> {
    let Monitor { name, kind, .. } = monitor;
    if let Some(dsr) = dsr {
        let Some(port) = probed_port(monitor, served_port(dsr, *kind)) else {
            let protocol = kind.protocol();
            return Err(format!(
                "monitor `{name}` must know which port to probe, but service `{}`, which forwards by dsr, names no \
                 port of {}: give it one, as `{}/80`, or the monitor a `port`",
                dsr.name,
                protocol.as_str().to_uppercase(),
                protocol.as_str(),
            ));
        };
        return Ok(SocketAddr::new(dsr.address, port));
    }
    let port = probed_port(monitor, endpoint.port)
        .ok_or_else(|| format!("missing: monitor `{name}` must know which port to probe"))?;
    Ok(SocketAddr::new(endpoint.address, port))
}

/// A port on which the service can be expected to answer: the first one of the right protocol that it names.
fn served_port(service: &Service, kind: MonitorKind) -> Option<u16> {
    service.listen.iter().filter(|listen| listen.protocol == kind.protocol()).find_map(|listen| match listen
        .ports
    {
        Ports::One(port) | Ports::Range(port, _) => Some(port),
        Ports::Any => None,
    })
}

/// The weight in hundredths.
pub(super) fn hundredths(weight: f64) -> Result<u8, String> {
    // A step of 0.01 has no exact binary form; 1e-9 is far below any other step that a user could mean.
    let nearest = (0..=100u8).find(|&step| (f64::from(step) / 100.0 - weight).abs() < 1e-9);
    nearest.ok_or_else(|| format!("found {weight}, expected 0 to 1 in steps of 0.01, as 0.25"))
}
