//! Rules for the `tunnels` of virtual networks.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use lbx_common::{
    abi::PROBE_PLACES,
    api::{Config, Encap, Family, Inner, Tunnel, VirtualNetwork},
};

use crate::config::model;

use super::{
    Report, Seen,
    monitor::{Monitors, probed_port},
    unicast,
};

/// Smallest inner packets that must fit: what every host of the family takes (RFC 791 §3.1, RFC 8200 §5).
const MIN_INNER_MTU_IPV4: u16 = 576;
const MIN_INNER_MTU_IPV6: u16 = 1280;
const INNER_MAC: [u8; 6] = [0x02, 0x6c, 0x62, 0x78, 0x00, 0x02];

/// What tunnels are checked against.
pub(super) struct Checker<'a> {
    config: &'a Config,
    monitors: &'a Monitors<'a>,
    /// UDP ports: the encapsulation of each, and the tunnel that has it.
    ports: HashMap<u16, (Encap, &'a str)>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(config: &'a Config, monitors: &'a Monitors<'a>) -> Self {
        Self { config, monitors, ports: HashMap::new() }
    }

    /// Checks the tunnels of a network. `carries_ipv6` says whether the tunnel of a name leads to IPv6 endpoints.
    pub(super) fn check(
        &mut self,
        network: &'a VirtualNetwork,
        carries_ipv6: impl Fn(&str) -> bool,
        path: &str,
        report: &mut Report,
    ) -> Vec<model::Tunnel> {
        let all = &network.tunnels;
        report.names(
            &format!("{path}.tunnels"),
            "tunnel of a network",
            all.iter().map(|tunnel| tunnel.name.as_str()),
        );
        if all.len() > usize::from(PROBE_PLACES) {
            let message = format!("{} tunnels: a network takes {PROBE_PLACES} at most", all.len());
            report.note(format!("{path}.tunnels"), message);
        }
        let mut paths = Seen::default();
        let mut resolved = Vec::with_capacity(all.len());
        for (index, tunnel) in all.iter().enumerate() {
            let here = format!("{path}.tunnels[{index}]");
            self.remote(tunnel, &here, report);
            self.udp_port(tunnel, &here, report);
            mtu(tunnel, carries_ipv6(&tunnel.name), &here, report);
            let inner_mac = inner(tunnel, &here, report);
            let probe = self.probe(network, tunnel, &here, report);
            let port = tunnel.encap.default_port().map_or(0, |default| tunnel.port.unwrap_or(default));
            if let Some(first) = paths.before((tunnel.encap, tunnel.remote, port), here.clone()) {
                report.note(here, format!("this is the same path as {first}: keep one"));
            }
            resolved.extend(inner_mac.map(|inner_mac| model::Tunnel {
                name: tunnel.name.clone(),
                encap: tunnel.encap,
                ethernet: tunnel.inner() == Inner::Ethernet,
                remote: tunnel.remote,
                port,
                mtu: tunnel.mtu,
                inner_mac,
                enabled: tunnel.enabled,
                probe,
            }));
        }
        resolved
    }

    fn remote(&self, tunnel: &Tunnel, path: &str, report: &mut Report) {
        let here = || format!("{path}.remote");
        let remote = tunnel.remote;
        report.take(here, unicast(remote));
        if self.config.node.tunnel_source.contains(remote) {
            let message =
                format!("{remote} is node.tunnel_source, this machine: write the address of the gateway");
            report.note(here(), message);
        }
    }

    /// A tunnel packet is told by its UDP port before anything else of it is read, so a port has one
    /// encapsulation.
    fn udp_port(&mut self, tunnel: &'a Tunnel, path: &str, report: &mut Report) {
        let here = || format!("{path}.port");
        let encap = tunnel.encap;
        let Some(default) = encap.default_port() else {
            if tunnel.port.is_some() {
                report.note(here(), format!("a {} tunnel has no port: leave it out", encap.as_str()));
            }
            return;
        };
        let port = tunnel.port.unwrap_or(default);
        if port == 0 {
            let message = format!("0 is not a port: write 1 to 65535, or leave it out for {default}");
            report.note(here(), message);
            return;
        }
        let &mut (other, name) = self.ports.entry(port).or_insert((encap, &tunnel.name));
        if other != encap {
            let message = format!(
                "UDP port {port} carries {} in tunnel `{name}`, so it cannot carry {}: write another, the usual one \
                 is {default}",
                other.as_str(),
                encap.as_str(),
            );
            report.note(here(), message);
        }
    }

    /// How the tunnel is checked.
    fn probe(
        &self,
        network: &VirtualNetwork,
        tunnel: &Tunnel,
        path: &str,
        report: &mut Report,
    ) -> Option<model::TunnelProbe> {
        let at = |field: &str| format!("{path}.{field}");
        let &Tunnel { probe_address, probe_port, .. } = tunnel;
        let Some(name) = &tunnel.monitor else {
            let given = [("probe_address", probe_address.is_some()), ("probe_port", probe_port.is_some())];
            for (field, _) in given.into_iter().filter(|(_, given)| *given) {
                let message = "nothing is probed without a monitor: name one in `monitor`, or leave this out";
                report.note(at(field), message);
            }
            return None;
        };
        let monitor = self.monitors.find(name, || at("monitor"), report);
        match probe_address {
            None => {
                let message =
                    format!("missing: monitor `{name}` needs an address of the gateway, inside, to check");
                report.note(at("probe_address"), message);
            }
            Some(address) => {
                report.take(|| at("probe_address"), unicast(address));
                if network.probe_source.contains(address) {
                    let message =
                        format!("{address} is the probe_source of `{}`: they must differ", network.name);
                    report.note(at("probe_address"), message);
                }
            }
        }
        if probe_port == Some(0) {
            report.note(at("probe_port"), "0 is not a port: write 1 to 65535");
        }
        let monitor = monitor?;
        if probe_port.is_some() && !monitor.kind.has_port() {
            let kind = monitor.kind.as_str();
            let message =
                format!("monitor `{name}` is of type `{kind}`, which is about no port: leave it out");
            report.note(at("probe_port"), message);
        }
        let Some(port) = probed_port(&monitor, probe_port) else {
            let message = format!("missing: monitor `{name}` must know which port to probe");
            report.note(at("probe_port"), message);
            return None;
        };
        let target = SocketAddr::new(probe_address?, port);
        Some(model::TunnelProbe { monitor, target })
    }
}

fn mtu(tunnel: &Tunnel, carries_ipv6: bool, path: &str, report: &mut Report) {
    let overhead = overhead(tunnel);
    let (inner, why) = if carries_ipv6 {
        (MIN_INNER_MTU_IPV6, ", as it leads to IPv6 endpoints")
    } else {
        (MIN_INNER_MTU_IPV4, "")
    };
    let least = inner + overhead;
    if let Some(mtu) = tunnel.mtu.filter(|&mtu| mtu < least) {
        let message = format!(
            "{mtu} is too small: a {} tunnel over {} takes {overhead} bytes itself and must leave {inner} for the \
             inner packet{why}, so write {least} to 65535",
            tunnel.encap.as_str(),
            Family::of(tunnel.remote),
        );
        report.note(format!("{path}.mtu"), message);
    }
}

/// Bytes of the outer packet around the inner one.
fn overhead(tunnel: &Tunnel) -> u16 {
    let outer = match tunnel.remote {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    };
    let tunnel_header = match tunnel.encap {
        // GRE with key.
        Encap::Gre => 8,
        // UDP, and GRE with key, VXLAN, or Geneve without options.
        Encap::GreUdp | Encap::Vxlan | Encap::Geneve => 8 + 8,
    };
    let inner = match tunnel.inner() {
        Inner::Ip => 0,
        Inner::Ethernet => 14,
    };
    outer + tunnel_header + inner
}

/// What is inside; returns the inner destination MAC.
fn inner(tunnel: &Tunnel, path: &str, report: &mut Report) -> Option<[u8; 6]> {
    let at = |field: &str| format!("{path}.{field}");
    let name = tunnel.encap.as_str();
    if tunnel.inner.is_some() && tunnel.encap != Encap::Geneve {
        let carried = tunnel.inner().as_str();
        let message = format!("a {name} tunnel carries `{carried}` and nothing else: leave it out");
        report.note(at("inner"), message);
    }
    let Some(text) = &tunnel.inner_mac else { return Some(INNER_MAC) };
    if tunnel.inner() != Inner::Ethernet {
        let hint = if tunnel.encap == Encap::Geneve { ", or write `inner: ethernet`" } else { "" };
        let message = format!("a {name} tunnel with IP inside has no inner_mac: leave it out{hint}");
        report.note(at("inner_mac"), message);
    }
    report.take(|| at("inner_mac"), parse_mac(text))
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let wrong = || format!("`{text}` is not a MAC address: write it as `02:6c:62:78:00:02`");
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
        if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() {
        return Err(wrong());
    }
    let [first, ..] = mac;
    if first & 1 == 1 || mac == [0; 6] {
        return Err(format!(
            "{text} is not the address of one interface: write that of the gateway's device"
        ));
    }
    Ok(mac)
}
