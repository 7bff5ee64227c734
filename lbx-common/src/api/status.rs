//! `GET /v1/status`: the agent and its data plane.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AttachMode, Encap, Revision, Role};

/// The agent and its data plane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusReport {
    /// Version of the agent.
    pub version: String,
    /// Version of the map layout.
    pub abi_version: u32,
    /// Process id of the agent.
    pub pid: u32,
    /// Seconds since the agent started.
    pub uptime_secs: u64,
    /// Where the configuration comes from: `embedded PATH` or `file PATH`.
    pub store: String,
    /// Revision that is in force.
    pub revision: Revision,
    /// Whether this agent found pinned maps and took them over.
    pub adopted: bool,
    /// Writes to kernel maps since the agent started.
    pub map_writes: u64,
    /// One entry an interface.
    pub interfaces: Vec<InterfaceStatus>,
    /// One entry a tunnel.
    pub tunnels: Vec<TunnelStatus>,
    /// One entry a map.
    pub maps: Vec<MapFill>,
    /// Changes of lookup tables that are under way, by service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<TableChange>,
    /// The file of regions, where the configuration names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<RegionsStatus>,
}

/// What became of the file of regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionsStatus {
    /// Its path.
    pub file: String,
    /// Prefixes in the list that counts.
    pub prefixes: u64,
    /// Seconds since that was read; absent where it is that of an agent before this one, or there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_secs_ago: Option<u64>,
    /// Why the file as it is now does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mistake: Option<String>,
    /// Seconds until flows of clients that are in another region than before begin to go by the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_in_secs: Option<u64>,
    /// The regions of the configuration.
    pub regions: Vec<RegionPrefixes>,
}

/// A region of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionPrefixes {
    /// Its name.
    pub region: String,
    /// Prefixes in it.
    pub prefixes: u64,
}

/// An interface that lbx is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceStatus {
    /// Name of the interface.
    pub name: String,
    /// What arrives there.
    pub role: Role,
    /// Whether it is there and up.
    pub link: LinkState,
    /// How the program is attached: `native` or `generic`; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<AttachMode>,
    /// What to know about it, as why native mode was not to be had; empty when all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// State of a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Up, with a carrier.
    Up,
    /// Up, but nobody is at the other end.
    NoCarrier,
    /// Switched off.
    Down,
    /// There is no interface of that name.
    Missing,
}

impl LinkState {
    /// Its name in the API and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::NoCarrier => "no-carrier",
            Self::Down => "down",
            Self::Missing => "missing",
        }
    }
}

/// A tunnel and the way to its gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TunnelStatus {
    /// Name of the virtual network.
    pub virtual_network: String,
    /// Name of the tunnel.
    pub tunnel: String,
    /// How packets are wrapped.
    pub encap: Encap,
    /// Outer address of the gateway.
    pub remote: String,
    /// Largest inner IP packet in bytes.
    pub inner_mtu: u16,
    /// What a router said of the path, where one did; `inner_mtu` follows from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<PathMtuStatus>,
    /// The next hop; absent while unresolved (packets then go by the kernel's slow path).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHopStatus>,
}

/// The MTU of a tunnel's path, as a router said it (RFC 1191, RFC 8201).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathMtuStatus {
    /// Largest outer IP packet in bytes.
    pub mtu: u16,
    /// Seconds until it is forgotten, unless a router says it again.
    pub expires_secs: u64,
}

/// Where tunnel packets leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NextHopStatus {
    /// Egress interface.
    pub interface: String,
    /// MAC of the next hop.
    pub mac: String,
}

/// How full a map is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MapFill {
    /// Name of the map.
    pub map: String,
    /// Entries in use.
    pub used: u64,
    /// Entries at most.
    pub capacity: u64,
}

/// A service whose lookup table was changed, while flows from before may be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableChange {
    /// Name of the service.
    pub service: String,
    /// How far it is.
    pub state: ChangeState,
    /// Seconds since the last change of the table.
    pub since_secs: u64,
    /// Seconds until flows go by the new table that are not pinned; absent while it is closing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_in_secs: Option<u64>,
}

/// How far the change of a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    /// Flows from before it, which are not pinned, go by the table before.
    Open,
    /// All go by the new table but those that are pinned; it ends when no pin says other than the table.
    Closing,
}

impl ChangeState {
    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closing => "closing",
        }
    }
}
