//! The API as a client sees it: real requests over a real Unix socket to a fake agent.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use lbx_common::api::{
    Change, ChangeAction, Config, ConfigDocument, ExplainReport, ExplainRequest, FlowQuery, FlowsReport,
    HealthReport, Mistake, Problem, Revision, StatsReport, StatusReport, TrialReport, WriteReport,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{YamlLoader, bind, serve};
use crate::{
    control::{Control, RefusedError, TrialOf},
    events::Events,
};

mod contract;
mod events;
mod objects;
mod whole_config;

/// An agent that keeps its configuration in memory and finds one thing wrong: a VNI of 0.
#[derive(Clone, Default)]
struct FakeAgent(Arc<Mutex<FakeState>>, Events);

#[derive(Default)]
struct FakeState {
    document: Option<ConfigDocument>,
    read_only: bool,
    /// Writers that get in between the next reads and replacements.
    rivals: u32,
}

impl FakeAgent {
    fn with<T>(&self, work: impl FnOnce(&mut FakeState) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl FakeState {
    fn document(&mut self) -> &mut ConfigDocument {
        self.document.get_or_insert_with(|| ConfigDocument { revision: 7, config: config() })
    }

    fn validate(&self, config: &Config) -> Result<(), RefusedError> {
        if self.read_only {
            return Err(RefusedError::ReadOnly("/etc/lbx/lbx.yaml".to_owned()));
        }
        let vnets = config.virtual_networks.iter().enumerate();
        let wrong: Vec<_> = vnets
            .filter(|(_, vnet)| vnet.vni == 0)
            .map(|(i, _)| Mistake::new(format!("virtual_networks[{i}].vni"), "must not be 0"))
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(RefusedError::Invalid(wrong)) }
    }
}

impl Control for FakeAgent {
    async fn config(&self) -> Result<ConfigDocument, RefusedError> {
        Ok(self.with(|state| state.document().clone()))
    }

    async fn replace(&self, config: Config, expected: Option<Revision>) -> Result<Revision, RefusedError> {
        self.with(|state| {
            if state.rivals > 0 {
                state.rivals -= 1;
                let document = state.document();
                document.revision += 1;
                document.config.monitors[0].retries += 1;
            }
            state.validate(&config)?;
            let document = state.document();
            if let Some(expected) = expected.filter(|&expected| expected != document.revision) {
                return Err(RefusedError::Conflict { expected, current: document.revision });
            }
            document.revision += 1;
            document.config = config;
            Ok(document.revision)
        })
    }

    async fn validate(&self, config: Config) -> Result<(), RefusedError> {
        self.with(|state| state.validate(&config))
    }

    async fn health(&self) -> Result<HealthReport, RefusedError> {
        Ok(HealthReport::default())
    }

    async fn explain(&self, request: ExplainRequest) -> Result<ExplainReport, RefusedError> {
        Ok(ExplainReport { why: vec![format!("{request:?}")], ..ExplainReport::default() })
    }

    async fn try_monitor(&self, monitor: String, of: TrialOf) -> Result<TrialReport, RefusedError> {
        let (source, target) = ("10.255.42.1".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        let reason = format!("{of:?}");
        Ok(TrialReport {
            monitor,
            source,
            target,
            tunnel: None,
            success: false,
            reason,
            round_trip_us: None,
            steps: Vec::new(),
        })
    }

    async fn stats(&self) -> Result<StatsReport, RefusedError> {
        Ok(StatsReport::default())
    }

    async fn flows(&self, query: FlowQuery) -> Result<FlowsReport, RefusedError> {
        Ok(FlowsReport { matching: u64::from(query.limit), flows: Vec::new() })
    }

    fn events(&self) -> &Events {
        &self.1
    }

    async fn status(&self) -> Result<StatusReport, RefusedError> {
        let document = self.config().await?;
        Ok(StatusReport {
            version: "0.1.0".to_owned(),
            abi_version: 1,
            pid: 1,
            uptime_secs: 0,
            store: "embedded /var/lib/lbx".to_owned(),
            revision: document.revision,
            adopted: false,
            map_writes: 0,
            interfaces: Vec::new(),
            tunnels: Vec::new(),
            maps: Vec::new(),
            changes: Vec::new(),
            regions: None,
        })
    }
}

fn config() -> Config {
    serde_json::from_value(json!({
        "version": 1,
        "virtual_networks": [
            {"name": "east", "vni": 42, "tunnels": [
                {"name": "a", "encap": "gre", "remote": "198.51.100.7",
                 "monitor": "gateway", "probe_address": "10.0.0.1", "probe_port": 22}]},
            {"name": "west", "vni": 43},
        ],
        "monitors": [{"name": "tcp1"}, {"name": "gateway"}],
        "pools": [{"name": "web", "monitor": "tcp1", "endpoints": [
            {"name": "a", "virtual_network": "east", "address": "10.0.0.10", "port": 80, "tunnels": ["a"]},
            {"name": "b", "virtual_network": "east", "address": "10.0.0.11", "port": 80, "weight": 0.5},
        ]}],
        "services": [{"name": "web", "address": "203.0.113.80", "listen": ["tcp/80"], "pools": ["web"]}],
    }))
    .unwrap()
}

/// A loader that reads JSON (which is YAML too) and places every mistake on line 3.
const LOADER: YamlLoader = YamlLoader {
    load: |text| serde_json::from_str(text).map_err(|error| vec![Mistake::new("", error.to_string())]),
    locate: |_, mistakes| mistakes.iter_mut().for_each(|mistake| mistake.line = Some(3)),
};

struct Server {
    agent: FakeAgent,
    client: reqwest::Client,
    socket: PathBuf,
    shutdown: CancellationToken,
    task: AbortOnDropHandle<std::io::Result<()>>,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let socket = bind(&path).unwrap();
        let (agent, shutdown) = (FakeAgent::default(), CancellationToken::new());
        let server = serve(socket, None, agent.clone(), LOADER, shutdown.clone());
        // Without one, it would look for certificates of this host.
        let tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls);
        let client = client.unix_socket(path.clone()).build().unwrap();
        let task = AbortOnDropHandle::new(tokio::spawn(server));
        Self { agent, client, socket: path, shutdown, task, _dir: dir }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://agent{path}"))
    }

    /// Sends a request; what comes back is as the OpenAPI document says. Returns status and body.
    async fn exchange(&self, request: reqwest::RequestBuilder) -> (StatusCode, Value) {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let answer = client.execute(request).await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        contract::check(&method, &path, status, &headers, &body);
        (status, body)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.exchange(self.request(Method::GET, path)).await;
        assert_eq!(status, StatusCode::OK, "GET {path}");
        body
    }

    async fn write(&self, method: Method, path: &str, body: Value) -> WriteReport {
        let (status, body) = self.exchange(self.request(method, path).json(&body)).await;
        assert!(status.is_success(), "{path}: {status} {body}");
        serde_json::from_value(body).unwrap()
    }

    async fn refused(&self, request: reqwest::RequestBuilder) -> Problem {
        let (status, body) = self.exchange(request).await;
        let problem: Problem = serde_json::from_value(body).unwrap();
        assert_eq!(problem.status, status.as_u16());
        problem
    }

    fn config(&self) -> Config {
        self.agent.with(|state| state.document().config.clone())
    }
}

fn names(changes: &[Change]) -> Vec<(ChangeAction, &str, &str)> {
    changes.iter().map(|change| (change.action, change.collection.as_str(), change.name.as_str())).collect()
}

#[tokio::test]
async fn shutdown_ends_the_server_and_removes_the_socket() {
    let server = Server::start();
    server.get("/v1/status").await;
    server.shutdown.cancel();
    server.task.await.unwrap().unwrap();
    assert!(!server.socket.exists());
}

#[tokio::test]
async fn reports_are_served_as_json() {
    let server = Server::start();
    assert_eq!(server.get("/v1/health").await, json!({"pools": [], "services": [], "tunnels": []}));
    assert_eq!(
        server.get("/v1/stats").await,
        json!({"services": [], "endpoints": [], "tunnels": [], "drops": [], "flows": []})
    );
    assert_eq!(server.get("/v1/status").await["revision"], 7);
}

#[tokio::test]
async fn a_packet_is_explained_where_it_makes_sense() {
    let server = Server::start();
    let explain = |body: Value| server.request(Method::POST, "/v1/explain").json(&body);
    let body =
        json!({"from": "192.0.2.1:5555", "to": "203.0.113.80:80", "protocol": "tcp", "established": true});
    let report: ExplainReport = explain(body).send().await.unwrap().json().await.unwrap();
    assert!(report.why[0].contains("established: true") && report.why[0].contains("Tcp"), "{report:?}");
    for (body, word) in [
        (json!({"from": "192.0.2.1", "to": "203.0.113.80:80", "protocol": "tcp"}), "socket address"),
        (json!({"from": "192.0.2.1:1", "to": "[2001:db8::1]:80", "protocol": "udp"}), "different families"),
        (json!({"from": "192.0.2.1:1", "to": "203.0.113.80:80", "protocol": "sctp"}), "sctp"),
        (json!({"to": "203.0.113.80:80", "protocol": "tcp"}), "from"),
    ] {
        let problem = server.refused(explain(body.clone())).await;
        assert_eq!(problem.kind, "invalid", "{body}");
        assert!(problem.detail.contains(word), "{body}: {}", problem.detail);
    }
}

#[tokio::test]
async fn a_monitor_is_tried_on_one_thing_that_there_is() {
    let server = Server::start();
    let test = |monitor: &str, body: Value| {
        server.request(Method::POST, &format!("/v1/monitors/{monitor}/test")).json(&body)
    };
    for (body, of) in [
        (json!({"endpoint": "web/a"}), r#"Endpoint { pool: "web", endpoint: "a" }"#),
        (json!({"tunnel": "east/a"}), r#"Tunnel { vnet: "east", tunnel: "a" }"#),
    ] {
        let report: TrialReport = test("tcp1", body).send().await.unwrap().json().await.unwrap();
        assert_eq!((report.monitor.as_str(), report.reason.as_str()), ("tcp1", of));
    }
    for (monitor, body, kind, word) in [
        ("nope", json!({"endpoint": "web/a"}), "not_found", "`nope`"),
        ("tcp1", json!({"endpoint": "web/z"}), "not_found", "only a, b"),
        ("tcp1", json!({"tunnel": "west/a"}), "not_found", "`west/a`"),
        ("tcp1", json!({"endpoint": "a"}), "invalid", "write POOL/NAME"),
        ("tcp1", json!({"tunnel": "a"}), "invalid", "write VNET/NAME"),
        ("tcp1", json!({}), "invalid", "name an `endpoint` or a `tunnel`"),
        ("tcp1", json!({"endpoint": "web/a", "tunnel": "east/a"}), "invalid", "one thing is probed"),
        ("tcp1", json!({"pool": "web"}), "invalid", "unknown field `pool`"),
    ] {
        let problem = server.refused(test(monitor, body.clone())).await;
        assert_eq!(problem.kind, kind, "{body}");
        assert!(problem.detail.contains(word), "{body}: {}", problem.detail);
    }
}

#[tokio::test]
async fn flows_are_asked_for_with_names_that_there_are() {
    let server = Server::start();
    // The fake agent answers with the limit.
    assert_eq!(server.get("/v1/flows").await, json!({"matching": 100, "flows": []}));
    assert_eq!(server.get("/v1/flows?endpoint=web/a&client=2001:db8::/32&limit=0").await["matching"], 0);
    for (query, kind, word) in [
        ("service=nobody", "not_found", "`nobody`"),
        ("endpoint=web/z", "not_found", "only a, b"),
        ("endpoint=a", "invalid", "write POOL/NAME"),
        ("limit=10001", "invalid", "expected 0 to 10000"),
        ("client=192.0.2.1", "invalid", "`192.0.2.1/32`"),
        ("port=80", "invalid", "`client=PREFIX`"),
    ] {
        let problem = server.refused(server.request(Method::GET, &format!("/v1/flows?{query}"))).await;
        assert_eq!(problem.kind, kind, "{query}");
        assert!(problem.detail.contains(word), "{query}: {}", problem.detail);
    }
}

#[tokio::test]
async fn a_refusal_does_not_end_the_connection() {
    let server = Server::start();
    let mut stream = UnixStream::connect(&server.socket).await.unwrap();
    // More than the server takes in passing: refused for its path, its method or its header, it is read all the same.
    let body = "x".repeat(1 << 20);
    for (line, status) in
        [("PATCH /v1/pools/web", "400"), ("DELETE /v1/config", "405"), ("PUT /v1/nothing", "404")]
    {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: lbx\r\nIf-Match: new\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{line}");
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_say_what_there_is() {
    let server = Server::start();
    let problem = server.refused(server.request(Method::GET, "/v1/pool")).await;
    assert_eq!((problem.kind.as_str(), problem.status), ("not_found", 404));
    assert!(problem.detail.contains("`/v1/pool`") && problem.detail.contains("pools"), "{}", problem.detail);
    let problem = server.refused(server.request(Method::GET, "/metrics/x/y/z/w")).await;
    assert!(problem.detail.contains("/v1/"), "{}", problem.detail);
    let problem = server.refused(server.request(Method::DELETE, "/v1/config")).await;
    assert_eq!((problem.kind.as_str(), problem.status), ("not_allowed", 405));
    let problem = server.refused(server.request(Method::GET, "/v1/endpoints/a")).await;
    assert!(problem.detail.contains("/v1/pools/NAME/endpoints/NAME"), "{}", problem.detail);
    let problem = server.refused(server.request(Method::GET, "/v1/services/web/endpoints")).await;
    assert!(problem.detail.contains("services contain no endpoints"), "{}", problem.detail);
}
