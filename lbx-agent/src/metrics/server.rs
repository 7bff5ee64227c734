//! The page on a port of its own, for a Prometheus that cannot read the Unix socket. It is open to everybody on this
//! machine, so it has nothing else, and no other machine can reach it.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{CONTENT_TYPE, scrape};
use crate::control::Control;

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Others could reach it.
    #[error(
        "metrics would be open to other machines on {0}: write an address of this one, as 127.0.0.1:{port} or [::1]:{port}",
        port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// Somebody else has it.
    #[error("cannot listen on {0} for metrics: {1}")]
    Busy(SocketAddr, std::io::Error),
}

/// Takes the port.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    if !address.ip().is_loopback() {
        return Err(ListenError::NotLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|error| ListenError::Busy(address, error))
}

/// Serves the page until `shutdown`.
pub async fn serve<C: Control>(
    listener: TcpListener,
    control: C,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new().route("/metrics", get(page::<C>)).with_state(control);
    let server = axum::serve(listener, router);
    shutdown.run_until_cancelled(server.into_future()).await.unwrap_or(Ok(()))
}

async fn page<C: Control>(State(control): State<C>) -> Response {
    match scrape(&control).await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}
