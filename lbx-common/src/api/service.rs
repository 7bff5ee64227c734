//! `services`: what clients connect to.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Listen, Prefix,
    schema::{Address, Name, Time, Weight},
};

/// What clients connect to, and where that goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Name, unique among services.
    #[schemars(with = "Name")]
    pub name: String,
    /// The virtual IP (VIP), IPv4 or IPv6.
    #[schemars(with = "Address")]
    pub address: IpAddr,
    /// What is served on the VIP, as `tcp/443`, `tcp/8000-8999` or `udp/any`.
    #[schemars(length(min = 1))]
    pub listen: Vec<Listen>,
    /// How packets reach the endpoint.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// Names of the pools, in order.
    #[schemars(with = "Vec<Name>", length(min = 1))]
    pub pools: Vec<String>,
    /// Name of the pool that serves while none of `pools` is up, whatever its own health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Name>")]
    pub fallback_pool: Option<String>,
    /// How the pools share the flows.
    #[serde(default, skip_serializing_if = "SteeringPolicy::is_default")]
    #[schemars(!skip_serializing_if)]
    pub steering_policy: SteeringPolicy,
    /// Shares of the pools, with `steering_policy: random`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_steering: Option<RandomSteering>,
    /// The pools of each region's clients, in order, with [`SteeringPolicy::Geo`]; those of no region listed here have
    /// `pools`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<Name, Vec<Name>>", !skip_serializing_if)]
    pub region_pools: BTreeMap<String, Vec<String>>,
    /// Whether echo requests to the VIP are answered; the same for all services on it.
    #[serde(default = "yes")]
    pub icmp_echo: bool,
    /// What happens to packets while no endpoint takes them. Where all services on the VIP reject, so does the VIP
    /// itself to ports that none of them has.
    #[serde(default)]
    pub no_endpoint: NoEndpoint,
    /// Flows that stay together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
    /// How long a drained or removed endpoint keeps the flows that it has; 0s … 48h.
    #[serde(with = "humantime_serde", default = "default_drain")]
    #[schemars(with = "Time")]
    pub drain: Duration,
    /// What becomes of established TCP connections when their endpoint is down.
    #[serde(default)]
    pub on_endpoint_down: OnEndpointDown,
    /// Which flows are remembered.
    #[serde(default)]
    pub connection_tracking: ConnectionTracking,
    /// Clients that may connect; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000), !skip_serializing_if)]
    pub allow: Vec<Prefix>,
    /// Clients that may not, also where `allow` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000), !skip_serializing_if)]
    pub deny: Vec<Prefix>,
    /// How many flows may begin.
    #[serde(default, skip_serializing_if = "RateLimit::is_off")]
    #[schemars(!skip_serializing_if)]
    pub rate_limit: RateLimit,
}

impl Service {
    /// A service of which no more is said than what it must have: all else has its default.
    pub fn new(name: String, address: IpAddr, listen: Vec<Listen>, pools: Vec<String>) -> Self {
        Self {
            name,
            address,
            listen,
            forwarding: Forwarding::default(),
            pools,
            fallback_pool: None,
            steering_policy: SteeringPolicy::default(),
            random_steering: None,
            region_pools: BTreeMap::new(),
            icmp_echo: yes(),
            no_endpoint: NoEndpoint::default(),
            session_affinity: None,
            drain: default_drain(),
            on_endpoint_down: OnEndpointDown::default(),
            connection_tracking: ConnectionTracking::default(),
            allow: Vec::new(),
            deny: Vec::new(),
            rate_limit: RateLimit::default(),
        }
    }
}

/// How pools share the flows of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SteeringPolicy {
    /// The first one that is up takes all.
    #[default]
    Failover,
    /// All that are up, by weight.
    Random,
    /// The one that is up whose endpoints answer probes soonest takes all.
    DynamicLatency,
    /// The first one that is up of those that the client's region has.
    Geo,
    /// The one that is up and nearest to the client's region.
    Proximity,
}

impl SteeringPolicy {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Random => "random",
            Self::DynamicLatency => "dynamic_latency",
            Self::Geo => "geo",
            Self::Proximity => "proximity",
        }
    }

    /// Whether pools depend on the client's region.
    pub const fn is_by_region(self) -> bool {
        matches!(self, Self::Geo | Self::Proximity)
    }

    /// Whether nothing else was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Shares of pools, relative to each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomSteering {
    /// Of pools that are not named: 0 … 1 in steps of 0.01.
    #[serde(default = "full_weight")]
    #[schemars(with = "Weight")]
    pub default_weight: f64,
    /// Of pools, by name. 0 = no new flows while another pool is up.
    #[serde(default)]
    #[schemars(with = "BTreeMap<Name, Weight>")]
    pub pool_weights: BTreeMap<String, f64>,
}

/// How packets reach the endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forwarding {
    /// Destination rewritten to the endpoint's private address; replies come back through the tunnel.
    #[default]
    Nat,
    /// Direct server return: packets stay as they are; the endpoint ends its tunnel itself, holds the VIP and
    /// answers clients by its own way.
    Dsr,
}

impl Forwarding {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Dsr => "dsr",
        }
    }
}

/// What happens to packets while no endpoint takes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoEndpoint {
    /// They are dropped.
    #[default]
    Drop,
    /// TCP is answered with RST, UDP with an ICMP error.
    Reject,
}

impl NoEndpoint {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }
}

/// What keeps flows of one client together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionAffinity {
    /// By what.
    #[serde(rename = "type", default)]
    pub kind: AffinityKind,
    /// Leading bits of an IPv4 source that count, 1 … 32.
    #[serde(default = "whole_ipv4")]
    #[schemars(range(min = 1, max = 32))]
    pub prefix_ipv4: u8,
    /// Leading bits of an IPv6 source that count, 1 … 128.
    #[serde(default = "subnet_ipv6")]
    #[schemars(range(min = 1, max = 128))]
    pub prefix_ipv6: u8,
    /// For how long after its last flow a source's flows go where that one went, whatever became of the table;
    /// 1s … 7d. Without it they go where the table says.
    #[serde(with = "humantime_serde", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub ttl: Option<Duration>,
}

/// By what flows are kept together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AffinityKind {
    /// The client's address.
    #[default]
    SourceIp,
}

/// What becomes of established TCP connections when their endpoint is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnEndpointDown {
    /// Their packets still go there: it may come back, and knows them then.
    #[default]
    Keep,
    /// They go where new flows go, and are reset there.
    Reset,
}

impl OnEndpointDown {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Reset => "reset",
        }
    }
}

/// Which flows are remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionTracking {
    /// Those that live elsewhere than their hash says.
    #[default]
    Auto,
    /// All.
    Always,
    /// None: hash and table decide alone, and a change moves flows.
    Off,
}

impl ConnectionTracking {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Off => "off",
        }
    }
}

/// How many flows may begin each second; 0 = any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// In all.
    #[serde(default)]
    pub new_flows_per_second: u32,
    /// From one source address.
    #[serde(default)]
    pub per_source: u32,
}

impl RateLimit {
    /// Whether nothing is limited.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

const fn yes() -> bool {
    true
}

const fn full_weight() -> f64 {
    1.0
}

const fn whole_ipv4() -> u8 {
    32
}

const fn subnet_ipv6() -> u8 {
    64
}

/// Time that a drained or removed endpoint keeps its flows.
const fn default_drain() -> Duration {
    Duration::from_mins(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_is_what_the_least_text_says() {
        let text = r#"{"name": "a", "address": "192.0.2.1", "listen": ["tcp/1"], "pools": ["a"]}"#;
        let least: Service = serde_json::from_str(text).unwrap();
        let new =
            Service::new("a".into(), [192, 0, 2, 1].into(), vec!["tcp/1".parse().unwrap()], vec!["a".into()]);
        assert_eq!(new, least);
    }
}
