//! The whole configuration, and the names of its collections.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Limits, Monitor, Node, Pool, Region, Service, Timers, VirtualNetwork};

/// Number of an accepted configuration; grows by one with each change. 0 = nothing was ever accepted.
pub type Revision = u64;

/// Everything a user configures on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this format; 1.
    #[schemars(extend("const" = 1))]
    pub version: u32,
    /// This machine: interfaces, tunnel source, hash seed.
    #[serde(default)]
    pub node: Node,
    /// Sizes of the kernel's maps.
    #[serde(default)]
    pub limits: Limits,
    /// How long things are remembered.
    #[serde(default)]
    pub timers: Timers,
    /// Address spaces of the endpoints.
    #[serde(default)]
    pub virtual_networks: Vec<VirtualNetwork>,
    /// Health check definitions.
    #[serde(default)]
    pub monitors: Vec<Monitor>,
    /// Where clients are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(!skip_serializing_if)]
    pub regions: Vec<Region>,
    /// Weighted sets of endpoints.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// What clients connect to.
    #[serde(default)]
    pub services: Vec<Service>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: 1,
            node: Node::default(),
            limits: Limits::default(),
            timers: Timers::default(),
            virtual_networks: Vec::new(),
            monitors: Vec::new(),
            regions: Vec::new(),
            pools: Vec::new(),
            services: Vec::new(),
        }
    }
}

/// Body of `GET /v1/config`: the configuration and the revision that `If-Match` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigDocument {
    /// Revision of `config`.
    pub revision: Revision,
    /// The configuration as it was accepted.
    pub config: Config,
}

/// A kind of object that can be read and changed by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collection {
    /// `virtual_networks`
    VirtualNetworks,
    /// `tunnels` of a virtual network; named `VNET/TUNNEL`
    Tunnels,
    /// `monitors`
    Monitors,
    /// `pools`
    Pools,
    /// `endpoints` of a pool; named `POOL/ENDPOINT`
    Endpoints,
    /// `services`
    Services,
}

impl Collection {
    /// All collections, in the order in which objects depend on each other.
    pub const ALL: [Self; 6] =
        [Self::VirtualNetworks, Self::Tunnels, Self::Monitors, Self::Pools, Self::Endpoints, Self::Services];

    /// Name of the collection in the configuration file and in API paths.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VirtualNetworks => "virtual_networks",
            Self::Tunnels => "tunnels",
            Self::Monitors => "monitors",
            Self::Pools => "pools",
            Self::Endpoints => "endpoints",
            Self::Services => "services",
        }
    }

    /// The collection whose objects contain this one's: endpoints live in pools, tunnels in virtual networks.
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::Tunnels => Some(Self::VirtualNetworks),
            Self::Endpoints => Some(Self::Pools),
            Self::VirtualNetworks | Self::Monitors | Self::Pools | Self::Services => None,
        }
    }

    /// What one object of the collection is called in messages.
    pub const fn singular(self) -> &'static str {
        match self {
            Self::VirtualNetworks => "virtual network",
            Self::Tunnels => "tunnel",
            Self::Monitors => "monitor",
            Self::Pools => "pool",
            Self::Endpoints => "endpoint",
            Self::Services => "service",
        }
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no collection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no collection `{0}`")]
pub struct NoSuchCollection(pub String);

impl FromStr for Collection {
    type Err = NoSuchCollection;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|c| c.as_str() == text).ok_or_else(|| NoSuchCollection(text.to_owned()))
    }
}
