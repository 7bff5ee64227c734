//! `node`, `limits` and `timers`: this machine.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Family, Location,
    family::pick,
    schema::{AbsolutePath, HashSeed, InterfaceName, Time},
};

/// This machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Interfaces that lbx attaches to.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Outer source addresses of tunnel packets.
    #[serde(default)]
    pub tunnel_source: TunnelSource,
    /// Seed of the flow hash, the same on all nodes: `file:PATH` (32 hex digits; generated on first start)
    /// or 32 hex digits. Default: `file:seed` in the agent's state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<HashSeed>", extend("default" = "file:seed"))]
    pub hash_seed: Option<String>,
    /// Path of the file that says which clients are in which region: lines `PREFIX,REGION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AbsolutePath>")]
    pub regions_file: Option<String>,
    /// Where this machine is: to services with `steering_policy: proximity`, clients of no region are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Samples of flows in the stream of events.
    #[serde(default)]
    pub flow_samples: FlowSamples,
}

impl Node {
    /// The file of regions.
    pub fn regions_path(&self) -> Option<PathBuf> {
        self.regions_file.as_ref().map(PathBuf::from)
    }
}

/// Samples of flows: of TCP packets that open a connection, and of UDP datagrams, on their way to an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowSamples {
    /// One in so many is told of, at random; 0 = none, 1 = each. At most 1,000,000,000.
    #[serde(default)]
    #[schemars(range(max = 1_000_000_000))]
    pub one_in: u32,
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Name as `ip link` shows it.
    #[schemars(with = "InterfaceName")]
    pub name: String,
    /// What arrives there.
    pub role: Role,
    /// How the XDP program is attached.
    #[serde(default)]
    pub mode: AttachMode,
}

/// What arrives on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Packets of clients.
    Public,
    /// Tunnel packets of gateways.
    Underlay,
    /// Both.
    Both,
}

impl Role {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Underlay => "underlay",
            Self::Both => "both",
        }
    }
}

/// How an XDP program is attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttachMode {
    /// Native, else generic with a warning.
    #[default]
    Auto,
    /// In the driver; refused where the driver has no XDP.
    Native,
    /// In the network stack: slow, works everywhere.
    Generic,
}

impl AttachMode {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Outer source addresses of tunnel packets, one a family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TunnelSource {
    /// For tunnels over IPv4; an address of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// For tunnels over IPv6; an address of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
}

impl TunnelSource {
    /// The address for tunnels over `family`.
    pub fn of(self, family: Family) -> Option<IpAddr> {
        pick(family, self.ipv4, self.ipv6)
    }

    /// Whether `address` is one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        self.of(Family::of(address)) == Some(address)
    }
}

/// Sizes of the kernel's maps. Changed only by `lbx-agent detach` and a new start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Listeners: (address, protocol, port) of all services, and one more for each region that such a service tells
    /// apart.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub listeners: u32,
    /// Endpoints of all pools; 65,535 at most.
    #[schemars(range(min = 1, max = 65_535))]
    pub endpoints: u32,
    /// Tunnels; 65,535 at most.
    #[schemars(range(min = 1, max = 65_535))]
    pub tunnels: u32,
    /// Virtual networks.
    #[schemars(range(min = 1, max = 65_535))]
    pub virtual_networks: u32,
    /// Slots of all lookup tables together; 16,777,216 at most.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub table_slots: u32,
    /// Prefixes in the `allow` and `deny` of all services.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub prefixes: u32,
    /// Fragmented packets that are under way at a time.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub fragments: u32,
    /// Flows of TCP, and as many of UDP, that live elsewhere than their hash says, because something changed.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub pins: u32,
    /// Sources that services with an affinity for a time remember.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub affinities: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            listeners: 16_384,
            endpoints: 16_384,
            tunnels: 4096,
            virtual_networks: 1024,
            table_slots: 16_777_216,
            prefixes: 131_072,
            fragments: 65_536,
            pins: 262_144,
            affinities: 65_536,
        }
    }
}

/// How long things are remembered, and how often measuring may change a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timers {
    /// For how long after a change of a pool flows without a pin go by the table before; 1s … 48h.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Time")]
    pub transition: Duration,
    /// For how long a TCP connection may be silent; 10s … 4h.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Time")]
    pub tcp_idle: Duration,
    /// For how long a flow of UDP may be silent; 1s … 8m.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Time")]
    pub udp_idle: Duration,
    /// The shortest time between two tables of a pool or service that follow from measuring (`least_connections`,
    /// `dynamic_latency`); 5s … 1h.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Time")]
    pub steering: Duration,
}

impl Timers {
    /// Longer than Linux waits before it probes a silent connection (tcp(7): 2 h), and the least that RFC 5382 §5
    /// asks of a NAT (2 h 4 min).
    const LONGEST_SILENCE: Duration = Duration::from_mins(130);
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            transition: Self::LONGEST_SILENCE,
            tcp_idle: Self::LONGEST_SILENCE,
            udp_idle: Duration::from_secs(30),
            steering: Duration::from_secs(30),
        }
    }
}
