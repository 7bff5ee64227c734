//! Rules for `virtual_networks` and their `tunnels`.

use std::net::Ipv4Addr;

use lbx_common::api::{Config, Encap, Tunnel, VirtualNetwork};

use crate::config::model;

use super::{Report, Seen, unicast};

/// RFC 7348 §8.
const VXLAN_PORT: u16 = 4789;
/// RFC 7348 §5: the VXLAN network identifier has 24 bits.
const MAX_VXLAN_VNI: u32 = (1 << 24) - 1;
/// Smallest inner packet that must fit: what every IPv4 host takes (RFC 791 §3.1).
const MIN_INNER_MTU: u16 = 576;
const INNER_MAC: [u8; 6] = [0x02, 0x6c, 0x62, 0x78, 0x00, 0x02];

pub(super) fn check(config: &Config, report: &mut Report) -> Vec<model::Vnet> {
    let networks = &config.virtual_networks;
    report.names("virtual_networks", "virtual network", networks.iter().map(|network| network.name.as_str()));
    let (mut vnis, mut sources) = (Seen::default(), Seen::default());
    let each = networks.iter().enumerate().map(|(index, network)| {
        let path = format!("virtual_networks[{index}]");
        vni(network, &path, &mut vnis, report);
        probe_source(config, network, &path, &mut sources, report);
        tunnels(config, network, &path, report)
    });
    each.collect()
}

fn vni(network: &VirtualNetwork, path: &str, seen: &mut Seen<u32>, report: &mut Report) {
    let here = || format!("{path}.vni");
    let vni = network.vni;
    if vni == 0 {
        report.note(here(), "0 is not a key: write 1 or more");
    } else if let Some(first) = seen.before(vni, &described(path, &network.name)) {
        report.note(here(), format!("{vni} is taken by {first}: give each virtual network its own"));
    }
    if vni > MAX_VXLAN_VNI
        && let Some(tunnel) = network.tunnels.iter().find(|tunnel| tunnel.encap == Encap::Vxlan)
    {
        let message = format!(
            "{vni} does not fit tunnel `{}`: a vxlan key has 24 bits, {MAX_VXLAN_VNI} at most (gre takes 32)",
            tunnel.name
        );
        report.note(here(), message);
    }
}

fn probe_source(
    config: &Config,
    network: &VirtualNetwork,
    path: &str,
    seen: &mut Seen<Ipv4Addr>,
    report: &mut Report,
) {
    let here = || format!("{path}.probe_source.ipv4");
    let Some(address) = network.probe_source.ipv4 else {
        if let Some((pool, endpoint, monitor)) = first_probed(config, &network.name) {
            let message = format!(
                "missing: monitor `{monitor}` checks endpoint `{endpoint}` of pool `{pool}` here, so give an \
                 address that the far end routes back into the tunnel"
            );
            report.note(here(), message);
        }
        return;
    };
    report.take(here, unicast(address));
    if let Some(owner) = owner(config, address) {
        let message = format!(
            "{address} is {owner}: packets from a probe source go into its tunnel, so give an address that \
             nothing else uses"
        );
        report.note(here(), message);
    }
    if let Some(first) = seen.before(address, &described(path, &network.name)) {
        report.note(here(), format!("{address} is taken by {first}: give each virtual network its own"));
    }
}

/// What else an address is that must not be a probe source.
fn owner(config: &Config, address: Ipv4Addr) -> Option<String> {
    if config.node.tunnel_source.ipv4 == Some(address) {
        return Some("node.tunnel_source".to_owned());
    }
    if let Some(service) = config.services.iter().find(|service| service.address == address) {
        return Some(format!("the address of service `{}`", service.name));
    }
    let tunnels = config.virtual_networks.iter().flat_map(|network| &network.tunnels);
    let tunnel = tunnels.into_iter().find(|tunnel| tunnel.remote == address)?;
    Some(format!("the gateway of tunnel `{}`", tunnel.name))
}

/// Pool, endpoint and monitor of one that is probed in the network.
fn first_probed<'a>(config: &'a Config, network: &str) -> Option<(&'a str, &'a str, &'a str)> {
    config.pools.iter().find_map(|pool| {
        let monitor = pool.monitor.as_deref()?;
        let probed =
            |endpoint: &&lbx_common::api::Endpoint| endpoint.enabled && endpoint.virtual_network == network;
        Some((pool.name.as_str(), pool.endpoints.iter().find(probed)?.name.as_str(), monitor))
    })
}

fn tunnels(config: &Config, network: &VirtualNetwork, path: &str, report: &mut Report) -> model::Vnet {
    let all = &network.tunnels;
    report.names(
        &format!("{path}.tunnels"),
        "tunnel of a network",
        all.iter().map(|tunnel| tunnel.name.as_str()),
    );
    if all.len() > 1 {
        let message = "several tunnels per virtual network are not supported yet: keep one";
        report.note(format!("{path}.tunnels[1]"), message);
    }
    let mut paths = Seen::default();
    let mut resolved = None;
    for (index, tunnel) in all.iter().enumerate() {
        let here = format!("{path}.tunnels[{index}]");
        let checked = check_tunnel(config, tunnel, &here, report);
        let key = (tunnel.encap, tunnel.remote, tunnel.port.unwrap_or(VXLAN_PORT));
        if let Some(first) = paths.before(key, &here) {
            report.note(here, format!("this is the same path as {first}: keep one"));
        }
        resolved = resolved.or(checked);
    }
    model::Vnet {
        name: network.name.clone(),
        vni: network.vni,
        probe_source: network.probe_source.ipv4,
        tunnel: resolved,
    }
}

fn check_tunnel(config: &Config, tunnel: &Tunnel, path: &str, report: &mut Report) -> Option<model::Tunnel> {
    let &Tunnel { encap, remote, .. } = tunnel;
    let at = |field: &str| format!("{path}.{field}");
    report.take(|| at("remote"), unicast(remote));
    if config.node.tunnel_source.ipv4 == Some(remote) {
        let message =
            format!("{remote} is node.tunnel_source, this machine: write the address of the gateway");
        report.note(at("remote"), message);
    }
    for (field, given) in [("port", tunnel.port.is_some()), ("inner_mac", tunnel.inner_mac.is_some())] {
        if given && encap != Encap::Vxlan {
            report.note(at(field), format!("a {} tunnel has no {field}: leave it out", encap.as_str()));
        }
    }
    if tunnel.port == Some(0) {
        report.note(at("port"), "0 is not a port: write 1 to 65535, or leave it out for 4789");
    }
    let min_mtu = MIN_INNER_MTU + overhead(encap);
    if let Some(mtu) = tunnel.mtu.filter(|&mtu| mtu < min_mtu) {
        let message = format!(
            "{mtu} is too small: a {} tunnel takes {} bytes itself and must leave {MIN_INNER_MTU} for the inner \
             packet, so write {min_mtu} to 65535",
            encap.as_str(),
            overhead(encap),
        );
        report.note(at("mtu"), message);
    }
    let inner_mac = match &tunnel.inner_mac {
        Some(text) => report.take(|| at("inner_mac"), parse_mac(text))?,
        None => INNER_MAC,
    };
    let port = if encap == Encap::Vxlan { tunnel.port.unwrap_or(VXLAN_PORT) } else { 0 };
    Some(model::Tunnel { name: tunnel.name.clone(), encap, remote, port, mtu: tunnel.mtu, inner_mac })
}

/// Bytes of the outer packet around the inner one.
const fn overhead(encap: Encap) -> u16 {
    match encap {
        // IPv4, GRE with key.
        Encap::Gre => 20 + 8,
        // IPv4, UDP, VXLAN, inner Ethernet.
        Encap::Vxlan => 20 + 8 + 8 + 14,
    }
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

fn described(path: &str, name: &str) -> String {
    format!("{path} (`{name}`)")
}
