//! Echo requests, and UDP.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use lbx_common::api::{Monitor, MonitorKind};
use tokio::net::UdpSocket;

use super::{LOOPBACKS, monitor_of, path, probe, steps_of};
use crate::{health::probe::ProbeError, net::testing::Namespace};

/// A server that answers each datagram with these, and gives those that came to whoever asks.
async fn server(
    loopback: IpAddr,
    answers: &'static [&'static [u8]],
) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let socket = UdpSocket::bind((loopback, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 2048];
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        for answer in answers {
            socket.send_to(answer, peer).await.unwrap();
        }
        buffer[..length].to_vec()
    });
    (address, task)
}

/// An address without a socket.
async fn closed(loopback: IpAddr) -> SocketAddr {
    UdpSocket::bind((loopback, 0)).await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn the_payload_arrives_and_the_expected_answer_is_waited_for() {
    for loopback in LOOPBACKS {
        let (address, server) = server(loopback, &[b"other", b"well: pong."]).await;
        let monitor = Monitor {
            payload: Some(r"ping\x00".parse().unwrap()),
            expect: Some("pong".parse().unwrap()),
            ..monitor_of(MonitorKind::Udp)
        };
        assert_eq!(steps_of(address, &monitor).await.unwrap(), ["answer", "answer"]);
        assert_eq!(server.await.unwrap(), b"ping\0");
    }
}

#[tokio::test]
async fn a_wrong_answer_is_named_and_without_an_expectation_any_is_right() {
    let quick = Monitor { timeout: Duration::from_millis(100), ..monitor_of(MonitorKind::Udp) };
    for loopback in LOOPBACKS {
        let (address, _server) = server(loopback, &[b"nonsense"]).await;
        let monitor = Monitor { expect: Some("pong".parse().unwrap()), ..quick.clone() };
        let error = steps_of(address, &monitor).await.unwrap_err();
        assert_eq!(error, "no answer within 100ms: it waited for a datagram with what is expected in it");
        let (address, _server) = self::server(loopback, &[b""]).await;
        assert_eq!(steps_of(address, &quick).await.unwrap(), ["answer"]);
        let silent = UdpSocket::bind((loopback, 0)).await.unwrap();
        let error = steps_of(silent.local_addr().unwrap(), &quick).await.unwrap_err();
        assert_eq!(error, "no answer within 100ms");
    }
}

#[tokio::test]
async fn a_port_that_nobody_has_is_refused_at_once() {
    for loopback in LOOPBACKS {
        for kind in [MonitorKind::Udp, MonitorKind::UdpIcmp] {
            let address = closed(loopback).await;
            let start = Instant::now();
            let error = steps_of(address, &monitor_of(kind)).await.unwrap_err();
            assert_eq!(error, format!("port unreachable, says {address}"));
            assert!(start.elapsed() < Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn a_ping_is_answered_and_silence_after_it_is_no_refusal() {
    for loopback in LOOPBACKS {
        let socket = UdpSocket::bind((loopback, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let pinged = steps_of(SocketAddr::new(loopback, 0), &monitor_of(MonitorKind::IcmpPing)).await;
        assert_eq!(pinged.unwrap(), ["ping"]);
        assert_eq!(steps_of(address, &monitor_of(MonitorKind::UdpIcmp)).await.unwrap(), ["ping", "datagram"]);
        // The datagram came.
        assert_eq!(socket.recv(&mut [0; 8]).await.unwrap(), 0);
    }
}

#[test]
fn a_ping_knows_its_own_answer_among_those_of_many() {
    let host = Namespace::new();
    host.address("2001:db8::77/128", "lo");
    host.block_on(async || {
        for target in LOOPBACKS {
            let probes = (0..200).map(|_| async move {
                let monitor = monitor_of(MonitorKind::IcmpPing);
                probe(path(None, target), SocketAddr::new(target, 0), &monitor).await
            });
            for result in futures_util::future::join_all(probes).await {
                result.unwrap();
            }
        }
    });
}

#[test]
fn who_is_not_there_does_not_answer_and_a_router_that_says_so_is_quoted() {
    let [host, router] = [Namespace::new(), Namespace::new()];
    host.connect("eth0", "192.0.2.1/24", &router, "eth0", "192.0.2.2/24");
    host.ip("route add default via 192.0.2.2");
    router.ip("route add blackhole 198.51.100.1");
    router.ip("route add unreachable 198.51.100.2");
    router.ip("route add prohibit 198.51.100.3");
    for (key, value) in [("ip_forward", "1"), ("icmp_ratelimit", "0")] {
        router.run(|| std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value)).unwrap();
    }
    host.block_on(async || {
        let source = "192.0.2.1".parse().unwrap();
        for (target, expected) in [
            ("198.51.100.1", "no answer within 300ms"),
            ("198.51.100.2", "host 198.51.100.2 unreachable: a router on the way says so"),
            ("198.51.100.3", "host 198.51.100.3 unreachable: a router on the way says so"),
        ] {
            for kind in [MonitorKind::IcmpPing, MonitorKind::Udp] {
                let monitor = Monitor { timeout: Duration::from_millis(300), ..monitor_of(kind) };
                let target = SocketAddr::new(target.parse().unwrap(), 53);
                let error = probe(path(Some("eth0"), source), target, &monitor).await.unwrap_err();
                assert_eq!(error, ProbeError::Endpoint(expected.to_owned()), "{kind:?}");
            }
        }
    });
}
