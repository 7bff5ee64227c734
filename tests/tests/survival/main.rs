//! Guarantee 2, over random sequences of changes, packets, waits and restarts: a flow stays on its endpoint as long as
//! that is usable, whatever else happens. The code is the planner's, the sweeper's and the programs', over maps in plain
//! memory.
//!
//! What the design leaves out is not asked for: flows that were silent for longer than `transition` or their idle time,
//! services with `connection_tracking: off`, an idle time of UDP that is longer than `transition`, pins and half-open flows
//! that find no room, and connections of which somebody else sends a SYN before they are established.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod cases;
mod flows;
mod node;
mod random;
mod wanted;

use std::time::Duration;

use lbx_common::api::ConnectionTracking;
use proptest::prelude::*;

use self::{
    flows::Flow,
    node::Node,
    random::{event, times},
    wanted::{Name, Sharing, Times, Wanted},
};

/// Flows at a time: few enough that there is always room for their pins.
const MAX_FLOWS: usize = 48;

/// As long as an endpoint may know a SYN that nobody has acknowledged (`track::replies`).
const HANDSHAKE: Duration = Duration::from_secs(256);

/// A change of the configuration.
#[derive(Debug, Clone, Copy)]
enum Change {
    Add(Name),
    Remove(Name),
    Drain(Name, bool),
    Enable(Name, bool),
    Weight(Name, u8),
    TableSize(usize, u32),
    Pool(usize),
    Share(Sharing),
    Seed(u64),
    Tracking(usize, ConnectionTracking),
    Keep(usize, bool),
    BySource(usize, bool),
    Regions(usize),
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A change; with packets after so many of its steps, and whether the agent is killed there.
    Change(Change, usize, bool),
    Verdict(Name, bool),
    /// Time goes by, and whether the flows are busy meanwhile.
    Wait(u64, bool),
    /// The agent is gone for a while.
    Restart(u64),
    /// So many flows of a service and protocol begin.
    Begin(usize, bool, usize),
    /// All flows send their next packet.
    GoOn,
    /// Somebody sends SYNs with the addresses of all flows.
    Forge,
    /// A flow ends, and its client connects again from the same port.
    Again(usize),
}

/// A node with its flows.
struct Run {
    node: Node,
    wanted: Wanted,
    flows: Vec<Flow>,
    clients: u16,
}

impl Run {
    fn new(times: Times) -> Self {
        let wanted = Wanted::new(times);
        let mut run = Self { node: Node::new(&wanted), wanted, flows: Vec::new(), clients: 0 };
        for (service, udp) in [(0, false), (0, true), (1, false), (1, true)] {
            run.begin(service, udp, 6);
        }
        run.go_on();
        run
    }

    fn begin(&mut self, service: usize, udp: bool, count: usize) {
        for _ in 0..count.min(MAX_FLOWS.saturating_sub(self.flows.len())) {
            self.clients += 1;
            let flow = Flow::begin(
                &mut self.node,
                &[&self.wanted],
                (service, udp, self.clients),
                self.clients.into(),
            );
            self.flows.extend(flow);
        }
        self.forget();
    }

    /// Nothing is promised to flows of a service that remembers none, and to those whose time is over.
    fn forget(&mut self) {
        let Self { node, wanted, flows, .. } = self;
        flows.retain(|flow| {
            wanted.tracking[flow.service] != ConnectionTracking::Off && flow.is_promised(wanted, node.now_ns)
        });
    }

    fn go_on(&mut self) {
        self.forget();
        for flow in &mut self.flows {
            let usable = flow.is_usable(&self.wanted, self.node.now_ns);
            flow.go_on(&mut self.node, &self.wanted, usable);
        }
    }

    /// Makes a change. Returns whether the agent lived through it.
    fn change(&mut self, change: Change, steps: usize, killed: bool) {
        let before = self.wanted.clone();
        self.forget();
        let now_ns = self.node.now_ns;
        if !alter(&mut self.wanted, change, now_ns) {
            return;
        }
        self.forget();
        let Self { node, wanted, flows, clients } = self;
        let mut done = 0;
        let lived = node.configure(wanted, |node| {
            done += 1;
            if done != steps {
                return true;
            }
            node.reload();
            for flow in flows.iter_mut() {
                let usable = flow.is_usable(&before, now_ns) && flow.is_usable(wanted, now_ns);
                flow.go_on(node, wanted, usable);
            }
            for (service, udp) in [(0, false), (1, false)] {
                *clients += 1;
                let flow = Flow::begin(node, &[&before, wanted], (service, udp, *clients), (*clients).into());
                let remembered = before.tracking[service] != ConnectionTracking::Off;
                flows.extend(flow.filter(|flow| remembered && flow.is_usable(wanted, now_ns)));
            }
            node.save_pins();
            !killed
        });
        if !lived {
            self.node.restart(&self.wanted);
        }
        let (Change::Add(name) | Change::Enable(name, true)) = change else { return };
        let up = self.wanted.origin(name).up;
        self.node.verdict(name, up, |_| {});
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Change(change, steps, killed) => self.change(change, steps, killed),
            Event::Verdict(name, up) => {
                let origin = *self.wanted.origin(name);
                if !origin.there || !origin.enabled {
                    return;
                }
                let before = self.wanted.clone();
                self.wanted.origin_mut(name).up = up;
                self.forget();
                let Self { node, wanted, flows, .. } = self;
                node.verdict(name, up, |node| {
                    for flow in flows.iter_mut() {
                        let now_ns = node.now_ns;
                        let usable = flow.is_usable(&before, now_ns) && flow.is_usable(wanted, now_ns);
                        flow.go_on(node, wanted, usable);
                    }
                });
            }
            Event::Wait(wait_ns, false) => self.node.wait(wait_ns, true),
            Event::Wait(wait_ns, true) => {
                for _ in 0..5 {
                    self.node.wait(wait_ns / 5, true);
                    self.go_on();
                }
            }
            Event::Restart(gone_ns) => {
                self.node.wait(gone_ns, false);
                self.go_on();
                self.node.restart(&self.wanted);
            }
            Event::Begin(service, udp, count) => self.begin(service, udp, count),
            Event::GoOn => self.go_on(),
            // In a change that is over before a handshake would be, that can keep a flow from getting its pin.
            Event::Forge if self.wanted.times.transition < HANDSHAKE => {}
            Event::Forge => self.flows.iter().for_each(|flow| flow.forge(&mut self.node)),
            Event::Again(which) => self.again(which),
        }
    }

    fn again(&mut self, which: usize) {
        self.go_on();
        if self.flows.is_empty() {
            return;
        }
        let flow = self.flows.swap_remove(which % self.flows.len());
        let (service, udp) = (flow.service, flow.udp);
        let usable = flow.is_usable(&self.wanted, self.node.now_ns);
        let number = flow.end(&mut self.node, usable);
        if !udp {
            self.clients += 1;
            let which = (service, udp, number);
            self.flows.extend(Flow::begin(&mut self.node, &[&self.wanted], which, self.clients.into()));
        }
        self.forget();
    }
}

/// Makes a change in what is wanted. Returns whether it is one.
fn alter(wanted: &mut Wanted, change: Change, now_ns: u64) -> bool {
    let drained_ns = now_ns + u64::try_from(wanted.times.drain.as_nanos()).unwrap();
    match change {
        Change::Add(name) | Change::Remove(name) => {
            let there = matches!(change, Change::Add(_));
            let origin = wanted.origin_mut(name);
            if origin.there == there {
                return false;
            }
            origin.there = there;
            origin.drained = false;
            // One that is drained already gets no more time.
            origin.until_ns = if there { None } else { origin.until_ns.or(Some(drained_ns)) };
        }
        Change::Drain(name, drained) => {
            let origin = wanted.origin_mut(name);
            if !origin.there || !origin.enabled || origin.drained == drained {
                return false;
            }
            origin.drained = drained;
            origin.until_ns = drained.then_some(drained_ns);
        }
        Change::Enable(name, enabled) => {
            let origin = wanted.origin_mut(name);
            if !origin.there || origin.enabled == enabled {
                return false;
            }
            origin.enabled = enabled;
            origin.until_ns = origin.drained.then_some(drained_ns);
        }
        Change::Weight(name, weight) => wanted.origin_mut(name).weight = weight,
        Change::TableSize(pool, size) => wanted.table_sizes[pool] = size,
        Change::Pool(pool) => wanted.pool = pool,
        Change::Share(sharing) => wanted.sharing = sharing,
        Change::Seed(seed) => wanted.seed = seed,
        Change::Tracking(service, tracking) => wanted.tracking[service] = tracking,
        Change::Keep(service, keep) => wanted.keep[service] = keep,
        Change::BySource(service, by) => wanted.by_source[service] = by,
        Change::Regions(which) => wanted.regions = which,
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if lbx_tests::takes_long() { 2000 } else { 40 }))]

    #[test]
    fn a_flow_stays_on_its_endpoint_whatever_changes(
        times in times(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut run = Run::new(times);
        for event in events {
            run.happen(event);
        }
        run.go_on();
    }
}
