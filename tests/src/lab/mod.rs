//! The loaded programs with real maps, run on packets that a test makes (`BPF_PROG_TEST_RUN`), beside the
//! same pipeline run on the host over a copy of the maps.
//!
//! The maps are filled by lbx's own planner from a configuration; what must come out is for the tests to say.

mod devices;
mod host;
mod model;
mod pins;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use aya::{
    maps::PerCpuArray,
    programs::{ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use lbx_agent::{
    config::{self, model::Model},
    dataplane::{Counters as _, Image, KnownRoutes, Loaded, Owner, Pins, Sizes, apply, diff, load},
    explain::{self, Facts, LiveTables},
    plan::{Known, endpoint_ids, known_tunnel_id, listener_ids},
};
use lbx_common::{
    abi::{SampleRecord, map_name, program_name},
    api::{Config, ExplainReport, ExplainRequest, Prefix, Traffic},
    reason::DropReason,
    track::Event,
};
use nix::time::{ClockId, clock_gettime};

pub use self::devices::{Devices, planned};
pub use self::host::{HostOutcome, HostPipeline};

use crate::{
    agent::mount_bpffs,
    cleanup::Guard,
    netns::{self, Netns},
    world,
};

/// Where a packet arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// An interface with role `public`.
    Public,
    /// An interface with role `underlay`.
    Underlay,
    /// An interface with role `both`.
    Both,
    /// `lbx1`.
    Probe,
    /// `lbx0`, where nobody waits for anything.
    Arrival,
}

impl On {
    /// The program that runs there.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Public => program_name::PUBLIC,
            Self::Underlay => program_name::UNDERLAY,
            Self::Both => program_name::BOTH,
            Self::Probe => program_name::PROBE,
            Self::Arrival => program_name::ARRIVAL,
        }
    }
}

/// What a program did with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Dropped.
    Drop,
    /// To the kernel's stack.
    Pass,
    /// Out of this or another interface.
    Send,
}

/// A packet after a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the program did.
    pub action: Action,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// Room in front of a frame, as XDP has it in a test run (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;
/// Longest frame that a test may make.
const MAX_FRAME: usize = 2048;

/// Words of a question to the FIB, and which of them counts the questions.
const FIB_WORDS: usize = 16;
const FIB_COUNT: usize = 8;

/// MAC of the client, and of the gateways' next hop.
pub const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x77];
/// A host on the client's network whose MAC nobody knows.
pub const UNRESOLVED_CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
/// The client's IPv6 address.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);
/// Another host on its network.
pub const UNRESOLVED_CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 3);
const LBX_PUBLIC_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

/// Programs, maps and a namespace to run in.
pub struct Lab {
    loaded: Loaded,
    model: Model,
    image: Image,
    host: HostPipeline,
    /// Interface index of the public device.
    pub public: u32,
    devices: Devices,
    netns: Netns,
    _removal: Guard,
}

impl Lab {
    /// Loads the programs and fills the maps from `config`: all endpoints healthy, all gateways resolved.
    pub fn new(config: &Config) -> Result<Self> {
        Self::make(config, &[], None)
    }

    /// The same with some endpoints down, each named by pool and endpoint.
    pub fn with_down(config: &Config, down: &[(&str, &str)]) -> Result<Self> {
        Self::make(config, down, None)
    }

    /// The same, where the public device is one of a VLAN on the underlay's: what leaves by it must be tagged.
    pub fn with_tagged_public(config: &Config, vlan: u16) -> Result<Self> {
        Self::make(config, &[], Some(vlan))
    }

    fn make(config: &Config, down: &[(&str, &str)], vlan: Option<u16>) -> Result<Self> {
        mount_bpffs()?;
        let name = netns::name_of(&netns::unique_run_name(), "lab");
        let netns = Netns::create(&name)?;
        let root = Path::new("/sys/fs/bpf").join(&name);
        let removal = Guard::new({
            let root = root.clone();
            move || drop(Pins::remove_all(&root))
        });
        let model = config::validate(config.clone()).map_err(|mistakes| anyhow!("{mistakes:?}"))?;
        let mut loaded = load_programs(&root, &Sizes::new(&model.limits))?;
        let devices = Devices::make(&netns)?;
        let vlans = vlan.map(|vlan| (devices.public, (devices.underlay, vlan))).into_iter().collect();
        let image = planned(&model, &devices, down, &vlans, &Image::default())?;
        let regions = world::regions();
        loaded.regions.fill(regions.id(), regions.entries())?;
        let steps = diff(&Image::observe(&loaded.memory), &image);
        apply(&mut loaded.memory, &mut loaded.counters, &steps)?;
        // As with an agent: what is known of routes must make no difference to any test.
        loaded.known_routes.keep_answers(true);
        loaded.sampling.set(model.sampled_one_in);
        let mut host = HostPipeline::over(&loaded.memory, &devices);
        host.put_regions(regions);
        let public = devices.public;
        Ok(Self { loaded, model, image, host, public, devices, netns, _removal: removal })
    }

    /// Makes the maps those of another configuration, as an agent does that finds them.
    pub fn change(&mut self, config: &Config, down: &[(&str, &str)]) -> Result<()> {
        let model = config::validate(config.clone()).map_err(|mistakes| anyhow!("{mistakes:?}"))?;
        let observed = self.observed();
        let image = planned(&model, &self.devices, down, &BTreeMap::new(), &observed)?;
        apply(&mut self.loaded.memory, &mut self.loaded.counters, &diff(&observed, &image))?;
        self.host = HostPipeline::over(&self.loaded.memory, &self.devices);
        self.host.put_regions(world::regions());
        (self.model, self.image) = (model, image);
        Ok(())
    }

    /// Adds prefixes to the list of regions that counts; the pipeline on the host does not know them.
    pub fn add_regions(&mut self, more: &[(Prefix, u32)]) -> Result<()> {
        Ok(self.loaded.regions.fill(world::regions().id(), more)?)
    }

    /// What the kernel's maps hold.
    pub fn observed(&self) -> Image {
        Image::observe(&self.loaded.memory)
    }

    /// Runs the program for `on` over a frame.
    pub fn run(&self, on: On, frame: &[u8]) -> Result<Outcome> {
        let mut outcomes = self.run_all(on, &[frame.to_vec()])?;
        outcomes.pop().context("one frame has one outcome")
    }

    /// Runs the program for `on` over frames, one after the other.
    pub fn run_all(&self, on: On, frames: &[Vec<u8>]) -> Result<Vec<Outcome>> {
        let program = self.xdp(on.program())?;
        // Inside, so that the FIB is that of the lab.
        self.netns.run(|| frames.iter().map(|frame| run_xdp(program, frame)).collect())
    }

    /// Runs the guard of `lbx0` over a frame without a mark; whether it passed.
    pub fn guard_passes(&self, frame: &[u8]) -> Result<bool> {
        let program = self.loaded.programs.program(program_name::GUARD).context("the program")?;
        let program: &SchedClassifier = program.try_into()?;
        let mut out = vec![0; MAX_FRAME];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        Ok(program.test_run(options)?.return_value == 0)
    }

    /// Runs the pipeline on the host over a frame, with the maps as they are.
    pub fn run_on_host(&self, on: On, frame: &[u8]) -> HostOutcome {
        self.host.run(on, frame)
    }

    /// Explains a packet over the maps as they are.
    pub fn explain(&self, request: &ExplainRequest) -> Result<(explain::Outcome, ExplainReport)> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let now_ns = u64::try_from(Duration::from(now).as_nanos())?;
        let tables = LiveTables::new(&self.loaded.memory, &self.loaded.remembered, now_ns);
        let outcome = explain::run(&tables, &explain::frame(request)?);
        let ids = endpoint_ids(&self.model, &self.image);
        let regions = world::regions();
        let known = Known { ids: &ids, orders: &BTreeMap::new() };
        let facts = Facts { model: &self.model, image: &self.image, known, regions: Some(&regions) };
        let report = explain::describe(facts, request, &tables, &outcome);
        Ok((outcome, report))
    }

    /// What the agent was told of the packets since the last question.
    pub fn samples(&mut self) -> Vec<SampleRecord> {
        self.loaded.samples.by_ref().collect()
    }

    /// The same by the pipeline on the host.
    pub fn samples_on_host(&self) -> Vec<SampleRecord> {
        self.host.samples()
    }

    /// A loaded program.
    pub fn xdp(&self, name: &str) -> Result<&Xdp> {
        let program =
            self.loaded.programs.program(name).with_context(|| format!("there is no program {name}"))?;
        Ok(program.try_into()?)
    }

    /// The namespace, whose FIB the programs ask.
    pub const fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Packets dropped for `reason`, in a virtual network or in none.
    pub fn drops(&self, vnet: Option<&str>, reason: DropReason) -> Result<u64> {
        let id = vnet.map(|name| self.vnet_id(name)).transpose()?.unwrap_or(0);
        Ok(self.loaded.counters.drops(id, reason as u8)?)
    }

    /// All drop counters that are not zero, by vnet id and reason.
    pub fn all_drops(&self) -> Result<BTreeMap<(u32, DropReason), u64>> {
        let mut found = BTreeMap::new();
        for id in [0].into_iter().chain(self.image.vnets.keys().copied()) {
            for &reason in DropReason::ALL {
                let count = self.loaded.counters.drops(id, reason as u8)?;
                if count > 0 {
                    found.insert((id, reason), count);
                }
            }
        }
        Ok(found)
    }

    /// The same as the pipeline on the host counted them.
    pub fn all_drops_on_host(&self) -> BTreeMap<(u32, DropReason), u64> {
        self.host.drops()
    }

    /// How many listeners have counters of their own.
    pub fn listeners(&self) -> usize {
        listener_ids(&self.image).into_values().collect::<BTreeSet<_>>().len()
    }

    /// Counters of all listeners together. Those of all endpoints must say the same, and those of all tunnels.
    pub fn traffic(&self) -> Result<Traffic> {
        let image = &self.image;
        let of_listeners = self.sum(listener_ids(image).into_values().map(Owner::Listener))?;
        let of_endpoints = self.sum(image.endpoints.keys().map(|&id| Owner::Endpoint(id)))?;
        let of_tunnels = self.sum(image.tunnels.keys().map(|&id| Owner::Tunnel(id)))?;
        ensure!(
            [of_endpoints, of_tunnels] == [of_listeners; 2],
            "counters of listeners: {of_listeners:?}, of endpoints: {of_endpoints:?}, of tunnels: {of_tunnels:?}"
        );
        Ok(of_listeners)
    }

    fn sum(&self, of: impl Iterator<Item = Owner>) -> Result<Traffic> {
        let mut sum = Traffic::default();
        for owner in of {
            sum += self.loaded.counters.traffic(owner)?;
        }
        Ok(sum)
    }

    /// Packets to endpoints by each tunnel of a network, by its name.
    pub fn packets_by_tunnel(&self, network: &str) -> Result<BTreeMap<String, u64>> {
        let vnet = self.model.vnets.iter().find(|vnet| vnet.name == network).context("a network")?;
        let each = vnet.tunnels.iter().map(|tunnel| {
            let id = known_tunnel_id(vnet, tunnel, &self.image).context("the tunnel is planned")?;
            Ok((tunnel.name.clone(), self.loaded.counters.traffic(Owner::Tunnel(id))?.in_packets))
        });
        each.collect()
    }

    /// Counters of an endpoint, by pool and name.
    pub fn endpoint_traffic(&self, pool: &str, endpoint: &str) -> Result<Traffic> {
        Ok(self.loaded.counters.traffic(Owner::Endpoint(self.endpoint_id(pool, endpoint)?))?)
    }

    fn endpoint_id(&self, pool: &str, endpoint: &str) -> Result<u16> {
        let ids = endpoint_ids(&self.model, &self.image);
        let id = ids.get(&(pool.to_owned(), endpoint.to_owned()));
        id.copied().with_context(|| format!("there is no endpoint {pool}/{endpoint}"))
    }

    /// How often something happened to flows that are remembered.
    pub fn flows(&self, event: Event) -> Result<u64> {
        Ok(self.loaded.counters.flows(event)?)
    }

    /// Which ways to clients count that programs know.
    pub const fn known_routes(&self) -> &KnownRoutes {
        &self.loaded.known_routes
    }

    /// How often programs asked the kernel's FIB.
    pub fn fib_questions(&self) -> Result<u64> {
        let map = self.loaded.programs.map(map_name::FIB).context("the map of questions")?;
        let questions: PerCpuArray<_, [u64; FIB_WORDS]> = PerCpuArray::try_from(map)?;
        Ok(questions.get(&0, 0)?.iter().filter_map(|question| question.get(FIB_COUNT)).sum())
    }

    /// What the kernel knows of each program, by name.
    pub fn programs(&self) -> Result<BTreeMap<String, ProgramInfo>> {
        let programs = self.loaded.programs.programs();
        programs.map(|(name, program)| Ok((name.to_owned(), program.info()?))).collect()
    }

    /// The id that the counters of a virtual network are kept under.
    pub fn vnet_id(&self, name: &str) -> Result<u32> {
        let vnet = self.model.vnets.iter().find(|vnet| vnet.name == name);
        let vni = vnet.with_context(|| format!("there is no virtual network {name}"))?.vni;
        let found = self.image.vnets.iter().find(|(_, entry)| entry.vni == vni);
        Ok(*found.context("a network of the model is in the image")?.0)
    }
}

fn load_programs(root: &Path, sizes: &Sizes) -> Result<Loaded> {
    let loaded = load(&Pins::open(root)?, sizes)?;
    ensure!(!loaded.adopted, "a lab has maps of its own");
    Ok(loaded)
}

fn run_xdp(program: &Xdp, frame: &[u8]) -> Result<Outcome> {
    let mut out = vec![0; MAX_FRAME + HEADROOM];
    let options =
        TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
    let result = program.test_run(options)?;
    out.truncate(usize::try_from(result.data_size_out)?);
    let action = match result.return_value {
        1 => Action::Drop,
        2 => Action::Pass,
        3 | 4 => Action::Send,
        other => return Err(anyhow!("the program answered {other}")),
    };
    Ok(Outcome { action, frame: out })
}
