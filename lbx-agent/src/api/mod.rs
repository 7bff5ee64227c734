//! The HTTP/JSON API of the agent on a Unix socket.
//!
//! This module turns requests into calls of [`Control`] and answers into JSON. It decides nothing: what makes
//! sense is up to the validator behind [`Control::replace`]; the data plane and the store are never touched here.
//!
//! | path | methods |
//! |---|---|
//! | `/v1/config` | GET, PUT (JSON, or YAML as `application/yaml`) |
//! | `/v1/{collection}` | GET, POST |
//! | `/v1/{collection}/{name}` | GET, PUT, PATCH (RFC 7396), DELETE |
//! | `/v1/virtual_networks/{name}/tunnels[/{name}]` | as above |
//! | `/v1/pools/{name}/endpoints[/{name}]` | as above |
//! | `/v1/tunnels`, `/v1/endpoints` | GET: all, each with its parent's name |
//! | `/v1/monitors/{name}/test` | POST: one probe now |
//! | `/v1/explain` | POST: what would become of a packet |
//! | `/v1/events` | GET: lines of JSON, with `?follow=true` as they come |
//! | `/metrics` | GET: for Prometheus |
//! | `/v1/openapi.json` | GET: all of this for programs |
//! | `/v1/health`, `/v1/flows`, `/v1/stats`, `/v1/status` | GET |
//!
//! Answers carry the revision as `ETag`; writes take it as `If-Match`, and `?dry_run=true` checks only.

mod certificates;
mod edit;
mod error;
mod events;
mod extract;
mod handlers;
mod openapi;
mod operations;
mod referrers;
mod remote;
mod socket;
#[cfg(test)]
mod tests;

use std::{io, time::Duration};

use lbx_common::api::{Config, Mistake};
use tokio_util::sync::CancellationToken;

pub use self::{
    certificates::{TlsError, TlsFiles},
    remote::{Remote, RemoteError},
    socket::{BindError, Socket, bind},
};
use crate::control::Control;

/// Time that open requests have to finish once the agent stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How a configuration in YAML is read and its mistakes are found in the text.
#[derive(Debug, Clone, Copy)]
pub struct YamlLoader {
    /// Text to configuration; every mistake comes with line and column.
    pub load: fn(&str) -> Result<Config, Vec<Mistake>>,
    /// Fills in line and column of mistakes that the validator found, by their path.
    pub locate: fn(&str, &mut [Mistake]),
}

/// Serves the API on the socket, and to other machines where `remote` says so, until `shutdown`, then lets open
/// requests finish for a short while. The socket's file is removed when this returns.
pub async fn serve<C: Control>(
    socket: Socket,
    remote: Option<Remote>,
    control: C,
    yaml: YamlLoader,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let (listener, _remove_at_end) = socket.into_parts();
    let events = control.events().clone();
    let router = operations::router(handlers::Api { control, yaml });
    let asked = shutdown.clone();
    let stop = async move {
        asked.cancelled().await;
        // Else followers would stay.
        events.end();
    };
    let on_socket = axum::serve(listener, router.clone()).with_graceful_shutdown(stop).into_future();
    let over_tcp = async {
        match remote {
            Some(remote) => remote.serve(router, shutdown.clone()).await,
            None => Ok(()),
        }
    };
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = async { tokio::try_join!(on_socket, over_tcp) } => result.map(drop),
        () = deadline => Ok(()),
    }
}
