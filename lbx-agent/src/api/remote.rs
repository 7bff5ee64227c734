//! The API over TCP, for other machines: TLS, and only for who has a certificate of the right authority. It serves
//! nobody else, and what it serves is the socket's business.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::certificates::{Certificates, TlsError, TlsFiles};
use crate::metrics::own::{ConnectionResult, count_connection, set_certificate_end};

/// Time in which a client must have shown its certificate.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Time in which the head of a request must have come, from the end of the one before.
const REQUEST_HEAD: Duration = Duration::from_mins(1);
/// Clients that have not shown a certificate yet; more are turned away.
const HANDSHAKES: usize = 256;
/// Clients that have.
const CLIENTS: usize = 64;
/// Time between two looks at the files of certificates.
const LOOK: Duration = Duration::from_secs(5);
/// Time between two lines in the log about refused connections.
const QUIET: Duration = Duration::from_secs(1);
/// Time before the next attempt where a connection could not be taken, as without file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Its certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port.
    #[error("--listen {0}: {1}")]
    Listen(SocketAddr, io::Error),
}

/// A port with its certificates.
pub struct Remote {
    listener: TcpListener,
    certificates: Certificates,
    /// Told when somebody asks that the certificates be read again.
    reread: Arc<Notify>,
}

impl Remote {
    /// Takes the port. Nobody is answered yet.
    pub async fn listen(
        address: SocketAddr,
        files: TlsFiles,
        reread: Arc<Notify>,
    ) -> Result<Self, RemoteError> {
        let certificates = Certificates::load(files)?;
        let listener =
            TcpListener::bind(address).await.map_err(|error| RemoteError::Listen(address, error))?;
        Ok(Self { listener, certificates, reread })
    }

    /// Serves `router` until `shutdown`, then lets open requests finish.
    pub(super) async fn serve(mut self, router: Router, shutdown: CancellationToken) -> io::Result<()> {
        let graceful = GracefulShutdown::new();
        let [handshakes, clients] = [HANDSHAKES, CLIENTS].map(|most| Arc::new(Semaphore::new(most)));
        let log = Arc::new(QuietLog::default());
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        set_certificate_end(self.certificates.not_after_secs);
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.reread.notified() => { self.renewed(Certificates::reload); continue }
                _ = looks.tick() => { self.renewed(Certificates::look); continue }
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    log.say(&format!("cannot take a connection: {error}"));
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&handshakes).try_acquire_owned() else {
                count_connection(ConnectionResult::TooMany);
                log.say(&format!(
                    "{peer} is turned away: {HANDSHAKES} others have not shown a certificate yet"
                ));
                continue;
            };
            let (config, clients, log) =
                (Arc::clone(&self.certificates.config), Arc::clone(&clients), Arc::clone(&log));
            let (router, watcher) = (router.clone(), graceful.watcher());
            tokio::spawn(async move {
                let admitted = admit(stream, peer, config, &log).await;
                drop(place);
                let Some(stream) = admitted else { return };
                let Ok(_place) = clients.try_acquire() else {
                    count_connection(ConnectionResult::TooMany);
                    log.say(&format!("{peer} is turned away: there are {CLIENTS} clients"));
                    return;
                };
                count_connection(ConnectionResult::Accepted);
                answer(stream, router, watcher).await;
            });
        }
        graceful.shutdown().await;
        Ok(())
    }

    /// Takes new certificates, where there are some.
    fn renewed(&mut self, look: impl FnOnce(&mut Certificates) -> Result<bool, TlsError>) {
        match look(&mut self.certificates) {
            Ok(false) => {}
            Ok(true) => {
                set_certificate_end(self.certificates.not_after_secs);
                tracing::info!("the certificates for other machines were read again");
            }
            Err(error) => {
                tracing::error!("the certificates for other machines stay as they were: {error}");
            }
        }
    }
}

/// Makes the handshake, in which the client must show its certificate.
async fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<ServerConfig>,
    log: &QuietLog,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let handshake = TlsAcceptor::from(config).accept(stream).into_fallible();
    match timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err((error, stream))) => {
            count_connection(ConnectionResult::Refused);
            log.say(&format!("{peer} is refused: {error}"));
            // Closed at once, with something unread, the alert that says why would be lost.
            let _no_answer = timeout(HANDSHAKE, linger(stream)).await;
            None
        }
        Err(_) => {
            count_connection(ConnectionResult::Silent);
            log.say(&format!("{peer} is refused: no certificate within {} s", HANDSHAKE.as_secs()));
            None
        }
    }
}

/// Waits until the other side has closed, too, or has said more than anybody needs to.
async fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    for _ in 0..64 {
        if stream.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

async fn answer(stream: tokio_rustls::server::TlsStream<TcpStream>, router: Router, watcher: Watcher) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection from another machine ended");
    }
}

/// The log for what others can make happen as often as they like.
#[derive(Default)]
struct QuietLog(std::sync::Mutex<(Option<Instant>, u64)>);

impl QuietLog {
    fn say(&self, text: &str) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (last, unsaid) = *state;
        if last.is_some_and(|last| last.elapsed() < QUIET) {
            *state = (last, unsaid + 1);
            return;
        }
        *state = (Some(Instant::now()), 0);
        drop(state);
        tracing::warn!(unsaid, "API over TCP: {text}");
    }
}
