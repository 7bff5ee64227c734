//! A node without a kernel: maps in plain memory, the agent's planner and sweeper over them as the reconciler uses
//! them, and the programs' code on the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lbx_agent::{
    config::{self, model::Model},
    dataplane::{
        FakeMemory, Image, MapId, Memory as _, NoCounters, Sizes, Step, apply, diff, update_endpoint,
    },
    plan::{self, Built, Environment, Known, NodeFacts, Reach},
    reconcile::{Meaning, Sweeper, begin_tracking},
    regions::RegionList,
    steer::Steered,
};
use lbx_common::{abi::EndpointEntry, api::HealthState};
use lbx_tests::lab::{Devices, HostOutcome, HostPipeline, On};

use crate::wanted::{Name, PLACES, REGIONS, Wanted, address, endpoint_name, pool_name};

/// As the reconciler's.
const SWEEP_INTERVAL_NS: u64 = 5_000_000_000;
/// Looks at pins during a wait, however long: more change nothing but the time that a test takes.
const MAX_SWEEPS: u64 = 6;

/// A pass follows verdicts that change no table when they have been silent for so long.
const LATER_NS: u64 = 1_000_000_000;

/// What an agent knows that does not stand in the maps.
struct Agent {
    model: Model,
    seed: [u64; 2],
    /// Id of the list of regions.
    regions: u32,
    verdicts: BTreeMap<(String, String), HealthState>,
    sweeper: Sweeper,
    built: Built,
    /// A pass is to follow.
    later: bool,
    image: Image,
}

/// The node.
pub struct Node {
    memory: FakeMemory,
    pipeline: HostPipeline,
    agent: Agent,
    pub now_ns: u64,
}

fn model(wanted: &Wanted) -> Model {
    config::validate(wanted.config()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

fn regions(which: usize) -> Arc<RegionList> {
    Arc::new(RegionList::parse(REGIONS[which].as_bytes()).unwrap())
}

fn agent(wanted: &Wanted) -> Agent {
    Agent {
        model: model(wanted),
        seed: [wanted.seed, !wanted.seed],
        regions: regions(wanted.regions).id(),
        verdicts: BTreeMap::new(),
        sweeper: Sweeper::default(),
        built: Built::default(),
        later: false,
        image: Image::default(),
    }
}

impl Node {
    /// One that has just started, with verdicts on all endpoints.
    pub fn new(wanted: &Wanted) -> Self {
        let sizes = Sizes::new(&wanted.config().limits);
        let mut memory = FakeMemory::new(|map| sizes.of(map));
        let mut pipeline = HostPipeline::over(&memory, &Devices::imagined());
        for list in (0..REGIONS.len()).map(regions) {
            memory.put_regions(Arc::clone(&list));
            pipeline.put_regions(list);
        }
        let mut node = Self { memory, pipeline, agent: agent(wanted), now_ns: 0 };
        node.set_time(1_000_000_000_000);
        for name in (0..3).flat_map(|pool| (0..PLACES).map(move |place| (pool, place))) {
            node.take_verdict(name, wanted.origin(name).up);
        }
        node.converge(|_| true);
        node
    }

    /// Another configuration. `go_on` is asked after each step of the change; where it says no, the agent is killed
    /// there.
    pub fn configure(&mut self, wanted: &Wanted, go_on: impl FnMut(&mut Self) -> bool) -> bool {
        self.agent.model = model(wanted);
        self.agent.seed = [wanted.seed, !wanted.seed];
        self.agent.regions = regions(wanted.regions).id();
        // What is not probed any more is forgotten.
        let probed = self.agent.model.pools.iter().flat_map(|pool| {
            let probed = pool.endpoints.iter().filter(|one| one.enabled && !one.probes.is_empty());
            probed.map(|endpoint| (pool.name.clone(), endpoint.name.clone()))
        });
        let probed: Vec<_> = probed.collect();
        self.agent.verdicts.retain(|name, _| probed.contains(name));
        self.converge(go_on)
    }

    /// An agent that was killed or stopped is there again, and knows what stands in the maps.
    pub fn restart(&mut self, wanted: &Wanted) {
        self.agent = agent(wanted);
        self.converge(|_| true);
    }

    fn take_verdict(&mut self, (pool, place): Name, up: bool) {
        let state = if up { HealthState::Healthy } else { HealthState::Unhealthy };
        self.agent.verdicts.insert((pool_name(pool), endpoint_name(place)), state);
    }

    /// A verdict on an endpoint that is on. `between` is called when its bits are written.
    pub fn verdict(&mut self, name: Name, up: bool, between: impl FnOnce(&mut Self)) {
        self.take_verdict(name, up);
        let (pool, place) = name;
        let ids = plan::endpoint_ids(&self.agent.model, &self.agent.image);
        let Some(&id) = ids.get(&(pool_name(pool), endpoint_name(place))) else { return };
        let state = if up { HealthState::Healthy } else { HealthState::Unhealthy };
        let now_ns = self.now_ns;
        self.pipeline.save_pins(&mut self.memory);
        let changed = update_endpoint(&mut self.memory, id, |entry| plan::with_health(entry, state, now_ns));
        self.pipeline.reload(&self.memory);
        between(self);
        if !changed {
            return;
        }
        let entry = self.memory.read(MapId::Endpoints, id.into());
        let agent = &mut self.agent;
        agent.image.endpoints.insert(id, entry);
        let pools = BTreeSet::from([pool_name(pool)]);
        self.pipeline.save_pins(&mut self.memory);
        let reach = Reach::new(&agent.model, &agent.image);
        begin_tracking(&mut self.memory, &mut agent.image, &agent.model, (&reach, &pools));
        self.pipeline.reload(&self.memory);
        if plan::tables_stay(
            &agent.model,
            Known { ids: &ids, orders: &BTreeMap::new() },
            &agent.image,
            (&reach, &pools),
        ) {
            // A pass follows when verdicts have been silent for a while.
            agent.later = true;
        } else {
            self.converge(|_| true);
        }
    }

    /// A pass. Returns whether it came to its end.
    fn converge(&mut self, mut go_on: impl FnMut(&mut Self) -> bool) -> bool {
        self.pipeline.save_pins(&mut self.memory);
        let observed = Image::observe(&self.memory);
        let wanted = self.plan(&observed);
        for step in diff(&observed, &wanted) {
            apply(&mut self.memory, &mut NoCounters, std::slice::from_ref(&step)).unwrap();
            if step != Step::Grace && !go_on(self) {
                return false;
            }
        }
        self.pipeline.reload(&self.memory);
        self.agent.image = wanted;
        self.agent.later = false;
        true
    }

    fn plan(&self, observed: &Image) -> Image {
        let model = &self.agent.model;
        let environment = Environment {
            node: NodeFacts {
                lbx0: (4, [4; 6]),
                lbx1: (5, [5; 6]),
                seed: self.agent.seed,
                answer_interval: 0,
            },
            vlans: &BTreeMap::new(),
            sizes: &Sizes::new(&model.limits),
            next_hops: &BTreeMap::new(),
            path_mtus: &BTreeMap::new(),
            verdicts: &self.agent.verdicts,
            tunnel_verdicts: &BTreeMap::new(),
            regions: self.agent.regions,
            now_ns: self.now_ns,
            flows: &self.agent.sweeper.facts,
            steered: &Steered::default(),
            built: &self.agent.built,
        };
        plan::plan(model, &environment, observed).unwrap()
    }

    fn set_time(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.pipeline.set_clock(now_ns);
    }

    /// Time goes by, with an agent or without.
    pub fn wait(&mut self, wait_ns: u64, with_agent: bool) {
        let end_ns = self.now_ns + wait_ns;
        if with_agent && self.agent.later {
            self.set_time(end_ns.min(self.now_ns + LATER_NS));
            self.converge(|_| true);
        }
        let interval_ns = SWEEP_INTERVAL_NS.max(wait_ns / MAX_SWEEPS);
        let mut next_sweep_ns = self.now_ns + interval_ns;
        loop {
            let deadline_ns = plan::next_deadline_ns(&self.agent.image).unwrap_or(u64::MAX);
            let next_ns = deadline_ns.min(next_sweep_ns).max(self.now_ns);
            if !with_agent || next_ns > end_ns {
                break;
            }
            self.set_time(next_ns);
            if deadline_ns <= next_ns || self.sweep() {
                self.converge(|_| true);
            }
            if next_sweep_ns <= next_ns {
                next_sweep_ns = next_ns + interval_ns;
            }
        }
        self.set_time(end_ns);
    }

    /// Looks at all pins. Returns whether something waited for what was found out.
    fn sweep(&mut self) -> bool {
        let sweeper = &mut self.agent.sweeper;
        if !plan::needs_sweeps(&self.agent.image) && sweeper.found.pins() == 0 {
            return false;
        }
        self.pipeline.save_pins(&mut self.memory);
        let meaning = Meaning::of(&self.agent.image);
        let full = sweeper.facts.full.clone();
        while !sweeper.step(&mut self.memory, &meaning, self.now_ns) {}
        let waits = plan::waits_for_flows(&self.agent.image) || full != sweeper.facts.full;
        self.pipeline.reload(&self.memory);
        waits
    }

    /// Takes the maps as they are in the middle of a change.
    pub fn reload(&mut self) {
        self.pipeline.reload(&self.memory);
    }

    /// The same, after packets in the middle of a change.
    pub fn save_pins(&mut self) {
        self.pipeline.save_pins(&mut self.memory);
    }

    /// Runs the pipeline over a client's packet; the endpoint that it was sent to.
    pub fn take_from_client(&mut self, frame: &[u8]) -> Option<Name> {
        self.pipeline.run(On::Public, frame);
        let id = self.pipeline.delivered()?;
        let entry: EndpointEntry = self.memory.read(MapId::Endpoints, id);
        let names = (0..3).flat_map(|pool| (0..PLACES).map(move |place| (pool, place)));
        names.into_iter().find(|&name| plan::entry_address(address(name)) == entry.address)
    }

    /// Runs the pipeline over a tunnel packet.
    pub fn take_from_gateway(&mut self, frame: &[u8]) -> HostOutcome {
        self.pipeline.run(On::Underlay, frame)
    }
}
