//! The validated configuration: references resolved, defaults filled in, immutable.
//!
//! Only the validator makes a `Model`, so whoever holds one need not check it again.

use std::{net::Ipv4Addr, sync::Arc};

use lbx_common::api::{Config, Encap, Interface, Limits, Listen, Monitor};

/// A configuration that makes sense as a whole.
#[derive(Debug, Clone)]
pub struct Model {
    /// What the user wrote; answers of the API come from here.
    pub config: Config,
    /// Interfaces to attach to.
    pub interfaces: Vec<Interface>,
    /// Outer source address of tunnels over IPv4; present when there is a tunnel.
    pub tunnel_source: Option<Ipv4Addr>,
    /// Sizes of the maps.
    pub limits: Limits,
    /// Virtual networks, in the order of the configuration.
    pub vnets: Vec<Vnet>,
    /// Pools, in the order of the configuration.
    pub pools: Vec<Pool>,
    /// Services, in the order of the configuration.
    pub services: Vec<Service>,
}

/// A virtual network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vnet {
    /// Name.
    pub name: String,
    /// Key on the wire.
    pub vni: u32,
    /// Inner source address of health checks.
    pub probe_source: Option<Ipv4Addr>,
    /// The way there; absent when none is configured yet (endpoints are then unreachable).
    pub tunnel: Option<Tunnel>,
}

/// A tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Name.
    pub name: String,
    /// How packets are wrapped.
    pub encap: Encap,
    /// Outer address of the gateway.
    pub remote: Ipv4Addr,
    /// UDP destination port; 0 for `gre`.
    pub port: u16,
    /// Largest outer IP packet in bytes, where configured.
    pub mtu: Option<u16>,
    /// Inner destination MAC of `vxlan`.
    pub inner_mac: [u8; 6],
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Name.
    pub name: String,
    /// Its monitor.
    pub monitor: Option<Arc<Monitor>>,
    /// Slots of its lookup table.
    pub table_size: u32,
    /// Endpoints, in the order of the configuration.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name.
    pub name: String,
    /// Index into [`Model::vnets`].
    pub vnet: usize,
    /// Private address.
    pub address: Ipv4Addr,
    /// Port; `None` keeps the client's destination port.
    pub port: Option<u16>,
    /// Weight in hundredths, 0 … 100.
    pub weight: u8,
    /// Whether it takes part at all.
    pub enabled: bool,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Name.
    pub name: String,
    /// The VIP.
    pub address: Ipv4Addr,
    /// What is served on it.
    pub listen: Vec<Listen>,
    /// Index into [`Model::pools`].
    pub pool: usize,
}
