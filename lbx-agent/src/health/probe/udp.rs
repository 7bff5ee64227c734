//! UDP: sends a datagram, which must be answered, or at least not be refused.

use std::{net::SocketAddr, time::Duration};

use lbx_common::api::Monitor;
use tokio::time::timeout;

use super::{Path, ProbeError, Steps, datagrams::Datagrams, icmp};

/// Longest datagram that is looked at; of a longer one, only so much is.
const MAX_DATAGRAM_BYTES: usize = 4096;
/// For how long a refusal is waited for at least, and in round trips.
const MIN_PATIENCE: Duration = Duration::from_millis(20);
const PATIENCE_ROUND_TRIPS: u32 = 4;

/// Sends the monitor's datagram until one comes back that is right. Gives the time that this took.
pub(super) async fn exchange(
    path: Path<'_>,
    target: SocketAddr,
    monitor: &Monitor,
    steps: &mut Steps,
) -> Result<Duration, ProbeError> {
    let socket = Datagrams::udp(path, target)?;
    steps.begin();
    send(&socket, monitor).await?;
    let expect = monitor.expect.as_ref().map_or(&[][..], |expect| expect.bytes());
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let length = socket.receive(&mut buffer).await?;
        let datagram = buffer.get(..length).unwrap_or_default();
        if contains(datagram, expect) {
            return Ok(steps.finish("answer", || format!("{length} bytes from {target}")));
        }
        // The right one may still come.
        steps.finish("answer", || format!("{length} bytes from {target}, without what is expected in it"));
        steps.wait_for("a datagram with what is expected in it");
    }
}

/// Sends an echo request and, when that is answered, the monitor's datagram: it must not come back as "port
/// unreachable". Gives the round trip of the echo.
pub(super) async fn after_ping(
    path: Path<'_>,
    target: SocketAddr,
    monitor: &Monitor,
    steps: &mut Steps,
) -> Result<Duration, ProbeError> {
    let round_trip = icmp::ping(path, target.ip(), steps).await?;
    let socket = Datagrams::udp(path, target)?;
    steps.wait_for("an answer to the datagram");
    send(&socket, monitor).await?;
    let patience = MIN_PATIENCE.max(round_trip * PATIENCE_ROUND_TRIPS).min(monitor.timeout / 2);
    match timeout(patience, socket.receive(&mut [0; 1])).await {
        Err(_) => steps.finish("datagram", || format!("not refused by {target}")),
        Ok(Ok(_)) => steps.finish("datagram", || format!("answered by {target}")),
        Ok(Err(error)) => return Err(error),
    };
    Ok(round_trip)
}

async fn send(socket: &Datagrams<'_>, monitor: &Monitor) -> Result<(), ProbeError> {
    socket.send(monitor.payload.as_ref().map_or(&[][..], |payload| payload.bytes())).await
}

/// Whether `part` occurs in `whole`.
fn contains(whole: &[u8], part: &[u8]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|window| window == part)
}
