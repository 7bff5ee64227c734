//! How each operation becomes calls of [`Control`]. Status codes of refusals are chosen in `error`; which operation has
//! which handler, in `operations`.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use lbx_common::api::{
    Collection, Config, ConfigDocument, ExplainReport, ExplainRequest, FlowsReport, HealthReport,
    ListedEndpoint, ListedTunnel, Revision, StatsReport, StatusReport, TrialReport, TrialRequest,
    WriteReport,
};
use serde_json::Value;

use super::{
    YamlLoader,
    edit::{self, Edit},
    error::ApiError,
    extract::{Body, CollectionPath, FlowFilter, ObjectPath, WriteOptions},
    openapi,
};
use crate::{
    config,
    control::{Control, RefusedError, TrialOf},
    metrics,
};

/// How often a write is repeated after somebody else was faster. Each round somebody got on, so that many
/// lost races in a row mean a broken store rather than busy users.
const ATTEMPTS: usize = 32;

#[derive(Clone)]
pub(super) struct Api<C> {
    pub control: C,
    pub yaml: YamlLoader,
}

pub(super) async fn read_config<C: Control>(
    State(api): State<Api<C>>,
) -> Result<impl IntoResponse, ApiError> {
    let document = api.control.config().await?;
    Ok((etag(document.revision), Json(document)))
}

pub(super) async fn write_config<C: Control>(
    State(api): State<Api<C>>,
    options: WriteOptions,
    body: Body,
) -> Result<Response, ApiError> {
    let Some(text) = body.yaml()? else {
        let config = edit::from_json(body.json()?)?;
        return Ok(accepted(write(&api.control, options, |_| Ok(config.clone())).await?, StatusCode::OK));
    };
    let config = (api.yaml.load)(text).map_err(RefusedError::Invalid)?;
    let report = write(&api.control, options, |_| Ok(config.clone())).await.map_err(|error| match error {
        ApiError::Refused(RefusedError::Invalid(mut mistakes)) => {
            (api.yaml.locate)(text, &mut mistakes);
            ApiError::Refused(RefusedError::Invalid(mistakes))
        }
        other @ (ApiError::Malformed(_)
        | ApiError::TooLarge(_)
        | ApiError::NotFound(_)
        | ApiError::NotAllowed(_)
        | ApiError::Exists { .. }
        | ApiError::Referenced { .. }
        | ApiError::Busy(_)
        | ApiError::Refused(_)) => other,
    })?;
    Ok(accepted(report, StatusCode::OK))
}

pub(super) async fn list<C: Control>(
    State(api): State<Api<C>>,
    within: CollectionPath,
) -> Result<impl IntoResponse, ApiError> {
    let document = api.control.config().await?;
    let config = &document.config;
    let objects: Value = match within {
        CollectionPath { collection: Collection::Tunnels, parent: None } => {
            edit::to_json(&all_tunnels(config))?
        }
        CollectionPath { collection: Collection::Endpoints, parent: None } => {
            edit::to_json(&all_endpoints(config))?
        }
        within => Value::Array(edit::list(config, &within)?),
    };
    Ok((etag(document.revision), Json(objects)))
}

fn all_tunnels(config: &Config) -> Vec<ListedTunnel> {
    let listed = |vnet: &str, tunnel: &lbx_common::api::Tunnel| ListedTunnel {
        virtual_network: vnet.to_owned(),
        tunnel: tunnel.clone(),
    };
    config
        .virtual_networks
        .iter()
        .flat_map(|vnet| vnet.tunnels.iter().map(move |tunnel| listed(&vnet.name, tunnel)))
        .collect()
}

fn all_endpoints(config: &Config) -> Vec<ListedEndpoint> {
    let listed = |pool: &str, endpoint: &lbx_common::api::Endpoint| ListedEndpoint {
        pool: pool.to_owned(),
        endpoint: endpoint.clone(),
    };
    config
        .pools
        .iter()
        .flat_map(|pool| pool.endpoints.iter().map(move |endpoint| listed(&pool.name, endpoint)))
        .collect()
}

pub(super) async fn read<C: Control>(
    State(api): State<Api<C>>,
    object: ObjectPath,
) -> Result<impl IntoResponse, ApiError> {
    let document = api.control.config().await?;
    Ok((etag(document.revision), Json(edit::get(&document.config, &object)?)))
}

pub(super) async fn create<C: Control>(
    State(api): State<Api<C>>,
    within: CollectionPath,
    options: WriteOptions,
    body: Body,
) -> Result<Response, ApiError> {
    let edit = Edit::Create(within, body.json()?);
    let report = write(&api.control, options, |config| edit.apply(config)).await?;
    let status = if report.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    Ok(accepted(report, status))
}

pub(super) async fn put<C: Control>(
    State(api): State<Api<C>>,
    object: ObjectPath,
    options: WriteOptions,
    body: Body,
) -> Result<Response, ApiError> {
    edit_object(&api, options, &Edit::Put(object, body.json()?)).await
}

pub(super) async fn patch<C: Control>(
    State(api): State<Api<C>>,
    object: ObjectPath,
    options: WriteOptions,
    body: Body,
) -> Result<Response, ApiError> {
    edit_object(&api, options, &Edit::Patch(object, body.json()?)).await
}

pub(super) async fn delete<C: Control>(
    State(api): State<Api<C>>,
    object: ObjectPath,
    options: WriteOptions,
) -> Result<Response, ApiError> {
    edit_object(&api, options, &Edit::Delete(object)).await
}

async fn edit_object<C: Control>(
    api: &Api<C>,
    options: WriteOptions,
    edit: &Edit,
) -> Result<Response, ApiError> {
    Ok(accepted(write(&api.control, options, |config| edit.apply(config)).await?, StatusCode::OK))
}

/// Reads, changes and replaces the configuration. Every write names the revision it started from, so a lost race
/// is noticed; it is repeated unless the client itself insisted on a revision.
async fn write<C: Control>(
    control: &C,
    options: WriteOptions,
    change: impl Fn(&Config) -> Result<Config, ApiError>,
) -> Result<WriteReport, ApiError> {
    let mut lost = None;
    for _ in 0..ATTEMPTS {
        let ConfigDocument { revision: current, config: before } = control.config().await?;
        if let Some(expected) = options.if_match.filter(|&expected| expected != current) {
            return Err(RefusedError::Conflict { expected, current }.into());
        }
        let after = change(&before)?;
        let changes = config::diff(&before, &after).map_err(|error| edit::not_json(&error))?;
        if options.dry_run {
            control.validate(after).await?;
            return Ok(WriteReport { revision: current, dry_run: true, changes });
        }
        if after == before {
            // What is in force was accepted and stored before: no new revision for nothing.
            return Ok(WriteReport { revision: current, dry_run: false, changes });
        }
        match control.replace(after, Some(current)).await {
            Ok(revision) => return Ok(WriteReport { revision, dry_run: false, changes }),
            Err(conflict @ RefusedError::Conflict { .. }) if options.if_match.is_none() => {
                lost = Some(conflict);
            }
            Err(refused) => return Err(refused.into()),
        }
    }
    Err(lost.unwrap_or_else(|| RefusedError::Failed("the write was never tried".to_owned())).into())
}

fn accepted(report: WriteReport, status: StatusCode) -> Response {
    (status, etag(report.revision), Json(report)).into_response()
}

pub(super) async fn health<C: Control>(State(api): State<Api<C>>) -> Result<Json<HealthReport>, ApiError> {
    Ok(Json(api.control.health().await?))
}

pub(super) async fn explain<C: Control>(
    State(api): State<Api<C>>,
    body: Body,
) -> Result<Json<ExplainReport>, ApiError> {
    let request: ExplainRequest = serde_json::from_value(body.json()?).map_err(|error| {
        ApiError::Malformed(format!(
            "{error}: write `{{\"from\": \"192.0.2.1:5555\", \"to\": \"203.0.113.80:443\", \"protocol\": \"tcp\"}}`"
        ))
    })?;
    if request.from.is_ipv4() != request.to.is_ipv4() {
        return Err(ApiError::Malformed("`from` and `to` are of different families".to_owned()));
    }
    Ok(Json(api.control.explain(request).await?))
}

pub(super) async fn test<C: Control>(
    State(api): State<Api<C>>,
    Path(monitor): Path<String>,
    body: Body,
) -> Result<Json<TrialReport>, ApiError> {
    let request: TrialRequest = serde_json::from_value(body.json()?)
        .map_err(|error| ApiError::Malformed(format!("{error}: write `{{\"endpoint\": \"POOL/NAME\"}}`")))?;
    let config = api.control.config().await?.config;
    let exists = |collection, parent: Option<&str>, name: &str| {
        let within = CollectionPath { collection, parent: parent.map(str::to_owned) };
        edit::get(&config, &ObjectPath { within, name: name.to_owned() }).map(drop)
    };
    exists(Collection::Monitors, None, &monitor)?;
    let of = match (&request.endpoint, &request.tunnel) {
        (Some(endpoint), None) => {
            let (pool, endpoint) = full_name(endpoint, "endpoint", "POOL/NAME")?;
            exists(Collection::Endpoints, Some(pool), endpoint)?;
            TrialOf::Endpoint { pool: pool.to_owned(), endpoint: endpoint.to_owned() }
        }
        (None, Some(tunnel)) => {
            let (vnet, tunnel) = full_name(tunnel, "tunnel", "VNET/NAME")?;
            exists(Collection::Tunnels, Some(vnet), tunnel)?;
            TrialOf::Tunnel { vnet: vnet.to_owned(), tunnel: tunnel.to_owned() }
        }
        _ => {
            return Err(ApiError::Malformed(
                "one thing is probed: name an `endpoint` or a `tunnel`".to_owned(),
            ));
        }
    };
    Ok(Json(api.control.try_monitor(monitor, of).await?))
}

fn full_name<'a>(text: &'a str, what: &str, form: &str) -> Result<(&'a str, &'a str), ApiError> {
    text.split_once('/').ok_or_else(|| ApiError::Malformed(format!("`{text}` is no {what}: write {form}")))
}

pub(super) async fn stats<C: Control>(State(api): State<Api<C>>) -> Result<Json<StatsReport>, ApiError> {
    Ok(Json(api.control.stats().await?))
}

pub(super) async fn metrics<C: Control>(State(api): State<Api<C>>) -> Result<impl IntoResponse, ApiError> {
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::scrape(&api.control).await?))
}

pub(super) async fn flows<C: Control>(
    State(api): State<Api<C>>,
    FlowFilter(query): FlowFilter,
) -> Result<Json<FlowsReport>, ApiError> {
    let config = api.control.config().await?.config;
    // A name that nobody has is a slip of the pen, and not a name without flows.
    if let Some(service) = &query.service {
        let within = CollectionPath { collection: Collection::Services, parent: None };
        edit::get(&config, &ObjectPath { within, name: service.clone() })?;
    }
    if let Some(endpoint) = &query.endpoint {
        let (pool, name) = full_name(endpoint, "endpoint", "POOL/NAME")?;
        let within = CollectionPath { collection: Collection::Endpoints, parent: Some(pool.to_owned()) };
        edit::get(&config, &ObjectPath { within, name: name.to_owned() })?;
    }
    Ok(Json(api.control.flows(query).await?))
}

pub(super) async fn status<C: Control>(State(api): State<Api<C>>) -> Result<Json<StatusReport>, ApiError> {
    Ok(Json(api.control.status().await?))
}

pub(super) async fn document<C: Control>() -> Json<Value> {
    Json(openapi::document::<C>())
}

fn etag(revision: Revision) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{revision}\""))]
}
