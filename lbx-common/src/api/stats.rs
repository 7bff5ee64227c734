//! `GET /v1/stats`: counters since the maps were made.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatsReport {
    /// One entry a service, in the order of the configuration.
    pub services: Vec<ServiceStats>,
    /// One entry an endpoint, by pool, in the order of the configuration.
    pub endpoints: Vec<EndpointStats>,
    /// One entry a tunnel, by virtual network, in the order of the configuration.
    #[serde(default)]
    pub tunnels: Vec<TunnelStats>,
    /// Dropped packets, by virtual network and reason; zero counts are left out.
    pub drops: Vec<DropCount>,
    /// What happened to flows that may live elsewhere than hash and table say.
    #[serde(default)]
    pub flows: Vec<FlowCount>,
}

/// Packets and bytes of inner IP packets, per direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Packets towards endpoints.
    pub in_packets: u64,
    /// Bytes towards endpoints.
    pub in_bytes: u64,
    /// Packets towards clients.
    pub out_packets: u64,
    /// Bytes towards clients.
    pub out_bytes: u64,
    /// TCP connection attempts (SYN without ACK).
    pub tcp_syns: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        let Self { in_packets, in_bytes, out_packets, out_bytes, tcp_syns } = other;
        self.in_packets += in_packets;
        self.in_bytes += in_bytes;
        self.out_packets += out_packets;
        self.out_bytes += out_bytes;
        self.tcp_syns += tcp_syns;
    }
}

/// Counters of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStats {
    /// Name of the service.
    pub service: String,
    /// The counters.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Counters of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointStats {
    /// Name of the pool.
    pub pool: String,
    /// Name of the endpoint.
    pub endpoint: String,
    /// Name of its virtual network.
    pub virtual_network: String,
    /// The counters.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Counters of a tunnel: packets of services, not those of health checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TunnelStats {
    /// Name of the virtual network.
    pub virtual_network: String,
    /// Name of the tunnel.
    pub tunnel: String,
    /// The counters.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Packets dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DropCount {
    /// Name of the virtual network; absent where the packet belonged to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_network: Option<String>,
    /// Stable name of the reason, or its number where this version does not know it.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// How often something happened to flows that may live elsewhere than hash and table say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowCount {
    /// Stable name.
    pub event: String,
    /// How often.
    pub count: u64,
}
