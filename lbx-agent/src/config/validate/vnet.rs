//! Rules for `virtual_networks`.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::IpAddr,
};

use lbx_common::api::{Config, Encap, Endpoint, Family, Pool, Tunnel, VirtualNetwork};

use crate::config::model;

use super::{Report, Seen, monitor::Monitors, tunnel, unicast};

/// RFC 7348 §5, RFC 8926 §3.4: the key of VXLAN and Geneve has 24 bits.
const MAX_SHORT_VNI: u32 = (1 << 24) - 1;

pub(super) fn check(config: &Config, monitors: &Monitors<'_>, report: &mut Report) -> Vec<model::Vnet> {
    let networks = &config.virtual_networks;
    report.names("virtual_networks", "virtual network", networks.iter().map(|network| network.name.as_str()));
    let users = Users::new(config);
    let (mut vnis, mut sources) = (Seen::default(), Seen::default());
    let mut tunnels = tunnel::Checker::new(config, monitors);
    let each = networks.iter().enumerate().map(|(index, network)| {
        let path = format!("virtual_networks[{index}]");
        vni(network, &path, &mut vnis, report);
        for family in Family::ALL {
            probe_source(network, family, &path, &users, &mut sources, report);
        }
        let carries_ipv6 = |tunnel: &str| {
            let name = network.name.as_str();
            users.ipv6.contains(&(name, None)) || users.ipv6.contains(&(name, Some(tunnel)))
        };
        model::Vnet {
            name: network.name.clone(),
            vni: network.vni,
            probe_source: network.probe_source,
            tunnels: tunnels.check(network, carries_ipv6, &path, report),
        }
    });
    each.collect()
}

/// Who needs what of the networks.
struct Users<'a> {
    /// Something in each network and family that is probed.
    probed: HashMap<(&'a str, Family), Probed<'a>>,
    /// Networks and tunnels that lead to IPv6 endpoints; `None` = all tunnels of the network.
    ipv6: HashSet<(&'a str, Option<&'a str>)>,
    /// Addresses that must not be probe sources, and what they are.
    owners: HashMap<IpAddr, String>,
}

impl<'a> Users<'a> {
    fn new(config: &'a Config) -> Self {
        let mut this = Self { probed: HashMap::new(), ipv6: HashSet::new(), owners: HashMap::new() };
        for pool in &config.pools {
            for endpoint in &pool.endpoints {
                let network = endpoint.virtual_network.as_str();
                let family = Family::of(endpoint.address);
                if family == Family::Ipv6 {
                    let named = endpoint.tunnels.iter().map(|tunnel| (network, Some(tunnel.as_str())));
                    this.ipv6.extend(named);
                    if endpoint.tunnels.is_empty() {
                        this.ipv6.insert((network, None));
                    }
                }
                if pool.monitors().next().is_some() && endpoint.enabled {
                    this.probed.entry((network, family)).or_insert(Probed::Endpoint(pool, endpoint));
                }
            }
        }
        for network in &config.virtual_networks {
            for tunnel in network.tunnels.iter().filter(|tunnel| tunnel.enabled && tunnel.monitor.is_some()) {
                let Some(address) = tunnel.probe_address else { continue };
                let key = (network.name.as_str(), Family::of(address));
                this.probed.entry(key).or_insert(Probed::Tunnel(tunnel));
            }
        }
        for address in Family::ALL.into_iter().filter_map(|family| config.node.tunnel_source.of(family)) {
            this.owners.insert(address, "node.tunnel_source".to_owned());
        }
        for service in &config.services {
            let owner = || format!("the address of service `{}`", service.name);
            this.owners.entry(service.address).or_insert_with(owner);
        }
        for tunnel in config.virtual_networks.iter().flat_map(|network| &network.tunnels) {
            let owner = || format!("the gateway of tunnel `{}`", tunnel.name);
            this.owners.entry(tunnel.remote).or_insert_with(owner);
        }
        this
    }
}

/// What a monitor checks.
#[derive(Clone, Copy)]
enum Probed<'a> {
    Endpoint(&'a Pool, &'a Endpoint),
    Tunnel(&'a Tunnel),
}

impl fmt::Display for Probed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let monitor = match self {
            Self::Endpoint(pool, _) => pool.monitors().next(),
            Self::Tunnel(tunnel) => tunnel.monitor.as_deref(),
        };
        write!(f, "monitor `{}` checks ", monitor.unwrap_or_default())?;
        match self {
            Self::Endpoint(pool, endpoint) => {
                write!(f, "endpoint `{}` of pool `{}`", endpoint.name, pool.name)
            }
            Self::Tunnel(tunnel) => write!(f, "tunnel `{}`", tunnel.name),
        }
    }
}

fn vni(network: &VirtualNetwork, path: &str, seen: &mut Seen<u32>, report: &mut Report) {
    let here = || format!("{path}.vni");
    let vni = network.vni;
    if vni == 0 {
        report.note(here(), "0 is not a key: write 1 or more");
    } else if let Some(first) = seen.before(vni, described(path, &network.name)) {
        report.note(here(), format!("{vni} is taken by {first}: give each virtual network its own"));
    }
    let is_short = |encap| match encap {
        Encap::Vxlan | Encap::Geneve => true,
        Encap::Gre | Encap::GreUdp => false,
    };
    if vni > MAX_SHORT_VNI
        && let Some(tunnel) = network.tunnels.iter().find(|tunnel| is_short(tunnel.encap))
    {
        let message = format!(
            "{vni} does not fit tunnel `{}`: a {} key has 24 bits, {MAX_SHORT_VNI} at most (gre and gre-udp take \
             32)",
            tunnel.name,
            tunnel.encap.as_str(),
        );
        report.note(here(), message);
    }
}

fn probe_source(
    network: &VirtualNetwork,
    family: Family,
    path: &str,
    users: &Users<'_>,
    seen: &mut Seen<IpAddr>,
    report: &mut Report,
) {
    let here = || format!("{path}.probe_source.{}", family.field());
    let Some(address) = network.probe_source.of(family) else {
        if let Some(probed) = users.probed.get(&(network.name.as_str(), family)) {
            let message = format!(
                "missing: {probed} here, so give an {family} address that the far end routes back into the tunnel"
            );
            report.note(here(), message);
        }
        return;
    };
    report.take(here, unicast(address));
    if let Some(owner) = users.owners.get(&address) {
        let message = format!(
            "{address} is {owner}: packets from a probe source go into its tunnel, so give an address that \
             nothing else uses"
        );
        report.note(here(), message);
    }
    if let Some(first) = seen.before(address, described(path, &network.name)) {
        report.note(here(), format!("{address} is taken by {first}: give each virtual network its own"));
    }
}

fn described(path: &str, name: &str) -> String {
    format!("{path} (`{name}`)")
}
