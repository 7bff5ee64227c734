//! The probe path in namespaces.

mod fib;
mod packets;

use std::{net::IpAddr, time::Duration};

use futures_util::{FutureExt, StreamExt};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, State},
        route::{RouteAttribute, RouteType},
    },
};
use tokio::time::timeout;

use super::{LBX0, LBX0_MAC, LBX1, LBX1_MAC, ProbePath, ProbePathWanted, ensure, remove};
use crate::net::{NetError, netlink, sysctl, testing::Namespace};

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn wanted() -> ProbePathWanted {
    ProbePathWanted {
        probe_sources: addresses(&["10.255.42.1", "10.255.43.1", "fd00:ff:42::1", "fd00:ff:43::1"]),
        vips: addresses(&["203.0.113.80", "2001:db8:80::80"]),
    }
}

/// Makes the probe path, and waits until the kernel is done: it sets a carrier on, and puts IPv6 addresses
/// into its routes, a moment after it was asked.
fn ensure_in(host: &Namespace, wanted: &ProbePathWanted) -> ProbePath {
    host.block_on(async || {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv6Route];
        let (connection, _, mut events) = rtnetlink::new_multicast_connection(&groups).unwrap();
        tokio::spawn(connection);
        let path = ensure(&netlink::connect().unwrap(), wanted).await.unwrap();
        let done = || {
            let local = host.ip("-6 route show table local");
            let routed = |source: &IpAddr| source.is_ipv4() || local.contains(&format!("local {source} "));
            [LBX0, LBX1].iter().all(|end| host.ip(&format!("link show {end}")).contains("state UP"))
                && wanted.probe_sources.iter().all(routed)
        };
        while !done() {
            timeout(Duration::from_secs(5), events.next()).await.expect("the kernel is done").unwrap();
        }
        path
    })
}

fn try_ensure_in(host: &Namespace, wanted: &ProbePathWanted) -> Result<ProbePath, NetError> {
    host.block_on(async || ensure(&netlink::connect().unwrap(), wanted).await)
}

fn remove_in(host: &Namespace) {
    host.block_on(async || remove(&netlink::connect().unwrap()).await).unwrap();
}

/// Everything that `ensure` may touch, as `ip` shows it.
fn picture(host: &Namespace) -> String {
    let ipv6_routes = host.ip("-6 route show table all");
    // The kernel's own routes for addresses come a moment after these.
    let ipv6_routes: Vec<&str> = ipv6_routes.lines().filter(|route| !route.contains("table local")).collect();
    ["-d link", "address", "route show table all", "rule", "-6 rule"].map(|what| host.ip(what)).concat()
        + &ipv6_routes.join("\n")
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
        assert!(!link.contains("MULTICAST"), "{link}");
    }
    for (family, sources, vip) in [
        ("-4", ["10.255.42.1", "10.255.43.1"], "203.0.113.80"),
        ("-6", ["fd00:ff:42::1", "fd00:ff:43::1"], "2001:db8:80::80"),
    ] {
        let rules = host.ip(&format!("{family} rule"));
        for source in sources {
            let rule = format!("20218:\tfrom {source} lookup 20218");
            assert!(rules.contains(&rule), "{rule} in {rules}");
        }
        assert!(rules.contains("40218:\tfrom all lookup 20219"), "{rules}");
        let table = |number| host.ip(&format!("{family} route show table {number}"));
        assert!(table(20218).starts_with("default dev lbx0 proto 218"), "{}", table(20218));
        assert!(table(20219).starts_with(&format!("{vip} dev lbx0 proto 218")), "{}", table(20219));
        assert_eq!(table(254), "", "the main table has nothing of ours");
    }
    assert!(host.ip("address show lbx0").contains("inet 10.255.42.1/32 scope link"));
    let sources = host.ip("-6 address show lbx0");
    assert!(sources.contains("inet6 fd00:ff:42::1/128 scope global nodad deprecated"), "{sources}");
}

#[test]
fn ipv6_on_lbx0_is_quiet_and_lbx1_has_none() {
    let host = Namespace::new();
    assert!(ensure_in(&host, &wanted()).forwards_ipv6);
    let groups = host.ip("-6 maddress show dev lbx0");
    // All nodes: the only groups that nobody reports (RFC 3810 §6).
    assert_eq!(groups.lines().skip(1).map(str::trim).collect::<Vec<_>>(), ["inet6 ff02::1", "inet6 ff01::1"]);
    assert!(!host.ip("-6 address show dev lbx0").contains("fe80"));
    host.run(|| {
        for (device, key, value) in [
            (LBX0, "addr_gen_mode", "1"),
            (LBX0, "accept_ra", "0"),
            (LBX0, "router_solicitations", "0"),
            (LBX0, "forwarding", "1"),
            (LBX1, "disable_ipv6", "1"),
            ("all", "forwarding", "0"),
            ("lo", "forwarding", "0"),
        ] {
            assert_eq!(sysctl::get_ipv6(device, key).unwrap(), value, "{device} {key}");
        }
    });
}

#[test]
fn a_host_that_switches_ipv6_off_by_default_has_it_on_lbx0() {
    let host = Namespace::new();
    host.run(|| {
        sysctl::set_ipv6("all", "disable_ipv6", "1").unwrap();
        sysctl::set_ipv6("default", "disable_ipv6", "1").unwrap();
    });
    ensure_in(&host, &wanted());
    assert!(host.ip("-6 address show dev lbx0").contains("fd00:ff:42::1"));
}

#[test]
fn a_pair_of_an_agent_without_ipv6_is_adopted() {
    let host = Namespace::new();
    let path = ensure_in(&host, &wanted());
    host.run(|| sysctl::set_ipv6(LBX0, "disable_ipv6", "1")).unwrap();
    host.ip("link set lbx0 multicast on");
    assert_eq!(ensure_in(&host, &wanted()), path);
    let addresses = host.ip("-6 address show dev lbx0");
    assert!(addresses.contains("fd00:ff:42::1") && !addresses.contains("fe80"), "{addresses}");
}

#[test]
fn a_kernel_without_ipv6_is_refused_only_where_it_is_needed() {
    let host = Namespace::new();
    // As on such a kernel: an empty folder hides /proc/sys/net/ipv6 from this thread.
    let hidden = |wanted: &ProbePathWanted| {
        host.block_on(async || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .unwrap();
            mount(None::<&str>, "/proc/sys/net/ipv6", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            let handle = netlink::connect().unwrap();
            let path = ensure(&handle, wanted).await;
            remove(&handle).await.unwrap();
            path
        })
    };
    let mut wanted = wanted();
    let error = hidden(&wanted).unwrap_err().to_string();
    assert!(error.contains("fd00:ff:42::1") && error.contains("/proc/sys/net/ipv6"), "{error}");
    wanted.probe_sources.retain(IpAddr::is_ipv4);
    let error = hidden(&wanted).unwrap_err().to_string();
    assert!(error.contains("2001:db8:80::80"), "{error}");
    wanted.vips.retain(IpAddr::is_ipv4);
    assert!(!hidden(&wanted).unwrap().forwards_ipv6);
}

#[test]
fn a_probe_source_of_another_device_is_refused() {
    for address in ["10.255.42.1", "fd00:ff:42::1"] {
        let host = Namespace::new();
        host.address(address, "lo");
        let error = try_ensure_in(&host, &wanted()).unwrap_err();
        let taken = matches!(
            &error,
            NetError::ProbeSourceTaken { address: taken, device } if taken.to_string() == address && device == "lo"
        );
        assert!(taken, "{error}");
    }
}

#[test]
fn a_probe_source_is_not_picked_for_what_others_send() {
    let host = Namespace::new();
    host.ip("link add eth0 type veth peer name eth1");
    host.ip("link set eth0 up");
    host.address("192.0.2.1/32", "lo");
    host.address("2001:db8:9::9/128", "lo");
    host.ip("route add default dev eth0");
    host.ip("-6 route add default dev eth0");
    ensure_in(&host, &wanted());
    // Destinations beside the probe sources: the longest common prefix would decide.
    for (destination, source) in [("10.255.42.2", "192.0.2.1"), ("fd00:ff:42::2", "2001:db8:9::9")] {
        let route = host.ip(&format!("route get {destination}"));
        assert!(route.contains(&format!("src {source}")), "{route}");
    }
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
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv6Rule,
        ];
        let (connection, _, mut events) = rtnetlink::new_multicast_connection(&groups).unwrap();
        let watcher = tokio::spawn(connection);
        let handle = netlink::connect().unwrap();
        let first = ensure(&handle, &wanted()).await.unwrap();

        // The kernel tells later that the new links are in operation, and that IPv6 addresses can be
        // reached; after that, nothing of the first call is left to be told.
        let mut starting = vec![first.lbx0.ifindex, first.lbx1.ifindex];
        let mut unreached = addresses(&["fd00:ff:42::1", "fd00:ff:43::1"]);
        while !starting.is_empty() || !unreached.is_empty() {
            let (event, _) = timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap();
            let NetlinkPayload::InnerMessage(message) = event.payload else { continue };
            if let RouteNetlinkMessage::NewLink(link) = &message
                && link.attributes.contains(&LinkAttribute::OperState(State::Up))
            {
                starting.retain(|ifindex| *ifindex != link.header.index);
            } else if let RouteNetlinkMessage::NewRoute(route) = &message
                && route.header.kind == RouteType::Local
            {
                unreached.retain(|address| {
                    !route.attributes.contains(&RouteAttribute::Destination((*address).into()))
                });
            }
        }
        let before = picture(&host);
        while events.next().now_or_never().is_some() {}

        assert_eq!(ensure(&handle, &wanted()).await.unwrap(), first);
        let seen = events.next().now_or_never();
        assert!(seen.is_none(), "the second call was seen by others: {seen:?}");
        assert_eq!(picture(&host), before);

        // The watch itself works: one more VIP is seen.
        for vip in ["203.0.113.81", "2001:db8:80::81"] {
            let mut more = wanted();
            more.vips.push(vip.parse().unwrap());
            ensure(&handle, &more).await.unwrap();
            assert!(timeout(Duration::from_secs(5), events.next()).await.unwrap().is_some());
            while events.next().now_or_never().is_some() {}
        }
        watcher.abort();
    });
}

#[test]
fn a_handle_without_strict_checks_does_as_well_and_no_other_table_is_touched() {
    let host = Namespace::new();
    host.ip("route add 198.51.100.0/24 dev lo table 77");
    host.ip("route add 2001:db8:3::/48 dev lo table 77");
    host.block_on(async || {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        ensure(&handle, &wanted()).await.unwrap();
        ensure(&handle, &ProbePathWanted::default()).await.unwrap();
        ensure(&handle, &wanted()).await.unwrap();
    });
    assert!(host.ip("route show table 77").starts_with("198.51.100.0/24"));
    assert!(host.ip("route show table 20219").starts_with("203.0.113.80 dev lbx0"));
    assert!(host.ip("-6 route show table 77").starts_with("2001:db8:3::/48"));
    assert!(host.ip("-6 route show table 20219").starts_with("2001:db8:80::80 dev lbx0"));
}

#[test]
fn what_is_no_longer_wanted_goes_and_the_rest_stays() {
    let host = Namespace::new();
    host.ip("rule add from 198.51.100.1 lookup 77 pref 20218");
    host.ip("-6 rule add from 2001:db8:3::1 lookup 77 pref 20218");
    ensure_in(&host, &wanted());
    let less = ProbePathWanted { probe_sources: addresses(&["10.255.43.1", "fd00:ff:43::1"]), vips: vec![] };
    ensure_in(&host, &less);
    let picture = picture(&host);
    for gone in ["10.255.42.1", "203.0.113.80", "40218:", "fd00:ff:42::1", "2001:db8:80::80"] {
        assert!(!picture.contains(gone), "{gone} in {picture}");
    }
    for stays in [
        "from 10.255.43.1 lookup 20218",
        "inet 10.255.43.1/32",
        "from 198.51.100.1 lookup 77",
        "from fd00:ff:43::1 lookup 20218",
        "inet6 fd00:ff:43::1/128",
        "from 2001:db8:3::1 lookup 77",
    ] {
        assert!(picture.contains(stays), "{stays} in {picture}");
    }
}

#[test]
fn what_somebody_broke_is_mended() {
    let host = Namespace::new();
    let path = ensure_in(&host, &wanted());
    let before = picture(&host);
    for damage in [
        "link set lbx0 mtu 1200",
        "link set lbx0 down",
        "link set lbx1 mtu 1400",
        "link set lbx1 address 02:00:00:00:00:07",
        "address flush dev lbx0",
        "route flush table 20219",
        "rule del pref 40218",
        "address add 10.9.9.9/24 dev lbx0",
        "-6 rule del pref 40218",
        "-6 rule del from fd00:ff:42::1",
        "-6 rule add from fd00:ff:99::1 lookup 20218 pref 20218",
        "-6 route add unreachable 2001:db8:66::1 table 20219",
    ] {
        host.ip(damage);
    }
    host.run(|| sysctl::set_ipv4(LBX0, "forwarding", "0")).unwrap();
    assert_eq!(ensure_in(&host, &wanted()), path);
    let after = picture(&host);
    assert_eq!(after.lines().count(), before.lines().count(), "before: {before}\nafter: {after}");
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
