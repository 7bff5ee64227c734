//! `POST /v1/monitors/NAME/test`: one probe now.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::FullName;

/// What is to be probed: one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["endpoint"], "properties": {"endpoint": {"type": "string"}, "tunnel": {"type": "null"}}},
    {"required": ["tunnel"], "properties": {"tunnel": {"type": "string"}, "endpoint": {"type": "null"}}},
]))]
pub struct TrialRequest {
    /// An endpoint, as `POOL/NAME`. It need not be one that the monitor checks otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FullName>")]
    pub endpoint: Option<String>,
    /// A tunnel, as `VNET/NAME`, at its `probe_address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FullName>")]
    pub tunnel: Option<String>,
}

/// What one probe found. It counts for no verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialReport {
    /// Name of the monitor.
    pub monitor: String,
    /// Inner source address: the probe source of the virtual network.
    pub source: IpAddr,
    /// What was probed; port 0 = the probe is about none.
    pub target: SocketAddr,
    /// Name of the tunnel that it went by; absent where none leads there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    /// Whether it was a success.
    pub success: bool,
    /// Why not. Empty after a success.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Microseconds that the answer took; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// What was done, in order, of the attempt that decided.
    pub steps: Vec<TrialStep>,
}

/// Something that came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialStep {
    /// What was done, as `connect`.
    pub name: String,
    /// Microseconds that it took.
    pub took_us: u64,
    /// What came of it.
    pub detail: String,
}
