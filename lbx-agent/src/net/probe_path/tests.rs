//! The probe path in namespaces.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use lbx_common::api::{Monitor, MonitorKind};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, State},
    },
};
use tokio::time::timeout;

use super::{LBX0, LBX0_MAC, LBX1, LBX1_MAC, ProbePath, ProbePathWanted, ensure, remove};
use crate::health::tcp::{self, ProbeError};
use crate::net::{NetError, netlink, sysctl, testing::Namespace};

const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn wanted() -> ProbePathWanted {
    ProbePathWanted { probe_sources: vec![[10, 255, 42, 1].into(), [10, 255, 43, 1].into()], vips: vec![VIP] }
}

fn ensure_in(host: &Namespace, wanted: &ProbePathWanted) -> ProbePath {
    try_ensure_in(host, wanted).unwrap()
}

fn try_ensure_in(host: &Namespace, wanted: &ProbePathWanted) -> Result<ProbePath, NetError> {
    host.block_on(async || ensure(&netlink::connect().unwrap(), wanted).await)
}

fn remove_in(host: &Namespace) {
    host.block_on(async || remove(&netlink::connect().unwrap()).await).unwrap();
}

/// Everything that `ensure` may touch, as `ip` shows it.
fn picture(host: &Namespace) -> String {
    ["-d link", "address", "route show table all", "rule"].map(|what| host.ip(what)).concat()
}

#[test]
fn devices_addresses_routes_and_rules_are_as_wanted() {
    let host = Namespace::new();
    let path = ensure_in(&host, &wanted());
    assert_eq!((path.lbx0.mac, path.lbx1.mac), (LBX0_MAC, LBX1_MAC));
    for (device, mac) in [(LBX0, "02:6c:62:78:10:00"), (LBX1, "02:6c:62:78:10:01")] {
        let link = host.ip(&format!("-d link show {device}"));
        for part in ["NOARP", "UP", "mtu 9216", "veth", mac] {
            assert!(link.contains(part), "{part} in {link}");
        }
        assert!(!host.ip(&format!("address show {device}")).contains("inet6"));
    }
    let rules = host.ip("rule");
    for rule in ["20218:\tfrom 10.255.42.1 lookup 20218", "20218:\tfrom 10.255.43.1 lookup 20218"] {
        assert!(rules.contains(rule), "{rule} in {rules}");
    }
    assert!(rules.contains("40218:\tfrom all lookup 20219"), "{rules}");
    assert!(host.ip("route show table 20218").starts_with("default dev lbx0"));
    assert!(host.ip("route show table 20219").starts_with("203.0.113.80 dev lbx0"));
    assert!(host.ip("address show lbx0").contains("inet 10.255.42.1/32"));
}

#[test]
fn a_second_call_makes_no_change() {
    let host = Namespace::new();
    host.block_on(async || {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv4Netconf,
            MulticastGroup::Ipv6Netconf,
        ];
        let (connection, _, mut events) = rtnetlink::new_multicast_connection(&groups).unwrap();
        let watcher = tokio::spawn(connection);
        let handle = netlink::connect().unwrap();
        let first = ensure(&handle, &wanted()).await.unwrap();
        let before = picture(&host);

        // The kernel tells later that the new links are in operation; after that, nothing of the first
        // call is left to be told.
        let mut starting = vec![first.lbx0.ifindex, first.lbx1.ifindex];
        while !starting.is_empty() {
            let (event, _) = timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap();
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = event.payload
                && link.attributes.contains(&LinkAttribute::OperState(State::Up))
            {
                starting.retain(|ifindex| *ifindex != link.header.index);
            }
        }
        while events.next().now_or_never().is_some() {}

        assert_eq!(ensure(&handle, &wanted()).await.unwrap(), first);
        assert!(events.next().now_or_never().is_none(), "the second call was seen by others");
        assert_eq!(picture(&host), before);

        // The watch itself works: one more VIP is seen.
        let mut more = wanted();
        more.vips.push([203, 0, 113, 81].into());
        ensure(&handle, &more).await.unwrap();
        assert!(timeout(Duration::from_secs(5), events.next()).await.unwrap().is_some());
        watcher.abort();
    });
}

#[test]
fn a_handle_without_strict_checks_does_as_well_and_no_other_table_is_touched() {
    let host = Namespace::new();
    host.ip("route add 198.51.100.0/24 dev lo table 77");
    host.block_on(async || {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        ensure(&handle, &wanted()).await.unwrap();
        ensure(&handle, &ProbePathWanted::default()).await.unwrap();
        ensure(&handle, &wanted()).await.unwrap();
    });
    assert!(host.ip("route show table 77").starts_with("198.51.100.0/24"));
    assert!(host.ip("route show table 20219").starts_with("203.0.113.80 dev lbx0"));
}

#[test]
fn what_is_no_longer_wanted_goes_and_the_rest_stays() {
    let host = Namespace::new();
    host.ip("rule add from 198.51.100.1 lookup 77 pref 20218");
    ensure_in(&host, &wanted());
    let less = ProbePathWanted { probe_sources: vec![[10, 255, 43, 1].into()], vips: vec![] };
    ensure_in(&host, &less);
    let picture = picture(&host);
    for gone in ["10.255.42.1", "203.0.113.80", "40218:"] {
        assert!(!picture.contains(gone), "{gone} in {picture}");
    }
    for stays in ["from 10.255.43.1 lookup 20218", "inet 10.255.43.1/32", "from 198.51.100.1 lookup 77"] {
        assert!(picture.contains(stays), "{stays} in {picture}");
    }
}

#[test]
fn what_somebody_broke_is_mended() {
    let host = Namespace::new();
    let path = ensure_in(&host, &wanted());
    let before = picture(&host);
    for damage in [
        "link set lbx0 down",
        "link set lbx1 mtu 1400",
        "link set lbx1 address 02:00:00:00:00:07",
        "address flush dev lbx0",
        "route flush table 20219",
        "rule del pref 40218",
        "address add 10.9.9.9/24 dev lbx0",
    ] {
        host.ip(damage);
    }
    host.run(|| sysctl::set_ipv4(LBX0, "forwarding", "0")).unwrap();
    assert_eq!(ensure_in(&host, &wanted()), path);
    assert_eq!(picture(&host).lines().count(), before.lines().count());
    assert_eq!(host.run(|| sysctl::get_ipv4(LBX0, "forwarding")).unwrap(), "1");
    for device in [LBX0, LBX1] {
        let link = host.ip(&format!("link show {device}"));
        assert!(link.contains("mtu 9216") && link.contains(",UP"), "{link}");
    }
    assert!(host.ip("link show lbx1").contains("02:6c:62:78:10:01"));
}

#[test]
fn remove_leaves_nothing_and_is_quiet_when_nothing_is_there() {
    let host = Namespace::new();
    remove_in(&host);
    // The routing tables of a namespace appear with its first rule; make that happen before the picture.
    let before = picture(&host);
    ensure_in(&host, &wanted());
    remove_in(&host);
    assert_eq!(picture(&host), before);
}

#[test]
fn a_device_of_somebody_else_is_refused_and_left_alone() {
    for (make, names) in [
        ("link add lbx0 type bridge", "lbx0 exists but is no veth device"),
        ("link add lbx1 type veth peer name other", "lbx1 exists but its other end is not lbx0"),
        ("link add lbx0 type veth peer name other", "lbx0 exists but its other end is not lbx1"),
    ] {
        let host = Namespace::new();
        host.ip(make);
        let before = picture(&host);
        let error = try_ensure_in(&host, &wanted()).unwrap_err().to_string();
        assert!(error.contains(names), "{error}");
        remove_in(&host);
        assert_eq!(picture(&host), before, "after {make}");
    }
}

#[test]
fn without_privilege_the_error_says_which_one_is_missing() {
    let host = Namespace::new();
    let error = host.run(|| {
        // SAFETY: takes three plain numbers. The system call itself, unlike its wrapper in libc, changes
        // this thread alone, and the thread ends with the test.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { ensure(&netlink::connect().unwrap(), &wanted()).await }).unwrap_err()
    });
    assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
}

#[test]
fn probes_leave_by_lbx0_even_where_the_host_owns_the_private_address() {
    let host = Namespace::new();
    host.ip("address add 10.0.0.10/32 dev lo");
    ensure_in(&host, &wanted());
    let route = host.ip("route get 10.0.0.10 from 10.255.42.1 oif lbx0");
    assert!(route.contains("dev lbx0 table 20218"), "{route}");
}

/// A host with strict reverse-path checks, without forwarding and without any route to the VIP, and a
/// client beside it.
fn strict_host() -> (Namespace, Namespace) {
    let (host, client) = (Namespace::new(), Namespace::new());
    host.connect("eth0", "192.0.2.1/24", &client, "eth0", "192.0.2.2/24");
    host.run(|| {
        sysctl::set_ipv4("all", "rp_filter", "1").unwrap();
        sysctl::set_ipv4("eth0", "rp_filter", "1").unwrap();
    });
    client.ip("route add 203.0.113.80 via 192.0.2.1");
    (host, client)
}

#[test]
fn a_packet_put_into_lbx1_is_routed_to_the_client_by_a_strict_host() {
    for source in [VIP, Ipv4Addr::new(192, 0, 2, 1)] {
        let (host, client) = strict_host();
        let path = ensure_in(&host, &wanted());
        let socket = client.run(|| UdpSocket::bind((CLIENT, 7777))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        host.run(|| inject(path, source));
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"hello"[..], (source, 53).into()));
    }
}

/// Sends a UDP packet out of lbx1, as a redirect by XDP would.
fn inject(path: ProbePath, source: Ipv4Addr) {
    let mut frame = [LBX0_MAC, LBX1_MAC].concat();
    frame.extend([0x08, 0x00]);
    let mut ip = vec![0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0];
    ip.extend(source.octets());
    ip.extend(CLIENT.octets());
    let sum = !ones_sum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend([0, 53, 0x1e, 0x61, 0, 13, 0, 0]);
    frame.extend(b"hello");
    let lbx1 = link_address(LBX1);
    assert_eq!(lbx1.ifindex(), usize::try_from(path.lbx1.ifindex).unwrap());
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
    sendto(socket.as_raw_fd(), &frame, &lbx1, MsgFlags::empty()).unwrap();
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
    let host = Namespace::new();
    host.ip("address add 10.0.0.10/32 dev lo");
    ensure_in(&host, &wanted());
    let frame = host.block_on(async || {
        let all = SockProtocol::EthAll;
        let capture = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), all).unwrap();
        bind(capture.as_raw_fd(), &link_address(LBX1)).unwrap();
        let monitor = Monitor {
            name: "m".to_owned(),
            kind: MonitorKind::Tcp,
            interval: Duration::from_millis(100),
            timeout: Duration::from_millis(100),
            retries: 0,
            consecutive_up: 1,
            consecutive_down: 1,
        };
        let target = SocketAddrV4::new([10, 0, 0, 10].into(), 80);
        let result = tcp::probe(Some(LBX0), [10, 255, 42, 1].into(), target, &monitor).await;
        assert_eq!(result, Err(ProbeError::Endpoint("no answer within 100ms".to_owned())));
        let mut frame = [0; 256];
        let length = recv(capture.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT).unwrap();
        frame[..length].to_vec()
    });
    let (ethernet, ip) = frame.split_at(14);
    assert_eq!(ethernet[12..], [0x08, 0x00]);
    assert_eq!((&ip[12..16], &ip[16..20]), (&[10, 255, 42, 1][..], &[10, 0, 0, 10][..]));
    let (header, tcp) = ip.split_at(20);
    assert_eq!(header[9], 6);
    assert_eq!(ones_sum(header), 0xffff, "IP header checksum");
    let length = u16::try_from(tcp.len()).unwrap().to_be_bytes();
    let pseudo = [&ip[12..20], &[0, 6], &length].concat();
    assert_eq!(ones_sum(&[&pseudo, tcp].concat()), 0xffff, "TCP checksum");
}

/// The ones' complement sum of RFC 1071: 0xffff over data that holds its own checksum.
fn ones_sum(data: &[u8]) -> u16 {
    let mut sum: u32 = data.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}
