//! Every operation of the API: method, path, handler, and what the OpenAPI document says of it. The router and the document
//! are both made of this one table, so neither has what the other lacks.

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    http::{Method, Uri},
    middleware::from_fn,
    routing::{MethodFilter, MethodRouter, on},
};
use lbx_common::api::{
    Collection, Config, ConfigDocument, Event, ExplainReport, ExplainRequest, FlowsReport, HealthReport,
    ListedEndpoint, ListedTunnel, StatsReport, StatusReport, TrialReport, TrialRequest, WriteReport,
};
use serde_json::{Map, Value};

use super::{
    events,
    extract::{no_such_method, no_such_path, read_first},
    handlers::{self, Api},
    openapi::{Body, Content, example, object},
};
use crate::control::Control;

/// One operation.
pub(super) struct Operation<C> {
    pub(super) method: Method,
    pub(super) path: String,
    /// Its name, unique.
    pub(super) id: String,
    pub(super) summary: String,
    pub(super) query: Query,
    pub(super) body: Option<Body>,
    /// Status and content of each answer that is no refusal.
    pub(super) answers: Vec<(u16, Content)>,
    /// Status of each refusal.
    pub(super) refusals: Vec<u16>,
    /// Names that the parameters of the path have in examples, in their order.
    pub(super) names: Vec<&'static str>,
    route: MethodRouter<Api<C>>,
}

/// What an operation takes beside path and body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    /// Nothing.
    None,
    /// Options of a write: `dry_run` and `If-Match`.
    Write,
    /// Which flows are asked for.
    Flows,
    /// Which events are.
    Events,
}

/// All operations.
pub(super) fn operations<C: Control>() -> Vec<Operation<C>> {
    let mut all = vec![
        get("/v1/config", "getConfig", "The whole configuration", handlers::read_config::<C>)
            .answers(200, Content::revised::<ConfigDocument>()),
        write(
            Method::PUT,
            "/v1/config",
            "putConfig",
            "Replace the whole configuration",
            handlers::write_config::<C>,
        )
        .takes(Body::taken::<Config>(example::config()).or_yaml())
        .answers(200, Content::revised::<WriteReport>())
        .refuses(&[400, 413]),
    ];
    all.extend(Collection::ALL.into_iter().flat_map(of_collection));
    all.extend([
        get("/v1/tunnels", "listAllTunnels", "The tunnels of all virtual networks", handlers::list::<C>)
            .of(Collection::Tunnels)
            .answers(200, Content::revised_list::<ListedTunnel>()),
        get("/v1/endpoints", "listAllEndpoints", "The endpoints of all pools", handlers::list::<C>)
            .of(Collection::Endpoints)
            .answers(200, Content::revised_list::<ListedEndpoint>()),
        get("/v1/health", "getHealth", "Health of pools, endpoints and tunnels", handlers::health::<C>)
            .answers(200, Content::json::<HealthReport>()),
        get("/v1/flows", "listFlows", "Flows that are remembered by a pin", handlers::flows::<C>)
            .takes_query(Query::Flows)
            .answers(200, Content::json::<FlowsReport>())
            .refuses(&[400, 404]),
        get("/v1/stats", "getStats", "Counters of packets and bytes", handlers::stats::<C>)
            .answers(200, Content::json::<StatsReport>()),
        get("/v1/status", "getStatus", "The agent and its data plane", handlers::status::<C>)
            .answers(200, Content::json::<StatusReport>()),
        get("/v1/events", "listEvents", "What happened, and what happens", events::events::<C>)
            .takes_query(Query::Events)
            .answers(200, Content::lines::<Event>())
            .refuses(&[400, 429]),
        Operation::new(
            Method::POST,
            "/v1/explain",
            "explain",
            "What would become of a client's packet, and why",
            handlers::explain::<C>,
        )
        .takes(Body::taken::<ExplainRequest>(example::packet()))
        .answers(200, Content::json::<ExplainReport>())
        .refuses(&[400, 413]),
        Operation::new(
            Method::POST,
            "/v1/monitors/{name}/test",
            "testMonitor",
            "One probe now, which counts for no verdict",
            handlers::test::<C>,
        )
        .named(vec!["tcp1"])
        .takes(Body::taken::<TrialRequest>(example::trial()))
        .answers(200, Content::json::<TrialReport>())
        .refuses(&[400, 404, 413, 422]),
        get("/metrics", "getMetrics", "Metrics for Prometheus", handlers::metrics::<C>)
            .answers(200, Content::Text(crate::metrics::CONTENT_TYPE)),
        get("/v1/openapi.json", "getDocument", "This document", handlers::document::<C>)
            .answers(200, Content::json::<Map<String, Value>>()),
    ]);
    all
}

/// The operations on a collection and on one of its objects.
fn of_collection<C: Control>(collection: Collection) -> [Operation<C>; 6] {
    let many = match collection.parent() {
        None => format!("/v1/{collection}"),
        Some(outer) => format!("/v1/{outer}/{{{}}}/{collection}", outer.singular().replace(' ', "_")),
    };
    let one = format!("{many}/{{name}}");
    let singular = collection.singular();
    let name = |verb: &str, plural: bool| {
        let words = if plural { collection.as_str() } else { singular };
        words.split([' ', '_']).fold(verb.to_owned(), |name, word| {
            let (first, rest) = word.split_at(word.len().min(1));
            format!("{name}{}{rest}", first.to_uppercase())
        })
    };
    let whole = || Content::Revised(object(collection));
    let written = Content::revised::<WriteReport>;
    let outer: &[u16] = if collection.parent().is_some() { &[400, 404] } else { &[] };
    let (parents, own) = example::names(collection);
    let names: Vec<_> = parents.iter().copied().chain([own]).collect();
    [
        get(
            &many,
            &name("list", true),
            &format!("All {}", collection.as_str().replace('_', " ")),
            handlers::list::<C>,
        )
        .of(collection)
        .named(parents.clone())
        .answers(200, Content::RevisedList(object(collection)))
        .refuses(outer),
        write(
            Method::POST,
            &many,
            &name("create", false),
            &format!("Create a {singular}"),
            handlers::create::<C>,
        )
        .of(collection)
        .named(parents)
        .takes(Body::new(object(collection), example::new(collection)))
        .answers(201, written())
        .answers(200, written())
        .refuses(&[400, 409, 413])
        .refuses(outer),
        get(&one, &name("get", false), &format!("One {singular}"), handlers::read::<C>)
            .of(collection)
            .named(names.clone())
            .answers(200, whole())
            .refuses(&[400, 404]),
        write(
            Method::PUT,
            &one,
            &name("put", false),
            &format!("Create or replace a {singular}"),
            handlers::put::<C>,
        )
        .of(collection)
        .named(names.clone())
        .takes(Body::in_place(object(collection), example::replaced(collection)))
        .answers(200, written())
        .refuses(&[400, 413])
        .refuses(outer),
        write(
            Method::PATCH,
            &one,
            &name("patch", false),
            &format!("Change fields of a {singular} (RFC 7396)"),
            handlers::patch::<C>,
        )
        .of(collection)
        .named(names.clone())
        .takes(Body::patch(object(collection), example::patch(collection)))
        .answers(200, written())
        .refuses(&[400, 404, 413]),
        write(
            Method::DELETE,
            &one,
            &name("delete", false),
            &format!("Delete a {singular} that nothing refers to"),
            handlers::delete::<C>,
        )
        .of(collection)
        .named(names)
        .answers(200, written())
        .refuses(&[400, 404, 409]),
    ]
}

fn get<C: Control, H: Handler<T, Api<C>>, T: 'static>(
    path: &str,
    id: &str,
    summary: &str,
    handler: H,
) -> Operation<C> {
    Operation::new(Method::GET, path, id, summary, handler)
}

fn write<C: Control, H: Handler<T, Api<C>>, T: 'static>(
    method: Method,
    path: &str,
    id: &str,
    summary: &str,
    handler: H,
) -> Operation<C> {
    Operation::new(method, path, id, summary, handler)
        .takes_query(Query::Write)
        .refuses(&[400, 403, 412, 422])
}

impl<C: Control> Operation<C> {
    /// An operation that the agent refuses where it is stopping or fails, and for nothing else yet.
    fn new<H: Handler<T, Api<C>>, T: 'static>(
        method: Method,
        path: &str,
        id: &str,
        summary: &str,
        handler: H,
    ) -> Self {
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        Self {
            method,
            path: path.to_owned(),
            id: id.to_owned(),
            summary: summary.to_owned(),
            query: Query::None,
            body: None,
            answers: Vec::new(),
            refusals: vec![500, 503],
            names: Vec::new(),
            route: on(filter, handler),
        }
    }

    fn of(self, collection: Collection) -> Self {
        Self { route: self.route.route_layer(Extension(collection)), ..self }
    }

    fn takes(self, body: Body) -> Self {
        Self { body: Some(body), ..self }
    }

    fn takes_query(self, query: Query) -> Self {
        Self { query, ..self }
    }

    fn named(self, names: Vec<&'static str>) -> Self {
        Self { names, ..self }
    }

    fn answers(mut self, status: u16, content: Content) -> Self {
        self.answers.push((status, content));
        self
    }

    fn refuses(mut self, statuses: &[u16]) -> Self {
        self.refusals.extend(statuses);
        self.refusals.sort_unstable();
        self.refusals.dedup();
        self
    }
}

/// Serves all operations. Other paths and methods are told what there is.
pub(super) fn router<C: Control>(api: Api<C>) -> Router {
    let all = operations::<C>();
    let below = |path: &str| Some(path.strip_prefix("/v1/")?.split('/').next()?.to_owned());
    let mut known: Vec<String> = all.iter().filter_map(|operation| below(&operation.path)).collect();
    known.sort_unstable();
    known.dedup();
    let known = known.join(", ");
    all.into_iter()
        .fold(Router::new(), |router, Operation { path, route, .. }| router.route(&path, route))
        .fallback(async move |uri: Uri| no_such_path(uri.path(), &known))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| no_such_method(&method, uri.path()))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(read_first))
        .with_state(api)
}
