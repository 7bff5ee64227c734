//! lbx end to end beside other balancers (`cargo xtask bench e2e`): the same client, host, gateway and origins, in
//! turn, round after round.
//!
//! Everything stays on one CPU, and one thread is the client and all origins: what it sends is at the other end when
//! the system call returns, for a veth forwards in the context of its sender. So nothing waits for a scheduler but
//! where the way itself has a process, and a rate is the inverse of the CPU time of the whole way: client, network,
//! balancer and origins. What a balancer takes of it is the difference to the way without one.
//!
//! The network is west of [`crate::topology`], behind VXLAN, whose devices are the kernel's own everywhere. All
//! offloads are off; the ends of cables that face the host have an XDP program, as lbx needs it, in all ways. A veth
//! copies what it gets for such a program where there is no room in front of it (drivers/net/veth.c,
//! `veth_convert_skb_to_xdp_buff`): a burden of lbx on the client's cable, which it would not have on a NIC.

mod load;
mod origins;
mod report;
mod ways;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use self::report::Comparison;
use self::{
    load::{Client, Datagrams},
    origins::Origins,
    ways::{Counted, Host, Way},
};
use super::stay_on_one_cpu;
use crate::{topology::Topology, wait};

/// For the agent to place its programs and find its next hops, on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(15);

/// How much each way is given to do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How often, in turn with the others.
    pub rounds: u32,
    /// TCP connections of a round, each with one request.
    pub connections: u32,
    /// Requests of a round on connections that are open.
    pub requests: u32,
    /// UDP packets of a round.
    pub packets: u32,
}

impl Load {
    /// Enough for medians.
    pub const FULL: Self = Self { rounds: 25, connections: 2000, requests: 1000, packets: 40_000 };

    /// Enough to see that each way is taken.
    pub const SHORT: Self = Self { rounds: 1, connections: 64, requests: 64, packets: 1024 };
}

/// One round of one way.
#[derive(Debug)]
struct Sample {
    /// Time of a connection.
    connection_us: f64,
    /// Times of the requests.
    latencies_us: Vec<f64>,
    /// Of a way that has UDP.
    datagrams: Option<Datagrams>,
    /// What reached each origin.
    connections: [u64; 2],
    packets: [u64; 2],
    /// By the balancer's own account.
    counted: Counted,
}

/// Measures all ways. `tell` hears what comes next.
pub fn e2e(load: Load, tell: &mut dyn FnMut(&str)) -> Result<Comparison> {
    stay_on_one_cpu()?;
    let topology = Topology::unwatched()?;
    let host = Host::prepare(&topology)?;
    let mut samples = Way::ALL.map(|way| (way, Vec::new()));
    for round in 1..=load.rounds {
        for (way, samples) in &mut samples {
            tell(&format!("round {round} of {}: {}", load.rounds, way.name()));
            let sample = measure(&host, *way, load).with_context(|| format!("the way `{}`", way.name()))?;
            samples.push(sample);
        }
    }
    Comparison::of(&samples)
}

fn measure(host: &Host<'_>, way: Way, load: Load) -> Result<Sample> {
    let origins = Origins::open(host.vnet(), way.port())?;
    let balancer = way.start(host)?;
    // Inside, as its thread makes the client's sockets.
    host.client().run(|| {
        let client = Client { origins: &origins, targets: host.targets(way) };
        // What is measured first finds caches of another way, and nobody's MAC address.
        let mut last = None;
        wait::until("connections reach the origins", READY_LIMIT, || {
            let tried = client.connections(64);
            Ok(tried.map_err(|error| last = Some(error)).ok())
        })
        .with_context(|| format!("the last attempt: {last:?}"))?;
        let before = balancer.counted()?;
        let (connection_us, connections) = client.connections(load.connections)?;
        let latencies_us = client.latencies(load.requests)?;
        let (datagrams, packets) = if way.has_udp() {
            let (datagrams, packets) = client.datagrams(load.packets)?;
            (Some(datagrams), packets)
        } else {
            (None, [0; 2])
        };
        let counted = balancer.counted()?.since(before);
        took_its_way(counted, connections.iter().sum(), packets.iter().sum())?;
        Ok(Sample { connection_us, latencies_us, datagrams, connections, packets, counted })
    })
}

/// The balancer itself has counted what arrived.
fn took_its_way(counted: Counted, connections: u64, packets: u64) -> Result<()> {
    ensure!(
        counted.connections.is_none_or(|counted| counted >= connections)
            && counted.packets.is_none_or(|counted| counted >= connections + packets),
        "{connections} connections and {packets} packets arrived, but by the balancer's account it was {counted:?}: \
         the figures are void"
    );
    Ok(())
}
