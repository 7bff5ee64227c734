//! The validated configuration: references resolved, defaults filled in, immutable.
//!
//! Only the validator makes a `Model`, so whoever holds one need not check it again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use lbx_common::api::{
    Config, ConnectionTracking, Encap, Forwarding, Interface, Limits, Listen, Monitor, ProbeSource,
    RateLimit, Timers, TunnelSource,
};

use super::Sources;

/// A configuration that makes sense as a whole.
#[derive(Debug, Clone)]
pub struct Model {
    /// What the user wrote; answers of the API come from here.
    pub config: Config,
    /// Interfaces to attach to.
    pub interfaces: Vec<Interface>,
    /// Outer source addresses of tunnels; that of a family is present when there is a tunnel over it.
    pub tunnel_source: TunnelSource,
    /// Sizes of the maps.
    pub limits: Limits,
    /// How long things are remembered.
    pub timers: Timers,
    /// The agent is told of one in so many flows; 0 = of none.
    pub sampled_one_in: u32,
    /// Virtual networks, in the order of the configuration.
    pub vnets: Vec<Vnet>,
    /// Pools, in the order of the configuration.
    pub pools: Vec<Pool>,
    /// Services, in the order of the configuration.
    pub services: Vec<Service>,
}

impl Model {
    /// Names of pools.
    pub fn pool_names(&self, pools: impl IntoIterator<Item = usize>) -> Vec<String> {
        let pools = pools.into_iter().filter_map(|pool| self.pools.get(pool));
        pools.map(|pool| pool.name.clone()).collect()
    }
}

/// A virtual network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vnet {
    /// Name.
    pub name: String,
    /// Key on the wire.
    pub vni: u32,
    /// Inner source addresses of health checks; that of a family is present when something of it is probed.
    pub probe_source: ProbeSource,
    /// The ways there; none when none is configured yet (endpoints are then unreachable).
    pub tunnels: Vec<Tunnel>,
}

/// A tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Name.
    pub name: String,
    /// How packets are wrapped.
    pub encap: Encap,
    /// Whether it carries Ethernet frames instead of IP packets.
    pub ethernet: bool,
    /// Outer address of the gateway.
    pub remote: IpAddr,
    /// UDP destination port; 0 for `gre`.
    pub port: u16,
    /// Largest outer IP packet in bytes, where configured.
    pub mtu: Option<u16>,
    /// Inner destination MAC where it carries Ethernet.
    pub inner_mac: [u8; 6],
    /// Whether it takes part at all.
    pub enabled: bool,
    /// How it is checked; without, it counts as healthy.
    pub probe: Option<TunnelProbe>,
}

/// What tells a tunnel's packets from those of all others, outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelPath {
    /// Key of the virtual network.
    pub vni: u32,
    /// How packets are wrapped.
    pub encap: Encap,
    /// Outer address of the gateway.
    pub remote: IpAddr,
    /// UDP destination port; 0 for `gre`.
    pub port: u16,
}

impl Vnet {
    /// Each tunnel with its path.
    pub fn paths(&self) -> impl Iterator<Item = (&Tunnel, TunnelPath)> {
        self.tunnels.iter().map(|tunnel| (tunnel, tunnel.path(self.vni)))
    }
}

impl Tunnel {
    /// Its path, as one of the network with this key.
    pub fn path(&self, vni: u32) -> TunnelPath {
        TunnelPath { vni, encap: self.encap, remote: self.remote, port: self.port }
    }
}

/// How a tunnel is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelProbe {
    /// Its monitor.
    pub monitor: Arc<Monitor>,
    /// Where the monitor connects to: the gateway, inside.
    pub target: SocketAddr,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Name.
    pub name: String,
    /// Its monitors; without any, every enabled endpoint counts as healthy.
    pub checks: Vec<Check>,
    /// It is up while so many of its endpoints take new flows.
    pub minimum_endpoints: u32,
    /// Percent of its new flows that go to the next pool of their service.
    pub load_shedding: u8,
    /// Percent of its endpoints that may be unhealthy before all take flows; 0 = any share.
    pub panic_threshold: u8,
    /// Whether its endpoints are to have equal numbers of live flows, instead of equal numbers of new ones.
    pub least_connections: bool,
    /// Slots of its lookup table.
    pub table_size: u32,
    /// Endpoints, in the order of the configuration.
    pub endpoints: Vec<Endpoint>,
}

/// A monitor of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The monitor.
    pub monitor: Arc<Monitor>,
    /// What it counts among others; `None` = it is the only one.
    pub voice: Option<Voice>,
}

/// What a monitor of a group counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// One of those of which more than half must fail.
    One,
    /// By itself it takes the endpoint down.
    Must,
    /// Nothing: it is shown.
    Watches,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name.
    pub name: String,
    /// Index into [`Model::vnets`].
    pub vnet: usize,
    /// Indices into [`Vnet::tunnels`]: the tunnels that lead to it.
    pub tunnels: Vec<usize>,
    /// Private address, of the family of the services that send there.
    pub address: IpAddr,
    /// Port, the first of as many as the listener has; `None` keeps the client's destination port.
    pub port: Option<u16>,
    /// Where each monitor of its pool connects to: address and port, or with [`Forwarding::Dsr`] the VIP and a port that
    /// is served; none where it is not probed.
    pub probes: Vec<SocketAddr>,
    /// Weight in hundredths, 0 … 100.
    pub weight: u8,
    /// Whether it takes part at all.
    pub enabled: bool,
    /// Whether it takes no new flows and, after a while, none.
    pub drained: bool,
}

/// The pools of a service, and how they share its flows. Indices are those of [`Model::pools`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    /// The pools, in order; there is one at least.
    pub pools: Vec<usize>,
    /// Serves while none of them is up.
    pub fallback: Option<usize>,
    /// Their weights in hundredths, where they share the flows; `None` = the first one that is up takes all.
    pub weights: Option<Vec<u8>>,
    /// Whether the round trips of their probes say which goes first.
    pub by_latency: bool,
    /// What clients of a region have instead of `pools`, by the region's id.
    pub regions: BTreeMap<u32, RegionPools>,
}

/// The pools of a region's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionPools {
    /// Name of the region.
    pub name: String,
    /// The pools, in order; there is one at least.
    pub pools: Vec<usize>,
}

impl Steering {
    /// All pools that may get flows, each once.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        let listed = self.listed();
        let fallback = self.fallback.filter(|pool| !listed.contains(pool));
        listed.into_iter().chain(fallback)
    }

    /// The pools that may get flows while they are up, each once.
    pub fn listed(&self) -> Vec<usize> {
        let of_regions = self.regions.values().flat_map(|region| &region.pools);
        let mut seen = BTreeSet::new();
        self.pools.iter().chain(of_regions).copied().filter(|&pool| seen.insert(pool)).collect()
    }

    /// The order of pools for the clients of a region; 0 is none.
    pub fn of_region(&self, region: u32) -> &[usize] {
        self.regions.get(&region).map_or(&self.pools, |region| &region.pools)
    }
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Name.
    pub name: String,
    /// The VIP.
    pub address: IpAddr,
    /// What is served on it.
    pub listen: Vec<Listen>,
    /// Where its flows may go.
    pub steering: Steering,
    /// Slots of a table in which flows of several pools are mixed.
    pub mixed_slots: u32,
    /// How packets reach the endpoint.
    pub forwarding: Forwarding,
    /// Whether echo requests to the VIP are answered; the same for all services on it.
    pub icmp_echo: bool,
    /// Whether packets that no endpoint takes are answered instead of dropped.
    pub reject: bool,
    /// Clients that may connect; `None` = all.
    pub sources: Option<Arc<Sources>>,
    /// How many flows may begin.
    pub rate_limit: RateLimit,
    /// How long an endpoint that is drained or removed keeps its flows.
    pub drain: Duration,
    /// Whether established TCP stays on an endpoint that is down.
    pub keep: bool,
    /// Which flows are remembered.
    pub tracking: ConnectionTracking,
    /// Leading bits of the source that flows are spread by; `None` = by addresses and ports.
    pub source_bits: Option<u8>,
    /// For how long a source is remembered; `None` = it goes where the table says.
    pub affinity: Option<Duration>,
}
