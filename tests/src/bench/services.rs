//! A configuration of many services, as large as it is asked for.

use std::net::{IpAddr, Ipv4Addr};

use lbx_common::api::{
    Config, ConnectionTracking, Endpoint, Forwarding, Limits, Listen, NoEndpoint, OnEndpointDown, Pool,
    Ports, Protocol, RateLimit, Service,
};

use crate::{
    family::Family,
    tunnel::Encap,
    world::{self, Network},
};

/// The VIP of the first service; the others follow.
pub const FIRST_VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 0);

/// So many services on a port of VIPs of their own, over pools of so many endpoints, behind one gateway. Services
/// with address translation cannot share a pool: a reply would be of all of them.
pub fn services(count: u32, pools: u32, members: u32, forwarding: Forwarding) -> Config {
    let network = Network { encap: Encap::Gre, outer: Family::V4 };
    let dsr = forwarding == Forwarding::Dsr;
    let address = |base: Ipv4Addr, number: u32| IpAddr::from(Ipv4Addr::from(base.to_bits() + number));
    let pool = |number: u32| Pool {
        name: format!("p{number}"),
        monitor: None,
        table_size: None,
        endpoints: (0..members)
            .map(|member| Endpoint {
                name: format!("e{member}"),
                virtual_network: network.name(),
                address: address(Ipv4Addr::new(10, 1, 0, 1), number * members + member),
                port: (!dsr).then_some(8080),
                weight: 1.0,
                enabled: true,
                drained: false,
                tunnels: if dsr { vec!["only".to_owned()] } else { Vec::new() },
            })
            .collect(),
    };
    let service = |number: u32| Service {
        name: format!("s{number}"),
        address: address(FIRST_VIP, number),
        listen: vec![Listen { protocol: Protocol::Tcp, ports: Ports::One(80) }],
        forwarding,
        pools: vec![format!("p{}", number % pools)],
        icmp_echo: true,
        no_endpoint: NoEndpoint::Drop,
        allow: Vec::new(),
        deny: Vec::new(),
        rate_limit: RateLimit::default(),
        session_affinity: None,
        drain: lbx_common::api::default_drain(),
        on_endpoint_down: OnEndpointDown::default(),
        connection_tracking: ConnectionTracking::default(),
    };
    Config {
        node: world::node(),
        limits: Limits::default(),
        virtual_networks: vec![world::virtual_network(network)],
        pools: (0..pools).map(pool).collect(),
        services: (0..count).map(service).collect(),
        ..Config::default()
    }
}
