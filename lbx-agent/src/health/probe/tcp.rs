//! TCP: opens a connection. Whoever drops it closes it with a reset.

use std::{net::SocketAddr, time::Duration};

use tokio::net::{TcpSocket, TcpStream};

use super::{
    Path, ProbeError, Steps,
    socket::{judge, tcp},
};

/// A connection, and the time that its handshake took.
pub(super) async fn connect(
    path: Path<'_>,
    target: SocketAddr,
    steps: &mut Steps,
) -> Result<(TcpStream, Duration), ProbeError> {
    let socket = TcpSocket::from_std_stream(tcp(path)?.into());
    steps.begin();
    let stream = socket.connect(target).await.map_err(|error| judge(&error, target, path.device))?;
    let took = steps.finish("connect", || format!("{target} from {}", path.source));
    Ok((stream, took))
}
