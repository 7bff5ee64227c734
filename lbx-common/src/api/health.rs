//! `GET /v1/health`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Health of every pool, endpoint and tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthReport {
    /// One entry a pool, in the order of the configuration.
    pub pools: Vec<PoolHealth>,
    /// One entry a service, in the order of the configuration.
    #[serde(default)]
    pub services: Vec<ServiceHealth>,
    /// One entry a tunnel with a monitor, in the order of the configuration.
    #[serde(default)]
    pub tunnels: Vec<TunnelHealth>,
    /// Endpoints that are not configured any more and still keep flows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<RemovedEndpoint>,
}

/// Which pools serve a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceHealth {
    /// Name of the service.
    pub service: String,
    /// Names of the pools that get new flows.
    pub serving: Vec<String>,
    /// Names of its other pools: each is down, or another goes before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standby: Vec<String>,
    /// Whether that is the fallback pool, because no other is up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fallback: bool,
    /// The same for clients of each region that the service tells apart; `serving` is then for all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionServing>,
}

impl ServiceHealth {
    /// Whether a pool gets new flows, of clients of any region.
    pub fn is_served_by(&self, pool: &str) -> bool {
        let of_regions = self.regions.iter().flat_map(|region| &region.serving);
        self.serving.iter().chain(of_regions).any(|name| name == pool)
    }
}

/// Which pools serve clients of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionServing {
    /// Name of the region.
    pub region: String,
    /// Its pools, in order.
    pub pools: Vec<String>,
    /// Names of the pools that get new flows.
    pub serving: Vec<String>,
    /// Whether that is the fallback pool.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fallback: bool,
}

/// Health of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolHealth {
    /// Name of the pool.
    pub pool: String,
    /// Name of its monitor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<String>,
    /// The pool as a whole.
    pub state: PoolState,
    /// Whether so many endpoints are unhealthy that the monitor is not believed (`panic_threshold`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub panic: bool,
    /// Mean of the round trips of probes to its endpoints that take flows, the last ones before all, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// One entry an endpoint, in the order of the configuration.
    pub endpoints: Vec<EndpointHealth>,
}

/// Health of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointHealth {
    /// Name of the endpoint.
    pub endpoint: String,
    /// Name of its virtual network.
    pub virtual_network: String,
    /// `ADDRESS:PORT`, or `ADDRESS` where the port is kept.
    pub address: String,
    /// The verdict.
    pub state: HealthState,
    /// Why, as the last probe saw it; empty without a probe.
    #[serde(default)]
    pub reason: String,
    /// Seconds since the state last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_secs: Option<u64>,
    /// Round trip of the last successful probe, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// What each monitor of its pool's `monitor_group` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub monitors: Vec<MonitorHealth>,
    /// Its live flows, as the agent saw them some seconds ago; only in a pool with `least_connections`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_flows: Option<u32>,
    /// Percent of what its weight says that it gets of the new flows, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_percent: Option<u8>,
    /// What is left of it, where it is drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// What one monitor of several says of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MonitorHealth {
    /// Name of the monitor.
    pub monitor: String,
    /// Its verdict.
    pub state: HealthState,
    /// Whether the endpoint is unhealthy when this one alone says so.
    #[serde(default, skip_serializing_if = "is_false")]
    pub must_be_healthy: bool,
    /// Whether it counts for nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub monitoring_only: bool,
    /// Why, as its last probe saw it; empty without a probe.
    #[serde(default)]
    pub reason: String,
    /// Round trip of its last successful probe, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
}

/// An endpoint that takes no new flows and keeps the ones that it has for a while.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// Seconds until it keeps no flow; 0 = it keeps none now.
    pub secs_left: u64,
    /// Its flows that are pinned, as the agent saw them some seconds ago. With `connection_tracking: always` these are
    /// all that there are.
    pub pinned_flows: u64,
}

/// An endpoint that is not configured any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedEndpoint {
    /// Name of its virtual network; absent where that has gone as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_network: Option<String>,
    /// `ADDRESS:PORT`, or `ADDRESS` where the port was kept.
    pub address: String,
    /// What is left of it.
    #[serde(flatten)]
    pub drain: Drain,
}

/// Health of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TunnelHealth {
    /// Name of its virtual network.
    pub virtual_network: String,
    /// Name of the tunnel.
    pub tunnel: String,
    /// Name of its monitor.
    pub monitor: String,
    /// What is probed: `ADDRESS:PORT` of the gateway, inside.
    pub address: String,
    /// The verdict.
    pub state: HealthState,
    /// Why, as the last probe saw it; empty without a probe.
    #[serde(default)]
    pub reason: String,
    /// Seconds since the state last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_secs: Option<u64>,
    /// Round trip of the last successful probe, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
}

/// Verdict on an endpoint or a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Takes flows.
    Healthy,
    /// Takes none.
    Unhealthy,
    /// Not yet probed: an endpoint takes none, a tunnel does.
    Unknown,
    /// Switched off in the configuration.
    Disabled,
}

impl HealthState {
    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
            Self::Disabled => "disabled",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A pool as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolState {
    /// All enabled endpoints are healthy.
    Healthy,
    /// Some are not, and those that take new flows are as many as the pool must have.
    Degraded,
    /// It has not so many: the pool is down.
    Critical,
    /// No verdict yet on any.
    Unknown,
}

impl PoolState {
    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }
}
