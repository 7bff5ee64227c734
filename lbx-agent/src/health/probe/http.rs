//! HTTP/1.1, plain or through TLS: sends a request and looks at the response.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::Incoming,
    client::conn::http1,
    header::{HOST, LOCATION, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use lbx_common::api::{Codes, Monitor};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{Path, ProbeError, Steps, quoted, socket::judge, tcp, tls};

const MAX_REDIRECTS: usize = 5;
/// Largest header of a response.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// As much of a body as is searched.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Gives the time from the first packet to the response that is right.
pub(super) async fn probe(
    path: Path<'_>,
    target: SocketAddr,
    monitor: &Monitor,
    tls: bool,
    steps: &mut Steps,
) -> Result<Duration, ProbeError> {
    let start = Instant::now();
    let mut question = Question::first(target, monitor, tls);
    for _ in 0..=MAX_REDIRECTS {
        let (stream, _) = tcp::connect(path, question.target, steps).await?;
        let next = if question.tls {
            let stream = tls::wrap(stream, &question.host, monitor.allow_insecure, steps).await?;
            question.ask(stream, monitor, steps).await?
        } else {
            question.ask(stream, monitor, steps).await?
        };
        let Some(next) = next else { return Ok(start.elapsed()) };
        question = next;
    }
    Err(ProbeError::Endpoint(format!(
        "more than {MAX_REDIRECTS} redirects, the last one to {}",
        question.url()
    )))
}

/// A request.
struct Question {
    target: SocketAddr,
    tls: bool,
    /// What the header `Host` says.
    host: String,
    path: String,
}

impl Question {
    fn first(target: SocketAddr, monitor: &Monitor, tls: bool) -> Self {
        let given = monitor.header.iter().find(|(name, _)| name.eq_ignore_ascii_case(HOST.as_str()));
        let host = given.and_then(|(_, values)| values.first()).cloned();
        Self {
            target,
            tls,
            host: host.unwrap_or_else(|| authority(target, tls)),
            path: monitor.path.clone().unwrap_or_else(|| "/".to_owned()),
        }
    }

    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.host, self.path)
    }

    /// Sends the request; gives the next one where the response is a redirect that is to be followed.
    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        monitor: &Monitor,
        steps: &mut Steps,
    ) -> Result<Option<Self>, ProbeError> {
        let request = self.request(monitor)?;
        steps.wait_for("the response");
        let mut builder = http1::Builder::new();
        let builder = builder.max_buf_size(MAX_HEADER_BYTES);
        let handshake = builder.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
            self.judge(response, monitor, steps).await
        };
        tokio::pin!(exchange);
        // The connection has to be driven, too; when it ends, what came by it is there.
        tokio::select! {
            result = &mut exchange => result,
            _ = connection => exchange.await,
        }
    }

    fn request(&self, monitor: &Monitor) -> Result<Request<Empty<Bytes>>, ProbeError> {
        let mut request = Request::builder()
            .method(monitor.method.unwrap_or_default().as_str())
            .uri(&self.path)
            .header(HOST, &self.host);
        let others = monitor.header.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(HOST.as_str()));
        for (name, values) in others.clone() {
            for value in values {
                request = request.header(name, value);
            }
        }
        if !others.clone().any(|(name, _)| name.eq_ignore_ascii_case(USER_AGENT.as_str())) {
            request = request.header(USER_AGENT, concat!("lbx/", env!("CARGO_PKG_VERSION")));
        }
        // The validator lets nothing through that no request can have, and redirects are looked at.
        request
            .body(Empty::new())
            .map_err(|error| ProbeError::Host(format!("no request can be made: {error}")))
    }

    /// Looks at a response.
    async fn judge(
        &self,
        response: Response<Incoming>,
        monitor: &Monitor,
        steps: &mut Steps,
    ) -> Result<Option<Self>, ProbeError> {
        let status = response.status();
        steps.finish("response", || format!("{status} for {}", self.url()));
        if monitor.follow_redirects && status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            let location = response.headers().get(LOCATION);
            let location =
                location.map_or(String::new(), |value| String::from_utf8_lossy(value.as_bytes()).into());
            let next = self.redirected(&location).ok_or_else(|| {
                let location = quoted(&location);
                ProbeError::Endpoint(format!("HTTP {status} to `{location}`, which is no URL of HTTP"))
            });
            return next.map(Some);
        }
        let codes = monitor.expected_codes.clone().unwrap_or_default();
        if !Codes::contains(&codes, status.as_u16()) {
            return Err(ProbeError::Endpoint(format!("HTTP {status}, expected {codes}")));
        }
        if let Some(expected) = &monitor.expected_body {
            steps.wait_for("the body of the response");
            let (body, is_whole) = self.body(response.into_body()).await?;
            if !body.to_lowercase().contains(&expected.to_lowercase()) {
                let what = if is_whole {
                    "the body".to_owned()
                } else {
                    format!("the first {} bytes of the body", body.len())
                };
                let begins = quoted(&body);
                return Err(ProbeError::Endpoint(format!(
                    "`{expected}` is not in {what}, which begins with `{begins}`"
                )));
            }
            steps.finish("body", || format!("has `{expected}` in it"));
        }
        Ok(None)
    }

    /// The body, and whether it is all of it.
    async fn body(&self, mut body: Incoming) -> Result<(String, bool), ProbeError> {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            if let Some(data) = frame.data_ref() {
                bytes.extend_from_slice(data);
            }
            if bytes.len() >= MAX_BODY_BYTES {
                bytes.truncate(MAX_BODY_BYTES);
                return Ok((String::from_utf8_lossy(&bytes).into(), false));
            }
        }
        Ok((String::from_utf8_lossy(&bytes).into(), true))
    }

    /// The request that a redirect asks for, at the same endpoint: it is this one that is checked. Another scheme
    /// means the port that is usual for it, where the redirect names none.
    fn redirected(&self, location: &str) -> Option<Self> {
        if location.starts_with('/') && !location.starts_with("//") {
            let uri: Uri = location.parse().ok()?;
            let path = uri.path_and_query()?.to_string();
            return Some(Self { host: self.host.clone(), path, ..*self });
        }
        let uri: Uri = location.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let usual = if tls == self.tls { self.target.port() } else { usual_port(tls) };
        let target = SocketAddr::new(self.target.ip(), uri.port_u16().unwrap_or(usual));
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Some(Self { target, tls, host: uri.authority()?.to_string(), path })
    }

    /// What an error of the exchange says.
    fn broken(&self, error: &hyper::Error) -> ProbeError {
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        match source {
            Some(io) if io.raw_os_error().is_some() => judge(io, self.target, None),
            Some(io) if io.kind() != io::ErrorKind::UnexpectedEof => {
                ProbeError::Endpoint(format!("no response from {}: {io}", self.target))
            }
            source if source.is_some() || error.is_incomplete_message() => {
                ProbeError::Endpoint(format!("{} ended the connection before its response did", self.target))
            }
            _ => ProbeError::Endpoint(format!("no response of HTTP from {}: {error}", self.target)),
        }
    }
}

/// An address as a host, with the port where it is not the usual one.
fn authority(target: SocketAddr, tls: bool) -> String {
    if target.port() != usual_port(tls) {
        return target.to_string();
    }
    match target.ip() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

const fn usual_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}
