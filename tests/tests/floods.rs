//! Floods: whatever comes in from addresses that nobody has, or from those of live connections, no live connection
//! breaks and new ones are served; in steady state and while a table is being changed.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use etherparse::PacketBuilder;
use lbx_common::api::{FlowState, MAX_FLOWS};
use lbx_tests::{
    agent::{Agent, start_healthy_in},
    config,
    crowd::Crowd,
    family::Family,
    topology::{CLIENT, EAST, Topology, WEST},
    tunnel::Encap,
    wait,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(20);
/// Sources that nobody has (RFC 2544), and to which there is no way.
const NOBODY: [u8; 2] = [198, 18];

/// Connections of each kind.
const CONNECTIONS: usize = 20;

fn duration() -> Duration {
    Duration::from_secs(if lbx_tests::takes_long() { 60 } else { 5 })
}

/// What a flood is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Syn,
    Ack,
    Udp,
    /// SYNs and ACKs with addresses and ports of live connections.
    Spoofed,
}

/// The packet with a number, as IP has it.
fn packet(kind: Kind, number: u32, live: &[u16]) -> Vec<u8> {
    let mixed = number.wrapping_mul(0x9e37_79b1);
    let [a, b, c, d] = mixed.to_be_bytes();
    let random_port = 1024 + u16::from_be_bytes([c, d]) % 60_000;
    let (source, port) = match kind {
        Kind::Spoofed => (CLIENT.octets(), *live.iter().cycle().nth(number as usize % 97).unwrap()),
        Kind::Syn | Kind::Ack | Kind::Udp => ([NOBODY[0], NOBODY[1] + (a & 1), b, c], random_port),
    };
    let ip = PacketBuilder::ipv4(source, EAST.vip.octets(), 64);
    let mut bytes = Vec::new();
    let is_syn = kind == Kind::Syn || kind == Kind::Spoofed && number & 0x100 == 0;
    if kind == Kind::Udp {
        ip.udp(port, 53).write(&mut bytes, b"flood").unwrap();
    } else if is_syn {
        ip.tcp(port, 80, mixed, 65_535).syn().write(&mut bytes, &[]).unwrap();
    } else {
        ip.tcp(port, 80, mixed, 65_535).ack(!mixed).write(&mut bytes, &[]).unwrap();
    }
    bytes
}

/// Sends packets as fast as a socket takes them, until `done`; how many.
fn flood(topology: &Topology, kind: Kind, live: &[u16], done: &AtomicBool) -> u32 {
    topology
        .client_netns
        .run(|| {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
            let to = SockAddr::from(SocketAddr::from((EAST.vip, 0)));
            let packets: Vec<Vec<u8>> = (0..0x1_0000).map(|number| packet(kind, number, live)).collect();
            let mut sent = 0;
            for packet in packets.iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                // Where there is no room, the next one is for now.
                sent += u32::from(socket.send_to(packet, &to).is_ok());
            }
            Ok(sent)
        })
        .unwrap()
}

/// Pins of live connections, and how many there are of addresses that nobody has.
fn pins(agent: &Agent) -> (BTreeSet<(SocketAddr, SocketAddr)>, u64) {
    let flows = |client: &str| agent.flows(&format!("client={client}&limit={MAX_FLOWS}")).unwrap();
    let live = flows(&format!("{CLIENT}/32")).flows.into_iter();
    let live = live.filter(|flow| flow.state == FlowState::Open).map(|flow| (flow.client, flow.address));
    (live.collect(), flows(&format!("{}.{}.0.0/15", NOBODY[0], NOBODY[1])).matching)
}

fn check(under_change: bool) {
    // The kernel's own device, not a gateway in user space that a flood would be too much for.
    let topology = Topology::with(EAST.through(Encap::Vxlan, Family::V4), WEST).unwrap();
    let mut config = config::for_topology(&topology);
    // Nor is a probe that is lost in the queues a reason to take an endpoint out.
    config.monitors.iter_mut().for_each(|monitor| monitor.consecutive_down = 10);
    let agent = start_healthy_in(&topology, &config).unwrap();
    // Queues of this machine lose packets of all; what counts is that TCP gets through.
    let client = topology.client().with_timeout(PATIENCE);
    let mut crowd = Crowd::gather(&client, EAST, CONNECTIONS).unwrap();
    if under_change {
        config::set_weights(&mut config, EAST.name, [1.0, 0.3]);
        agent.change(&config, PATIENCE).unwrap();
        // These have pins where the new table names another endpoint than the old one.
        crowd.open_idle(&client, EAST, CONNECTIONS).unwrap();
    }
    let live = crowd.ports().unwrap();
    let (pinned, _) = pins(&agent);
    assert_eq!(!pinned.is_empty(), under_change, "{pinned:?}");
    for kind in [Kind::Syn, Kind::Ack, Kind::Spoofed, Kind::Udp] {
        let done = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let sender = scope.spawn(|| flood(&topology, kind, &live, &done));
            let end = std::time::Instant::now() + duration();
            let served = wait::until("the flood is over", duration() + PATIENCE, || {
                let served = client.http_get(EAST.vip, 0).map(|_| ());
                let over = std::time::Instant::now() > end;
                Ok((over || served.is_err()).then_some(served))
            });
            let woken = crowd.wake(&format!("{kind:?}"));
            done.store(true, Ordering::Relaxed);
            let sent = sender.join().unwrap();
            served.unwrap().unwrap();
            woken.unwrap();
            sent
        });
        assert!(sent > 10_000, "a flood of {sent} packets");
        crowd.go_on().unwrap();
        crowd.wake("a flood").unwrap();
        let (now, of_nobody) = pins(&agent);
        assert!(now.is_superset(&pinned), "{kind:?} removed or moved pins: {pinned:?}, now {now:?}");
        // A datagram that is answered is all that UDP has for a proof.
        assert!(kind == Kind::Udp || of_nobody == 0, "{kind:?} made {of_nobody} pins");
        println!(
            "{kind:?}: {sent} packets, nothing lost, all of {} pins there, {of_nobody} of nobody",
            pinned.len()
        );
    }
    crowd.disperse().unwrap();
}

#[test]
fn no_connection_breaks_in_steady_state() {
    check(false);
}

#[test]
fn no_connection_breaks_while_a_table_is_changed() {
    check(true);
}

#[test]
fn packets_of_a_flood_are_what_they_should_be() {
    let sources: std::collections::BTreeSet<Vec<u8>> =
        (0..1000).map(|number| packet(Kind::Syn, number, &[])[12..16].to_vec()).collect();
    assert!(sources.len() > 900, "{} sources", sources.len());
    let spoofed = packet(Kind::Spoofed, 3, &[1, 2, 3, 4]);
    assert_eq!(spoofed[12..16], CLIENT.octets());
    assert_eq!(spoofed[20..22], [0, 4]);
}
