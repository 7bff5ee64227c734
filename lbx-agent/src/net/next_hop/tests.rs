//! Next hops between two namespaces.

use std::{net::Ipv4Addr, net::UdpSocket, time::Duration};

use rtnetlink::packet_route::neighbour::NeighbourState;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{NextHopEvent, neighbour, release_all, resolve::Via, spawn};
use crate::net::{netlink, testing::Namespace};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// Behind the gateway.
const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// A host and a gateway on one link, and a route to a network behind the gateway.
struct Pair {
    host: Namespace,
    gateway: Namespace,
}

impl Pair {
    fn new() -> Self {
        let (host, gateway) = (Namespace::new(), Namespace::new());
        host.connect("eth0", "192.0.2.1/24", &gateway, "eth0", "192.0.2.7/24");
        host.ip("link set eth0 address 02:00:00:00:00:01");
        gateway.ip("link set eth0 address 02:00:00:00:00:07");
        host.ip("route add 198.51.100.0/24 via 192.0.2.7");
        Self { host, gateway }
    }

    fn watch(&self, remotes: Vec<Ipv4Addr>, test: impl AsyncFnOnce(Watched) + Send) {
        self.host.block_on(async || {
            let token = CancellationToken::new();
            let (remotes, remotes_rx) = watch::channel(remotes);
            let (tx, events) = mpsc::channel(16);
            let task = spawn(token.clone(), remotes_rx, tx).unwrap();
            test(Watched { remotes, events }).await;
            token.cancel();
            task.await.unwrap().unwrap();
        });
    }
}

struct Watched {
    remotes: watch::Sender<Vec<Ipv4Addr>>,
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

#[test]
fn a_reachable_gateway_is_resolved_beside_the_host_and_behind_a_router() {
    let pair = Pair::new();
    let ifindex = pair.host.run(|| nix::net::if_::if_nametoindex("eth0")).unwrap();
    for remote in [GATEWAY, REMOTE] {
        pair.watch(vec![remote], async |mut watched| {
            let event = watched.until(resolved).await;
            let next_hop = event.next_hop.unwrap();
            assert_eq!(event.remote, remote);
            assert_eq!((next_hop.source_mac, next_hop.destination_mac), (HOST_MAC, GATEWAY_MAC));
            assert_eq!((next_hop.ifindex, next_hop.mtu, event.route_mtu), (ifindex, 1500, Some(1500)));
        });
    }
}

#[test]
fn the_kernel_is_asked_to_keep_the_neighbour_fresh_until_nobody_needs_it() {
    let pair = Pair::new();
    let managed = || pair.host.ip("neighbour show 192.0.2.7 dev eth0").contains("managed");
    pair.watch(vec![REMOTE], async |mut watched| {
        watched.until(resolved).await;
        assert!(managed());
        // The agent was killed: what it kept is found again below.
    });
    assert!(managed());
    pair.watch(vec![[192, 0, 2, 66].into()], async |mut watched| {
        assert_eq!(watched.next().await.next_hop, None);
        watched.remotes.send_replace(vec![GATEWAY]);
        watched.until(resolved).await;
        assert!(managed());
        watched.remotes.send_replace(vec![]);
        watched.remotes.send_replace(vec![[203, 0, 113, 1].into()]);
        assert_eq!(watched.next().await.next_hop, None);
    });
    assert!(!managed());
    pair.watch(vec![GATEWAY], async |mut watched| {
        watched.until(resolved).await;
    });
    assert!(managed());
    pair.host.block_on(async || release_all(&netlink::connect().unwrap()).await).unwrap();
    assert!(!managed());
}

#[test]
fn a_new_mac_of_the_gateway_is_an_event() {
    let pair = Pair::new();
    // The kernel trusts another MAC at once instead of after a second.
    pair.host.run(|| std::fs::write("/proc/sys/net/ipv4/neigh/eth0/locktime", "0")).unwrap();
    pair.watch(vec![REMOTE], async |mut watched| {
        watched.until(resolved).await;
        pair.gateway.ip("link set eth0 address 02:00:00:00:00:08");
        pair.gateway.ip("neighbour flush dev eth0");
        // The gateway says its new MAC when it asks for the host's.
        pair.gateway.run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"", "192.0.2.1:9")).unwrap();
        let event =
            watched.until(|event| event.next_hop.is_some_and(|hop| hop.destination_mac[5] == 8)).await;
        assert_eq!(event.remote, REMOTE);
    });
}

#[test]
fn a_removed_route_is_none_and_a_new_one_is_resolved() {
    let pair = Pair::new();
    pair.watch(vec![REMOTE], async |mut watched| {
        watched.until(resolved).await;
        pair.host.ip("route del 198.51.100.0/24");
        assert_eq!(watched.next().await, NextHopEvent { remote: REMOTE, next_hop: None, route_mtu: None });
        pair.host.ip("route add unreachable 198.51.0.0/16");
        pair.host.ip("route add default via 192.0.2.7");
        pair.host.ip("route del unreachable 198.51.0.0/16");
        assert!(watched.next().await.next_hop.is_some());
    });
}

#[test]
fn a_change_of_a_nexthop_object_is_seen() {
    let pair = Pair::new();
    pair.host.ip("neighbour add 192.0.2.9 lladdr 02:00:00:00:00:99 dev eth0 nud permanent");
    pair.host.ip("nexthop add id 1 via 192.0.2.7 dev eth0");
    pair.host.ip("route replace 198.51.100.0/24 nhid 1");
    pair.watch(vec![REMOTE], async |mut watched| {
        assert_eq!(watched.until(resolved).await.next_hop.unwrap().destination_mac, GATEWAY_MAC);
        pair.host.ip("nexthop replace id 1 via 192.0.2.9 dev eth0");
        assert_eq!(watched.until(resolved).await.next_hop.unwrap().destination_mac[5], 0x99);
    });
}

#[test]
fn the_mtu_is_that_of_the_route_and_never_more_than_the_device_takes() {
    let pair = Pair::new();
    pair.watch(vec![REMOTE], async |mut watched| {
        watched.until(resolved).await;
        pair.host.ip("route change 198.51.100.0/24 via 192.0.2.7 mtu 1400");
        assert_eq!(watched.until(|event| event.route_mtu == Some(1400)).await.next_hop.unwrap().mtu, 1400);
        pair.host.ip("link set eth0 mtu 1300");
        watched.until(|event| event.route_mtu == Some(1300)).await;
    });
}

#[test]
fn a_link_that_goes_down_is_none_and_comes_back() {
    let pair = Pair::new();
    pair.watch(vec![GATEWAY], async |mut watched| {
        watched.until(resolved).await;
        pair.host.ip("link set eth0 down");
        watched.until(|event| event.next_hop.is_none()).await;
        pair.host.ip("link set eth0 up");
        watched.until(resolved).await;
    });
}

#[test]
fn a_gateway_that_nobody_answers_for_is_none_until_it_appears() {
    let pair = Pair::new();
    let late = Ipv4Addr::new(192, 0, 2, 8);
    pair.watch(vec![late], async |mut watched| {
        let event = watched.next().await;
        assert_eq!(event, NextHopEvent { remote: late, next_hop: None, route_mtu: Some(1500) });
        pair.gateway.ip("address add 192.0.2.8/24 dev eth0");
        let event = watched.next().await;
        assert_eq!(event.next_hop.unwrap().destination_mac, GATEWAY_MAC);
    });
}

#[test]
fn a_static_entry_is_used_and_not_touched() {
    let pair = Pair::new();
    pair.host.ip("neighbour add 192.0.2.9 lladdr 02:00:00:00:00:99 dev eth0 nud permanent");
    let remote = Ipv4Addr::new(192, 0, 2, 9);
    pair.watch(vec![remote], async |mut watched| {
        assert_eq!(watched.next().await.next_hop.unwrap().destination_mac[5], 0x99);
    });
    let entry = pair.host.ip("neighbour show 192.0.2.9 dev eth0");
    assert!(entry.contains("PERMANENT") && !entry.contains("managed"), "{entry}");
}

#[test]
fn an_address_of_the_host_itself_and_one_without_route_are_none() {
    let pair = Pair::new();
    let remotes = vec![[192, 0, 2, 1].into(), [203, 0, 113, 1].into()];
    pair.watch(remotes.clone(), async |mut watched| {
        for remote in remotes {
            assert_eq!(watched.next().await, NextHopEvent { remote, next_hop: None, route_mtu: None });
        }
    });
}

#[test]
fn a_stale_entry_of_a_kernel_without_managed_neighbours_is_kicked() {
    // As on such a kernel: an entry of ours, without the flag, that has gone stale.
    let pair = Pair::new();
    let ifindex = pair.host.run(|| nix::net::if_::if_nametoindex("eth0")).unwrap();
    pair.host.ip("neighbour add 192.0.2.7 lladdr 02:00:00:00:00:07 dev eth0 nud stale protocol 218");
    pair.host.block_on(async || {
        let handle = netlink::connect().unwrap();
        let via = Via { ifindex, address: GATEWAY };
        assert_eq!(neighbour::keep(&handle, via).await.unwrap(), Some(GATEWAY_MAC));
        let entry = netlink::neighbour(&handle, ifindex, GATEWAY).await.unwrap().unwrap();
        assert_ne!(entry.header.state, NeighbourState::Stale);
    });
}
