//! What a write to the API changed, or would change.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Collection, Endpoint, Revision, Tunnel};

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

impl Change {
    /// One line for a person: what was done, or, with `dry_run`, would be done.
    pub fn line(&self, dry_run: bool) -> String {
        let collection: Option<Collection> = self.collection.parse().ok();
        let what = match (collection, self.name.as_str()) {
            (Some(collection), "") => format!("order of {collection}"),
            (Some(collection), name) => format!("{} {name}", collection.singular()),
            (None, "") => self.collection.clone(),
            (None, name) => format!("{} {name}", self.collection),
        };
        let action = match (self.action, dry_run) {
            (action, false) => action.as_str(),
            (ChangeAction::Created, true) => "would create",
            (ChangeAction::Changed, true) => "would change",
            (ChangeAction::Deleted, true) => "would delete",
        };
        let fields: Vec<String> = self.fields.iter().map(ToString::to_string).collect();
        let colon = if fields.is_empty() { "" } else { ": " };
        format!("{action} {what}{colon}{}", fields.join(", "))
    }
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
    pub before: Option<Value>,
    /// Value after; absent = the field is no longer set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A bare word reads better than a quoted one.
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let field = &self.field;
        match (self.before.as_ref().map(plain), self.after.as_ref().map(plain)) {
            (Some(before), Some(after)) => write!(f, "{field} {before} -> {after}"),
            (None, Some(after)) => write!(f, "{field} set to {after}"),
            (Some(before), None) => write!(f, "{field} no longer {before}"),
            (None, None) => f.write_str(field),
        }
    }
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
