//! One TCP probe: opens a connection by the probe path and closes it with a reset.
//!
//! It tells apart an endpoint that does not answer from a host that cannot ask: a shortage of this host must
//! not take every endpoint out.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    pin::pin,
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

/// Probes with the monitor's timeout and retries. Gives the time that the handshake took.
pub async fn probe(path: Path<'_>, target: SocketAddr, monitor: &Monitor) -> Result<Duration, ProbeError> {
    let mut result = attempt(path, target, monitor.timeout).await;
    for _ in 0..monitor.retries {
        if !matches!(result, Err(ProbeError::Endpoint(_))) {
            break;
        }
        result = attempt(path, target, monitor.timeout).await;
    }
    result
}

async fn attempt(path: Path<'_>, target: SocketAddr, limit: Duration) -> Result<Duration, ProbeError> {
    let Some(place) = path.other else { return connect(path, target, limit).await };
    let mut first = pin!(connect(path, target, limit));
    let half = limit / 2;
    if let Ok(result) = timeout(half, &mut first).await {
        return result;
    }
    let mut second = pin!(connect(Path { place, ..path }, target, limit.saturating_sub(half)));
    tokio::select! {
        result = &mut first => if result.is_ok() { result } else { second.await },
        result = &mut second => if result.is_ok() { result } else { first.await },
    }
}

async fn connect(path: Path<'_>, target: SocketAddr, limit: Duration) -> Result<Duration, ProbeError> {
    let socket = open(path)?;
    let start = Instant::now();
    match timeout(limit, socket.connect(target)).await {
        // Dropped here, which sends the reset.
        Ok(Ok(_stream)) => Ok(start.elapsed()),
        Ok(Err(error)) => Err(judge(&error, target, path.device)),
        Err(_) => {
            Err(ProbeError::Endpoint(format!("no answer within {}", humantime::format_duration(limit))))
        }
    }
}

fn open(Path { device, source, place, .. }: Path<'_>) -> Result<TcpSocket, ProbeError> {
    let host = |what: &str, error: &io::Error| ProbeError::Host(format!("{what}: {error}"));
    let own = SocketAddr::new(source, 0);
    let socket = Socket::new(Domain::for_address(own), Type::STREAM.nonblocking(), Some(Protocol::TCP))
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
        .and_then(|()| set_dscp(&socket, source, place))
        .map_err(|error| host("cannot set up a socket", &error))?;
    socket
        .bind(&own.into())
        .map_err(|error| host(&format!("cannot send from the probe source {source}"), &error))?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// Leaves the choice of the port to `connect()`, which may use one port for several destinations at a time;
/// one chosen by `bind()` belongs to its socket alone. The option of IPv4 counts for IPv6 sockets, too
/// (`ipv6_setsockopt` hands level `SOL_IP` on, `__inet6_bind` asks for it).
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

/// The DSCP of all that the socket sends. The ECN bits below it stay with TCP (`__ip_sock_set_tos`,
/// `do_ipv6_setsockopt`).
fn set_dscp(socket: &Socket, source: IpAddr, dscp: u8) -> io::Result<()> {
    let tos = u32::from(dscp) << 2;
    match source {
        IpAddr::V4(_) => socket.set_tos_v4(tos),
        IpAddr::V6(_) => socket.set_tclass_v6(tos),
    }
}

/// What an error of `connect()` says, and about whom.
fn judge(error: &io::Error, target: SocketAddr, device: Option<&str>) -> ProbeError {
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
    use std::{
        io::Read,
        net::{Ipv4Addr, Ipv6Addr, TcpListener},
        time::Instant,
    };

    use lbx_common::api::MonitorKind;

    use super::*;
    use crate::net::testing::Namespace;

    const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

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

    fn path(device: Option<&str>, source: IpAddr) -> Path<'_> {
        Path { device, source, place: 5, other: None }
    }

    fn listener(address: IpAddr) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let target = listener.local_addr().unwrap();
        (listener, target)
    }

    #[test]
    fn a_listener_is_a_success_and_sees_the_source_and_a_reset() {
        let host = Namespace::new();
        host.address("2001:db8::77/128", "lo");
        host.block_on(async || {
            for (loopback, source) in LOOPBACKS.into_iter().zip(["127.0.0.77", "2001:db8::77"]) {
                let (listener, target) = listener(loopback);
                let source = source.parse().unwrap();
                let round_trip = probe(path(None, source), target, &monitor(0)).await.unwrap();
                assert!(round_trip < Duration::from_millis(100));
                let (mut stream, peer) = listener.accept().unwrap();
                assert_eq!(peer.ip(), source);
                let error = stream.read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
        });
    }

    /// Lets `listener` keep the SYN of each connection, or gives that of `stream`.
    fn saved_syn(listener: &TcpListener, stream: Option<&std::net::TcpStream>) -> Vec<u8> {
        let mut bytes = vec![0_u8; 128];
        let mut length: libc::socklen_t = 128;
        let on: libc::c_int = 1;
        // SAFETY: the first reads one int from `on`, the second writes `length` bytes to `bytes` at most.
        let status = unsafe {
            match stream {
                None => {
                    let fd = listener.as_raw_fd();
                    libc::setsockopt(fd, libc::SOL_TCP, libc::TCP_SAVE_SYN, (&raw const on).cast(), 4)
                }
                Some(stream) => {
                    let (fd, buffer) = (stream.as_raw_fd(), bytes.as_mut_ptr().cast());
                    libc::getsockopt(fd, libc::SOL_TCP, libc::TCP_SAVED_SYN, buffer, &raw mut length)
                }
            }
        };
        assert_eq!(status, 0, "{}", io::Error::last_os_error());
        bytes.truncate(usize::try_from(length).unwrap());
        bytes
    }

    #[tokio::test]
    async fn the_place_of_the_tunnel_is_the_dscp() {
        for loopback in LOOPBACKS {
            let (listener, target) = listener(loopback);
            saved_syn(&listener, None);
            for place in [0, 1, 63] {
                probe(Path { place, ..path(None, loopback) }, target, &monitor(0)).await.unwrap();
                let syn = saved_syn(&listener, Some(&listener.accept().unwrap().0));
                let tos = if loopback.is_ipv4() { syn[1] } else { syn[0] << 4 | syn[1] >> 4 };
                assert_eq!(tos, place << 2, "{loopback}");
            }
        }
    }

    #[test]
    fn one_port_serves_several_destinations() {
        let host = Namespace::new();
        host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000")).unwrap();
        host.block_on(async || {
            for loopback in LOOPBACKS {
                // Ports of their own, because the only one to choose is wanted for the probes.
                let listen = |port| TcpListener::bind((loopback, port)).unwrap();
                let _listeners = [listen(80), listen(81)];
                let connect = async |port| {
                    let socket = open(path(None, loopback)).unwrap();
                    socket.connect((loopback, port).into()).await.unwrap()
                };
                let open_at_a_time = [connect(80).await, connect(81).await];
                for stream in open_at_a_time {
                    assert_eq!(stream.local_addr().unwrap().port(), 40000);
                }
            }
        });
    }

    #[test]
    fn where_one_tunnel_is_silent_the_other_one_is_asked_within_the_same_time() {
        let host = Namespace::new();
        // A tunnel that loses everything: what has the DSCP of its place.
        let rules = "table inet t { chain in { type filter hook input priority 0; ip dscp 7 drop; ip6 dscp 7 drop; }; }";
        let status = host.run(|| std::process::Command::new("nft").arg(rules).status().unwrap());
        assert!(status.success());
        host.block_on(async || {
            for loopback in LOOPBACKS {
                let (_listener, target) = listener(loopback);
                let by = |place, other| Path { place, other, ..path(None, loopback) };
                let start = Instant::now();
                let monitor = Monitor { timeout: Duration::from_millis(600), ..monitor(0) };
                probe(by(7, Some(5)), target, &monitor).await.unwrap();
                assert!(start.elapsed() >= Duration::from_millis(300), "the first one has half of the time");
            }
        });
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        for loopback in LOOPBACKS {
            // Bound, so that nobody else has it, and never listening: a process that another test is about to
            // start may hold a closed listener for a moment longer.
            let any = SocketAddr::new(loopback, 0);
            let bound = Socket::new(Domain::for_address(any), Type::STREAM, None).unwrap();
            bound.bind(&any.into()).unwrap();
            let target = bound.local_addr().unwrap().as_socket().unwrap();
            let error = probe(path(None, loopback), target, &monitor(1)).await.unwrap_err();
            assert_eq!(error, ProbeError::Endpoint(format!("connection refused by {target}")));
        }
    }

    #[tokio::test]
    async fn a_source_that_is_not_ours_and_a_missing_device_are_this_hosts_fault() {
        for (loopback, other) in LOOPBACKS.into_iter().zip(["192.0.2.99", "2001:db8::99"]) {
            let (_listener, target) = listener(loopback);
            let error = probe(path(None, other.parse().unwrap()), target, &monitor(0)).await.unwrap_err();
            assert!(matches!(&error, ProbeError::Host(reason) if reason.contains(other)), "{error}");
            let error = probe(path(Some("nosuch"), loopback), target, &monitor(0)).await.unwrap_err();
            assert!(matches!(&error, ProbeError::Host(reason) if reason.contains("nosuch")), "{error}");
        }
    }

    #[test]
    fn a_black_hole_times_out_after_all_attempts_and_no_route_is_this_hosts_fault() {
        let host = Namespace::new();
        host.ip("link add eth0 type veth peer name eth1");
        host.ip("link set eth1 up");
        host.ip("link set eth0 up arp off");
        host.address("192.0.2.1/24", "eth0");
        host.address("2001:db8:2::1/64", "eth0");
        host.block_on(async || {
            for (source, target, elsewhere) in [
                ("192.0.2.1", "192.0.2.2", "198.51.100.1"),
                ("2001:db8:2::1", "2001:db8:2::2", "2001:db8:3::1"),
            ] {
                let source = source.parse().unwrap();
                let at = |address: &str| SocketAddr::new(address.parse().unwrap(), 80);
                for (retries, at_least) in [(0, 100), (2, 300)] {
                    let start = Instant::now();
                    let error =
                        probe(path(Some("eth0"), source), at(target), &monitor(retries)).await.unwrap_err();
                    assert_eq!(error, ProbeError::Endpoint("no answer within 100ms".to_owned()));
                    let took = start.elapsed().as_millis();
                    assert!((at_least..at_least + 250).contains(&took), "{took} ms");
                }
                let error = probe(path(None, source), at(elsewhere), &monitor(0)).await.unwrap_err();
                let expected = format!("no route to {elsewhere}");
                assert!(matches!(&error, ProbeError::Host(reason) if reason.contains(&expected)), "{error}");
            }
        });
    }
}
