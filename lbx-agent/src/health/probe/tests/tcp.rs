//! Connections.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use lbx_common::api::Monitor;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpSocket;

use super::{LOOPBACKS, monitor, path, probe};
use crate::{
    health::probe::{Path, ProbeError, socket},
    net::testing::Namespace,
};

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
                let socket = socket::tcp(path(None, loopback)).unwrap();
                let socket = TcpSocket::from_std_stream(socket.into());
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
    let rules =
        "table inet t { chain in { type filter hook input priority 0; ip dscp 7 drop; ip6 dscp 7 drop; }; }";
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
        for (source, target, elsewhere) in
            [("192.0.2.1", "192.0.2.2", "198.51.100.1"), ("2001:db8:2::1", "2001:db8:2::2", "2001:db8:3::1")]
        {
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
