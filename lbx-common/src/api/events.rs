//! `GET /v1/events`: what happened, one JSON object a line.

mod types;
mod words;

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::types::{EventType, NoSuchEventType};
use super::{
    AttachMode, Change, HealthState, LinkState, PoolState, Protocol, Revision, Role, schema::SocketAddress,
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Larger than that of every event before, also of agents before this one. `?since=NUMBER` asks for those after it.
    /// A sample of a flow has that of the event before it.
    pub number: u64,
    /// When, by the clock of the machine (RFC 3339, UTC, to the millisecond).
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Happening {
    /// An agent has started.
    AgentStarted {
        /// Its version.
        version: String,
        /// Revision of the configuration in force.
        revision: Revision,
        /// Whether it took over what another one had left in the kernel.
        adopted: bool,
    },
    /// Another configuration is in force.
    ConfigurationChanged {
        /// Its revision.
        revision: Revision,
        /// What differs, in the order in which objects depend on each other.
        changes: Vec<Change>,
    },
    /// The configuration file was read again and refused: the configuration before stays in force.
    ConfigurationRefused {
        /// Why.
        error: String,
    },
    /// The verdict on an endpoint is another one.
    EndpointHealth {
        /// Name of its pool.
        pool: String,
        /// Its name.
        endpoint: String,
        /// Name of its virtual network.
        virtual_network: String,
        /// `ADDRESS:PORT`, or `ADDRESS` where the port is kept.
        address: String,
        /// The verdict before.
        from: HealthState,
        /// The verdict now.
        to: HealthState,
        /// Why, as the probe saw it; absent after a success.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The verdict on a tunnel is another one.
    TunnelHealth {
        /// Name of its virtual network.
        virtual_network: String,
        /// Its name.
        tunnel: String,
        /// The verdict before.
        from: HealthState,
        /// The verdict now.
        to: HealthState,
        /// Why, as the probe saw it; absent after a success.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A pool as a whole is in another state.
    PoolState {
        /// Its name.
        pool: String,
        /// The state before.
        from: PoolState,
        /// The state now, and of what it follows.
        #[serde(flatten)]
        now: PoolCondition,
    },
    /// Other pools get the new flows of a service.
    ServicePools {
        /// Name of the service.
        service: String,
        /// Name of the region whose clients it is about; absent for all others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
        /// Names of the pools that got them before.
        from: Vec<String>,
        /// Names of the pools that get them now.
        to: Vec<String>,
        /// Whether that is the fallback pool, because no other is up.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fallback: bool,
        /// Why, for a person.
        cause: String,
    },
    /// An endpoint takes no new flows from now on, and keeps those that it has for a while.
    DrainBegun {
        /// Which endpoint.
        #[serde(flatten)]
        endpoint: Drained,
        /// Whether it was removed from the configuration; else it was drained.
        removed: bool,
        /// For how many seconds it keeps its flows at most.
        secs: u64,
    },
    /// An endpoint keeps no flows any more, or takes new ones again.
    DrainEnded {
        /// Which endpoint.
        #[serde(flatten)]
        endpoint: Drained,
        /// Why.
        why: DrainEnd,
    },
    /// A service has another lookup table, and flows may be there from before.
    TableChangeBegun {
        /// Name of the service.
        service: String,
        /// For how many seconds flows without a pin go by the table before.
        closes_in_secs: u64,
    },
    /// All flows of a service go by its lookup table again.
    TableChangeEnded {
        /// Name of the service.
        service: String,
    },
    /// A configured interface came, went, or changed.
    InterfaceState {
        /// Its name.
        interface: String,
        /// What arrives there.
        role: Role,
        /// Its state before.
        from: LinkState,
        /// Its state now.
        to: LinkState,
        /// How lbx is attached: `native` or `generic`; absent where it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<AttachMode>,
    },
    /// A packet on its way to an endpoint, one of many: it opens a TCP connection, or is a UDP datagram. Such samples are
    /// told to those who follow, and not kept.
    FlowSample(FlowSample),
    /// Not an event: some are not kept any more, and will not come. The number is that of the last one before them.
    EventsLost {
        /// How many; absent where nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
    },
}

/// A packet on its way to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowSample {
    /// Name of the service.
    pub service: String,
    /// What it listens on, as `tcp/443`.
    pub listener: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Address and port of the client.
    #[schemars(with = "SocketAddress")]
    pub client: SocketAddr,
    /// The VIP, with the port that the client has called.
    #[schemars(with = "SocketAddress")]
    pub vip: SocketAddr,
    /// Name of the pool.
    pub pool: String,
    /// Name of the endpoint.
    pub endpoint: String,
    /// Name of its virtual network.
    pub virtual_network: String,
    /// Name of the tunnel.
    pub tunnel: String,
    /// Length of the client's IP packet.
    pub bytes: u16,
    /// It is one in so many, about: `node.flow_samples.one_in`.
    pub one_in: u32,
}

/// The state of a pool, and of what it follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolCondition {
    /// The state.
    pub to: PoolState,
    /// Whether services may send new flows there.
    pub up: bool,
    /// Endpoints that are healthy, and neither drained nor without weight.
    pub healthy: u32,
    /// Endpoints that are not disabled.
    pub endpoints: u32,
    /// Those of them that are drained or without weight.
    #[serde(default, skip_serializing_if = "is_none")]
    pub closed: u32,
    /// How many must be healthy for the pool to be up.
    pub needed: u32,
    /// Whether so many are unhealthy that the monitor is not believed (`panic_threshold`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub panic: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_none(count: &u32) -> bool {
    *count == 0
}

/// An endpoint that keeps flows for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drained {
    /// Name of its pool; absent where an agent before this one removed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Its name; absent likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Name of its virtual network; absent where that has gone as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_network: Option<String>,
    /// `ADDRESS:PORT`, or `ADDRESS` where the port is kept.
    pub address: String,
}

/// Why a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainEnd {
    /// Its time is over.
    TimeOver,
    /// Its last flow has gone.
    NoFlowsLeft,
    /// It takes new flows again.
    Undrained,
    /// It was disabled.
    Disabled,
    /// No tunnel leads there any more.
    NoTunnel,
}

impl Happening {
    /// Its type; `None` of what is no event.
    pub const fn event_type(&self) -> Option<EventType> {
        Some(match self {
            Self::AgentStarted { .. } => EventType::AgentStarted,
            Self::ConfigurationChanged { .. } => EventType::ConfigurationChanged,
            Self::ConfigurationRefused { .. } => EventType::ConfigurationRefused,
            Self::EndpointHealth { .. } => EventType::EndpointHealth,
            Self::TunnelHealth { .. } => EventType::TunnelHealth,
            Self::PoolState { .. } => EventType::PoolState,
            Self::ServicePools { .. } => EventType::ServicePools,
            Self::DrainBegun { .. } => EventType::DrainBegun,
            Self::DrainEnded { .. } => EventType::DrainEnded,
            Self::TableChangeBegun { .. } => EventType::TableChangeBegun,
            Self::TableChangeEnded { .. } => EventType::TableChangeEnded,
            Self::InterfaceState { .. } => EventType::InterfaceState,
            Self::FlowSample(_) => EventType::FlowSample,
            Self::EventsLost { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests;
