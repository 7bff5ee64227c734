//! The servers on an origin: HTTP on port 80 and a UDP echo on port 53, in IPv4 and IPv6. Both say who answered.
//!
//! `GET /` answers `VNET ORIGIN ADDRESS client=CLIENT`, a datagram is answered with
//! `VNET ORIGIN ADDRESS client=CLIENT ` and its payload, `GET /bytes/N` with N bytes of [`pattern`], `POST /bytes`
//! with such bytes as its body with their number. `GET /far` answers after [`OriginServers::be_far`]'s time.

use std::{
    fmt::Write as _,
    future::pending,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Path, State},
    http::{StatusCode, header::CONTENT_LENGTH},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::oneshot,
    time::timeout,
};

use crate::{family::Family, netns::Netns};

/// Port of the HTTP server.
pub const HTTP_PORT: u16 = 80;
/// Port of the UDP echo.
pub const UDP_PORT: u16 = 53;

const CHUNK_BYTES: u64 = 64 * 1024;

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the virtual network.
    pub vnet: String,
    /// Name of the origin.
    pub origin: String,
    /// Its private address.
    pub ipv4: Ipv4Addr,
    /// Its private IPv6 address.
    pub ipv6: Ipv6Addr,
}

impl Identity {
    /// Its private address of a family.
    pub const fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.ipv4),
            Family::V6 => IpAddr::V6(self.ipv6),
        }
    }

    fn greeting(&self, client: SocketAddr) -> String {
        // The server was asked at the address of the client's family.
        let address = self.address(Family::of(client.ip()));
        format!("{} {} {address} client={client}", self.vnet, self.origin)
    }
}

/// Byte number `index` of `/bytes/N`: the same at every origin, and no two near parts alike.
pub fn pattern(index: u64) -> u8 {
    let mut mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 29;
    mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[0]
}

/// The running servers of one origin; stopped when dropped.
pub struct OriginServers {
    stop: Option<oneshot::Sender<()>>,
    /// In milliseconds.
    distance: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl OriginServers {
    /// Starts both servers in `netns`; they listen when this returns.
    pub fn start(netns: &Netns, identity: Identity) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let name = format!("{}-{}", identity.vnet, identity.origin);
        let distance = Arc::new(AtomicU64::new(0));
        let far = Arc::clone(&distance);
        let thread = netns.spawn(&name, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // Dropping the runtime at the end closes the listeners and every connection.
            runtime.block_on(serve(identity, far, stopped, ready))
        })?;
        match started.recv() {
            Ok(()) => Ok(Self { stop: Some(stop), distance, thread: Some(thread) }),
            // The thread ended before it listened; its result says why.
            Err(_) => Err(join(thread).err().unwrap_or_else(|| anyhow!("the servers ended at once"))),
        }
    }

    /// From now on `GET /far` is answered after this time, as by a server that is so far away.
    pub fn be_far(&self, distance: Duration) {
        self.distance.store(distance.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Drop for OriginServers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(error)) = self.thread.take().map(join) {
            eprintln!("lbx-tests: a server had failed: {error:#}");
        }
    }
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("its thread panicked")))
}

async fn serve(
    identity: Identity,
    distance: Arc<AtomicU64>,
    stopped: oneshot::Receiver<()>,
    ready: mpsc::Sender<()>,
) -> Result<()> {
    let (listener, socket) = listen(identity.ipv4.into()).await?;
    let (listener_v6, socket_v6) = listen(identity.ipv6.into()).await?;
    let app = || {
        Router::new()
            .route("/", get(hello))
            .route("/bytes/{count}", get(bytes))
            .route("/bytes", post(take))
            .route("/far", get(far).with_state(Arc::clone(&distance)))
            .layer(DefaultBodyLimit::disable())
            .with_state(identity.clone())
            .into_make_service_with_connect_info::<SocketAddr>()
    };
    // Nobody waits any more only when the starter is gone, and then `stopped` is closed too.
    let _ = ready.send(());
    tokio::select! {
        _ = stopped => Ok(()),
        result = axum::serve(listener, app()) => result.context("HTTP server"),
        result = axum::serve(listener_v6, app()) => result.context("HTTP server, IPv6"),
        error = echo(socket, &identity) => Err(error).context("UDP echo"),
        error = echo(socket_v6, &identity) => Err(error).context("UDP echo, IPv6"),
    }
}

async fn listen(address: IpAddr) -> Result<(TcpListener, UdpSocket)> {
    let listener = TcpListener::bind((address, HTTP_PORT)).await;
    let listener = listener.with_context(|| format!("cannot listen on {address} port {HTTP_PORT}"))?;
    let socket = UdpSocket::bind((address, UDP_PORT)).await;
    let socket = socket.with_context(|| format!("cannot bind udp {address} port {UDP_PORT}"))?;
    Ok((listener, socket))
}

async fn hello(State(identity): State<Identity>, ConnectInfo(client): ConnectInfo<SocketAddr>) -> String {
    identity.greeting(client) + "\n"
}

async fn far(State(distance): State<Arc<AtomicU64>>) -> &'static str {
    let way = Duration::from_millis(distance.load(Ordering::Relaxed));
    // The time is what is asked for, not a wait for something.
    let _ = timeout(way, pending::<()>()).await;
    "far\n"
}

async fn bytes(Path(count): Path<u64>) -> Response {
    let starts = stream::iter((0..count).step_by(usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX)));
    let chunks = futures_util::StreamExt::map(starts, move |start| {
        let end = count.min(start + CHUNK_BYTES);
        Ok::<_, std::convert::Infallible>((start..end).map(pattern).collect::<Bytes>())
    });
    ([(CONTENT_LENGTH, count.to_string())], Body::from_stream(chunks)).into_response()
}

async fn take(body: Bytes) -> Result<String, StatusCode> {
    let right = (0..).zip(&body).all(|(index, byte)| *byte == pattern(index));
    if right { Ok(body.len().to_string()) } else { Err(StatusCode::BAD_REQUEST) }
}

/// Ends only with an error that the socket cannot recover from.
async fn echo(socket: UdpSocket, identity: &Identity) -> std::io::Error {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, client)) => {
                let mut answer = identity.greeting(client);
                // Writing to a String cannot fail.
                let _ = answer.write_char(' ');
                let mut answer = answer.into_bytes();
                answer.extend(buffer.iter().take(length));
                // A client that cannot be reached loses its answer, as with any UDP server.
                let _ = socket.send_to(&answer, client).await;
            }
            // ICMP errors about earlier answers arrive here.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(error) => return error,
        }
    }
}
