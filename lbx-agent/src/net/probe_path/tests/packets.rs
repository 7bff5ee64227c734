//! Packets on the probe path: probes that leave, and slow-path packets that the kernel routes.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use lbx_common::api::{Monitor, MonitorKind};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use super::{
    LBX0, LBX0_MAC, LBX1, LBX1_MAC, ensure_in,
    fib::{Fib, fib_lookup},
    wanted,
};
use crate::{
    health::probe::{Path, ProbeError, Steps, probe},
    net::{sysctl, testing::Namespace},
};

/// A probe source, and a private address that the host has, too.
const PROBES: [(&str, &str); 2] = [("10.255.42.1", "10.0.0.10"), ("fd00:ff:42::1", "fd00::10")];

#[test]
fn probes_leave_by_lbx0_even_where_the_host_owns_the_private_address() {
    let host = Namespace::new();
    // The kernel answers such a question about IPv6 otherwise than a bound socket; for that see the probe below.
    let (source, private) = PROBES[0];
    host.address(private, "lo");
    ensure_in(&host, &wanted());
    let route = host.ip(&format!("route get {private} from {source} oif lbx0"));
    assert!(route.contains("dev lbx0 table 20218"), "{route}");
}

/// A host with strict reverse-path checks, without forwarding and without any route to the VIPs, and a
/// client beside it.
fn strict_host() -> (Namespace, Namespace) {
    let (host, client) = (Namespace::new(), Namespace::new());
    host.connect("eth0", "192.0.2.1/24", &client, "eth0", "192.0.2.2/24");
    host.address("2001:db8:2::1/64", "eth0");
    client.address("2001:db8:2::2/64", "eth0");
    host.run(|| {
        sysctl::set_ipv4("all", "rp_filter", "1").unwrap();
        sysctl::set_ipv4("eth0", "rp_filter", "1").unwrap();
        assert_eq!(sysctl::get_ipv4("all", "forwarding").unwrap(), "0");
        assert_eq!(sysctl::get_ipv6("all", "forwarding").unwrap(), "0");
    });
    (host, client)
}

#[test]
fn a_packet_put_into_lbx1_is_routed_to_the_client_by_a_strict_host() {
    for (source, destination) in [
        ("203.0.113.80", "192.0.2.2"),
        ("192.0.2.1", "192.0.2.2"),
        ("2001:db8:80::80", "2001:db8:2::2"),
        ("2001:db8:2::1", "2001:db8:2::2"),
    ] {
        let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
        let (host, client) = strict_host();
        ensure_in(&host, &wanted());
        let socket = client.run(|| UdpSocket::bind((destination, 7777))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        host.run(|| inject(source, destination));
        let mut buffer = [0; 64];
        let (length, from) = loop {
            match socket.recv_from(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        assert_eq!((&buffer[..length], from), (&b"hello"[..], (source, 53).into()));
    }
}

/// Sends a UDP packet out of lbx1, as a redirect by XDP would.
fn inject(source: IpAddr, destination: IpAddr) {
    let mut udp = [&[0, 53, 0x1e, 0x61, 0, 13, 0, 0][..], b"hello"].concat();
    let (ethertype, ip) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut ip = vec![0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0];
            ip.extend([source.octets(), destination.octets()].concat());
            let sum = !ones_sum(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            ([0x08, 0x00], ip)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let addresses = [source.octets(), destination.octets()].concat();
            let sum = !ones_sum(&[&addresses, &[0, 17, 0, 13][..], &udp].concat());
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
            ([0x86, 0xdd], [&[0x60, 0, 0, 0, 0, 13, 17, 64][..], &addresses].concat())
        }
        _ => panic!("{source} and {destination} are of two families"),
    };
    let frame = [&LBX0_MAC[..], &LBX1_MAC, &ethertype, &ip, &udp].concat();
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
    sendto(socket.as_raw_fd(), &frame, &link_address(LBX1), MsgFlags::empty()).unwrap();
}

#[test]
fn only_lbx0_needs_forwarding_to_be_asked_for_a_route() {
    for client in ["192.0.2.2", "2001:db8:2::2"] {
        let (host, _client) = strict_host();
        let path = ensure_in(&host, &wanted());
        let destination = client.parse().unwrap();
        let lookup = || host.run(|| fib_lookup(path.lbx0.ifindex, destination));
        assert_eq!(lookup(), Fib::NoNeighbour, "{client}");
        host.ip(&format!("neighbour add {client} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"));
        assert_eq!(lookup(), Fib::Success, "{client}");
        host.run(|| {
            sysctl::set_ipv4(LBX0, "forwarding", "0").unwrap();
            sysctl::set_ipv6(LBX0, "forwarding", "0").unwrap();
        });
        assert_eq!(lookup(), Fib::ForwardingDisabled, "{client}");
    }
}

/// The socket address of a device. `getifaddrs` is the safe way to one.
fn link_address(device: &str) -> LinkAddr {
    nix::ifaddrs::getifaddrs()
        .unwrap()
        .filter(|interface| interface.interface_name == device)
        .find_map(|interface| interface.address?.as_link_addr().copied())
        .unwrap()
}

#[test]
fn a_probe_comes_out_of_lbx1_with_finished_checksums_even_to_an_address_of_the_host() {
    for (source, private) in PROBES {
        let host = Namespace::new();
        host.address(private, "lo");
        ensure_in(&host, &wanted());
        let (source, private): (IpAddr, IpAddr) = (source.parse().unwrap(), private.parse().unwrap());
        let frame = host.block_on(async || {
            let all = SockProtocol::EthAll;
            let capture = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), all).unwrap();
            bind(capture.as_raw_fd(), &link_address(LBX1)).unwrap();
            let path = Path { device: Some(LBX0), source, place: 0, other: None };
            let result = probe(path, SocketAddr::new(private, 80), &monitor(), &mut Steps::new(false)).await;
            assert_eq!(result, Err(ProbeError::Endpoint("no answer within 100ms".to_owned())));
            let mut frame = [0; 256];
            let length = recv(capture.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT).unwrap();
            frame[..length].to_vec()
        });
        let (ethernet, ip) = frame.split_at(14);
        let addresses = [octets(source), octets(private)].concat();
        let (ethertype, header, tcp) = if source.is_ipv4() {
            assert_eq!((ip[9], ones_sum(&ip[..20])), (6, 0xffff), "protocol and header checksum");
            ([0x08, 0x00], &ip[12..20], &ip[20..])
        } else {
            assert_eq!(ip[6], 6, "next header");
            ([0x86, 0xdd], &ip[8..40], &ip[40..])
        };
        assert_eq!((&ethernet[12..], header), (&ethertype[..], &*addresses));
        let length = u16::try_from(tcp.len()).unwrap().to_be_bytes();
        let pseudo = [header, &[0, 6], &length].concat();
        assert_eq!(ones_sum(&[&pseudo, tcp].concat()), 0xffff, "TCP checksum");
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn monitor() -> Monitor {
    Monitor {
        name: "m".to_owned(),
        kind: MonitorKind::Tcp,
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(100),
        retries: 0,
        consecutive_up: 1,
        consecutive_down: 1,
        ..Monitor::new(String::new())
    }
}

/// The ones' complement sum of RFC 1071: 0xffff over data that holds its own checksum.
fn ones_sum(data: &[u8]) -> u16 {
    let mut sum: u32 = data
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}
