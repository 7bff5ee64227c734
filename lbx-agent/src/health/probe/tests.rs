//! Probes of every kind against servers on loopback, and in namespaces.

mod datagrams;
mod http;
mod smtp;
mod tcp;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use lbx_common::api::{Monitor, MonitorKind};

use super::{Path, ProbeError, Steps};

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Of TCP, with a short timeout.
fn monitor(retries: u8) -> Monitor {
    Monitor {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(100),
        retries,
        ..Monitor::new("m".to_owned())
    }
}

/// Of a kind, with time enough.
fn monitor_of(kind: MonitorKind) -> Monitor {
    Monitor { kind, timeout: Duration::from_secs(5), ..monitor(0) }
}

fn path(device: Option<&str>, source: IpAddr) -> Path<'_> {
    Path { device, source, place: 5, other: None }
}

async fn probe(path: Path<'_>, target: SocketAddr, monitor: &Monitor) -> Result<Duration, ProbeError> {
    super::probe(path, target, monitor, &mut Steps::new(false)).await
}

/// Probes an address of this host; gives the steps, or what was wrong.
async fn steps_of(target: SocketAddr, monitor: &Monitor) -> Result<Vec<&'static str>, String> {
    let mut steps = Steps::new(true);
    let result = super::probe(path(None, target.ip()), target, monitor, &mut steps).await;
    let names = steps.done().iter().map(|step| step.name).collect();
    result.map(|_| names).map_err(|error| error.to_string())
}
