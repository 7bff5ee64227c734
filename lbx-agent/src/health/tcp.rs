//! One TCP probe: opens a connection by the probe path and closes it with a reset.
//!
//! It tells apart an endpoint that does not answer from a host that cannot ask: a shortage of this host must
//! not take every endpoint out.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
    time::Duration,
};

use lbx_common::{abi::PROBE_MARK, api::Monitor};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::TcpSocket,
    time::{Instant, timeout},
};

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

/// Probes with the monitor's timeout and retries. Gives the time that the handshake took.
pub async fn probe(
    device: Option<&str>,
    source: Ipv4Addr,
    target: SocketAddrV4,
    monitor: &Monitor,
) -> Result<Duration, ProbeError> {
    let mut result = attempt(device, source, target, monitor.timeout).await;
    for _ in 0..monitor.retries {
        if !matches!(result, Err(ProbeError::Endpoint(_))) {
            break;
        }
        result = attempt(device, source, target, monitor.timeout).await;
    }
    result
}

async fn attempt(
    device: Option<&str>,
    source: Ipv4Addr,
    target: SocketAddrV4,
    limit: Duration,
) -> Result<Duration, ProbeError> {
    let socket = open(device, source)?;
    let start = Instant::now();
    match timeout(limit, socket.connect(target.into())).await {
        // Dropped here, which sends the reset.
        Ok(Ok(_stream)) => Ok(start.elapsed()),
        Ok(Err(error)) => Err(judge(&error, target, device)),
        Err(_) => {
            Err(ProbeError::Endpoint(format!("no answer within {}", humantime::format_duration(limit))))
        }
    }
}

fn open(device: Option<&str>, source: Ipv4Addr) -> Result<TcpSocket, ProbeError> {
    let host = |what: &str, error: &io::Error| ProbeError::Host(format!("{what}: {error}"));
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))
        .map_err(|error| host("cannot open a socket", &error))?;
    if let Some(device) = device {
        socket
            .bind_device(Some(device.as_bytes()))
            .and_then(|()| socket.set_mark(PROBE_MARK))
            .map_err(|error| host(&format!("cannot send by device {device}"), &error))?;
    }
    // Close with a reset: with a plain close, ports stay in TIME_WAIT until there are none left.
    socket
        .set_linger(Some(Duration::ZERO))
        .and_then(|()| choose_port_late(&socket))
        .map_err(|error| host("cannot set up a socket", &error))?;
    socket
        .bind(&SocketAddrV4::new(source, 0).into())
        .map_err(|error| host(&format!("cannot send from the probe source {source}"), &error))?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// Leaves the choice of the port to `connect()`, which may use one port for several destinations at a time;
/// one chosen by `bind()` belongs to its socket alone.
fn choose_port_late(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int; the pointer and the length are those of `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on).try_into().unwrap_or(4),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What an error of `connect()` says, and about whom.
fn judge(error: &io::Error, target: SocketAddrV4, device: Option<&str>) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => ProbeError::Endpoint(format!("connection refused by {target}")),
        Some(libc::ECONNRESET) => ProbeError::Endpoint(format!("connection reset by {target}")),
        Some(libc::ETIMEDOUT) => ProbeError::Endpoint(format!("no answer from {target}")),
        Some(libc::EHOSTUNREACH) => {
            ProbeError::Endpoint(format!("host {} unreachable: a router on the way says so", target.ip()))
        }
        // Everything lies behind the probe device, so only the device itself can be in the way.
        Some(libc::ENETUNREACH) => ProbeError::Host(format!(
            "no route to {} by {}: is the device up?",
            target.ip(),
            device.unwrap_or("any device")
        )),
        Some(libc::EACCES | libc::EPERM) => {
            ProbeError::Host("a firewall rule of this host refused the probe".to_owned())
        }
        Some(libc::EADDRNOTAVAIL) => {
            ProbeError::Host(format!("no local port left for {target}, see net.ipv4.ip_local_port_range"))
        }
        _ => ProbeError::Host(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener, time::Instant};

    use lbx_common::api::MonitorKind;

    use super::*;
    use crate::net::testing::Namespace;

    const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

    fn monitor(retries: u8) -> Monitor {
        Monitor {
            name: "m".to_owned(),
            kind: MonitorKind::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(100),
            retries,
            consecutive_up: 1,
            consecutive_down: 1,
        }
    }

    fn listener() -> (TcpListener, SocketAddrV4) {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, SocketAddrV4::new(LOOPBACK, port))
    }

    #[tokio::test]
    async fn a_listener_is_a_success_and_sees_the_source_and_a_reset() {
        let (listener, target) = listener();
        let source = Ipv4Addr::new(127, 0, 0, 77);
        let round_trip = probe(None, source, target, &monitor(0)).await.unwrap();
        assert!(round_trip < Duration::from_millis(100));
        let (mut stream, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), source);
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let (listener, target) = listener();
        drop(listener);
        let error = probe(None, LOOPBACK, target, &monitor(1)).await.unwrap_err();
        assert_eq!(error, ProbeError::Endpoint(format!("connection refused by {target}")));
    }

    #[tokio::test]
    async fn a_source_that_is_not_ours_and_a_missing_device_are_this_hosts_fault() {
        let (_listener, target) = listener();
        let error = probe(None, [192, 0, 2, 99].into(), target, &monitor(0)).await.unwrap_err();
        assert!(matches!(&error, ProbeError::Host(reason) if reason.contains("192.0.2.99")), "{error}");
        let error = probe(Some("nosuch"), LOOPBACK, target, &monitor(0)).await.unwrap_err();
        assert!(matches!(&error, ProbeError::Host(reason) if reason.contains("nosuch")), "{error}");
    }

    #[test]
    fn a_black_hole_times_out_after_all_attempts_and_no_route_is_this_hosts_fault() {
        let host = Namespace::new();
        host.ip("link add eth0 type veth peer name eth1");
        host.ip("link set eth1 up");
        host.ip("link set eth0 up arp off");
        host.ip("address add 192.0.2.1/24 dev eth0");
        host.block_on(async || {
            let (source, target) = ([192, 0, 2, 1].into(), SocketAddrV4::new([192, 0, 2, 2].into(), 80));
            for (retries, at_least) in [(0, 100), (2, 300)] {
                let start = Instant::now();
                let error = probe(Some("eth0"), source, target, &monitor(retries)).await.unwrap_err();
                assert_eq!(error, ProbeError::Endpoint("no answer within 100ms".to_owned()));
                let took = start.elapsed().as_millis();
                assert!((at_least..at_least + 250).contains(&took), "{took} ms");
            }
            let elsewhere = SocketAddrV4::new([198, 51, 100, 1].into(), 80);
            let error = probe(None, source, elsewhere, &monitor(0)).await.unwrap_err();
            assert!(
                matches!(&error, ProbeError::Host(reason) if reason.contains("no route to 198.51.100.1")),
                "{error}"
            );
        });
    }
}
