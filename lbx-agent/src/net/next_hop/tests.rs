//! Next hops between two namespaces, in each address family.

use std::{
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use rtnetlink::packet_route::neighbour::NeighbourState;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{NextHopEvent, neighbour, release_all, resolve::Via, spawn};
use crate::net::{netlink, sysctl, testing::Namespace};

const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// The addresses of one family.
struct Addresses {
    link: &'static str,
    length: u8,
    any: &'static str,
    /// Behind the gateway, and the network it is in, and a larger one.
    remote: &'static str,
    network: &'static str,
    larger: &'static str,
    /// Without a route.
    nowhere: &'static str,
}

const FAMILIES: [Addresses; 2] = [
    Addresses {
        link: "192.0.2.",
        length: 24,
        any: "0.0.0.0:0",
        remote: "198.51.100.7",
        network: "198.51.100.0/24",
        larger: "198.51.0.0/16",
        nowhere: "203.0.113.1",
    },
    Addresses {
        link: "2001:db8:2::",
        length: 64,
        any: "[::]:0",
        remote: "2001:db8:3:4::7",
        network: "2001:db8:3:4::/64",
        larger: "2001:db8:3::/48",
        nowhere: "2001:db8:ffff::1",
    },
];

impl Addresses {
    /// An address on the link of host (1) and gateway (7).
    fn on_link(&self, last: u8) -> String {
        format!("{}{last}", self.link)
    }

    fn gateway(&self) -> IpAddr {
        self.on_link(7).parse().unwrap()
    }

    fn remote(&self) -> IpAddr {
        self.remote.parse().unwrap()
    }
}

/// A host and a gateway on one link, and a route to a network behind the gateway, in both families.
struct Pair {
    host: Namespace,
    gateway: Namespace,
}

impl Pair {
    fn new() -> Self {
        let (host, gateway) = (Namespace::new(), Namespace::new());
        host.connect("eth0", "192.0.2.1/24", &gateway, "eth0", "192.0.2.7/24");
        host.address("2001:db8:2::1/64", "eth0");
        gateway.address("2001:db8:2::7/64", "eth0");
        host.ip("link set eth0 address 02:00:00:00:00:01");
        gateway.ip("link set eth0 address 02:00:00:00:00:07");
        for family in &FAMILIES {
            host.ip(&format!("route add {} via {}", family.network, family.on_link(7)));
        }
        Self { host, gateway }
    }

    fn watch(&self, remotes: Vec<IpAddr>, test: impl AsyncFnOnce(Watched) + Send) {
        self.host.block_on(async || {
            let token = CancellationToken::new();
            let (remotes, remotes_rx) = watch::channel(remotes);
            let (tx, events) = mpsc::channel(16);
            let (doubts, doubted) = mpsc::channel(16);
            let task = spawn(token.clone(), remotes_rx, doubted, tx).unwrap();
            test(Watched { remotes, doubts, events }).await;
            token.cancel();
            task.await.unwrap().unwrap();
        });
    }
}

struct Watched {
    remotes: watch::Sender<Vec<IpAddr>>,
    doubts: mpsc::Sender<IpAddr>,
    events: mpsc::Receiver<NextHopEvent>,
}

impl Watched {
    async fn next(&mut self) -> NextHopEvent {
        timeout(Duration::from_secs(10), self.events.recv()).await.expect("an event").unwrap()
    }

    /// Waits for the first event that is as wanted; others on the way are in order (a link that goes
    /// down and up passes through more states than a test should know).
    async fn until(&mut self, wanted: impl Fn(&NextHopEvent) -> bool) -> NextHopEvent {
        loop {
            let event = self.next().await;
            if wanted(&event) {
                return event;
            }
        }
    }
}

fn resolved(event: &NextHopEvent) -> bool {
    event.next_hop.is_some()
}

fn in_each_family(test: impl Fn(Pair, &Addresses)) {
    for family in &FAMILIES {
        test(Pair::new(), family);
    }
}

#[test]
fn a_reachable_gateway_is_resolved_beside_the_host_and_behind_a_router() {
    in_each_family(|pair, family| {
        let ifindex = pair.host.run(|| nix::net::if_::if_nametoindex("eth0")).unwrap();
        for remote in [family.gateway(), family.remote()] {
            pair.watch(vec![remote], async |mut watched| {
                let event = watched.until(resolved).await;
                let next_hop = event.next_hop.unwrap();
                assert_eq!(event.remote, remote);
                assert_eq!((next_hop.source_mac, next_hop.destination_mac), (HOST_MAC, GATEWAY_MAC));
                assert_eq!((next_hop.ifindex, next_hop.vlan), (ifindex, None));
                assert_eq!((next_hop.mtu, event.route_mtu), (1500, Some(1500)));
            });
        }
    });
}

#[test]
fn a_link_local_router_is_resolved_also_for_ipv4() {
    let pair = Pair::new();
    pair.gateway.address("fe80::77/64", "eth0");
    for (family, via) in FAMILIES.iter().zip(["via inet6 fe80::77", "via fe80::77"]) {
        pair.host.ip(&format!("route replace {} {via} dev eth0", family.network));
        pair.watch(vec![family.remote()], async |mut watched| {
            let event = watched.until(resolved).await;
            assert_eq!(event.next_hop.unwrap().destination_mac, GATEWAY_MAC);
            assert!(pair.host.ip("neighbour show fe80::77 dev eth0").contains("managed"));
        });
    }
}

#[test]
fn remotes_of_both_families_are_watched_at_a_time() {
    let pair = Pair::new();
    let [ipv4, ipv6] = FAMILIES.map(|family| family.remote());
    pair.watch(vec![ipv4, ipv6], async |mut watched| {
        let mut waiting = vec![ipv4, ipv6];
        while !waiting.is_empty() {
            let event = watched.until(resolved).await;
            waiting.retain(|remote| *remote != event.remote);
        }
        // One of a family does not touch the other.
        pair.host.ip("route del 2001:db8:3:4::/64");
        assert_eq!(watched.next().await, NextHopEvent { remote: ipv6, next_hop: None, route_mtu: None });
        pair.host.ip("route del 198.51.100.0/24");
        assert_eq!(watched.next().await, NextHopEvent { remote: ipv4, next_hop: None, route_mtu: None });
    });
}

#[test]
fn the_kernel_is_asked_to_keep_the_neighbour_fresh_until_nobody_needs_it() {
    in_each_family(|pair, family| {
        let gateway = family.on_link(7);
        let managed = || pair.host.ip(&format!("neighbour show {gateway} dev eth0")).contains("managed");
        pair.watch(vec![family.remote()], async |mut watched| {
            watched.until(resolved).await;
            assert!(managed());
            // The agent was killed: what it kept is found again below.
        });
        assert!(managed());
        pair.watch(vec![family.on_link(66).parse().unwrap()], async |mut watched| {
            assert_eq!(watched.next().await.next_hop, None);
            watched.remotes.send_replace(vec![family.gateway()]);
            watched.until(resolved).await;
            assert!(managed());
            watched.remotes.send_replace(vec![]);
            watched.remotes.send_replace(vec![family.nowhere.parse().unwrap()]);
            assert_eq!(watched.next().await.next_hop, None);
        });
        assert!(!managed());
        pair.watch(vec![family.gateway()], async |mut watched| {
            watched.until(resolved).await;
        });
        assert!(managed());
        pair.host.block_on(async || release_all(&netlink::connect().unwrap()).await).unwrap();
        assert!(!managed());
    });
}

#[test]
fn a_new_mac_of_the_gateway_is_an_event() {
    in_each_family(|pair, family| {
        // The kernel trusts another MAC at once instead of after a second.
        pair.host.run(|| std::fs::write("/proc/sys/net/ipv4/neigh/eth0/locktime", "0")).unwrap();
        pair.watch(vec![family.remote()], async |mut watched| {
            watched.until(resolved).await;
            pair.gateway.ip("link set eth0 address 02:00:00:00:00:08");
            pair.gateway.ip("neighbour flush dev eth0");
            // The gateway says its new MAC when it asks for the host's.
            let host = (family.on_link(1).parse::<IpAddr>().unwrap(), 9);
            pair.gateway.run(|| UdpSocket::bind(family.any).unwrap().send_to(b"", host)).unwrap();
            let event =
                watched.until(|event| event.next_hop.is_some_and(|hop| hop.destination_mac[5] == 8)).await;
            assert_eq!(event.remote, family.remote());
        });
    });
}

/// As one that took over from another: nothing is announced, and the old entry is fresh.
#[test]
fn a_gateway_that_is_doubted_is_asked_for_at_once() {
    in_each_family(|pair, family| {
        pair.watch(vec![family.remote()], async |mut watched| {
            watched.until(resolved).await;
            pair.gateway.ip("link set eth0 address 02:00:00:00:00:08");
            watched.doubts.send(family.remote()).await.unwrap();
            let found = |event: &NextHopEvent| event.next_hop.is_some_and(|hop| hop.destination_mac[5] == 8);
            timeout(Duration::from_secs(10), watched.until(found)).await.expect("its new MAC");
        });
    });
}

#[test]
fn a_removed_route_is_none_and_a_new_one_is_resolved() {
    in_each_family(|pair, family| {
        let remote = family.remote();
        pair.watch(vec![remote], async |mut watched| {
            watched.until(resolved).await;
            pair.host.ip(&format!("route del {}", family.network));
            assert_eq!(watched.next().await, NextHopEvent { remote, next_hop: None, route_mtu: None });
            pair.host.ip(&format!("route add unreachable {}", family.larger));
            pair.host.ip(&format!("route add default via {}", family.on_link(7)));
            pair.host.ip(&format!("route del unreachable {}", family.larger));
            assert!(watched.next().await.next_hop.is_some());
        });
    });
}

#[test]
fn a_change_of_a_nexthop_object_is_seen() {
    in_each_family(|pair, family| {
        let (gateway, fixed) = (family.on_link(7), family.on_link(9));
        pair.host.ip(&format!("neighbour add {fixed} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"));
        pair.host.ip(&format!("nexthop add id 1 via {gateway} dev eth0"));
        pair.host.ip(&format!("route replace {} nhid 1", family.network));
        pair.watch(vec![family.remote()], async |mut watched| {
            assert_eq!(watched.until(resolved).await.next_hop.unwrap().destination_mac, GATEWAY_MAC);
            pair.host.ip(&format!("nexthop replace id 1 via {fixed} dev eth0"));
            assert_eq!(watched.until(resolved).await.next_hop.unwrap().destination_mac[5], 0x99);
        });
    });
}

#[test]
fn the_mtu_is_that_of_the_route_and_never_more_than_the_device_takes() {
    in_each_family(|pair, family| {
        let gateway = family.on_link(7);
        pair.watch(vec![family.remote()], async |mut watched| {
            watched.until(resolved).await;
            pair.host.ip(&format!("route change {} via {gateway} mtu 1400", family.network));
            assert_eq!(
                watched.until(|event| event.route_mtu == Some(1400)).await.next_hop.unwrap().mtu,
                1400
            );
            pair.host.ip("link set eth0 mtu 1300");
            watched.until(|event| event.route_mtu == Some(1300)).await;
        });
    });
}

#[test]
fn an_mtu_that_a_router_advertised_counts_for_ipv6_alone() {
    let pair = Pair::new();
    // Where the kernel writes what an advertisement says.
    pair.host.run(|| sysctl::set_ipv6("eth0", "mtu", "1400")).unwrap();
    for (family, mtu) in FAMILIES.iter().zip([1500, 1400]) {
        pair.watch(vec![family.gateway()], async |mut watched| {
            assert_eq!(watched.next().await.route_mtu, Some(mtu));
        });
    }
}

#[test]
fn a_link_that_goes_down_is_none_and_comes_back() {
    in_each_family(|pair, family| {
        pair.watch(vec![family.gateway()], async |mut watched| {
            watched.until(resolved).await;
            pair.host.ip("link set eth0 down");
            watched.until(|event| event.next_hop.is_none()).await;
            pair.host.ip("link set eth0 up");
            if family.gateway().is_ipv6() {
                // Its addresses do not outlive a link that is down.
                pair.host.address("2001:db8:2::1/64", "eth0");
            }
            watched.until(resolved).await;
        });
    });
}

#[test]
fn a_gateway_that_nobody_answers_for_is_none_until_it_appears() {
    in_each_family(|pair, family| {
        let remote: IpAddr = family.on_link(8).parse().unwrap();
        pair.watch(vec![remote], async |mut watched| {
            let event = watched.next().await;
            assert_eq!(event, NextHopEvent { remote, next_hop: None, route_mtu: Some(1500) });
            pair.gateway.address(&format!("{remote}/{}", family.length), "eth0");
            let event = watched.next().await;
            assert_eq!(event.next_hop.unwrap().destination_mac, GATEWAY_MAC);
        });
    });
}

#[test]
fn a_static_entry_is_used_and_not_touched() {
    in_each_family(|pair, family| {
        let remote = family.on_link(9);
        pair.host.ip(&format!("neighbour add {remote} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"));
        pair.watch(vec![remote.parse().unwrap()], async |mut watched| {
            assert_eq!(watched.next().await.next_hop.unwrap().destination_mac[5], 0x99);
        });
        let entry = pair.host.ip(&format!("neighbour show {remote} dev eth0"));
        assert!(entry.contains("PERMANENT") && !entry.contains("managed"), "{entry}");
    });
}

#[test]
fn an_address_of_the_host_itself_and_one_without_route_are_none() {
    in_each_family(|pair, family| {
        let remotes: Vec<IpAddr> =
            [&*family.on_link(1), family.nowhere].map(|address| address.parse().unwrap()).to_vec();
        pair.watch(remotes.clone(), async |mut watched| {
            for remote in remotes {
                // A new IPv6 address is in the kernel's routes a moment later.
                let expected = NextHopEvent { remote, next_hop: None, route_mtu: None };
                watched.until(|event| *event == expected).await;
            }
        });
    });
}

#[test]
fn a_stale_entry_of_a_kernel_without_managed_neighbours_is_kicked() {
    in_each_family(|pair, family| {
        // As on such a kernel: an entry of ours, without the flag, that has gone stale.
        let ifindex = pair.host.run(|| nix::net::if_::if_nametoindex("eth0")).unwrap();
        let gateway = family.on_link(7);
        pair.host
            .ip(&format!("neighbour add {gateway} lladdr 02:00:00:00:00:07 dev eth0 nud stale protocol 218"));
        pair.host.block_on(async || {
            let handle = netlink::connect().unwrap();
            let via = Via { ifindex, address: family.gateway() };
            assert_eq!(neighbour::keep(&handle, via).await.unwrap(), Some(GATEWAY_MAC));
            let entry = netlink::neighbour(&handle, ifindex, family.gateway()).await.unwrap().unwrap();
            assert_ne!(entry.header.state, NeighbourState::Stale);
        });
    });
}
