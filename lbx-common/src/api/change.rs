//! What a write to the API changed, or would change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Endpoint, Revision, Tunnel};

/// Answer to an accepted write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WriteReport {
    /// Revision that is in force after the write; after a dry run, the one it was checked against.
    pub revision: Revision,
    /// True = checked only, nothing was changed.
    #[serde(default)]
    pub dry_run: bool,
    /// What differs, in the order in which objects depend on each other; empty = nothing.
    pub changes: Vec<Change>,
}

/// One object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What happened to it.
    pub action: ChangeAction,
    /// Its place in the configuration: a collection, `node`, `limits` or `version`.
    pub collection: String,
    /// Its name, `PARENT/NAME` for tunnels and endpoints. Empty = the collection itself: `node` and `limits`
    /// have no name, and of a collection only the order changed.
    pub name: String,
    /// Fields that differ, where `action` is `changed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeAction {
    /// It is new.
    Created,
    /// It was there and differs.
    Changed,
    /// It is gone.
    Deleted,
}

impl ChangeAction {
    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// Name of the field.
    pub field: String,
    /// Value before; absent = the field was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// Value after; absent = the field is no longer set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// Entry of `GET /v1/tunnels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListedTunnel {
    /// Name of the virtual network it belongs to.
    pub virtual_network: String,
    /// The tunnel.
    #[serde(flatten)]
    pub tunnel: Tunnel,
}

/// Entry of `GET /v1/endpoints`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListedEndpoint {
    /// Name of the pool it belongs to.
    pub pool: String,
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: Endpoint,
}
