//! The pipeline on the host: over a copy of the kernel's maps, or over maps in plain memory that need no kernel.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Result, anyhow};
use lbx_agent::{
    config,
    dataplane::{FakeMemory, Image, Memory, NoCounters, Sizes, apply, diff},
    regions::RegionList,
};
use lbx_common::{
    abi::SampleRecord,
    api::Config,
    packet::SlicePacket,
    pipeline::{self, PUBLIC, UNDERLAY},
    reason::{DropReason, Verdict},
};

use super::{
    Action, HEADROOM, On, Outcome,
    devices::{Devices, planned},
    model::ModelTables,
};
use crate::world;

/// What the kernel keeps of the head room for itself (`struct xdp_frame`).
const KERNELS_HEADROOM: usize = 40;

/// A packet after the pipeline on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOutcome {
    /// As the kernel would tell it.
    pub outcome: Outcome,
    /// With the drop reason and the egress.
    pub verdict: Verdict,
}

/// The pipeline with what it asks.
pub struct HostPipeline {
    tables: ModelTables,
}

impl HostPipeline {
    /// Fills maps in plain memory from `config`: all endpoints healthy, all gateways resolved.
    pub fn new(config: &Config) -> Result<Self> {
        let model = config::validate(config.clone()).map_err(|mistakes| anyhow!("{mistakes:?}"))?;
        let sizes = Sizes::new(&model.limits);
        let mut memory = FakeMemory::new(|map| sizes.of(map));
        let devices = Devices::imagined();
        let regions = world::regions();
        memory.put_regions(Arc::clone(&regions));
        let image = planned(&model, &devices, &[], &BTreeMap::new(), &Image::default())?;
        let steps = diff(&Image::observe(&memory), &image);
        apply(&mut memory, &mut NoCounters, &steps)?;
        let mut host = Self::over(&memory, &devices);
        host.put_regions(regions);
        Ok(host)
    }

    /// Over a copy of maps that are filled.
    pub fn over(memory: &impl Memory, devices: &Devices) -> Self {
        Self { tables: ModelTables::new(memory, devices.routes()) }
    }

    /// Runs the pipeline over a frame.
    pub fn run(&self, on: On, frame: &[u8]) -> HostOutcome {
        let mut buffer = vec![0; HEADROOM - KERNELS_HEADROOM];
        let start = buffer.len();
        buffer.extend(frame);
        let mut packet = SlicePacket::new(&mut buffer, start);
        let tables = &self.tables;
        let mut verdict = match on {
            On::Public => pipeline::ingress(&mut packet, tables, PUBLIC),
            On::Underlay => pipeline::ingress(&mut packet, tables, UNDERLAY),
            On::Both => pipeline::ingress(&mut packet, tables, PUBLIC | UNDERLAY),
            On::Probe => pipeline::probe(&mut packet, tables),
            On::Arrival => pipeline::arrival(&mut packet, tables),
        };
        while let Some(Verdict::Continue(stage)) = verdict.unpack() {
            verdict = pipeline::stage(&mut packet, tables, stage);
        }
        let verdict = verdict.unpack().expect("the pipeline gives verdicts that there are");
        let action = match verdict {
            Verdict::Pass => Action::Pass,
            Verdict::Drop { .. } | Verdict::Continue(_) => Action::Drop,
            Verdict::Transmit { .. } | Verdict::Back | Verdict::ToHost => Action::Send,
        };
        HostOutcome { outcome: Outcome { action, frame: packet.bytes().to_vec() }, verdict }
    }

    /// Packets dropped so far, by vnet id and reason.
    pub fn drops(&self) -> BTreeMap<(u32, DropReason), u64> {
        self.tables.drops()
    }

    /// Takes the maps as they are now. What the programs alone know of stays: half-open flows, fragments, limits. Pins
    /// that were not saved are lost.
    pub fn reload(&mut self, memory: &impl Memory) {
        self.tables.reload(memory);
    }

    /// Writes what the packets so far pinned into maps.
    pub fn save_pins(&self, memory: &mut impl Memory) {
        self.tables.save_pins(memory);
    }

    /// Knows a list of regions.
    pub fn put_regions(&mut self, list: Arc<RegionList>) {
        self.tables.put_regions(list);
    }

    /// Stops the clock at a time.
    pub fn set_clock(&mut self, now_ns: u64) {
        self.tables.set_clock(now_ns);
    }

    /// Id of the endpoint that a client's packet went to since the last question.
    pub fn delivered(&self) -> Option<u32> {
        self.tables.delivered()
    }

    /// What the agent would be told of the packets since the last question, where it asks for each.
    pub fn samples(&self) -> Vec<SampleRecord> {
        self.tables.samples()
    }

    /// Forgets what the packets so far left behind: counters, fragments, limits.
    pub fn forget(&mut self) {
        self.tables.forget_packets();
    }
}
