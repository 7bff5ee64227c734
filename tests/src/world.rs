//! A configuration with everything in it, for tests that run single packets: a virtual network for each
//! encapsulation over each outer family, all with the same private addresses, and services in both families.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, LazyLock},
};

use lbx_agent::regions::RegionList;
use lbx_common::api::{
    self, AttachMode, Config, Endpoint, Forwarding, Inner, Interface, Listen, NoEndpoint, Node, Pool, Ports,
    ProbeSource, Protocol, Region, Role, Service, SteeringPolicy, Tunnel, TunnelSource, VirtualNetwork,
};

use crate::{
    family::Family,
    packets::Transport,
    topology::{LBX_UNDERLAY, LBX_UNDERLAY_V6, PUBLIC_DEVICE, UNDERLAY_DEVICE, client_address},
    tunnel::Encap,
};

/// Source port of the client.
pub const CLIENT_PORT: u16 = 40_000;
/// Ports of a range, and the first one of the endpoints: not aligned to a power of two at either end.
pub const RANGE: (u16, u16) = (7001, 7098);
/// Where the range begins at the endpoints.
pub const RANGE_AT_ENDPOINTS: u16 = 17_003;

/// What a service does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Address translation to another port.
    Nat,
    /// Nothing but the tunnel.
    Dsr,
    /// Address translation of a range of ports, to as many that begin elsewhere.
    Range,
    /// Address translation of all ports, which stay.
    Any,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nat, Self::Dsr, Self::Range, Self::Any];

    /// Name in tables and of pools.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Dsr => "dsr",
            Self::Range => "range",
            Self::Any => "any",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Nat => 0,
            Self::Dsr => 1,
            Self::Range => 2,
            Self::Any => 3,
        }
    }
}

/// One of the virtual networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// How its tunnel wraps packets.
    pub encap: Encap,
    /// In what.
    pub outer: Family,
}

impl Network {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let over = |outer| Encap::ALL.map(|encap| Self { encap, outer });
        Family::ALL.into_iter().flat_map(over).collect()
    }

    /// Its place among them, from 1 on.
    fn number(self) -> u8 {
        let place = Self::all().iter().position(|network| *network == self);
        place.and_then(|place| u8::try_from(place + 1).ok()).expect("there are ten")
    }

    /// Its name.
    pub fn name(self) -> String {
        format!("{}-{}", self.encap.as_str(), self.outer)
    }

    /// Its key on the wire.
    pub fn vni(self) -> u32 {
        0x00a0_b0c0 + u32::from(self.number())
    }

    /// Outer address of its gateway.
    pub fn remote(self) -> IpAddr {
        match self.outer {
            Family::V4 => Ipv4Addr::new(198, 51, 100, 20 + self.number()).into(),
            Family::V6 => {
                Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0x20 + u16::from(self.number())).into()
            }
        }
    }

    /// The VIP of its service of a family and mode.
    pub fn vip(self, family: Family, mode: Mode) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(203, 0, 113, 20 * mode.number() + self.number()).into(),
            Family::V6 => {
                let (mode, number) = (u16::from(mode.number()), u16::from(self.number()));
                Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, mode, number).into()
            }
        }
    }

    /// Where its health checks come from.
    pub fn probe_source(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 255, self.number(), 1).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0x255, u16::from(self.number()), 0, 0, 0, 0, 1).into(),
        }
    }
}

/// The endpoints of a service, the same in all networks.
pub fn endpoints(family: Family, mode: Mode) -> [IpAddr; 2] {
    [10_u8, 11].map(|last| match family {
        Family::V4 => Ipv4Addr::new(10, 0, mode.number(), last).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, mode.number().into(), last.into()).into(),
    })
}

/// A port that a service listens on, with the one that the endpoints have for it.
pub const fn ports(mode: Mode, transport: Transport) -> (u16, u16) {
    match (mode, transport) {
        (Mode::Nat, Transport::Tcp) => (80, 8080),
        (Mode::Nat, Transport::Udp) => (53, 5353),
        (Mode::Dsr, Transport::Tcp) => (80, 80),
        (Mode::Dsr, Transport::Udp) => (53, 53),
        (Mode::Range, _) => (RANGE.0 + 20, RANGE_AT_ENDPOINTS + 20),
        (Mode::Any, _) => (9999, 9999),
    }
}

/// The client with its port.
pub fn client(family: Family) -> SocketAddr {
    (client_address(family), CLIENT_PORT).into()
}

/// Outer address of lbx.
pub fn lbx(outer: Family) -> IpAddr {
    crate::topology::lbx_underlay(outer)
}

/// The configuration.
pub fn config() -> Config {
    let mut config = Config { node: node(), ..Config::default() };
    for network in Network::all() {
        config.virtual_networks.push(virtual_network(network));
        for family in Family::ALL {
            for mode in Mode::ALL {
                for transport in Transport::ALL {
                    add_service(&mut config, network, family, mode, transport);
                }
            }
        }
    }
    config
}

/// Which addresses are in which region: those of the labs' network, and some of everywhere.
pub fn regions() -> Arc<RegionList> {
    static LIST: LazyLock<Arc<RegionList>> = LazyLock::new(|| {
        let text = "192.0.2.0/25,near\n192.0.2.2/31,here\n192.0.2.128/26,far\n0.0.0.0/2,far\n64.0.0.0/3,near\n\
                    2001:db8:2::/64,near\n2001:db8:2::2/127,here\n2000::/16,far\n";
        Arc::new(RegionList::parse(text.as_bytes()).expect("each line is right"))
    });
    Arc::clone(&LIST)
}

/// Has every service of a configuration send clients of two of these regions to pools of their own, each of one
/// endpoint.
pub fn tell_regions_apart(config: &mut Config) {
    config.node.regions_file = Some("/of/the/lab".into());
    config.regions =
        ["near", "far", "here"].map(|name| Region { name: name.to_owned(), location: None }).into();
    let mut more = Vec::new();
    for service in &mut config.services {
        let Some(pool) = config.pools.iter().find(|pool| service.pools.first() == Some(&pool.name)) else {
            continue;
        };
        service.steering_policy = SteeringPolicy::Geo;
        for (region, endpoint) in ["near", "far"].into_iter().zip(&pool.endpoints) {
            let name = format!("{}-{region}", service.name);
            service.region_pools.insert(region.to_owned(), vec![name.clone()]);
            let endpoint = Endpoint { address: beside(endpoint.address), ..endpoint.clone() };
            more.push(Pool { name, endpoints: vec![endpoint], ..pool.clone() });
        }
    }
    config.pools.append(&mut more);
}

/// Another address in the same network.
fn beside(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() ^ 0x80).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() ^ 0x80).into(),
    }
}

/// The node: tunnels over both families.
pub fn node() -> Node {
    let interface = |name: &str, role| Interface { name: name.to_owned(), role, mode: AttachMode::Native };
    Node {
        interfaces: vec![interface(PUBLIC_DEVICE, Role::Public), interface(UNDERLAY_DEVICE, Role::Underlay)],
        tunnel_source: TunnelSource { ipv4: Some(LBX_UNDERLAY), ipv6: Some(LBX_UNDERLAY_V6) },
        hash_seed: Some("6c62782d746573742d73656564202020".to_owned()),
        ..Node::default()
    }
}

/// A network with its tunnel.
pub fn virtual_network(network: Network) -> VirtualNetwork {
    let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) =
        (network.probe_source(Family::V4), network.probe_source(Family::V6))
    else {
        unreachable!("each address is of the family that was asked for")
    };
    VirtualNetwork {
        name: network.name(),
        vni: network.vni(),
        probe_source: ProbeSource { ipv4: Some(ipv4), ipv6: Some(ipv6) },
        tunnels: vec![tunnel(network, "only")],
    }
}

/// The tunnel of a network.
pub fn tunnel(network: Network, name: &str) -> Tunnel {
    let (encap, inner) = match network.encap {
        Encap::Gre => (api::Encap::Gre, None),
        Encap::GreUdp => (api::Encap::GreUdp, None),
        Encap::Vxlan => (api::Encap::Vxlan, None),
        Encap::GeneveIp => (api::Encap::Geneve, Some(Inner::Ip)),
        Encap::GeneveEthernet => (api::Encap::Geneve, Some(Inner::Ethernet)),
    };
    Tunnel {
        name: name.to_owned(),
        encap,
        inner,
        remote: network.remote(),
        port: None,
        mtu: None,
        inner_mac: None,
        enabled: true,
        monitor: None,
        probe_address: None,
        probe_port: None,
    }
}

/// Adds a service of one listener, with a pool of its own.
fn add_service(config: &mut Config, network: Network, family: Family, mode: Mode, transport: Transport) {
    let name = format!("{}-{}-{}-{}", network.name(), family, mode.as_str(), transport.as_str());
    let (port, at_endpoint) = ports(mode, transport);
    let protocol = match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    };
    let (ports, endpoint_port) = match mode {
        Mode::Nat => (Ports::One(port), Some(at_endpoint)),
        Mode::Dsr => (Ports::One(port), None),
        Mode::Range => (Ports::Range(RANGE.0, RANGE.1), Some(RANGE_AT_ENDPOINTS)),
        Mode::Any => (Ports::Any, None),
    };
    let endpoint = |(name, address): (&str, IpAddr)| Endpoint {
        port: endpoint_port,
        // By DSR an endpoint ends one tunnel itself, and says which.
        tunnels: if mode == Mode::Dsr { vec!["only".to_owned()] } else { Vec::new() },
        ..Endpoint::new(name.to_owned(), network.name(), address)
    };
    let [a, b] = endpoints(family, mode);
    config
        .pools
        .push(Pool { endpoints: [("a", a), ("b", b)].map(endpoint).into(), ..Pool::new(name.clone()) });
    let (vip, listen) = (network.vip(family, mode), vec![Listen { protocol, ports }]);
    config.services.push(Service {
        forwarding: if mode == Mode::Dsr { Forwarding::Dsr } else { Forwarding::Nat },
        // The VIPs of these services say that they have no other port.
        no_endpoint: if mode == Mode::Dsr { NoEndpoint::Reject } else { NoEndpoint::Drop },
        ..Service::new(name.clone(), vip, listen, vec![name])
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_valid() {
        if let Err(problems) = lbx_agent::config::validate(config()) {
            panic!("{problems:?}");
        }
    }
}
