//! `POST /v1/explain`: what would become of a client's packet, and why.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Prefix, Protocol, schema::SocketAddress};

/// A packet of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Address and port of the client.
    #[schemars(with = "SocketAddress")]
    pub from: SocketAddr,
    /// Address of a service (VIP) and port.
    #[schemars(with = "SocketAddress")]
    pub to: SocketAddr,
    /// What it is.
    pub protocol: Protocol,
    /// Of TCP: true = one of an established connection, false = the one that begins it.
    #[serde(default)]
    pub established: bool,
}

/// What would become of it now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainReport {
    /// What becomes of it.
    pub verdict: ExplainVerdict,
    /// Stable name of the drop reason; absent where it is not dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The service that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The listener of the service, as `tcp/443`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The client's region, where the service tells regions apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The prefix that says so: the longest that the client is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_prefix: Option<Prefix>,
    /// Slot of the flow in the service's table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Slots of that table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// The endpoint in the slot, as `POOL/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The endpoint that gets the packet, as `POOL/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Where it gets it: private address and port; with `dsr`, those of the VIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<SocketAddr>,
    /// The tunnel that it goes by, as `VNET/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    /// Why, in the order in which it was decided.
    pub why: Vec<String>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExplainVerdict {
    /// It goes to an endpoint.
    Forwarded,
    /// It is dropped.
    #[default]
    Dropped,
    /// It is dropped, and its sender is told.
    Refused,
    /// It is not lbx's: the host has it.
    Passed,
}

impl ExplainVerdict {
    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Dropped => "dropped",
            Self::Refused => "refused",
            Self::Passed => "passed",
        }
    }
}
