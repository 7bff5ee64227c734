//! What a request says: the place its path names, its options, its body. Knows nothing of the configuration.

use axum::{
    body::{self, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use lbx_common::api::{Collection, FlowQuery, MAX_FLOWS, Revision};
use serde::Deserialize;
use serde_json::Value;

use super::error::ApiError;

/// Largest body: a configuration of 65,535 endpoints is about 10 MB.
const BODY_LIMIT_BYTES: usize = 64 << 20;

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
        let (collection, mut names) = place(parts, state).await?;
        Ok(Self { collection, parent: names.pop() })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ObjectPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let (collection, mut names) = place(parts, state).await?;
        let name = names.pop().ok_or_else(|| no_such_path(parts.uri.path(), ""))?;
        Ok(Self { within: CollectionPath { collection, parent: names.pop() }, name })
    }
}

/// The collection of the route, and the names in the path.
async fn place<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<(Collection, Vec<String>), ApiError> {
    let Path(names) = Path::<Vec<String>>::from_request_parts(parts, state)
        .await
        .map_err(|error| ApiError::Malformed(error.body_text()))?;
    let collection = parts.extensions.get().copied();
    Ok((collection.ok_or_else(|| no_such_path(parts.uri.path(), ""))?, names))
}

/// The answer to a path that leads nowhere. `known` is what there is directly below `/v1/`.
pub(super) fn no_such_path(path: &str, known: &str) -> ApiError {
    let steps: Vec<&str> = path.split('/').skip(1).collect();
    let collection = |name: &str| name.parse::<Collection>().ok();
    ApiError::NotFound(match steps.as_slice() {
        ["v1", name, _] if collection(name).is_some_and(|inner| inner.parent().is_some()) => {
            let outer = collection(name).and_then(Collection::parent);
            let (singular, outer) = outer.map_or(("", ""), |outer| (outer.singular(), outer.as_str()));
            format!("{name} are reached through their {singular}: /v1/{outer}/NAME/{name}/NAME")
        }
        ["v1", outer, _, inner, ..] if collection(outer).is_some() && collection(inner).is_some() => {
            format!("{outer} contain no {inner}")
        }
        _ => format!("there is no `{path}`: below /v1/ there are {known}"),
    })
}

/// The answer to a method that a path does not take.
pub(super) fn no_such_method(method: &Method, path: &str) -> ApiError {
    let collection = path.strip_prefix("/v1/").and_then(|name| name.parse::<Collection>().ok());
    let parent = collection.and_then(|inner| Some((inner, inner.parent()?)));
    ApiError::NotAllowed(match parent {
        Some((inner, outer)) => {
            format!("`{path}` takes no {method}: {inner} are made below /v1/{outer}/NAME/{inner}")
        }
        None => format!("`{path}` takes no {method}"),
    })
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

/// Reads the body before anything is answered, however little of the request makes sense: an answer that comes before
/// the body has ends the connection, and a client that is still sending sees no more than that.
pub(super) async fn read_first(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match body::to_bytes(body, BODY_LIMIT_BYTES).await {
        Ok(bytes) => next.run(Request::from_parts(parts, bytes.into())).await,
        Err(_) => {
            ApiError::TooLarge(format!("the body is larger than {BODY_LIMIT_BYTES} bytes")).into_response()
        }
    }
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
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| ApiError::Malformed(error.body_text()))?;
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
