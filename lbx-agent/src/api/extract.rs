//! What a request says: the place its path names, its options, its body. Knows nothing of the configuration.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use lbx_common::api::{Collection, FlowQuery, MAX_FLOWS, Revision};
use serde::Deserialize;
use serde_json::Value;

use super::error::ApiError;

/// A collection; `parent` names the object that contains it, for tunnels and endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CollectionPath {
    pub collection: Collection,
    pub parent: Option<String>,
}

/// One object of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectPath {
    pub within: CollectionPath,
    pub name: String,
}

impl ObjectPath {
    /// The name as messages and the CLI write it: `POOL/ENDPOINT`.
    pub(super) fn full_name(&self) -> String {
        match &self.within.parent {
            Some(parent) => format!("{parent}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CollectionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        match segments(parts, state).await?.as_slice() {
            [name] => Ok(Self { collection: collection(name)?, parent: None }),
            [outer, parent, name] => within(outer, parent, name),
            _ => Err(no_such_path(parts.uri.path())),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ObjectPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        match segments(parts, state).await?.as_slice() {
            [name, object] => {
                let collection = collection(name)?;
                if let Some(outer) = collection.parent() {
                    return Err(ApiError::NotFound(format!(
                        "{collection} are reached through their {}: /v1/{outer}/NAME/{collection}/NAME",
                        outer.singular()
                    )));
                }
                let within = CollectionPath { collection, parent: None };
                Ok(Self { within, name: object.clone() })
            }
            [outer, parent, name, object] => {
                Ok(Self { within: within(outer, parent, name)?, name: object.clone() })
            }
            _ => Err(no_such_path(parts.uri.path())),
        }
    }
}

async fn segments<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Vec<String>, ApiError> {
    let Path(segments) = Path::<Vec<String>>::from_request_parts(parts, state)
        .await
        .map_err(|error| ApiError::Malformed(error.body_text()))?;
    Ok(segments)
}

fn collection(name: &str) -> Result<Collection, ApiError> {
    name.parse().map_err(|error| ApiError::NotFound(format!("{error}; there are {}", all_collections())))
}

fn within(outer: &str, parent: &str, name: &str) -> Result<CollectionPath, ApiError> {
    let (outer, inner) = (collection(outer)?, collection(name)?);
    if inner.parent() != Some(outer) {
        return Err(ApiError::NotFound(format!("{outer} contain no {inner}")));
    }
    Ok(CollectionPath { collection: inner, parent: Some(parent.to_owned()) })
}

/// The answer to a path that leads nowhere.
pub(super) fn no_such_path(path: &str) -> ApiError {
    ApiError::NotFound(format!(
        "there is no `{path}`: below /v1/ there are config, health, flows, stats, status, {}",
        all_collections()
    ))
}

fn all_collections() -> String {
    Collection::ALL.map(Collection::as_str).join(", ")
}

/// How a write is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WriteOptions {
    /// Check only.
    pub dry_run: bool,
    /// The revision that the writer had read.
    pub if_match: Option<Revision>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteQuery {
    #[serde(default)]
    dry_run: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for WriteOptions {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Query(query) = Query::<WriteQuery>::from_request_parts(parts, state).await.map_err(|error| {
            ApiError::Malformed(format!("{}; writes take `?dry_run=true` or nothing", error.body_text()))
        })?;
        Ok(Self { dry_run: query.dry_run, if_match: if_match(&parts.headers)? })
    }
}

/// Which flows are asked for.
pub(super) struct FlowFilter(pub FlowQuery);

impl<S: Send + Sync> FromRequestParts<S> for FlowFilter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Query(query) = Query::<FlowQuery>::from_request_parts(parts, state).await.map_err(|error| {
            ApiError::Malformed(format!(
                "{}; flows are filtered by `service=NAME`, `endpoint=POOL/NAME`, `client=PREFIX`, and `limit=N` says \
                 how many are listed",
                error.body_text()
            ))
        })?;
        if query.limit > MAX_FLOWS {
            return Err(ApiError::Malformed(format!(
                "limit: found {}, expected 0 to {MAX_FLOWS}",
                query.limit
            )));
        }
        Ok(Self(query))
    }
}

fn if_match(headers: &HeaderMap) -> Result<Option<Revision>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    number.parse().map(Some).map_err(|_| {
        ApiError::Malformed(format!(
            "If-Match: `{text}` is no revision: send the ETag of the last answer, as \"7\""
        ))
    })
}

/// The body of a request and whether it is YAML.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Bytes,
    yaml: bool,
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let yaml = content_type.is_some_and(|value| value.to_ascii_lowercase().contains("yaml"));
        let bytes = Bytes::from_request(request, state).await.map_err(|error| {
            if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::TooLarge(format!(
                    "the body is larger than {} bytes",
                    super::handlers::BODY_LIMIT_BYTES
                ))
            } else {
                ApiError::Malformed(error.body_text())
            }
        })?;
        Ok(Self { bytes, yaml })
    }
}

impl Body {
    /// The body as YAML text, if that is what it is.
    pub(super) fn yaml(&self) -> Result<Option<&str>, ApiError> {
        if !self.yaml {
            return Ok(None);
        }
        str::from_utf8(&self.bytes)
            .map(Some)
            .map_err(|error| ApiError::Malformed(format!("the body is not UTF-8 text: {error}")))
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, ApiError> {
        if self.yaml {
            return Err(ApiError::Malformed(
                "only /v1/config takes YAML: send JSON here (Content-Type: application/json)".to_owned(),
            ));
        }
        serde_json::from_slice(&self.bytes)
            .map_err(|error| ApiError::Malformed(format!("the body is no valid JSON: {error}")))
    }
}
