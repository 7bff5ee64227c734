//! `GET /v1/flows`: flows that are remembered by a pin, because they live elsewhere than hash and table say.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Prefix, Protocol,
    schema::{FullName, Name},
};

/// Which pins are asked for; each part that is there must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowQuery {
    /// Name of a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Name>")]
    pub service: Option<String>,
    /// An endpoint, as `POOL/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FullName>")]
    pub endpoint: Option<String>,
    /// Addresses of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Prefix>,
    /// How many are listed at most, 0 … 10,000; all are counted.
    #[serde(default = "default_limit")]
    #[schemars(range(max = MAX_FLOWS))]
    pub limit: u32,
}

/// How many flows are listed where nothing is said.
pub const DEFAULT_FLOWS: u32 = 100;
/// How many are listed at most.
pub const MAX_FLOWS: u32 = 10_000;

const fn default_limit() -> u32 {
    DEFAULT_FLOWS
}

/// The pins that match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowsReport {
    /// How many match, also those that are not listed.
    pub matching: u64,
    /// Some of them, in no order.
    pub flows: Vec<PinnedFlow>,
}

/// A flow and where it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PinnedFlow {
    /// Name of the service.
    pub service: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Address and port of the client.
    pub client: SocketAddr,
    /// Address and port that the client connected to.
    pub vip: SocketAddr,
    /// The endpoint, as `POOL/NAME`; absent where it is not configured any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Name of the virtual network; absent likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_network: Option<String>,
    /// The endpoint's address and port there.
    pub address: SocketAddr,
    /// What lbx has seen of its end.
    pub state: FlowState,
    /// Seconds since its last packet, to 69 s for TCP and to 2 s for UDP.
    pub idle_secs: u64,
}

/// What was seen of a flow's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// Nothing.
    Open,
    /// One side is done.
    Closing,
    /// Both are; the pin goes in some seconds.
    Ended,
}

impl FlowState {
    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Ended => "ended",
        }
    }
}
