//! Types of events, by which they are told apart and chosen.

use std::str::FromStr;

/// The `type` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "see the variants of `Happening`")]
pub enum EventType {
    AgentStarted,
    ConfigurationChanged,
    ConfigurationRefused,
    EndpointHealth,
    TunnelHealth,
    PoolState,
    ServicePools,
    DrainBegun,
    DrainEnded,
    TableChangeBegun,
    TableChangeEnded,
    InterfaceState,
    FlowSample,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::AgentStarted,
        Self::ConfigurationChanged,
        Self::ConfigurationRefused,
        Self::EndpointHealth,
        Self::TunnelHealth,
        Self::PoolState,
        Self::ServicePools,
        Self::DrainBegun,
        Self::DrainEnded,
        Self::TableChangeBegun,
        Self::TableChangeEnded,
        Self::InterfaceState,
        Self::FlowSample,
    ];

    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AgentStarted => "agent_started",
            Self::ConfigurationChanged => "configuration_changed",
            Self::ConfigurationRefused => "configuration_refused",
            Self::EndpointHealth => "endpoint_health",
            Self::TunnelHealth => "tunnel_health",
            Self::PoolState => "pool_state",
            Self::ServicePools => "service_pools",
            Self::DrainBegun => "drain_begun",
            Self::DrainEnded => "drain_ended",
            Self::TableChangeBegun => "table_change_begun",
            Self::TableChangeEnded => "table_change_ended",
            Self::InterfaceState => "interface_state",
            Self::FlowSample => "flow_sample",
        }
    }
}

/// The text names no type of events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are no events of type `{0}`; there are {list}", list = EventType::ALL.map(EventType::as_str).join(", "))]
pub struct NoSuchEventType(pub String);

impl FromStr for EventType {
    type Err = NoSuchEventType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| NoSuchEventType(text.to_owned()))
    }
}
