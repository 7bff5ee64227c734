//! `services`: what clients connect to.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Listen, Prefix};

/// What clients connect to, and where that goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Name, unique among services.
    pub name: String,
    /// The virtual IP (VIP), IPv4 or IPv6.
    pub address: IpAddr,
    /// What is served on the VIP, as `tcp/443`, `tcp/8000-8999` or `udp/any`.
    pub listen: Vec<Listen>,
    /// How packets reach the endpoint.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// Names of the pools, in order; exactly one for now.
    pub pools: Vec<String>,
    /// Whether echo requests to the VIP are answered; the same for all services on it.
    #[serde(default = "yes")]
    pub icmp_echo: bool,
    /// What happens to packets while no endpoint takes them. Where all services on the VIP reject, so does the VIP
    /// itself to ports that none of them has.
    #[serde(default)]
    pub no_endpoint: NoEndpoint,
    /// Clients that may connect; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Prefix>,
    /// Clients that may not, also where `allow` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Prefix>,
    /// How many flows may begin.
    #[serde(default, skip_serializing_if = "RateLimit::is_off")]
    pub rate_limit: RateLimit,
}

/// How packets reach the endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// How many flows may begin each second; 0 = any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
