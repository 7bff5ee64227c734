//! A configuration of many services, as large as it is asked for.

use std::net::{IpAddr, Ipv4Addr};

use lbx_common::api::{Config, Endpoint, Forwarding, Limits, Listen, Pool, Ports, Protocol, Service};

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
        endpoints: (0..members)
            .map(|member| {
                let address = address(Ipv4Addr::new(10, 1, 0, 1), number * members + member);
                Endpoint {
                    port: (!dsr).then_some(8080),
                    tunnels: if dsr { vec!["only".to_owned()] } else { Vec::new() },
                    ..Endpoint::new(format!("e{member}"), network.name(), address)
                }
            })
            .collect(),
        ..Pool::new(format!("p{number}"))
    };
    let service = |number: u32| {
        let listen = vec![Listen { protocol: Protocol::Tcp, ports: Ports::One(80) }];
        let pools = vec![format!("p{}", number % pools)];
        Service {
            forwarding,
            ..Service::new(format!("s{number}"), address(FIRST_VIP, number), listen, pools)
        }
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
