//! `pools` and their `endpoints`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Location,
    schema::{Address, Name, Weight},
};
use crate::abi::TABLE_SIZES;

/// A weighted set of endpoints, checked by one monitor or by several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Name, unique among pools.
    #[schemars(with = "Name")]
    pub name: String,
    /// Name of the monitor; without one every enabled endpoint counts as healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Name>")]
    pub monitor: Option<String>,
    /// Several monitors instead of one: an endpoint is unhealthy when more than half of them say so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(!skip_serializing_if)]
    pub monitor_group: Vec<GroupMonitor>,
    /// The pool is up while so many of its endpoints take new flows; 1 or more.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1), !skip_serializing_if)]
    pub minimum_endpoints: u32,
    /// Percent of the pool's new flows that go to the next pool of their service that is up.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 100), !skip_serializing_if)]
    pub load_shedding: u8,
    /// Percent of the pool's endpoints that may be unhealthy; where more are, the monitor is not believed, and all take
    /// flows. 0 = it is believed always.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 100), !skip_serializing_if)]
    pub panic_threshold: u8,
    /// How flows find an endpoint.
    #[serde(default, skip_serializing_if = "EndpointSteering::is_default")]
    #[schemars(!skip_serializing_if)]
    pub endpoint_steering: EndpointSteering,
    /// Where it is, for services with `steering_policy: proximity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Slots of the pool's lookup table, default: the smallest that is at least 100 × the number of
    /// endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = table_sizes()))]
    pub table_size: Option<u32>,
    /// The origins.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

/// A monitor among others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupMonitor {
    /// Name of the monitor.
    #[schemars(with = "Name")]
    pub monitor: String,
    /// Whether an endpoint is unhealthy when this one alone says so.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schemars(!skip_serializing_if)]
    pub must_be_healthy: bool,
    /// Whether what it says is shown and counts for nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schemars(!skip_serializing_if)]
    pub monitoring_only: bool,
}

/// How flows find an endpoint of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointSteering {
    /// By a hash of addresses and ports: each flow for itself.
    #[default]
    Random,
    /// By a hash of the source address: all flows of a client together.
    Hash,
    /// As with `random`, in shares that lead to equal numbers of live flows. Every flow of the services is remembered, as
    /// with `connection_tracking: always`.
    LeastConnections,
}

impl EndpointSteering {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Hash => "hash",
            Self::LeastConnections => "least_connections",
        }
    }

    /// Whether nothing else was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Name, unique in the pool.
    #[schemars(with = "Name")]
    pub name: String,
    /// Name of the virtual network it lives in.
    #[schemars(with = "Name")]
    pub virtual_network: String,
    /// Private address in that network, of the family of the services' addresses.
    #[schemars(with = "Address")]
    pub address: IpAddr,
    /// Port; without one the client's destination port is kept. Where a service listens on a range, the first
    /// of as many ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Share of new flows relative to the other endpoints: 0 … 1 in steps of 0.01. 0 = no new flows.
    #[serde(default = "full_weight")]
    #[schemars(with = "Weight")]
    pub weight: f64,
    /// false = no traffic and no probes, from one moment to the next.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// true = no new flows; those that there are stay for the service's `drain` time. Set by `lbx-ctl endpoint drain`.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schemars(!skip_serializing_if)]
    pub drained: bool,
    /// Names of the network's tunnels that lead there; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Name>", !skip_serializing_if)]
    pub tunnels: Vec<String>,
}

impl Pool {
    /// A pool of which no more is said than its name: all else has its default.
    pub fn new(name: String) -> Self {
        Self {
            name,
            monitor: None,
            monitor_group: Vec::new(),
            minimum_endpoints: one(),
            load_shedding: 0,
            panic_threshold: 0,
            endpoint_steering: EndpointSteering::default(),
            location: None,
            table_size: None,
            endpoints: Vec::new(),
        }
    }
}

impl Pool {
    /// The names of all monitors that check its endpoints.
    pub fn monitors(&self) -> impl Iterator<Item = &str> {
        self.monitor.as_deref().into_iter().chain(self.monitor_group.iter().map(|one| one.monitor.as_str()))
    }
}

impl Endpoint {
    /// An endpoint of which no more is said than what it must have: all else has its default.
    pub fn new(name: String, virtual_network: String, address: IpAddr) -> Self {
        Self {
            name,
            virtual_network,
            address,
            port: None,
            weight: full_weight(),
            enabled: yes(),
            drained: false,
            tunnels: Vec::new(),
        }
    }
}

fn table_sizes() -> Vec<Option<u32>> {
    TABLE_SIZES.into_iter().map(Some).chain([None]).collect()
}

const fn full_weight() -> f64 {
    1.0
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_one(value: &u32) -> bool {
    *value == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_zero(value: &u8) -> bool {
    *value == 0
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_is_what_the_least_text_says() {
        let text = r#"{"name": "a", "virtual_network": "v", "address": "192.0.2.1"}"#;
        let least: Endpoint = serde_json::from_str(text).unwrap();
        assert_eq!(Endpoint::new("a".into(), "v".into(), [192, 0, 2, 1].into()), least);
        assert_eq!(Pool::new("p".into()), serde_json::from_str(r#"{"name": "p"}"#).unwrap());
    }
}
