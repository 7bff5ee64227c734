//! Requests to the agent, over its Unix socket or to another machine. Knows HTTP and problem documents; what is asked for is the
//! business of `commands`.

use std::{error::Error, io::ErrorKind, time::Duration};

use lbx_common::api::{Problem, WriteReport};
use reqwest::{Method, Response, Url, header};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    args::{Place, WriteFlags},
    error::CliError,
    remote::no_tls,
};

/// Longest wait for an answer: a new configuration is built, stored and applied before it comes.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Longest wait for another machine to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for a probe with all its attempts, which take no longer than a monitor's longest interval.
const LONG_TIMEOUT: Duration = Duration::from_hours(1);

/// Of an answer that has no end.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 10);

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    place: Place,
}

/// What a write sends.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    None,
    /// A JSON object.
    Json(Value),
    /// YAML text, as it stands in the user's file.
    Yaml(String),
}

impl Client {
    /// A client for the agent there; connects with the first request.
    pub fn new(place: &Place) -> Result<Self, CliError> {
        let builder = reqwest::Client::builder().timeout(TIMEOUT).no_proxy();
        let builder = match place {
            Place::Socket(socket) => {
                builder.tls_backend_preconfigured(no_tls()?).unix_socket(socket.to_owned())
            }
            Place::Remote(remote) => {
                builder.tls_backend_preconfigured(remote.tls()?).connect_timeout(CONNECT_TIMEOUT)
            }
        };
        let http = builder
            .build()
            .map_err(|error| CliError::Local(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self { http, place: place.clone() })
    }

    /// `GET /v1/PATH`
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, CliError> {
        let request = self.http.get(self.url(path)?);
        self.decode(self.answer(request).await?).await
    }

    /// `GET /v1/PATH?QUERY`
    pub async fn query<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<T, CliError> {
        let request = self.http.get(self.url(path)?).query(query);
        self.decode(self.answer(request).await?).await
    }

    /// `GET /v1/PATH?QUERY`, of an answer in lines that may take for ever to come.
    pub async fn lines(&self, path: &[&str], query: &impl Serialize) -> Result<Lines<'_>, CliError> {
        let request = self.http.get(self.url(path)?).query(query).timeout(FOR_EVER);
        Ok(Lines { client: self, answer: self.answer(request).await?, rest: Vec::new() })
    }

    /// The error for an answer that ended although it should not.
    pub fn ended(&self) -> CliError {
        self.unreachable(
            "it has stopped, or was killed: there are no more events until it is started again".to_owned(),
        )
    }

    /// `POST /v1/PATH` of a question that takes its time to answer, and changes nothing.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        question: &impl Serialize,
    ) -> Result<T, CliError> {
        let request = self.http.post(self.url(path)?).json(question).timeout(LONG_TIMEOUT);
        self.decode(self.answer(request).await?).await
    }

    /// A write to `/v1/PATH`.
    pub async fn write(
        &self,
        method: Method,
        path: &[&str],
        body: Body,
        flags: WriteFlags,
    ) -> Result<WriteReport, CliError> {
        let mut url = self.url(path)?;
        if flags.dry_run {
            url.set_query(Some("dry_run=true"));
        }
        let mut request = self.http.request(method, url);
        if let Some(revision) = flags.revision {
            request = request.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        let request = match body {
            Body::None => request,
            Body::Json(value) => request.json(&value),
            Body::Yaml(text) => request.header(header::CONTENT_TYPE, "application/yaml").body(text),
        };
        self.decode(self.answer(request).await?).await
    }

    fn url(&self, path: &[&str]) -> Result<Url, CliError> {
        let mut url = match &self.place {
            // The host is never looked up: the socket takes its place.
            Place::Socket(_) => {
                Url::parse("http://lbx/").map_err(|error| self.unreachable(error.to_string()))?
            }
            Place::Remote(remote) => remote.url.clone(),
        };
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        Ok(url)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Response, CliError> {
        let answer = request.send().await.map_err(|error| self.failed(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let problem = answer.json::<Problem>().await.map_err(|_| {
            self.unreachable(format!(
                "it answers {status}, not as an lbx agent does: is something else there?"
            ))
        })?;
        Err(CliError::Refused { problem: Box::new(problem), file: None })
    }

    async fn decode<T: DeserializeOwned>(&self, answer: Response) -> Result<T, CliError> {
        let bytes = answer.bytes().await.map_err(|error| self.failed(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| self.not_understood(&error))
    }

    /// The error for an answer that is not what this version expects.
    pub fn not_understood(&self, error: &serde_json::Error) -> CliError {
        self.unreachable(format!(
            "its answer is not understood ({error}): lbx-ctl {} and the agent must be of the same version",
            env!("CARGO_PKG_VERSION")
        ))
    }

    fn failed(&self, error: &reqwest::Error) -> CliError {
        match (io_error_kind(error), &self.place) {
            (Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused), Place::Socket(socket)) => {
                CliError::NotRunning(socket.clone())
            }
            (Some(ErrorKind::PermissionDenied), Place::Socket(socket)) => {
                CliError::NoPermission(socket.clone())
            }
            (Some(ErrorKind::ConnectionRefused), Place::Remote(_)) => {
                let port = "nobody listens there: does `lbx-agent run` have `--listen` with this port?";
                self.unreachable(port.to_owned())
            }
            (_, Place::Remote(_)) if error.is_connect() && error.is_timeout() => {
                self.unreachable(format!("it takes no connection within {} s", CONNECT_TIMEOUT.as_secs()))
            }
            (_, Place::Remote(remote)) if let Some(reason) = remote.reason(error) => self.unreachable(reason),
            _ if error.is_timeout() => self.unreachable(format!(
                "no answer within {} s: the agent's log may say why",
                TIMEOUT.as_secs()
            )),
            _ => self.unreachable(innermost(error)),
        }
    }

    fn unreachable(&self, reason: String) -> CliError {
        let agent = match &self.place {
            Place::Socket(socket) => socket.display().to_string(),
            Place::Remote(remote) => remote.url.origin().ascii_serialization(),
        };
        CliError::Unreachable { agent, reason }
    }
}

/// Lines of an answer, as they come.
pub struct Lines<'a> {
    client: &'a Client,
    answer: Response,
    /// What has come of the next ones.
    rest: Vec<u8>,
}

impl Lines<'_> {
    /// The next line with its end; `None` at the end of the answer.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CliError> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let rest = self.rest.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.rest, rest)));
            }
            match self.answer.chunk().await {
                Ok(Some(chunk)) => self.rest.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                // Whoever is killed says no last word.
                Err(_) => return Err(self.client.ended()),
            }
        }
    }
}

/// The system's error below the layers of the HTTP client.
fn io_error_kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    std::iter::successors(Some(error), |&error| error.source())
        .find_map(|error| error.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind)
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source()).last().unwrap_or(error).to_string()
}
