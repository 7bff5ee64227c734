//! One probe of a target, of any kind.
//!
//! | file | owns |
//! |---|---|
//! | `socket`, `datagrams` | sockets that send by the probe path, and what their errors say |
//! | `steps` | what a probe has done so far, and when |
//! | `tcp`, `http`, `tls`, `smtp`, `icmp`, `udp` | the kinds |
//!
//! A probe tells apart an endpoint that does not answer from a host that cannot ask: a shortage of this host must not
//! take every endpoint out.

mod datagrams;
mod http;
mod icmp;
mod smtp;
mod socket;
mod steps;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod udp;

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use humantime::format_duration;
use lbx_common::api::{Monitor, MonitorKind};
use tokio::time::timeout;

pub use self::steps::{Step, Steps};

/// Why a probe brought no success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The endpoint did not answer, or not as it should.
    #[error("{0}")]
    Endpoint(String),
    /// This host could not ask; it says nothing about the endpoint.
    #[error("not probed: {0}")]
    Host(String),
}

/// The way of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<'a> {
    /// Device to leave by; `None` leaves that to the host's routes.
    pub device: Option<&'a str>,
    /// Source address: it says which virtual network.
    pub source: IpAddr,
    /// Which tunnel of the network: the DSCP of every packet, which the program on `lbx1` takes off again.
    pub place: u8,
    /// Another tunnel, for when nothing has come back by the first one after half of the timeout: it may be the
    /// tunnel that is silent.
    pub other: Option<u8>,
}

/// Probes with the monitor's timeout and retries. Gives the time that the answer took. The steps are those of the
/// attempt that decided.
pub async fn probe(
    path: Path<'_>,
    target: SocketAddr,
    monitor: &Monitor,
    steps: &mut Steps,
) -> Result<Duration, ProbeError> {
    let mut result = attempt(path, target, monitor, steps).await;
    for _ in 0..monitor.retries {
        if !matches!(result, Err(ProbeError::Endpoint(_))) {
            break;
        }
        result = attempt(path, target, monitor, steps).await;
    }
    result
}

async fn attempt(
    path: Path<'_>,
    target: SocketAddr,
    monitor: &Monitor,
    steps: &mut Steps,
) -> Result<Duration, ProbeError> {
    let limit = monitor.timeout;
    let (mut by_first, mut by_second) = (steps.anew(), steps.anew());
    let Some(place) = path.other else {
        let result = once(path, target, monitor, limit, &mut by_first).await;
        *steps = by_first;
        return result;
    };
    let half = limit / 2;
    let (result, decided_by_second) = {
        let mut first = pin!(once(path, target, monitor, limit, &mut by_first));
        if let Ok(result) = timeout(half, &mut first).await {
            (result, false)
        } else {
            let path = Path { place, ..path };
            let mut second = pin!(once(path, target, monitor, limit.saturating_sub(half), &mut by_second));
            tokio::select! {
                result = &mut first => if result.is_ok() { (result, false) } else { (second.await, true) },
                result = &mut second => if result.is_ok() { (result, true) } else { (first.await, false) },
            }
        }
    };
    *steps = if decided_by_second { by_second } else { by_first };
    result
}

/// One attempt by one tunnel.
async fn once(
    path: Path<'_>,
    target: SocketAddr,
    monitor: &Monitor,
    limit: Duration,
    steps: &mut Steps,
) -> Result<Duration, ProbeError> {
    let run = async {
        match monitor.kind {
            MonitorKind::Tcp => tcp::connect(path, target, steps).await.map(|(_, took)| took),
            // Each in memory of its own: else every probe would take what the largest of them needs.
            MonitorKind::Http => Box::pin(http::probe(path, target, monitor, false, steps)).await,
            MonitorKind::Https => Box::pin(http::probe(path, target, monitor, true, steps)).await,
            MonitorKind::IcmpPing => Box::pin(icmp::ping(path, target.ip(), steps)).await,
            MonitorKind::Udp => Box::pin(udp::exchange(path, target, monitor, steps)).await,
            MonitorKind::UdpIcmp => Box::pin(udp::after_ping(path, target, monitor, steps)).await,
            MonitorKind::Smtp => Box::pin(smtp::probe(path, target, steps)).await,
        }
    };
    if let Ok(result) = timeout(limit, run).await {
        return result;
    }
    let within = format!("no answer within {}", format_duration(limit));
    Err(ProbeError::Endpoint(match steps.waiting() {
        Some(what) => format!("{within}: it waited for {what}"),
        None => within,
    }))
}

/// As much of what an endpoint said as a message repeats, in characters.
const MAX_QUOTED: usize = 60;

/// What an endpoint said, for a message: one line, and nothing in it that a terminal would obey.
fn quoted(text: &str) -> String {
    let one_line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_QUOTED).collect();
    one_line.trim_end().to_owned()
}
